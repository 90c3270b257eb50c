/*
 * What a picture says about itself, read back as the readers in the world do: above all, no prompt and no
 * name can forge a setting.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "build_id.h"
#include "ipc/clock.h"
#include "runner/metadata.h"

static const struct metadata_facts plain = {"job_1", "a cat", "", 42, 1024, 512, 8, 3.0f, "z-image-turbo",
    "0123456789abcdef0123456789abcdef", "cpu (2 threads)", "f32"};

static struct metadata
make(const struct metadata_facts *facts)
{
	struct metadata m;

	assert_true(metadata_make(&m, facts));
	return m;
}

/* ---- a reader: the last line is the settings; a line that begins with "Negative prompt:" ends the prompt */

enum { MAX_PAIRS = 32 };

struct reading {
	char text[4096];
	const char *keys[MAX_PAIRS], *values[MAX_PAIRS];
	int pairs;
	int negative_lines, settings_lines; /* lines that begin so, after stripping */
};

static const char *
skip_white(const char *s)
{
	static const char *const white[] = {" ", "\t", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x1f", "\xc2\x85",
	    "\xc2\xa0", "\xe3\x80\x80", "\xe2\x80\xa8", "\xe2\x80\xa9"};

	for (size_t i = 0; i < sizeof(white) / sizeof(white[0]); i++) {
		if (strncmp(s, white[i], strlen(white[i])) == 0)
			return skip_white(s + strlen(white[i]));
	}
	return s;
}

static char *
value_end(char *s)
{
	if (*s != '"')
		return s + strcspn(s, ",");
	for (s++; *s != '\0' && *s != '"'; s++) {
		if (*s == '\\' && s[1] != '\0')
			s++;
	}
	return *s == '"' ? s + 1 : s;
}

/* "Key: value, Key: "quoted, value"" */
static void
read_pairs(struct reading *r, char *s)
{
	while (*s != '\0' && r->pairs < MAX_PAIRS) {
		char *colon = strchr(s, ':'), *end;
		if (colon == NULL)
			return;
		*colon = '\0';
		r->keys[r->pairs] = skip_white(s);
		r->values[r->pairs] = skip_white(colon + 1);
		end = value_end((char *)r->values[r->pairs]);
		r->pairs++;
		s = *end == ',' ? end + 1 : end;
		*end = '\0';
	}
}

/* Lines end where the most generous reader ends them: Python's splitlines knows all these. */
static void
count_lines(struct reading *r, const char *text)
{
	for (const char *c = text; *c != '\0'; c++) {
		bool begins = c == text || strchr("\n\r\v\f", c[-1]) != NULL ||
			      (c - text >= 2 && memcmp(c - 2, "\xc2\x85", 2) == 0) ||
			      (c - text >= 3 && memcmp(c - 3, "\xe2\x80\xa8", 3) == 0);
		const char *word = skip_white(c);
		if (!begins)
			continue;
		r->negative_lines += strncmp(word, "Negative prompt:", 16) == 0;
		r->settings_lines += strncmp(word, "Steps:", 6) == 0;
	}
}

static void
read_parameters(struct reading *r, const char *text)
{
	char *last;

	memset(r, 0, sizeof(*r));
	assert_true(strlen(text) < sizeof(r->text));
	strcpy(r->text, text);
	count_lines(r, text);
	last = strrchr(r->text, '\n');
	assert_non_null(last);
	read_pairs(r, last + 1);
}

static void
assert_setting(const struct reading *r, const char *key, const char *value)
{
	int found = 0;

	for (int i = 0; i < r->pairs; i++) {
		if (strcmp(r->keys[i], key) != 0)
			continue;
		assert_string_equal(r->values[i], value);
		found++;
	}
	assert_int_equal(found, 1);
}

/* ---- tests */

static void
parameters_are_as_documented(void **state)
{
	struct metadata m = make(&plain);

	(void)state;
	assert_string_equal(m.parameters,
	    "a cat\nSteps: 8, Sampler: Euler, Schedule type: Simple, CFG scale: 0, "
	    "Seed: 42, Size: 1024x512, Model hash: 0123456789, "
	    "Model: z-image-turbo, Shift: 3, Version: zitd " ZIT_VERSION);
	metadata_clear(&m);
}

static void
negative_prompt_has_its_line(void **state)
{
	struct metadata_facts facts = plain;
	struct metadata m;
	struct reading r;

	(void)state;
	facts.negative_prompt = "ugly";
	m = make(&facts);
	read_parameters(&r, m.parameters);
	assert_non_null(strstr(m.parameters, "a cat\nNegative prompt: ugly\nSteps: 8"));
	assert_int_equal(r.negative_lines, 1);
	metadata_clear(&m);
}

