/*
 * The public JSON-RPC dialect: lines to typed, bounded requests, and replies to lines. Expanded from api.def.
 */
#include "ipc/api.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/json_text.h"
#include "ipc/nearest.h"
#include "ipc/utf8.h"

enum { OPTIONAL, REQUIRED }; /* the words of the rows */

/* ---- the rows as a flat list: a method's row has no field, its fields follow it */

struct field_row {
	const char *method; /* of a method's row, else NULL */
	const char *name;
	const char *words; /* of a choice, else NULL */
};

static const struct field_row field_rows[] = {
#define STRING(name, need, min, max, help) {NULL, #name, NULL},
#define INTEGER(name, need, min, max, multiple, help) {NULL, #name, NULL},
#define NUMBER(name, need, min, max, help) {NULL, #name, NULL},
#define BOOLEAN(name, need, help) {NULL, #name, NULL},
#define CHOICE(name, need, words, help) {NULL, #name, words},
#define IDS(name, need, max, help) {NULL, #name, NULL},
#define METHOD(name, role, fields, help) {#name, NULL, NULL}, fields
#include "ipc/api.def"
    {"", NULL, NULL},
};

static const struct {
	const char *name;
	enum api_role role;
} methods[] = {
#define ANYONE API_ANYONE
#define ADMIN API_ADMIN
#define METHOD(name, role, fields, help) {#name, role},
#include "ipc/api.def"
};

enum api_role
api_role(enum api_method method)
{
	return methods[method].role;
}

const char *
api_method_name(enum api_method method)
{
	return methods[method].name;
}

/* The first field row of a method; its fields end at the next row that has a method. */
static const struct field_row *
api_fields_of(enum api_method method)
{
	const struct field_row *row = field_rows;

	while (row->method == NULL || strcmp(row->method, methods[method].name) != 0)
		row++;
	return row + 1;
}

bool
api_has_field(enum api_method method, const char *field)
{
	const struct field_row *row = api_fields_of(method);

	while (row->method == NULL && strcmp(row->name, field) != 0)
		row++;
	return row->method == NULL;
}

/* Length of the index-th word of "a|b|c", at *word; 0 when there is none. */
static size_t
api_nth_word(const char *words, int index, const char **word)
{
	for (; index > 0; index--) {
		words += strcspn(words, "|");
		if (*words == '\0')
			return 0;
		words++;
	}
	*word = words;
	return strcspn(words, "|");
}

const char *
api_choice_word(enum api_method method, const char *field, int index)
{
	static _Thread_local char copy[32];
	const char *word;

	for (const struct field_row *row = api_fields_of(method); row->method == NULL; row++) {
		size_t length;

		if (row->words == NULL || strcmp(row->name, field) != 0 || index < 0)
			continue;
		length = api_nth_word(row->words, index, &word);
		if (length == 0 || length >= sizeof(copy))
			return NULL;
		memcpy(copy, word, length);
		copy[length] = '\0';
		return copy;
	}
	return NULL;
}

/* ---- taking fields: each checks one member against its row and says what is wrong */

struct taker {
	const json_t *params; /* object, or NULL */
	struct err *e;
	char *param; /* [64] */
	int status;  /* of the first failure; the rest is skipped then */
};

static void
api_name_param(char param[64], const char *name)
{
	snprintf(param, 64, "%s", name);
	utf8_make_line(param);
}

/* The member, or NULL when it is absent or an earlier one failed. */
static const json_t *
take(struct taker *t, const char *name, int need)
{
	const json_t *value = json_object_get(t->params, name);

	if (t->status != 0)
		return NULL;
	if (value != NULL && !json_is_null(value))
		return value;
	if (need == REQUIRED) {
		api_name_param(t->param, name);
		t->status =
		    err_set(t->e, ERR_INVALID_PARAM, "%s is required; zit-api says what it means", name);
	}
	return NULL;
}

/* What came, short enough for a sentence. */
static void
show_value(const json_t *value, char out[48])
{
	char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);

	snprintf(out, 48, "%.40s", text != NULL ? text : "?");
	if (text != NULL && strlen(text) > 40)
		strcat(out, "...");
	utf8_make_line(out);
	free(text);
}

