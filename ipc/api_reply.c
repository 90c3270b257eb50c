/*
 * Replies and events of the public dialect, as lines.
 */
#include "ipc/api.h"

#include <stdlib.h>

#include "ipc/json_text.h"

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