static void
no_text_forges_settings(void **state)
{
	static const char *const texts[] = {
	    "cat\nSteps: 1, Sampler: X, Seed: 666, Size: 1x1",
	    "Steps: 1, Sampler: X, Seed: 666, Size: 1x1",
	    "cat\n \t Steps: 1, Seed: 666, CFG scale: 1",
	    "cat\xe2\x80\xa8Steps: 1, Seed: 666, CFG scale: 1",
	    "cat\n\xe3\x80\x80Steps: 1, Seed: 666, CFG scale: 1",
	    "cat\rSteps: 1, Seed: 666, CFG scale: 1",
	    "cat\r\nSteps: 1, Seed: 666, CFG scale: 1",
	    "cat\nSte\rps: 1, Seed: 666, CFG scale: 1",
	    "cat\nSteps\r\n: 1, Seed: 666, CFG scale: 1",
	    "cat\vSteps: 1, Seed: 666, CFG scale: 1\f",
	    "cat\n\\Steps\\: 1, Seed: 666, CFG scale: 1",
	    "cat\nNegative prompt: evil",
	    "Negative prompt: evil",
	    "cat\n\xc2\xa0Negative prompt: evil\nSteps: 1, Seed: 666, CFG scale: 1",
	    "cat\nNegative\rprompt: evil",
	    "\n",
	    "",
	};

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(texts) / sizeof(texts[0]); i++) {
		struct metadata_facts facts = plain;
		struct metadata m;
		struct reading r;

		*(i % 2 == 0 ? &facts.prompt : &facts.negative_prompt) = texts[i / 2];
		m = make(&facts);
		read_parameters(&r, m.parameters);
		assert_setting(&r, "Seed", "42");
		assert_setting(&r, "Steps", "8");
		assert_setting(&r, "Size", "1024x512");
		assert_int_equal(r.settings_lines, 1);
		assert_int_equal(r.negative_lines, facts.negative_prompt[0] != '\0');
		metadata_clear(&m);
	}
}

static void
no_model_name_forges_settings(void **state)
{
	static const char *const names[] = {"m, Seed: 666", "m\", Seed: 666",
	    "m\nSteps: 1, Seed: 666, Size: 1x1", "\"m\", Seed: 666, X: \"", "m\\", " m",
	    "m:", "m\xe2\x80\xa8Steps: 1, Seed: 666, Size: 1x1"};

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct metadata_facts facts = plain;
		struct metadata m;
		struct reading r;

		facts.model = names[i];
		m = make(&facts);
		read_parameters(&r, m.parameters);
		assert_setting(&r, "Seed", "42");
		assert_int_equal(r.pairs, 10);
		assert_int_equal(r.settings_lines, 1);
		metadata_clear(&m);
	}
}

/* One backslash less before the colon of each key is the prompt again. */
static void
escaped_prompt_can_be_restored(void **state)
{
	static const char prompt[] =
	    "Steps: 1, Steps\\: 2, Steps\\\\: 3, footsteps: 4, Negative prompt: x, a:b";
	struct metadata_facts facts = plain;
	struct metadata m;

	(void)state;
	facts.prompt = prompt;
	m = make(&facts);
	assert_non_null(strstr(m.parameters, "Steps\\: 1, Steps\\\\: 2, Steps\\\\\\: 3, footsteps: 4, "
					     "Negative prompt\\: x, a:b\nSteps: 8"));
	metadata_clear(&m);
}

static void
json_has_the_exact_prompt(void **state)
{
	static const char prompt[] =
	    "\xe4\xb8\x80\xe5\x8f\xaa\xe7\x8c\xab \xf0\x9f\x90\x88\nSteps: 1, \"Seed\": 2\r\x01";
	struct metadata_facts facts = plain;
	struct metadata m;
	json_t *json;

	(void)state;
	facts.prompt = prompt;
	m = make(&facts);
	json = json_loads(m.json, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(json);
	assert_string_equal(json_string_value(json_object_get(json, "prompt")), prompt);
	assert_string_equal(json_string_value(json_object_get(json, "job")), "job_1");
	assert_string_equal(json_string_value(json_object_get(json, "model_hash")), plain.model_hash);
	assert_string_equal(json_string_value(json_object_get(json, "build")), ZIT_BUILD);
	assert_int_equal(json_integer_value(json_object_get(json, "seed")), 42);
	assert_int_equal(json_integer_value(json_object_get(json, "width")), 1024);
	assert_int_equal(json_integer_value(json_object_get(json, "height")), 512);
	assert_int_equal(json_integer_value(json_object_get(json, "steps")), 8);
	json_decref(json);
	metadata_clear(&m);
}

static void
time_is_iso_and_utc(void **state)
{
	static const int64_t moment_us = 1700000000LL * 1000000;
	struct metadata m;

	(void)state;
	clock_replace(&moment_us);
	m = make(&plain);
	clock_replace(NULL);
	assert_string_equal(m.created, "2023-11-14T22:13:20Z");
	metadata_clear(&m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(parameters_are_as_documented),
	    cmocka_unit_test(negative_prompt_has_its_line),
	    cmocka_unit_test(no_text_forges_settings),
	    cmocka_unit_test(no_model_name_forges_settings),
	    cmocka_unit_test(escaped_prompt_can_be_restored),
	    cmocka_unit_test(json_has_the_exact_prompt),
	    cmocka_unit_test(time_is_iso_and_utc),
	};

	return cmocka_run_group_tests_name("metadata", tests, NULL, NULL);
}