static void
refuse(struct taker *t, const char *name, const json_t *value, const char *wanted)
{
	char shown[48];

	show_value(value, shown);
	api_name_param(t->param, name);
	t->status = err_set(t->e, ERR_INVALID_PARAM, "%s must be %s; %s is not", name, wanted, shown);
}

static bool
take_string(struct taker *t, const char *name, int need, size_t min, size_t max, const char **out)
{
	const json_t *value = take(t, name, need);
	char wanted[64];

	if (value == NULL)
		return false;
	if (!json_is_string(value) || json_string_length(value) < min || json_string_length(value) > max) {
		snprintf(wanted, sizeof(wanted), "a string of %zu to %zu bytes", min, max);
		refuse(t, name, value, wanted);
		return false;
	}
	*out = json_string_value(value);
	return true;
}

/* 1024 and 1024.0 are the same integer to JSON; 2^53 bounds what a real can say exactly. */
static bool
is_integer(const json_t *value, int64_t *out)
{
	double real = json_real_value(value);

	if (json_is_integer(value)) {
		*out = json_integer_value(value);
		return true;
	}
	if (!json_is_real(value) || fabs(real) > 9007199254740992.0 || real != floor(real))
		return false;
	*out = (int64_t)real;
	return true;
}

static bool
take_integer(
    struct taker *t, const char *name, int need, int64_t min, int64_t max, int64_t multiple, int64_t *out)
{
	const json_t *value = take(t, name, need);
	char wanted[96], grid[40] = "";
	int64_t number;

	if (value == NULL)
		return false;
	if (is_integer(value, &number) && number >= min && number <= max && number % multiple == 0) {
		*out = number;
		return true;
	}
	if (multiple != 1)
		snprintf(grid, sizeof(grid), ", a multiple of %lld", (long long)multiple);
	snprintf(
	    wanted, sizeof(wanted), "an integer from %lld to %lld%s", (long long)min, (long long)max, grid);
	refuse(t, name, value, wanted);
	return false;
}

static bool
take_number(struct taker *t, const char *name, int need, double min, double max, double *out)
{
	const json_t *value = take(t, name, need);
	char wanted[64];
	double number = json_number_value(value);

	if (value == NULL)
		return false;
	if (!json_is_number(value) || !(number >= min && number <= max)) {
		snprintf(wanted, sizeof(wanted), "a number from %g to %g", min, max);
		refuse(t, name, value, wanted);
		return false;
	}
	*out = number;
	return true;
}

static bool
take_boolean(struct taker *t, const char *name, int need, bool *out)
{
	const json_t *value = take(t, name, need);

	if (value == NULL)
		return false;
	if (!json_is_boolean(value)) {
		refuse(t, name, value, "true or false");
		return false;
	}
	*out = json_is_true(value);
	return true;
}

static bool
take_choice(struct taker *t, const char *name, int need, const char *words, int *out)
{
	const json_t *value = take(t, name, need);
	const char *word;
	size_t length;

	if (value == NULL)
		return false;
	for (int i = 0; json_is_string(value) && (length = api_nth_word(words, i, &word)) > 0; i++) {
		if (length == json_string_length(value) &&
		    memcmp(word, json_string_value(value), length) == 0) {
			*out = i;
			return true;
		}
	}
	refuse(t, name, value, words);
	return false;
}

static bool
are_ids(const json_t *value, size_t max)
{
	size_t i;
	json_t *item;

	if (json_is_string(value))
		return true;
	if (!json_is_array(value) || json_array_size(value) == 0 || json_array_size(value) > max)
		return false;
	json_array_foreach(value, i, item)
	{
		if (!json_is_string(item))
			return false;
	}
	return true;
}

static bool
take_ids(struct taker *t, const char *name, int need, size_t max, const json_t **out)
{
	const json_t *value = take(t, name, need);
	char wanted[64];

	if (value == NULL)
		return false;
	if (!are_ids(value, max)) {
		snprintf(wanted, sizeof(wanted), "a job id or an array of 1 to %zu of them", max);
		refuse(t, name, value, wanted);
		return false;
	}
	*out = value;
	return true;
}

