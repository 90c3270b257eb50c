/*
 * api.def as data: methods, and what their fields are called.
 */
#include <string.h>

#include "ipc/api_inside.h"

static const struct field_row field_rows[] = {
#define STRING(name, need, min, max, help) {NULL, #name, NULL},
#define INTEGER(name, need, min, max, multiple, help) {NULL, #name, NULL},
#define NUMBER(name, need, min, max, help) {NULL, #name, NULL},
#define BOOLEAN(name, need, help) {NULL, #name, NULL},
#define CHOICE(name, need, words, help) {NULL, #name, words},
#define IDS(name, need, max, help) {NULL, #name, NULL},
#define METHOD(name, role, when, fields, help) {#name, NULL, NULL}, fields
#include "ipc/api.def"
    {"", NULL, NULL},
};

static const struct {
	const char *name;
	enum api_role role;
	enum api_when when;
} methods[] = {
#define ANYONE API_ANYONE
#define ADMIN API_ADMIN
#define READY API_READY
#define KEPT API_KEPT
#define ENDED API_ENDED
#define METHOD(name, role, when, fields, help) {#name, role, when},
#include "ipc/api.def"
};

enum api_role
api_role(enum api_method method)
{
	return methods[method].role;
}

enum api_when
api_when(enum api_method method)
{
	return methods[method].when;
}

const char *
api_method_name(enum api_method method)
{
	return methods[method].name;
}

/* The first field row of a method; its fields end at the next row that has a method. */
const struct field_row *
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
size_t
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
