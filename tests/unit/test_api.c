/*
 * ipc/api: lines to requests, each bad one with its error and the parameter that is to blame.
 */
#include "tests/unit/test.h"

#include "ipc/api.h"
#include "ipc/group.h"

static const struct {
	const char *line;
	enum err_code code; /* ERR_NONE: it is good */
	const char *param;
} lines[] = {
    {"{\"id\":1,\"method\":\"status\"}", ERR_NONE, ""},
    {"{\"method\":\"status\",\"params\":{}}", ERR_NONE, ""},
    {"{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"status\",\"params\":null}", ERR_NONE, ""},
    {"{\"id\":1,\"method\":\"submit\",\"params\":{\"prompt\":\"\"}}", ERR_INVALID_PARAM, "prompt"},
    {"{\"id\":1,\"method\":\"submit\",\"params\":{\"prompt\":\"x\",\"width\":null}}", ERR_NONE, ""},
    {"{\"id\":1,\"method\":\"submit\",\"params\":{\"prompt\":\"x\",\"width\":512.0}}", ERR_NONE, ""},
    {"{\"id\":1,\"method\":\"submit\",\"params\":{\"prompt\":\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"}}",
	ERR_NONE, ""},
    {"{\"id\":1,\"method\":\"submit\",\"params\":{\"prompt\":\"x\",\"seed\":9223372036854775807}}", ERR_NONE,
	""},
    {"{\"id\":1,\"method\":\"cancel\",\"params\":{\"job\":\"a\"}}", ERR_NONE, ""},
    {"{\"id\":1,\"method\":\"cancel\",\"params\":{\"job\":[\"a\",\"b\"]}}", ERR_NONE, ""},
    {"{\"id\":1,\"method\":\"cancel\",\"params\":{\"group\":\"a\"}}", ERR_NONE, ""},
    {"{\"id\":1,\"method\":\"list\",\"params\":{\"group\":\"\"}}", ERR_INVALID_PARAM, "group"},
    {"", ERR_PARSE_ERROR, ""},
    {"{", ERR_PARSE_ERROR, ""},
    {"{\"id\":1,\"id\":2,\"method\":\"status\"}", ERR_PARSE_ERROR, ""},
    {"{\"id\":1,\"method\":\"\xff\"}", ERR_PARSE_ERROR, ""},
    {"{\"id\":1,\"method\":\"submit\",\"params\":{\"prompt\":\"x\",\"seed\":9223372036854775808}}",
	ERR_PARSE_ERROR, ""},
    {"[]", ERR_INVALID_REQUEST, ""},
    {"null", ERR_INVALID_REQUEST, ""},
    {"{}", ERR_INVALID_REQUEST, ""},
    {"{\"id\":[],\"method\":\"status\"}", ERR_INVALID_REQUEST, ""},
    {"{\"id\":1.5,\"method\":\"status\"}", ERR_INVALID_REQUEST, ""},
    {"{\"id\":1,\"method\":\"status\",\"params\":[]}", ERR_INVALID_REQUEST, ""},
    {"{\"id\":1,\"method\":\"status\",\"extra\":1}", ERR_INVALID_REQUEST, ""},
    {"{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"status\"}", ERR_INVALID_REQUEST, ""},
    {"{\"id\":1,\"method\":\"stats\"}", ERR_UNKNOWN_METHOD, ""},
    {"{\"id\":1,\"method\":\"\"}", ERR_UNKNOWN_METHOD, ""},
    {"{\"id\":1,\"method\":\"submit\"}", ERR_INVALID_PARAM, "prompt"},
    {"{\"id\":1,\"method\":\"submit\",\"params\":{\"prompt\":null}}", ERR_INVALID_PARAM, "prompt"},
    {"{\"id\":1,\"method\":\"submit\",\"params\":{\"prompt\":1}}", ERR_INVALID_PARAM, "prompt"},
    {"{\"id\":1,\"method\":\"submit\",\"params\":{\"prompt\":\"x\",\"width\":0}}", ERR_INVALID_PARAM,
	"width"},
    {"{\"id\":1,\"method\":\"submit\",\"params\":{\"prompt\":\"x\",\"width\":48}}", ERR_INVALID_PARAM,
	"width"},
    {"{\"id\":1,\"method\":\"submit\",\"params\":{\"prompt\":\"x\",\"width\":257}}", ERR_INVALID_PARAM,
	"width"},
    {"{\"id\":1,\"method\":\"submit\",\"params\":{\"prompt\":\"x\",\"width\":2064}}", ERR_INVALID_PARAM,
	"width"},
    {"{\"id\":1,\"method\":\"submit\",\"params\":{\"prompt\":\"x\",\"width\":512.5}}", ERR_INVALID_PARAM,
	"width"},
    {"{\"id\":1,\"method\":\"submit\",\"params\":{\"prompt\":\"x\",\"width\":1e300}}", ERR_INVALID_PARAM,
	"width"},
    {"{\"id\":1,\"method\":\"submit\",\"params\":{\"prompt\":\"x\",\"width\":\"512\"}}", ERR_INVALID_PARAM,
	"width"},
    {"{\"id\":1,\"method\":\"submit\",\"params\":{\"prompt\":\"x\",\"seed\":-1}}", ERR_INVALID_PARAM, "seed"},
    {"{\"id\":1,\"method\":\"submit\",\"params\":{\"prompt\":\"x\",\"n\":17}}", ERR_INVALID_PARAM, "n"},
    {"{\"id\":1,\"method\":\"submit\",\"params\":{\"prompt\":\"x\",\"priority\":\"urgent\"}}",
	ERR_INVALID_PARAM, "priority"},
    {"{\"id\":1,\"method\":\"submit\",\"params\":{\"prompt\":\"x\",\"priority\":\"high|normal\"}}",
	ERR_INVALID_PARAM, "priority"},
    {"{\"id\":1,\"method\":\"submit\",\"params\":{\"prompt\":\"x\",\"wait\":1}}", ERR_INVALID_PARAM, "wait"},
    {"{\"id\":1,\"method\":\"submit\",\"params\":{\"prompt\":\"x\",\"queue_timeout\":0}}", ERR_INVALID_PARAM,
	"queue_timeout"},
    {"{\"id\":1,\"method\":\"submit\",\"params\":{\"prompt\":\"x\",\"widht\":512}}", ERR_INVALID_PARAM,
	"widht"},
    {"{\"id\":1,\"method\":\"status\",\"params\":{\"x\":1}}", ERR_INVALID_PARAM, "x"},
    {"{\"id\":1,\"method\":\"cancel\",\"params\":{\"job\":[]}}", ERR_INVALID_PARAM, "job"},
    {"{\"id\":1,\"method\":\"cancel\",\"params\":{\"job\":[1]}}", ERR_INVALID_PARAM, "job"},
    {"{\"id\":1,\"method\":\"get\",\"params\":{\"job\":\"\"}}", ERR_INVALID_PARAM, "job"},
};

