/*
 * The tokenizer against the public one: lists of texts and their ids, made by scripts/tokenizer-corpus, for
 * the tiny model's tokenizer and, where it lies beside the repository, the real model's. Then prompts,
 * limits, time, and files that cannot be used.
 */
#include "tests/unit/test.h"

#include <jansson.h>
#include <malloc.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runner/tokenizer.h"

#define TINY "build/golden/tokenizer"
#define REAL "../shared/data/z-image-turbo/tokenizer"

/* Of this thread's own work: the machine may be busy with other things. */
static double
seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static struct tokenizer *
open_tokenizer(const char *dir)
{
	struct tokenizer *t = NULL;
	struct err e = {0};
	int status = tokenizer_open(&t, dir, &e);

	if (status != 0)
		fail_msg("%s: %s", dir, e.text);
	return t;
}

static json_t *
load_list(const char *path)
{
	json_error_t why;
	json_t *list = json_load_file(path, 0, &why);

	if (list == NULL)
		fail_msg("%s: %s", path, why.text);
	return list;
}

/* ---- lists */

static uint64_t
hash_ids(const int32_t *ids, size_t count)
{
	uint64_t value = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < count; i++) {
		for (int shift = 0; shift < 32; shift += 8)
			value = (value ^ ((uint32_t)ids[i] >> shift & 0xff)) * UINT64_C(0x100000001b3);
	}
	return value;
}

/* Where the first difference is; -1 where there is none. */
static ptrdiff_t
difference(const json_t *wanted, const int32_t *ids, size_t count)
{
	for (size_t i = 0; i < count || i < json_array_size(wanted); i++) {
		if (i >= count || i >= json_array_size(wanted) ||
		    json_integer_value(json_array_get(wanted, i)) != ids[i])
			return (ptrdiff_t)i;
	}
	return -1;
}

/* Compares one text's ids with the list's; says what differs. */
static bool
same_ids(const json_t *row, const char *label, const int32_t *ids, size_t count)
{
	const json_t *wanted = json_object_get(row, "ids");
	const char *hash = json_string_value(json_object_get(row, "hash"));
	char ours[17];
	ptrdiff_t at;

	if (hash != NULL) {
		snprintf(ours, sizeof(ours), "%016llx", (unsigned long long)hash_ids(ids, count));
		if (count == (size_t)json_integer_value(json_object_get(row, "count")) &&
		    strcmp(ours, hash) == 0)
			return true;
		print_error("'%s' and so on: %zu ids, %lld are wanted\n", label, count,
		    (long long)json_integer_value(json_object_get(row, "count")));
		return false;
	}
	at = difference(wanted, ids, count);
	if (at >= 0)
		print_error("'%s': id %zd of %zu is %d, %lld of %zu is wanted\n", label, at, count,
		    at < (ptrdiff_t)count ? ids[at] : -1,
		    (long long)json_integer_value(json_array_get(wanted, (size_t)at)),
		    json_array_size(wanted));
	return at < 0;
}

static bool
check_case(const struct tokenizer *t, const json_t *row, double *slowest)
{
	const char *text = json_string_value(json_object_get(row, "text"));
	size_t bytes = json_string_length(json_object_get(row, "text")), count = 0;
	size_t times = (size_t)json_integer_value(json_object_get(row, "times"));
	char *whole = malloc(bytes * times + 1);
	int32_t *ids = NULL;
	struct err e;
	double start;
	bool same;

	assert_non_null(whole);
	for (size_t i = 0; i < times; i++)
		memcpy(whole + i * bytes, text, bytes);
	start = seconds();
	assert_int_equal(0, tokenizer_encode(t, whole, bytes * times, &ids, &count, &e));
	start = seconds() - start;
	*slowest = start > *slowest ? start : *slowest;
	same = same_ids(row, text, ids, count);
	free(ids);
	free(whole);
	return same;
}

static void
check_list(const char *dir, const char *path)
{
	struct tokenizer *t = open_tokenizer(dir);
	json_t *list = load_list(path), *cases = json_object_get(list, "cases"), *row;
	size_t i, wrong = 0;
	double slowest = 0;

	assert_true(json_array_size(cases) > 250);
	json_array_foreach(cases, i, row) wrong += check_case(t, row, &slowest) ? 0 : 1;
	print_message("%s: %zu texts, %zu differ; the slowest took %.1f ms\n", dir, i, wrong, 1e3 * slowest);
	assert_int_equal(0, wrong);
	json_decref(list);
	tokenizer_close(&t);
}

