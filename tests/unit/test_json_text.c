/*
 * ipc/json_text: what is written is what a parser reads.
 */
#include "tests/unit/test.h"

#include <math.h>
#include <string.h>

#include "ipc/json_text.h"
#include "tests/unit/texts.h"

/* The text's value; the test ends when it is no JSON. */
static json_t *
parsed(struct json_text *t)
{
	char *text = json_text_end(t);
	json_error_t why;
	json_t *value;

	assert_non_null(text);
	value = json_loads(text, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
	if (value == NULL)
		fail_msg("%s: %s", why.text, text);
	free(text);
	return value;
}

static void
test_structure(void **state)
{
	struct json_text t = {0};
	json_t *value, *expected = json_pack("{s:{}, s:[i, [], {s:b}], s:s, s:[s, n]}", "empty", "list", 1,
			   "yes", 1, "last", "x", "tree", "y");

	(void)state;
	json_text_open(&t, NULL, '{');
	json_text_open(&t, "empty", '{');
	json_text_close(&t, '}');
	json_text_open(&t, "list", '[');
	json_text_integer(&t, NULL, 1);
	json_text_open(&t, NULL, '[');
	json_text_close(&t, ']');
	json_text_open(&t, NULL, '{');
	json_text_boolean(&t, "yes", true);
	json_text_close(&t, '}');
	json_text_close(&t, ']');
	json_text_string(&t, "last", "x");
	json_text_value(&t, "tree", json_object_get(expected, "tree"));
	json_text_close(&t, '}');
	value = parsed(&t);
	assert_true(json_equal(value, expected));
	json_decref(value);
	json_decref(expected);
}

static void
test_strings(void **state)
{
	char every[128 + 16], *end = every;
	struct json_text t = {0};
	json_t *value;

	(void)state;
	for (int c = 1; c < 128; c++)
		*end++ = (char)c;
	strcpy(end, "\xe7\x8c\xab\xf0\x9f\x98\xba");
	json_text_open(&t, NULL, '[');
	json_text_string(&t, NULL, every);
	json_text_string(&t, NULL, "\xff broken");
	json_text_string(&t, NULL, "");
	json_text_close(&t, ']');
	value = parsed(&t);
	assert_int_equal(json_array_size(value), 2);
	assert_string_equal(json_string_value(json_array_get(value, 0)), every);
	assert_string_equal(json_string_value(json_array_get(value, 1)), "");
	json_decref(value);
}

/* A list of the text, byte by byte; the empty one when it is not UTF-8. */
static void
plain_list(char *out, const char *text)
{
	static const struct {
		char byte;
		const char *form;
	} short_forms[] = {{'"', "\\\""}, {'\\', "\\\\"}, {'\b', "\\b"}, {'\f', "\\f"}, {'\n', "\\n"},
	    {'\r', "\\r"}, {'\t', "\\t"}};

	if (!plain_utf8_valid(text, strlen(text))) {
		strcpy(out, "[]");
		return;
	}
	out += sprintf(out, "[\"");
	for (; *text != '\0'; text++) {
		const char *form = NULL;

		for (size_t i = 0; i < sizeof(short_forms) / sizeof(short_forms[0]); i++)
			form = short_forms[i].byte == *text ? short_forms[i].form : form;
		if (form != NULL)
			out += sprintf(out, "%s", form);
		else
			out += sprintf(out, (uint8_t)*text < ' ' ? "\\u%04x" : "%c", *text);
	}
	sprintf(out, "\"]");
}

static void
check_string(const char *text, size_t count)
{
	struct json_text t = {0};
	char expected[2048], *made;

	(void)count;
	json_text_open(&t, NULL, '[');
	json_text_string(&t, NULL, text);
	json_text_close(&t, ']');
	made = json_text_end(&t);
	plain_list(expected, text);
	assert_string_equal(made, expected);
	free(made);
}

static void
test_strings_byte_by_byte(void **state)
{
	(void)state;
	give_texts_with_an_oddity(check_string);
	give_mixed_texts(check_string, 50000);
}

/* One that is not UTF-8 leaves no comma and no key behind. */
static void
test_broken_strings_leave_nothing(void **state)
{
	struct json_text t = {0};
	char *text;

	(void)state;
	json_text_open(&t, NULL, '{');
	json_text_string(&t, "a", "first \xed\xa0\x80");
	json_text_string(&t, "b", "good");
	json_text_string(&t, "c", "last \xff");
	json_text_close(&t, '}');
	text = json_text_end(&t);
	assert_string_equal(text, "{\"b\":\"good\"}");
	free(text);
}

static void
test_integers(void **state)
{
	const int64_t values[] = {0, 1, -1, 9, 10, 1234567890123, INT64_MAX, INT64_MIN};
	const size_t count = sizeof(values) / sizeof(values[0]);
	struct json_text t = {0};
	json_t *value;

	(void)state;
	json_text_open(&t, NULL, '[');
	for (size_t i = 0; i < count; i++)
		json_text_integer(&t, NULL, values[i]);
	json_text_close(&t, ']');
	value = parsed(&t);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(json_integer_value(json_array_get(value, i)), values[i]);
	json_decref(value);
}

/* Whole ones of every number of digits, and the fractions of seconds around them. */
static void
test_digits(void **state)
{
	(void)state;
	for (uint64_t ten = 1, digits = 1; digits <= 19; ten *= 10, digits++) {
		for (uint64_t each = 0; each < 300; each++) {
			struct json_text t = {0};
			const int64_t value =
			    (int64_t)(each < 150 ? ten - each : ten / 150 * each + each % 11);
			const uint64_t size = value < 0 ? -(uint64_t)value : (uint64_t)value;
			char expected[128], fraction[8], *made;

			sprintf(fraction, "%06llu", (unsigned long long)size % 1000000);
			for (int last = 5; last > 0 && fraction[last] == '0'; last--)
				fraction[last] = '\0';
			sprintf(expected, "[%lld,%s%llu.%s]", (long long)value, value < 0 ? "-" : "",
			    (unsigned long long)size / 1000000, fraction);
			json_text_open(&t, NULL, '[');
			json_text_integer(&t, NULL, value);
			json_text_micros(&t, NULL, value);
			json_text_close(&t, ']');
			made = json_text_end(&t);
			assert_string_equal(made, expected);
			free(made);
		}
	}
}

/* Each is a real for the parser, and the same one. */
static void
test_reals(void **state)
{
	const double values[] = {0, 1, -3, 0.1, 1.0 / 3, 300, 1e15, -1e15 - 0.5, 1e16, 1e300, 5e-324,
	    123456.789, 0.1 + 0.2, 1e-6, 1e-7, -0.25, 999999999.999999, 1e9 + 0.5};
	const size_t count = sizeof(values) / sizeof(values[0]);
	struct json_text t = {0};
	json_t *value, *each;

	(void)state;
	json_text_open(&t, NULL, '[');
	for (size_t i = 0; i < count; i++)
		json_text_real(&t, NULL, values[i]);
	json_text_real(&t, NULL, NAN);
	json_text_real(&t, NULL, -INFINITY);
	json_text_close(&t, ']');
	value = parsed(&t);
	assert_int_equal(json_array_size(value), count);
	for (size_t i = 0; i < count; i++) {
		each = json_array_get(value, i);
		assert_true(json_is_real(each));
		assert_memory_equal(&(double){json_real_value(each)}, &values[i], sizeof(double));
	}
	json_decref(value);
}

static void
test_micros(void **state)
{
	static const struct {
		int64_t us;
		const char *text;
	} rows[] = {{0, "0.0"}, {1, "0.000001"}, {1500000, "1.5"}, {-2000001, "-2.000001"},
	    {INT64_C(1790000000123456), "1790000000.123456"}};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct json_text t = {0};
		char *text;

		json_text_micros(&t, NULL, rows[i].us);
		text = json_text_end(&t);
		assert_string_equal(text, rows[i].text);
		free(text);
	}
}

/* Far more than it begins with. */
static void
test_growth(void **state)
{
	char long_one[5000];
	struct json_text t = {0};
	json_t *value;

	(void)state;
	memset(long_one, '\x01', sizeof(long_one) - 1); /* each takes six bytes */
	long_one[sizeof(long_one) - 1] = '\0';
	json_text_open(&t, NULL, '[');
	for (int i = 0; i < 20; i++)
		json_text_string(&t, NULL, long_one);
	json_text_close(&t, ']');
	value = parsed(&t);
	for (size_t i = 0; i < 20; i++)
		assert_string_equal(json_string_value(json_array_get(value, i)), long_one);
	json_decref(value);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_structure), cmocka_unit_test(test_strings),
	    cmocka_unit_test(test_strings_byte_by_byte), cmocka_unit_test(test_broken_strings_leave_nothing),
	    cmocka_unit_test(test_integers), cmocka_unit_test(test_digits), cmocka_unit_test(test_reals),
	    cmocka_unit_test(test_micros), cmocka_unit_test(test_growth)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