static void
api_take_fields(struct taker *t, struct api_request *r)
{
	switch (r->method) {
#define STRING(name, need, min, max, help) p->has_##name = take_string(t, #name, need, min, max, &p->name);
#define INTEGER(name, need, min, max, multiple, help) \
	p->has_##name = take_integer(t, #name, need, min, max, multiple, &p->name);
#define NUMBER(name, need, min, max, help) p->has_##name = take_number(t, #name, need, min, max, &p->name);
#define BOOLEAN(name, need, help) p->has_##name = take_boolean(t, #name, need, &p->name);
#define CHOICE(name, need, words, help) p->has_##name = take_choice(t, #name, need, words, &p->name);
#define IDS(name, need, max, help) p->has_##name = take_ids(t, #name, need, max, &p->name);
#define METHOD(NAME, role, fields, help) \
	case API_##NAME: { \
		struct api_##NAME *p = &r->NAME; \
		(void)p; \
		fields \
	} break;
#include "ipc/api.def"
	case API_METHOD_COUNT:
		break;
	}
}

/* ---- the frame around the fields */

/* Whether brackets outside strings nest no deeper than allowed, and there are not too many values: the parser
 * recurses, and makes a hundred times a line's bytes of its values, so it must not see such a line. */
static bool
is_bounded(const char *line, size_t bytes)
{
	int depth = 0, values = 0;
	bool in_string = false;

	for (size_t i = 0; i < bytes && depth <= API_MAX_DEPTH && values <= API_MAX_VALUES; i++) {
		char c = line[i];

		if (c == '"')
			in_string = !in_string;
		else if (in_string)
			i += c == '\\';
		else {
			depth += (c == '[' || c == '{') - (c == ']' || c == '}');
			values += c == '[' || c == '{' || c == ',';
		}
	}
	return depth <= API_MAX_DEPTH && values <= API_MAX_VALUES;
}

static int
load_line(json_t **json, const char *line, size_t bytes, struct err *e)
{
	json_error_t why;

	if (!is_bounded(line, bytes))
		return err_set(e, ERR_PARSE_ERROR,
		    "the line nests more than %d brackets, or has more than %d values", API_MAX_DEPTH,
		    API_MAX_VALUES);
	*json = json_loadb(line, bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
	if (*json == NULL)
		return err_set(
		    e, ERR_PARSE_ERROR, "the line is not JSON: %s at byte %d", why.text, why.position);
	if (!json_is_object(*json))
		return err_set(e, ERR_INVALID_REQUEST, "a request is one JSON object; this is another value");
	return 0;
}

/* Members other than JSON-RPC's four would be a client's mistake that nobody notices. */
static int
check_envelope(const json_t *json, struct err *e)
{
	static const char *const members[] = {"jsonrpc", "id", "method", "params"};
	const json_t *version = json_object_get(json, "jsonrpc"), *id = json_object_get(json, "id");
	const json_t *params = json_object_get(json, "params");
	size_t known = 0;

	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
		known += json_object_get(json, members[i]) != NULL;
	if (known != json_object_size(json))
		return err_set(
		    e, ERR_INVALID_REQUEST, "a request has jsonrpc, id, method and params, nothing else");
	if (version != NULL && (!json_is_string(version) || strcmp(json_string_value(version), "2.0") != 0))
		return err_set(e, ERR_INVALID_REQUEST, "jsonrpc must be \"2.0\" or left out");
	if (id != NULL && !json_is_string(id) && !json_is_integer(id) && !json_is_null(id))
		return err_set(e, ERR_INVALID_REQUEST, "id must be a string, an integer or null");
	if (params != NULL && !json_is_object(params) && !json_is_null(params))
		return err_set(e, ERR_INVALID_REQUEST, "params must be an object");
	if (!json_is_string(json_object_get(json, "method")))
		return err_set(e, ERR_INVALID_REQUEST, "method must be a string");
	return 0;
}

static int
find_method(const json_t *json, enum api_method *method, struct err *e)
{
	const char *name = json_string_value(json_object_get(json, "method"));
	struct nearest near = {.word = name};

	for (int i = 0; i < API_METHOD_COUNT; i++) {
		if (strcmp(api_method_name((enum api_method)i), name) == 0) {
			*method = (enum api_method)i;
			return 0;
		}
	}
	for (int i = 0; i < API_METHOD_COUNT; i++)
		nearest_consider(&near, api_method_name((enum api_method)i));
	return err_set(e, ERR_UNKNOWN_METHOD, "there is no method '%.40s'%s%s", name,
	    near.best != NULL ? "; did you mean " : "", near.best != NULL ? near.best : "");
}

static int
check_unknown(const json_t *params, enum api_method method, struct err *e, char param[64])
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)params, key, value)
	{
		const struct field_row *row = api_fields_of(method);
		struct nearest near = {.word = key};

		while (row->method == NULL && strcmp(row->name, key) != 0)
			row++;
		if (row->method == NULL)
			continue;
		for (row = api_fields_of(method); row->method == NULL; row++)
			nearest_consider(&near, row->name);
		api_name_param(param, key);
		return err_set(e, ERR_INVALID_PARAM, "%s has no parameter '%.40s'%s%s",
		    api_method_name(method), key, near.best != NULL ? "; did you mean " : "",
		    near.best != NULL ? near.best : "");
	}
	return 0;
}