static void
check_prompts(const char *dir, const char *path)
{
	struct tokenizer *t = open_tokenizer(dir);
	json_t *list = load_list(path), *row;
	size_t i, wrong = 0;

	assert_true(json_array_size(json_object_get(list, "prompts")) > 5);
	json_array_foreach(json_object_get(list, "prompts"), i, row)
	{
		const char *prompt = json_string_value(json_object_get(row, "prompt"));
		int32_t *ids = NULL;
		size_t count = 0;
		bool truncated = true;
		assert_int_equal(0, tokenizer_prompt(t, prompt, 512, false, &ids, &count, &truncated, NULL));
		assert_false(truncated);
		wrong += same_ids(row, prompt, ids, count) ? 0 : 1;
		free(ids);
	}
	assert_int_equal(0, wrong);
	json_decref(list);
	tokenizer_close(&t);
}

/* The least of some tries: what interrupts a try makes it longer, never shorter. */
static double
seconds_for(const struct tokenizer *t, const char *unit, size_t times)
{
	size_t bytes = strlen(unit);
	char *text = malloc(bytes * times);
	double least = 1e9;

	assert_non_null(text);
	for (size_t i = 0; i < times; i++)
		memcpy(text + i * bytes, unit, bytes);
	for (int i = 0; i < 5; i++) {
		double start = seconds();
		int32_t *ids = NULL;
		size_t count;
		assert_int_equal(0, tokenizer_encode(t, text, bytes * times, &ids, &count, NULL));
		start = seconds() - start;
		least = start < least ? start : least;
		free(ids);
	}
	free(text);
	return least;
}

/* Eight times the text: 8 times the work, a little more for the heap and the caches; quadratic work is 64
 * times. */
static void
long_runs_take_linear_time(void **state)
{
	static const char *const units[] = {
	    "a", "\xe4\xb8\xad", " ", "\n", " \n", "!", "7", "\xcc\x81\xcc\xa3", "<|im_end|>", "<|im_end|"};
	struct tokenizer *t = open_tokenizer(TINY);
	double worst = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		double once = seconds_for(t, units[i], 2500), eight = seconds_for(t, units[i], 20000);
		print_message("run %zu: %.2f ms, eight times as long %.2f ms\n", i, 1e3 * once, 1e3 * eight);
		worst = eight / once > worst ? eight / once : worst;
	}
	print_message("at most %.1f times\n", worst);
	assert_true(worst < 24);
	tokenizer_close(&t);
}

static void
require_real(void)
{
	if (access(REAL "/tokenizer.json", R_OK) == 0)
		return;
	print_message("skipped: %s/tokenizer.json is not there\n", REAL);
	skip();
}

static void
tiny_texts(void **state)
{
	(void)state;
	check_list(TINY, "tests/unit/data/ids-tiny.json");
}

static void
tiny_prompts(void **state)
{
	(void)state;
	check_prompts(TINY, "tests/unit/data/ids-tiny.json");
}

static void
real_texts(void **state)
{
	(void)state;
	require_real();
	check_list(REAL, "tests/unit/data/ids-real.json");
}

static void
real_prompts(void **state)
{
	(void)state;
	require_real();
	check_prompts(REAL, "tests/unit/data/ids-real.json");
}

/* ---- prompts that are long, short or not text */

/* Ids of a prompt of 2 * `words` tokens. */
static int
long_prompt(size_t words, size_t max, bool truncate, int32_t **ids, size_t *count, bool *cut, struct err *e)
{
	struct tokenizer *t = open_tokenizer(TINY);
	char *prompt = malloc(2 * words + 1);
	int status;

	assert_non_null(prompt);
	for (size_t i = 0; i < words; i++)
		memcpy(prompt + 2 * i, "7.", 2);
	prompt[2 * words] = '\0';
	status = tokenizer_prompt(t, prompt, max, truncate, ids, count, cut, e);
	free(prompt);
	tokenizer_close(&t);
	return status;
}

static void
long_prompt_is_refused_untouched(void **state)
{
	int32_t *ids = (int32_t *)1;
	size_t count = 77;
	bool cut = false;
	struct err e;

	(void)state;
	assert_int_equal(-ERR_PROMPT_TOO_LONG, long_prompt(300, 512, false, &ids, &count, &cut, &e));
	assert_ptr_equal((int32_t *)1, ids);
	assert_int_equal(77, count);
	assert_false(cut);
	print_message("%s\n", e.text);
	assert_non_null(strstr(e.text, "512"));
}

static void
long_prompt_is_cut(void **state)
{
	int32_t *ids = NULL, *all = NULL;
	size_t count = 0, all_count = 0;
	bool cut = false, all_cut = true;

	(void)state;
	assert_int_equal(0, long_prompt(300, 512, true, &ids, &count, &cut, NULL));
	assert_int_equal(0, long_prompt(300, 10000, true, &all, &all_count, &all_cut, NULL));
	assert_true(cut);
	assert_false(all_cut);
	assert_int_equal(512, count);
	assert_true(all_count > 600);
	assert_memory_equal(all, ids, 512 * sizeof(*ids));
	free(ids);
	free(all);
}

