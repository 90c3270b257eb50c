/*
 * ipc/err, ipc/utf8, ipc/nearest: the table is sound, texts are made fit for a line.
 */
#include "tests/unit/test.h"

#include "ipc/err.h"
#include "ipc/nearest.h"
#include "ipc/utf8.h"

static void
test_rows_are_distinct(void **state)
{
	(void)state;
	for (size_t i = 0; err_row_at(i) != NULL; i++) {
		const struct err_row *row = err_row_at(i);
		assert_ptr_equal(err_row(row->code), row);
		assert_ptr_equal(err_row(-(int)row->code), row);
		assert_ptr_equal(err_row_by_name(row->name), row);
		assert_in_range(row->http, 400, 599);
		assert_in_range(row->ctl_exit, 1, 130);
		for (size_t k = 0; k < i; k++)
			assert_true(err_row_at(k)->code != row->code);
	}
	assert_int_equal(err_row(12345)->code, ERR_INTERNAL);
	assert_null(err_row_by_name("nosuch"));
}

static void
test_text_is_cut_at_a_character(void **state)
{
	char wide[400];
	struct err e;

	(void)state;
	for (size_t i = 0; i + 3 < sizeof(wide); i += 3)
		memcpy(wide + i, "\xe7\x8c\xab", 3); /* a cat */
	wide[sizeof(wide) - 1] = wide[sizeof(wide) - 2] = wide[sizeof(wide) - 3] = wide[sizeof(wide) - 4] =
	    '\0';
	assert_int_equal(err_set(&e, ERR_INTERNAL, "x%s", wide), -ERR_INTERNAL);
	assert_true(utf8_valid(e.text, strlen(e.text)));
	assert_in_range(strlen(e.text), sizeof(e.text) - 4, sizeof(e.text) - 1);
	assert_int_equal(err_set(NULL, ERR_SYSTEM, "nobody listens"), -ERR_SYSTEM);
}

/* What is said of a path that is longer than the text, and the path's end, are there. */
static void
test_a_long_path_keeps_its_end(void **state)
{
	static const char reason[] = " cannot be opened: No such file or directory; make it with 'touch'";
	static const char end[] = "/state/queue.db'";
	char path[1001];
	struct err e;

	(void)state;
	memset(path, 'd', sizeof(path) - 1);
	for (size_t i = 0; i < sizeof(path); i += 20)
		path[i] = '/';
	memcpy(path + 1000 - (sizeof(end) - 2), end, sizeof(end) - 2);
	path[1000] = '\0';
	err_set(&e, ERR_SYSTEM, "'%s'%s", path, reason);
	if (strncmp(e.text, "'...", 4) != 0 || strstr(e.text, end) == NULL || strstr(e.text, reason) == NULL)
		fail_msg("it says: %s", e.text);
	assert_in_range(strlen(e.text), sizeof(e.text) - 4, sizeof(e.text) - 1);

	err_set(&e, ERR_SYSTEM, "%s cannot be moved to %s%s", path, path, reason);
	if (strstr(e.text, "/state/queue.db cannot be moved to ...") == NULL ||
	    strstr(e.text, reason) == NULL)
		fail_msg("it says: %s", e.text);
}

/* Short words, all of which say something: there is nothing to take but the end. */
static void
test_a_long_sentence_loses_its_end(void **state)
{
	char text[1000];
	struct err e;

	(void)state;
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = i % 10 == 9 ? ' ' : (char)('a' + i % 26);
	text[sizeof(text) - 1] = '\0';
	err_set(&e, ERR_SYSTEM, "%s", text);
	assert_int_equal(strlen(e.text), sizeof(e.text) - 1);
	assert_memory_equal(e.text, text, sizeof(e.text) - 1);
}

static const struct {
	const char *text;
	size_t bytes;
	bool valid;
} texts[] = {
    {"", 0, true},
    {"plain", 5, true},
    {"\xc3\xa9\xe7\x8c\xab\xf0\x9f\x98\x80", 9, true},
    {"\xc0\x80", 2, false},	    /* overlong */
    {"\xe0\x9f\xbf", 3, false},	    /* overlong */
    {"\xed\xa0\x80", 3, false},	    /* surrogate */
    {"\xf4\x90\x80\x80", 4, false}, /* beyond U+10FFFF */
    {"\xf5\x80\x80\x80", 4, false},
    {"\xe7\x8c", 2, false}, /* cut off */
    {"\x80", 1, false},
    {"a\xff", 2, false},
};

static void
test_utf8(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		if (utf8_valid(texts[i].text, texts[i].bytes) != texts[i].valid)
			fail_msg("text %zu is taken for %svalid", i, texts[i].valid ? "in" : "");
	}
}

static void
test_line_is_made_plain(void **state)
{
	char text[] = "a\nb\x1b[31mc\xff\xe7\x8c\xab\xe7\x8c";

	(void)state;
	utf8_make_line(text);
	assert_string_equal(text, "a?b?[31mc?\xe7\x8c\xab");
}

static void
test_nearest_word(void **state)
{
	static const char *const known[] = {"width", "height", "steps", "seed"};
	static const char *const typed[][2] = {
	    {"widht", "width"}, {"seeds", "seed"}, {"step", "steps"}, {"colour", NULL}, {"x", NULL}};

	(void)state;
	for (size_t i = 0; i < sizeof(typed) / sizeof(typed[0]); i++) {
		struct nearest n = {.word = typed[i][0]};
		for (size_t k = 0; k < 4; k++)
			nearest_consider(&n, known[k]);
		if (typed[i][1] == NULL)
			assert_null(n.best);
		else
			assert_string_equal(n.best, typed[i][1]);
	}
}

static void
test_runner_exits(void **state)
{
	(void)state;
	assert_string_equal(runner_exit_text(65), "damaged or missing weights");
	assert_null(runner_exit_text(66));
	assert_true(runner_exit_permanent(65) && runner_exit_permanent(77) && runner_exit_permanent(78));
	assert_false(runner_exit_permanent(71) || runner_exit_permanent(72) || runner_exit_permanent(1));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_rows_are_distinct),
	    cmocka_unit_test(test_text_is_cut_at_a_character),
	    cmocka_unit_test(test_a_long_path_keeps_its_end),
	    cmocka_unit_test(test_a_long_sentence_loses_its_end),
	    cmocka_unit_test(test_utf8),
	    cmocka_unit_test(test_line_is_made_plain),
	    cmocka_unit_test(test_nearest_word),
	    cmocka_unit_test(test_runner_exits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
