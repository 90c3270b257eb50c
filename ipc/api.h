/*
 * The public JSON-RPC dialect: lines to typed, bounded requests, and replies to lines. Expanded from api.def.
 * Knows nothing of sockets and nothing of jobs.
 */
#ifndef IPC_API_H
#define IPC_API_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"

enum {
	API_MAX_LINE = 1024 * 1024, /* bytes of a request without its newline */
	API_MAX_DEPTH = 32,	    /* nested brackets in a request */
	API_MAX_VALUES = 4096,	    /* brackets and commas in a request: each value costs a hundred bytes */
};

enum api_role { API_ANYONE, API_ADMIN };
enum api_when { API_READY, API_KEPT, API_ENDED }; /* its answer leaves: api.def */

enum api_method {
#define METHOD(name, role, when, fields, help) API_##name,
#include "ipc/api.def"
	API_METHOD_COUNT
};

/* struct api_submit, api_wait, ... : strings and json_t are borrowed from the request's `json`. */
#define STRING(name, need, min, max, help) \
	const char *name; \
	bool has_##name;
#define INTEGER(name, need, min, max, multiple, help) \
	int64_t name; \
	bool has_##name;
#define NUMBER(name, need, min, max, help) \
	double name; \
	bool has_##name;
#define BOOLEAN(name, need, help) \
	bool name; \
	bool has_##name;
#define CHOICE(name, need, words, help) \
	int name; \
	bool has_##name;
#define IDS(name, need, max, help) \
	const json_t *name; \
	bool has_##name;
#define METHOD(name, role, when, fields, help) \
	struct api_##name { \
		fields \
	};
#include "ipc/api.def"

struct api_request {
	json_t *json; /* the whole request; owned; freed by api_request_clear */
	json_t
	    *id; /* the reference that api_parse gave in *id; NULL: a notification, nobody wants an answer */
	enum api_method method;
	union {
#define METHOD(name, role, when, fields, help) struct api_##name name;
#include "ipc/api.def"
	};
};

/* Reads one line of `bytes` bytes (no newline). 0: *r is filled. Else -ERR_PARSE_ERROR, -ERR_INVALID_REQUEST,
 * -ERR_UNKNOWN_METHOD or -ERR_INVALID_PARAM with a sentence in *e that names the parameter, its range and
 * what came, the parameter's name in param[64] ("" when it is not about one). Either way *id is a new
 * reference, or NULL, and r->method is known after -ERR_INVALID_PARAM. What passes API_MAX_DEPTH or
 * API_MAX_VALUES is refused before the JSON parser sees it.
 */
int api_parse(
    struct api_request *r, const char *line, size_t bytes, struct err *e, char param[64], json_t **id);
void api_request_clear(struct api_request *r);

/* Role needed, when it is answered, and name of a method. */
enum api_role api_role(enum api_method method);
enum api_when api_when(enum api_method method);
const char *api_method_name(enum api_method method);
bool api_has_field(enum api_method method, const char *field);
/* "normal" for (API_submit, "priority", 1); NULL when there is no such field or word. Valid until the
 * thread's next call. */
const char *api_choice_word(enum api_method method, const char *field, int index);

/*
 * Replies and events as lines without their newline, which the caller frees; NULL: no memory. The id may be
 * NULL (null is sent). Results and parameters are JSON texts; that of a json_t, which is stolen, is
 * api_text's.
 */
char *api_reply(json_t *id, char *result); /* `result` is stolen, and may be NULL: no memory */
/* data is stolen and gets name, and param when it is not NULL or empty; it may be NULL. */
char *api_error(json_t *id, const struct err *e, const char *param, json_t *data);
char *api_event(const char *params); /* {"method":"event","params":…}; NULL: no memory */
char *api_text(json_t *value);

#endif