int
api_parse(struct api_request *r, const char *line, size_t bytes, struct err *e, char param[64], json_t **id)
{
	struct taker taker = {.e = e, .param = param};
	json_t *json = NULL;
	int status = load_line(&json, line, bytes, e);

	*r = (struct api_request){0};
	*id = json_incref(json_is_object(json) ? json_object_get(json, "id") : NULL);
	param[0] = '\0';
	if (status == 0)
		status = check_envelope(json, e);
	if (status == 0)
		status = find_method(json, &r->method, e);
	if (status == 0) {
		taker.params = json_object_get(json, "params");
		status = check_unknown(taker.params, r->method, e, param);
	}
	if (status == 0) {
		api_take_fields(&taker, r);
		status = taker.status;
	}
	if (status != 0) {
		json_decref(json);
		return status;
	}
	r->json = json;
	r->id = *id;
	return 0;
}

void
api_request_clear(struct api_request *r)
{
	json_decref(r->json);
	*r = (struct api_request){0};
}

/* ---- replies */

/* {"jsonrpc":"2.0","id":...: the rest follows. */
static void
begin_reply(struct json_text *t, json_t *id)
{
	*t = (struct json_text){0};
	json_text_open(t, NULL, '{');
	json_text_string(t, "jsonrpc", "2.0");
	if (json_is_integer(id))
		json_text_integer(t, "id", json_integer_value(id));
	else if (json_is_string(id))
		json_text_value(t, "id", id);
	else
		json_text_member(t, "id", "null");
}

char *
api_reply(json_t *id, char *result)
{
	struct json_text t;

	begin_reply(&t, id);
	json_text_member(&t, "result", result);
	json_text_close(&t, '}');
	free(result);
	return json_text_end(&t);
}

char *
api_error(json_t *id, const struct err *e, const char *param, json_t *data)
{
	struct json_text t;

	if (data == NULL)
		data = json_object();
	json_object_set_new(data, "name", json_string(err_row(e->code)->name));
	if (param != NULL && *param != '\0')
		json_object_set_new(data, "param", json_string(param));
	begin_reply(&t, id);
	json_text_open(&t, "error", '{');
	json_text_integer(&t, "code", -(int64_t)e->code);
	json_text_string(&t, "message", e->text);
	json_text_value(&t, "data", data);
	json_text_close(&t, '}');
	json_text_close(&t, '}');
	json_decref(data);
	return json_text_end(&t);
}

char *
api_event(const char *params)
{
	struct json_text t = {0};

	json_text_open(&t, NULL, '{');
	json_text_string(&t, "jsonrpc", "2.0");
	json_text_string(&t, "method", "event");
	json_text_member(&t, "params", params);
	json_text_close(&t, '}');
	return json_text_end(&t);
}

char *
api_text(json_t *value)
{
	struct json_text t = {0};

	json_text_value(&t, NULL, value);
	json_decref(value);
	return json_text_end(&t);
}
