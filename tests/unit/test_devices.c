/*
 * supervisor/runners/devices: what a probe may print, what the option `device` may say, and which runner gets which.
 */
#include "tests/unit/test.h"

#include <stdlib.h>

#include "supervisor/runners/devices.h"

#define A "GPU-aaaaaaaa-0000-0000-0000-000000000000"
#define B "GPU-bbbbbbbb-0000-0000-0000-000000000000"
#define C "GPU-cccccccc-0000-0000-0000-000000000000"
#define GPU(uuid) \
	"{\"uuid\":\"" uuid \
	"\",\"name\":\"H100\",\"memory_bytes\":85899345920,\"compute_capability\":\"9.0\"}"
#define OLD(uuid) "{\"uuid\":\"" uuid "\",\"name\":\"T4\",\"memory_bytes\":1,\"reason\":\"too old\"}"
#define LIST(...) "{\"devices\":[" __VA_ARGS__ "]}"

/* ---- words */

static void
test_words(void **state)
{
	static const struct {
		const char *text;
		bool good;
	} rows[] = {{"auto", true}, {"cuda", true}, {"cpu", true}, {"ref", true}, {"cuda:0", true},
	    {"cuda:63", true}, {A, true}, {"MIG-aaaaaaaa-0000-0000-0000-000000000000", true},
	    {"MIG-GPU-aa/1/0", true}, {"", false}, {"cuda:", false}, {"cuda:-1", false}, {"cuda:1x", false},
	    {"cuda:1000", false}, {"cdua:0", false}, {"GPU-", false}, {"GPU-../x", false}, {"GPU-a b", false},
	    {"GPU-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false}};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (device_is_word(rows[i].text) != rows[i].good)
			fail_msg("'%s' is%s a device", rows[i].text, rows[i].good ? " not" : "");
	}
}

/* ---- answers */

static const struct {
	const char *text;
	int exit_status;
	int count;	    /* -1: it is no answer */
	const char *reason; /* of that, or why none can be used */
} answers[] = {
    {LIST(GPU(A)), 0, 1, ""},
    {LIST(GPU(A) "," GPU(B)) "\n", 0, 2, ""},
    {LIST(GPU(A) "," OLD(B)), 0, 2, ""},
    {"a library complains\n" LIST(GPU(A)) "\n\n", 0, 1, ""},
    {LIST(OLD(A)), 77, 1, "too old"},
    {"{\"devices\":[],\"reason\":\"no driver\"}\n", 77, 0, "no driver"},
    {LIST(), 77, 0, "it gave no reason"},
    {"", 0, -1, "its last line is no JSON: "},
    {"sh: not found\n", 127, -1, "exit status 127: sh: not found"},
    {"", 1, -1, "exit status 1"},
    {LIST(GPU(A)), 1, -1, "exit status 1"},
    {"{\"devices\":[", 0, -1, "its last line is no JSON: {\"devices\":["},
    {"[1]", 0, -1, "its last line is no object with devices"},
    {"{\"devices\":5}", 0, -1, "its last line is no object with devices"},
    {LIST(GPU(A) "," GPU(A)), 0, -1, A " is in it twice"},
    {LIST("7"), 0, -1, "device 0 has no uuid"},
    {LIST(GPU("GPU-../../../etc/passwd")), 0, -1, "device 0 has no uuid"},
    {LIST(GPU("")), 0, -1, "device 0 has no uuid"},
    {LIST("{\"uuid\":\"" A "\",\"name\":\"x\",\"memory_bytes\":-5}"), 0, -1,
	"device 0 has no uuid, no name or no memory"},
};

static void
test_answers(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		char why[DEVICES_REASON] = "";
		struct devices *d = devices_parse(answers[i].text, answers[i].exit_status, why);
		const char *reason = d != NULL ? d->reason : why;
		if ((d != NULL ? d->count : -1) != answers[i].count ||
		    strncmp(reason, answers[i].reason, strlen(answers[i].reason)) != 0 ||
		    (answers[i].reason[0] == '\0' && reason[0] != '\0'))
			fail_msg("%s: %d devices, '%s'", answers[i].text, d != NULL ? d->count : -1, reason);
		free(d);
	}
}

static void
test_absurdly_many(void **state)
{
	enum { MANY = 5000 };
	char *text = malloc(MANY * 160), *at = text, why[DEVICES_REASON];
	struct devices *d;

	(void)state;
	at += sprintf(at, "{\"devices\":[");
	for (int i = 0; i < MANY; i++)
		at += sprintf(at, "%s{\"uuid\":\"GPU-%08x\",\"name\":\"x\",\"memory_bytes\":1}",
		    i > 0 ? "," : "", (unsigned)i);
	strcpy(at, "]}");
	d = devices_parse(text, 0, why);
	assert_non_null(d);
	assert_int_equal(d->told, MANY);
	assert_int_equal(d->count, DEVICES_MAX);
	free(d);
	free(text);
}