static void
prompt_of_exactly_the_limit_fits(void **state)
{
	int32_t *ids = NULL, *again = NULL;
	size_t count = 0, again_count = 0;
	bool cut = true;

	(void)state;
	assert_int_equal(0, long_prompt(20, 512, false, &ids, &count, &cut, NULL));
	assert_int_equal(0, long_prompt(20, count, false, &again, &again_count, &cut, NULL));
	assert_false(cut);
	assert_int_equal(count, again_count);
	free(ids);
	free(again);
}

static void
not_utf8_is_refused(void **state)
{
	static const char *const texts[] = {"\xff", "a\xc3", "\xed\xa0\x80", "\xc0\x80", "\xf4\x90\x80\x80",
	    "\x80"
	    "a"};
	struct tokenizer *t = open_tokenizer(TINY);

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		int32_t *ids = NULL;
		size_t count = 5;
		struct err e;
		assert_int_equal(
		    -ERR_INVALID_PARAM, tokenizer_encode(t, texts[i], strlen(texts[i]), &ids, &count, &e));
		assert_null(ids);
		assert_int_equal(5, count);
	}
	tokenizer_close(&t);
}

/* ---- loading */

static void
real_file_loads_quickly(void **state)
{
	struct mallinfo2 before = mallinfo2(), after;
	struct tokenizer *t;
	double start;

	(void)state;
	require_real();
	start = seconds();
	t = open_tokenizer(REAL);
	start = seconds() - start;
	after = mallinfo2();
	print_message("loaded in %.0f ms, %zu KiB kept, %zu ids\n", 1e3 * start,
	    (after.uordblks + after.hblkhd - before.uordblks - before.hblkhd) / 1024, tokenizer_vocab(t));
	assert_int_equal(151669, tokenizer_vocab(t));
	assert_true(start < 5.0); /* 0.3 s at -O2, 1 s with sanitizers */
	tokenizer_close(&t);
}

static char scratch[] = "/tmp/zit-tokenizer-XXXXXX";