static void
test_lines(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		struct api_request r;
		struct err e = {0};
		char param[64];
		json_t *id;
		int status = api_parse(&r, lines[i].line, strlen(lines[i].line), &e, param, &id);

		if (status != -(int)lines[i].code || strcmp(param, lines[i].param) != 0)
			fail_msg("%s: %s, parameter '%s': %s", lines[i].line,
			    status != 0 ? err_row(status)->name : "taken", param, e.text);
		if (status == 0)
			api_request_clear(&r);
		json_decref(id);
	}
}

static void
test_values_arrive(void **state)
{
	static const char line[] =
	    "{\"id\":7,\"method\":\"submit\",\"params\":{\"prompt\":\"a cat\",\"width\":512,"
	    "\"queue_timeout\":2.5,\"priority\":\"low\",\"wait\":true}}";
	struct api_request r;
	struct err e;
	char param[64];
	json_t *id;

	(void)state;
	assert_int_equal(api_parse(&r, line, strlen(line), &e, param, &id), 0);
	assert_int_equal(r.method, API_submit);
	assert_string_equal(r.submit.prompt, "a cat");
	assert_true(r.submit.has_width && r.submit.width == 512 && !r.submit.has_height);
	assert_true(r.submit.queue_timeout == 2.5);
	assert_string_equal(api_choice_word(API_submit, "priority", r.submit.priority), "low");
	assert_null(api_choice_word(API_submit, "priority", 3));
	assert_null(api_choice_word(API_submit, "prompt", 0));
	assert_int_equal(json_integer_value(id), 7);
	api_request_clear(&r);
	json_decref(id);
}

/* ---- all fields of all methods */

static void
give(json_t *list, const char *name, json_t *value)
{
	json_array_insert_new(list, 0, json_pack("[s, o]", name, value));
}