/* ---- who gets which */

/* Of devices A, B and an old C. Wishes as "device[=present][+]", + for a further runner, with a space
 * between; answers: the device's letter, "host", "said" or "none". */
static const struct {
	const char *found, *wishes, *answers, *unclaimed;
} shares[] = {
    {LIST(GPU(A) "," GPU(B)), "auto", "A", "B"},
    {LIST(GPU(A) "," GPU(B)), "auto auto", "A B", ""},
    {LIST(GPU(A) "," GPU(B)), "auto=B auto", "B A", ""},
    {LIST(GPU(A) "," GPU(B)), "auto auto=A", "B A", ""},
    {LIST(GPU(A) "," GPU(B)), "auto cuda:0", "B A", ""},
    {LIST(GPU(A) "," GPU(B)), "auto=A cuda:0", "B A", ""},
    {LIST(GPU(A) "," GPU(B)), "auto B", "A B", ""},
    {LIST(GPU(A) "," GPU(B)), "auto auto auto cuda", "A B host none", ""},
    {LIST(GPU(A) "," GPU(B)), "cuda:0 A", "A A", "B"},
    {LIST(GPU(A) "," GPU(B)), "cuda:2 C", "said said", "AB"},
    {LIST(OLD(C) "," GPU(B)), "auto cuda:0", "B said", ""},
    {LIST(GPU(B)), "auto=A auto=B+", "host B", ""}, /* who has one keeps it */
    {LIST(GPU(B)), "auto=B auto=A+", "B none", ""},
    {LIST(OLD(C)), "auto cuda cuda:0", "host said said", ""},
    {"{\"devices\":[],\"reason\":\"no driver\"}", "auto auto=A+ cuda cuda:1 A", "host none said said said",
	""},
};

static const char *
uuid_of(char letter)
{
	return letter == 'A' ? A : letter == 'B' ? B : C;
}

static void
read_wish(const char *word, struct device_wish *w)
{
	static char texts[8][GPU_UUID];
	static int used;
	char *text = texts[used++ % 8];
	const char *present = strchr(word, '=');
	size_t length = strcspn(word, "=+");

	*w = (struct device_wish){.device = text, .further = strchr(word, '+') != NULL};
	snprintf(text, GPU_UUID, "%.*s", (int)length, word);
	if (length == 1)
		snprintf(text, GPU_UUID, "%s", uuid_of(word[0]));
	if (present != NULL)
		snprintf(w->present, sizeof(w->present), "%s", uuid_of(present[1]));
}

static char
letter_of(const struct gpu *g)
{
	return (char)(g->uuid[4] - 'a' + 'A');
}

static void
test_shares(void **state)
{
	static const char *const names[] = {
	    [CHOICE_AS_SAID] = "said", [CHOICE_HOST] = "host", [CHOICE_NOBODY] = "none"};

	(void)state;
	for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++) {
		char words[80], why[DEVICES_REASON], got[80] = "", left[8] = "";
		struct devices *d = devices_parse(shares[i].found, 0, why);
		struct device_wish wishes[8];
		uint64_t unclaimed;
		int count = 0;

		assert_non_null(d);
		snprintf(words, sizeof(words), "%s", shares[i].wishes);
		for (char *w = strtok(words, " "); w != NULL; w = strtok(NULL, " "))
			read_wish(w, &wishes[count++]);
		devices_assign(d, wishes, count, &unclaimed);
		for (int k = 0; k < count; k++) {
			char letter[2] = {
			    wishes[k].choice == CHOICE_GPU ? letter_of(&d->list[wishes[k].index]) : '\0'};
			sprintf(got + strlen(got), "%s%s", k > 0 ? " " : "",
			    letter[0] != '\0' ? letter : names[wishes[k].choice]);
		}
		for (int k = 0; k < d->count; k++)
			sprintf(left + strlen(left), unclaimed >> k & 1 ? "%c" : "", letter_of(&d->list[k]));
		if (strcmp(got, shares[i].answers) != 0 || strcmp(left, shares[i].unclaimed) != 0)
			fail_msg("%s of %s: '%s', left '%s'", shares[i].wishes, shares[i].found, got, left);
		free(d);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_words),
	    cmocka_unit_test(test_answers),
	    cmocka_unit_test(test_absurdly_many),
	    cmocka_unit_test(test_shares),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