/* Writes the tiny tokenizer with one piece of its text replaced, and opens it. */
static int
open_edited(const char *from, const char *to, struct err *e)
{
	json_t *json = load_list(TINY "/tokenizer.json");
	char *text = json_dumps(json, JSON_COMPACT), *at = strstr(text, from), path[64];
	struct tokenizer *t = NULL;
	FILE *f;
	int status;

	json_decref(json);
	if (at == NULL)
		fail_msg("the tiny tokenizer does not hold %s", from);
	snprintf(path, sizeof(path), "%s/tokenizer.json", scratch);
	f = fopen(path, "w");
	assert_non_null(f);
	fprintf(f, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
	fclose(f);
	free(text);
	status = tokenizer_open(&t, scratch, e);
	tokenizer_close(&t);
	unlink(path);
	return status;
}

static void
unusable_files_are_named(void **state)
{
	static const struct {
		const char *from, *to;
		enum err_code code;
		const char *says;
	} rows[] = {
	    {"\"type\":\"BPE\"", "\"type\":\"Unigram\"", ERR_UNSUPPORTED, "not BPE"},
	    {"\"dropout\":null", "\"dropout\":0.1", ERR_UNSUPPORTED, "dropout"},
	    {"\"normalizer\":{\"type\":\"NFC\"}", "\"normalizer\":{\"type\":\"NFKC\"}", ERR_UNSUPPORTED,
		"NFC"},
	    {"\"normalizer\":{\"type\":\"NFC\"}", "\"normalizer\":null", ERR_UNSUPPORTED, "NFC"},
	    {"\\\\p{N}|", "\\\\p{N}{1,3}|", ERR_UNSUPPORTED, "\\p{N}{1,3}"},
	    {"\"Isolated\"", "\"Removed\"", ERR_UNSUPPORTED, "pre_tokenizer"},
	    {"\"add_prefix_space\":false", "\"add_prefix_space\":true", ERR_UNSUPPORTED, "ByteLevel"},
	    {"\"lstrip\":false", "\"lstrip\":true", ERR_UNSUPPORTED, "strips"},
	    {"\"normalized\":false", "\"normalized\":true", ERR_UNSUPPORTED, "normalized"},
	    {"\"content\":\"<|im_start|>\"", "\"content\":\"<|other|>\"", ERR_UNSUPPORTED, "<|im_start|>"},
	    {"\"content\":\"<|im_end|>\"", "\"content\":\"\"", ERR_BAD_CHECKPOINT, "added_tokens"},
	    {"\"added_tokens\":[{\"id\":", "\"added_tokens\":[{\"id\":-", ERR_BAD_CHECKPOINT, "added_tokens"},
	    {"\"merges\":[", "\"merges\":[[\"q\",\"no such\"],", ERR_BAD_CHECKPOINT, "merges"},
	    {"\"merges\":[", "\"merges\":[[\"q\"],", ERR_BAD_CHECKPOINT, "merges"},
	    {"\"merges\":[", "\"merges\":[\"q\",", ERR_BAD_CHECKPOINT, "merges"},
	    {"\"merges\":[", "\"merges\":[7,", ERR_BAD_CHECKPOINT, "merges"},
	    {"\"merges\":", "\"nothing\":", ERR_BAD_CHECKPOINT, "merges"},
	    {"\"vocab\":{\"", "\"vocab\":{\"a new symbol\":-2,\"", ERR_BAD_CHECKPOINT, "a new symbol"},
	    {"\"vocab\":{\"", "\"vocab\":{\"a new symbol\":99999999999,\"", ERR_BAD_CHECKPOINT,
		"a new symbol"},
	    {"\"vocab\":{\"", "\"vocab\":{\"a new symbol\":1,\"a new symbol\":1,\"", ERR_BAD_CHECKPOINT,
		"uplicate"},
	    {"\"vocab\":{\"!\":", "\"vocab\":{\"no longer !\":", ERR_BAD_CHECKPOINT, "symbol of a byte"},
	    {"{\"", "[{\"", ERR_BAD_CHECKPOINT, "JSON"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct err e = {0};
		int status = open_edited(rows[i].from, rows[i].to, &e);
		if (status != -(int)rows[i].code || strstr(e.text, rows[i].says) == NULL)
			fail_msg("%s: status %d, says '%s', should name '%s'", rows[i].to, status, e.text,
			    rows[i].says);
		assert_non_null(strstr(e.text, "tokenizer.json"));
	}
}

/* "a b" strings, the older form, give the same merges. */
static void
merges_may_be_strings(void **state)
{
	json_t *json = load_list(TINY "/tokenizer.json"), *merges, *strings = json_array(), *pair;
	struct tokenizer *a = open_tokenizer(TINY), *b;
	static const char text[] = "A cat sitting on a mat, its tail around the other.";
	int32_t *ids = NULL, *wanted = NULL;
	size_t i, count = 0, wanted_count = 0;
	char path[64];

	(void)state;
	merges = json_object_get(json_object_get(json, "model"), "merges");
	assert_true(json_array_size(merges) > 0);
	json_array_foreach(merges, i, pair)
	{
		const char *left = json_string_value(json_array_get(pair, 0)),
			   *right = json_string_value(json_array_get(pair, 1));
		json_array_append_new(strings, json_is_string(pair)
						   ? json_pack("[s#, s]", json_string_value(pair),
							 (int)strcspn(json_string_value(pair), " "),
							 strchr(json_string_value(pair), ' ') + 1)
						   : json_sprintf("%s %s", left, right));
	}
	json_object_set_new(json_object_get(json, "model"), "merges", strings);
	snprintf(path, sizeof(path), "%s/tokenizer.json", scratch);
	assert_int_equal(0, json_dump_file(json, path, 0));
	b = open_tokenizer(scratch);
	assert_int_equal(0, tokenizer_encode(a, text, strlen(text), &wanted, &wanted_count, NULL));
	assert_int_equal(0, tokenizer_encode(b, text, strlen(text), &ids, &count, NULL));
	assert_int_equal(wanted_count, count);
	assert_memory_equal(wanted, ids, count * sizeof(*ids));
	assert_true(count < strlen(text)); /* something has merged */
	free(ids);
	free(wanted);
	tokenizer_close(&a);
	tokenizer_close(&b);
	json_decref(json);
	unlink(path);
}

static int
make_scratch(void **state)
{
	(void)state;
	return mkdtemp(scratch) != NULL ? 0 : -1;
}

static int
remove_scratch(void **state)
{
	(void)state;
	return rmdir(scratch);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(tiny_texts),
	    cmocka_unit_test(tiny_prompts),
	    cmocka_unit_test(real_texts),
	    cmocka_unit_test(real_prompts),
	    cmocka_unit_test(long_runs_take_linear_time),
	    cmocka_unit_test(long_prompt_is_refused_untouched),
	    cmocka_unit_test(long_prompt_is_cut),
	    cmocka_unit_test(prompt_of_exactly_the_limit_fits),
	    cmocka_unit_test(not_utf8_is_refused),
	    cmocka_unit_test(real_file_loads_quickly),
	    cmocka_unit_test(unusable_files_are_named),
	    cmocka_unit_test(merges_may_be_strings),
	};

	return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