/* [name, value] of every field, the last one first; values of neighbours differ. */
static json_t *
all_fields(enum api_method method)
{
	json_t *list = json_array();

	switch (method) {
#define COUNT (json_int_t) json_array_size(list)
#define STRING(x, need, min, max, help) give(list, #x, json_string(#x));
#define INTEGER(x, need, min, max, multiple, help) \
	give(list, #x, json_integer((min) + (multiple) * (COUNT % 4)));
#define NUMBER(x, need, min, max, help) give(list, #x, json_real((min) + (double)COUNT));
#define BOOLEAN(x, need, help) give(list, #x, json_true());
#define CHOICE(x, need, words, help) \
	give(list, #x, json_string(api_choice_word(method, #x, (int)(COUNT % 2))));
#define IDS(x, need, max, help) give(list, #x, json_pack("[s]", #x));
#define METHOD(NAME, role, when, fields, help) \
	case API_##NAME: \
		fields break;
#include "ipc/api.def"
#undef COUNT
	case API_METHOD_COUNT:
		break;
	}
	return list;
}

/* Each has what was given, and no other has anything. */
static void
check_fields(const struct api_request *r, const json_t *params)
{
	switch (r->method) {
#define OPTIONAL
#define REQUIRED
#define FIELD(x, is_same) \
	value = json_object_get(params, #x); \
	if (p->has_##x != (value != NULL) || (value != NULL && !(is_same))) \
		fail_msg("%s: %s is not what was given", api_method_name(r->method), #x);
#define STRING(x, need, min, max, help) FIELD(x, strcmp(p->x, json_string_value(value)) == 0)
#define INTEGER(x, need, min, max, multiple, help) FIELD(x, p->x == json_integer_value(value))
#define NUMBER(x, need, min, max, help) FIELD(x, p->x == json_real_value(value))
#define BOOLEAN(x, need, help) FIELD(x, p->x)
#define CHOICE(x, need, words, help) \
	FIELD(x, strcmp(api_choice_word(r->method, #x, p->x), json_string_value(value)) == 0)
#define IDS(x, need, max, help) FIELD(x, json_equal(p->x, value))
#define METHOD(NAME, role, when, fields, help) \
	case API_##NAME: { \
		const struct api_##NAME *p = &r->NAME; \
		const json_t *value = NULL; \
		(void)p, (void)value; \
		fields \
	} break;
#include "ipc/api.def"
#undef FIELD
	case API_METHOD_COUNT:
		break;
	}
}

/* All but one of the fields; `left_out` may be none of them. */
static void
check_all_but(enum api_method method, const json_t *fields, size_t left_out)
{
	json_t *params = json_object(), *field, *id;
	struct api_request r;
	struct err e;
	char param[64], *line;
	size_t i;

	json_array_foreach(fields, i, field)
	{
		if (i != left_out)
			json_object_set(
			    params, json_string_value(json_array_get(field, 0)), json_array_get(field, 1));
	}
	field = json_pack("{s:s, s:O}", "method", api_method_name(method), "params", params);
	line = json_dumps(field, 0);
	if (api_parse(&r, line, strlen(line), &e, param, &id) == 0) {
		check_fields(&r, params);
		api_request_clear(&r);
	} else if (strstr(e.text, "is required") == NULL ||
		   strcmp(param, json_string_value(json_array_get(json_array_get(fields, left_out), 0))) != 0)
		fail_msg("%s: %s", line, e.text);
	free(line);
	json_decref(field);
	json_decref(params);
}

static void
test_every_field_arrives(void **state)
{
	(void)state;
	for (int i = 0; i < API_METHOD_COUNT; i++) {
		json_t *fields = all_fields((enum api_method)i);

		for (size_t k = 0; k <= json_array_size(fields); k++)
			check_all_but((enum api_method)i, fields, k);
		json_decref(fields);
	}
}

/* ---- what the parser must not see, for it recurses */

/* What is said of a line that begins like this and goes on with more brackets than are allowed. */
static const char *
say_of_brackets(const char *begin, struct err *e)
{
	char line[128], param[64];
	struct api_request r;
	size_t bytes = strlen(begin);
	json_t *id;

	memset(mempcpy(line, begin, bytes), '[', 2 * API_MAX_DEPTH);
	assert_int_equal(api_parse(&r, line, bytes + 2 * API_MAX_DEPTH, e, param, &id), -ERR_PARSE_ERROR);
	assert_null(id);
	return e->text;
}

/* Strings of every length, with what could hide their end or end them too early. */
static void
test_brackets_in_strings(void **state)
{
	static const char *const ends[] = {"", "\\\"", "\\\\", "\\\\\\\"", "\xc3\xa9", "\xe7\x8c\xab\\\"",
	    "\xff", "\x01", "\x7f", "\\u0022", "\\u00e9\\\""};
	char begin[64];
	struct err e;

	(void)state;
	for (int length = 0; length < 20; length++) {
		for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
			snprintf(
			    begin, sizeof(begin), "{\"%.*s%s", length, "abcdefghijklmnopqrstuvwxyz", ends[i]);
			if (strstr(say_of_brackets(begin, &e), "not JSON") == NULL)
				fail_msg("%s: %s", begin, e.text);
			strcat(begin, "\"");
			if (strstr(say_of_brackets(begin, &e), "nests") == NULL)
				fail_msg("%s: %s", begin, e.text);
		}
	}
}

static void
test_deep_nesting(void **state)
{
	enum { DEPTH = 100000 };
	char *line = malloc(DEPTH);
	struct api_request r;
	struct err e;
	char param[64];
	json_t *id;

	(void)state;
	memset(line, '[', DEPTH);
	assert_int_equal(api_parse(&r, line, DEPTH, &e, param, &id), -ERR_PARSE_ERROR);
	assert_non_null(strstr(e.text, "nests"));
	assert_null(id);
	free(line);
}

static void
test_error_object(void **state)
{
	struct err e;
	json_t *error, *data;
	char *line;

	(void)state;
	err_set(&e, ERR_QUEUE_FULL, "full");
	line = api_error(NULL, &e, NULL, json_pack("{s:f}", "retry_after_s", 2.0));
	error = json_loads(line, 0, NULL);
	free(line);
	data = json_object_get(json_object_get(error, "error"), "data");
	assert_true(json_is_null(json_object_get(error, "id")));
	assert_int_equal(
	    json_integer_value(json_object_get(json_object_get(error, "error"), "code")), -ERR_QUEUE_FULL);
	assert_string_equal(json_string_value(json_object_get(data, "name")), "queue_full");
	json_decref(error);
}

/* The id comes back as it came, whatever kind it has. */
static void
test_reply_and_event(void **state)
{
	static const char *const ids[] = {"7", "-9223372036854775808", "\"a\\u0001\\\"\"", "null"};

	(void)state;
	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		json_t *id = json_loads(ids[i], JSON_DECODE_ANY, NULL);
		json_t *expected =
		    json_pack("{s:s, s:O, s:{s:b}}", "jsonrpc", "2.0", "id", id, "result", "good", 1);
		char *line = api_reply(id, strdup("{\"good\":true}"));
		json_t *reply = json_loads(line, 0, NULL);

		assert_true(json_equal(reply, expected));
		free(line);
		json_decref(reply);
		json_decref(expected);
		json_decref(id);
	}
	assert_null(api_reply(NULL, NULL));
	assert_null(api_event(NULL));
}

static void
test_fields_are_known(void **state)
{
	(void)state;
	assert_true(api_has_field(API_submit, "group") && api_has_field(API_cancel, "job"));
	assert_false(api_has_field(API_submit, "job") || api_has_field(API_status, "group"));
	assert_false(api_has_field(API_reload, "nosuch")); /* the last one */
}

static void
test_group_names(void **state)
{
	static const struct {
		const char *name;
		bool good;
	} names[] = {{"a", true}, {"Cats-2_x.y", true}, {".", true}, {"", false}, {"a b", false},
	    {"a/b", false}, {"\xe7\x8c\xab", false}, {"a\n", false}};
	char longest[GROUP_SIZE + 1];

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if ((group_check(names[i].name, NULL) == 0) != names[i].good)
			fail_msg("group '%s' is %s", names[i].name, names[i].good ? "refused" : "taken");
	}
	memset(longest, 'x', sizeof(longest));
	longest[GROUP_SIZE] = '\0';
	assert_int_equal(group_check(longest, NULL), -ERR_INVALID_PARAM);
	longest[GROUP_SIZE - 1] = '\0';
	assert_int_equal(group_check(longest, NULL), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_lines),
	    cmocka_unit_test(test_values_arrive),
	    cmocka_unit_test(test_every_field_arrives),
	    cmocka_unit_test(test_brackets_in_strings),
	    cmocka_unit_test(test_deep_nesting),
	    cmocka_unit_test(test_error_object),
	    cmocka_unit_test(test_reply_and_event),
	    cmocka_unit_test(test_fields_are_known),
	    cmocka_unit_test(test_group_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
