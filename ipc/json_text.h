/*
 * JSON as text, written member by member: for what is made by the thousand and looked at by nobody here,
 * which a tree of json_t would make five times as dear. Everything else is json_t.
 */
#ifndef IPC_JSON_TEXT_H
#define IPC_JSON_TEXT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_text {
	char *text; /* owned until json_text_end */
	size_t used, room;
	bool comma;  /* before the next member */
	bool failed; /* no memory: all that follows is nothing */
};

/* Begin with {0}. `key` is NULL for a value that has none: the outermost, or an array's; keys are not
 * escaped. */
void json_text_open(struct json_text *t, const char *key, char bracket); /* '{' or '[' */
void json_text_close(struct json_text *t, char bracket);		 /* '}' or ']' */
/* A value that JSON cannot hold, a text that is not UTF-8 or a number that is not finite, is left out. */
void json_text_string(struct json_text *t, const char *key, const char *value);
void json_text_integer(struct json_text *t, const char *key, int64_t value);
void json_text_real(struct json_text *t, const char *key, double value); /* reads back as the same */
void json_text_micros(struct json_text *t, const char *key, int64_t us); /* as seconds, exactly */
void json_text_boolean(struct json_text *t, const char *key, bool value);
void json_text_value(struct json_text *t, const char *key, const json_t *value); /* reals to 16 digits */
/* A value that is a text already; NULL: there was no memory for it. */
void json_text_member(struct json_text *t, const char *key, const char *text);
/* Bytes as they are, with no comma before them. */
void json_text_raw(struct json_text *t, const char *bytes, size_t count);
/* The text, which the caller frees; NULL: no memory. */
char *json_text_end(struct json_text *t);

#endif
