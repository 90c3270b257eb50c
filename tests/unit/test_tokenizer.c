/*
 * runner/tokenizer against the Hugging Face tokenizers library: identical ids on a corpus
 * (scripts/tokenizer-corpus), with the real tokenizer where its file is, with the tiny one always.
 */
#include "tests/unit/test.h"

#include <unistd.h>

#include "ipc/clock.h"
#include "runner/tokenizer.h"

static const char real_dir[] = "../shared/data/z-image-turbo/tokenizer",
		  tiny_dir[] = "build/golden/tokenizer";

enum { MAX_LINE = 64 * 1024, REAL = 1, TINY = 2 };

static size_t
from_hex(const char *hex, char *out)
{
	size_t n = 0;

	for (; hex[2 * n] != '\0' && hex[0] != '-'; n++) {
		unsigned byte;
		sscanf(hex + 2 * n, "%2x", &byte);
		out[n] = (char)byte;
	}
	return n;
}

/* Compares one corpus line's ids with ours. */
static void
check_line(const struct tokenizer *t, char *line, int column)
{
	static char text[MAX_LINE];
	char *fields[3], *at = line, *ids_at;
	struct err e;
	int32_t *ids;
	size_t count, bytes;

	for (int i = 0; i < 3; i++)
		fields[i] = strsep(&at, "\t\n");
	bytes = from_hex(fields[0], text);
	assert_int_equal(tokenizer_encode(t, text, bytes, &ids, &count, &e), 0);
	ids_at = fields[column];
	for (size_t i = 0; i <= count; i++) {
		char *end;
		long wanted = strtol(ids_at, &end, 10);
		if ((end == ids_at) != (i == count) || (i < count && wanted != ids[i]))
			fail_msg("'%.*s': token %zu is %d, not %ld", (int)bytes, text, i,
			    i < count ? ids[i] : -1, wanted);
		ids_at = end;
	}
	free(ids);
}

static void
check_corpus(const char *dir, int column)
{
	static char line[MAX_LINE];
	FILE *file = fopen("tests/unit/data/tokens.txt", "r");
	struct tokenizer *t;
	struct err e;
	int64_t begin_us = clock_now_us();
	int lines = 0;

	if (tokenizer_open(&t, dir, &e) != 0)
		fail_msg("%s", e.text);
	print_message("%s: loaded in %.0f ms\n", dir, (double)(clock_now_us() - begin_us) * 1e-3);
	assert_non_null(file);
	for (; fgets(line, sizeof(line), file) != NULL; lines++)
		check_line(t, line, column);
	assert_in_range(lines, 60, 1000);
	fclose(file);
	tokenizer_close(&t);
}

static void
test_real_tokenizer(void **state)
{
	(void)state;
	if (access(real_dir, R_OK) != 0)
		skip(); /* its 11 MB are not part of the project */
	check_corpus(real_dir, REAL);
}

static void
test_tiny_tokenizer(void **state)
{
	(void)state;
	check_corpus(tiny_dir, TINY);
}

static void
test_frame_and_length(void **state)
{
	static const int32_t cat[] = {
	    283, 258, 198, 32, 271, 220, 260, 83, 274, 275, 279, 277, 281, 13, 284, 198, 283, 268, 198};
	char longer[1201];
	struct tokenizer *t;
	struct err e;
	int32_t *ids;
	size_t count;
	bool truncated;

	(void)state;
	assert_int_equal(tokenizer_open(&t, tiny_dir, &e), 0);
	assert_int_equal(tokenizer_vocab(t), 285);
	assert_int_equal(
	    tokenizer_prompt(t, "A cat sitting on a mat.", 512, false, &ids, &count, &truncated, &e), 0);
	assert_int_equal(count, sizeof(cat) / sizeof(cat[0]));
	assert_memory_equal(ids, cat, sizeof(cat));
	assert_false(truncated);
	free(ids);
	for (int i = 0; i < 1200; i++)
		longer[i] = i % 2 == 0 ? '1' : '!';
	longer[1200] = '\0';
	assert_int_equal(
	    tokenizer_prompt(t, longer, 512, false, &ids, &count, &truncated, &e), -ERR_PROMPT_TOO_LONG);
	assert_non_null(strstr(e.text, "512"));
	assert_int_equal(tokenizer_prompt(t, longer, 512, true, &ids, &count, &truncated, &e), 0);
	assert_true(truncated && count == 512);
	free(ids);
	assert_int_equal(
	    tokenizer_prompt(t, "\xff", 512, false, &ids, &count, &truncated, &e), -ERR_INVALID_PARAM);
	tokenizer_close(&t);
}

/* Prints how time grows; what is checked is that runs of one class come back at all. */
static void
test_long_runs(void **state)
{
	static const char *const runs[] = {"a", " ", "\n", "!", "\xe7\x8c\xab"};
	enum { SHORT = 4000, LONG = 64000 };
	static char text[3 * LONG + 1];
	struct tokenizer *t;
	struct err e;

	(void)state;
	assert_int_equal(tokenizer_open(&t, tiny_dir, &e), 0);
	for (int i = 0; i < 5; i++) {
		double took[2];
		for (int round = 0; round < 2; round++) {
			size_t unit = strlen(runs[i]), n = (round == 0 ? SHORT : LONG) * unit, count;
			int64_t begin_us = clock_now_us();
			int32_t *ids;
			for (size_t k = 0; k < n; k++)
				text[k] = runs[i][k % unit];
			assert_int_equal(tokenizer_encode(t, text, n, &ids, &count, &e), 0);
			took[round] = (double)(clock_now_us() - begin_us + 1);
			free(ids);
		}
		print_message("run %d: %.0f us for %d, %.0f us for %d\n", i, took[0], SHORT, took[1], LONG);
	}
	tokenizer_close(&t);
}

static void
test_other_kinds_are_refused(void **state)
{
	struct tokenizer *t;
	struct err e;

	(void)state;
	assert_true(tokenizer_open(&t, "tests/unit", &e) < 0);
	assert_non_null(strstr(e.text, "tokenizer.json"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_real_tokenizer),
	    cmocka_unit_test(test_tiny_tokenizer),
	    cmocka_unit_test(test_frame_and_length),
	    cmocka_unit_test(test_long_runs),
	    cmocka_unit_test(test_other_kinds_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
