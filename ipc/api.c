/*
 * A line of the public JSON-RPC dialect as a typed, bounded request: what is around its fields is checked
 * here.
 */
#include <string.h>

#include "ipc/api_inside.h"
#include "ipc/nearest.h"
#include "ipc/utf8.h"

/* Where the quote is that ends the string whose first byte is at `at`; if there is none, the line's end or
 * beyond. */
static size_t
string_end(const char *line, size_t bytes, size_t at)
{
	for (;;) {
		if (at < bytes)
			at += utf8_plain(line + at, bytes - at);
		if (at >= bytes || line[at] == '"')
			return at;
		at += line[at] == '\\' ? 2 : 1;
	}
}

/* Whether brackets outside strings nest no deeper than allowed, and there are not too many values: the parser
 * recurses, and makes a hundred times a line's bytes of its values, so it must not see such a line. */
static bool
is_bounded(const char *line, size_t bytes)
{
	int depth = 0, values = 0;

	for (size_t i = 0; i < bytes && depth <= API_MAX_DEPTH && values <= API_MAX_VALUES; i++) {
		char c = line[i];

		if (c == '"')
			i = string_end(line, bytes, i + 1);
		depth += (c == '[' || c == '{') - (c == ']' || c == '}');
		values += c == '[' || c == '{' || c == ',';
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

/* What is around a request's fields; NULL: it is not there. */
struct envelope {
	const json_t *version, *id, *method, *params;
};

static struct envelope
read_envelope(const json_t *json)
{
	return (struct envelope){json_object_get(json, "jsonrpc"), json_object_get(json, "id"),
	    json_object_get(json, "method"), json_object_get(json, "params")};
}

/* Members other than JSON-RPC's four would be a client's mistake that nobody notices. */
static int
check_envelope(const struct envelope *v, size_t members, struct err *e)
{
	size_t known = (v->version != NULL) + (v->id != NULL) + (v->method != NULL) + (v->params != NULL);

	if (known != members)
		return err_set(
		    e, ERR_INVALID_REQUEST, "a request has jsonrpc, id, method and params, nothing else");
	if (v->version != NULL &&
	    (!json_is_string(v->version) || strcmp(json_string_value(v->version), "2.0") != 0))
		return err_set(e, ERR_INVALID_REQUEST, "jsonrpc must be \"2.0\" or left out");
	if (v->id != NULL && !json_is_string(v->id) && !json_is_integer(v->id) && !json_is_null(v->id))
		return err_set(e, ERR_INVALID_REQUEST, "id must be a string, an integer or null");
	if (v->params != NULL && !json_is_object(v->params) && !json_is_null(v->params))
		return err_set(e, ERR_INVALID_REQUEST, "params must be an object");
	if (!json_is_string(v->method))
		return err_set(e, ERR_INVALID_REQUEST, "method must be a string");
	return 0;
}

static int
find_method(const char *name, enum api_method *method, struct err *e)
{
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

/* Each parameter to the place of its field. */
static int
sort_params(struct taker *t, const json_t *params, enum api_method method)
{
	const struct field_row *fields = api_fields_of(method);
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)params, key, value)
	{
		const struct field_row *row = fields;
		struct nearest near = {.word = key};

		while (row->method == NULL && strcmp(row->name, key) != 0)
			row++;
		if (row->method == NULL) {
			t->values[row - fields] = value;
			continue;
		}
		for (row = fields; row->method == NULL; row++)
			nearest_consider(&near, row->name);
		api_name_param(t->param, key);
		return err_set(t->e, ERR_INVALID_PARAM, "%s has no parameter '%.40s'%s%s",
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
	const struct envelope envelope = read_envelope(json);

	*r = (struct api_request){0};
	*id = json_incref((json_t *)envelope.id);
	param[0] = '\0';
	if (status == 0)
		status = check_envelope(&envelope, json_object_size(json), e);
	if (status == 0)
		status = find_method(json_string_value(envelope.method), &r->method, e);
	if (status == 0)
		status = sort_params(&taker, envelope.params, r->method);
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
