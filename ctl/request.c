/*
 * The request that a picture was made by, from the texts in its file (interfaces.md section 6.13).
 */
#include "ctl/request.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/output.h"

enum { MIN_SETTINGS = 3 }; /* a last line with fewer belongs to the prompt */

/* Members of a request, by their names elsewhere. */
static const struct {
	const char *a1111, *swarm, *name;
	json_type type;
} rows[] = {
    {"", "prompt", "prompt", JSON_STRING},
    {"", "negativeprompt", "negative_prompt", JSON_STRING},
    {"Steps", "steps", "steps", JSON_INTEGER},
    {"Seed", "seed", "seed", JSON_INTEGER},
    {"Model", "model", "model", JSON_STRING},
    {"", "width", "width", JSON_INTEGER},
    {"", "height", "height", JSON_INTEGER},
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))

/* ---- A1111's text: the prompt, a line "Negative prompt: ...", a last line "Steps: 8, Seed: 42, ..." */

/* One "key: value" of the settings, where the value may be a JSON string; the place behind it, NULL when
 * there is none. */
static const char *
next_setting(const char *p, char *key, size_t key_size, char *value, size_t value_size)
{
	const char *colon, *end;
	size_t used;
	json_t *string;

	p += strspn(p, ", ");
	colon = strstr(p, ": ");
	used = strcspn(p, ":,\"\n");
	if (colon == NULL || p + used != colon || used == 0 || used >= key_size)
		return NULL;
	snprintf(key, key_size, "%.*s", (int)used, p);
	p = colon + 2;
	if (*p != '"') {
		end = p + strcspn(p, ",\n");
		snprintf(value, value_size, "%.*s", (int)(end - p), p);
		return end;
	}
	for (end = p + 1; *end != '"' && *end != '\0'; end++)
		end += end[0] == '\\' && end[1] != '\0';
	if (*end != '"')
		return NULL;
	string = json_loadb(p, (size_t)(end + 1 - p), JSON_DECODE_ANY, NULL);
	snprintf(value, value_size, "%s", json_string_value(string) != NULL ? json_string_value(string) : "");
	json_decref(string);
	return end + 1;
}

static void
set_member(json_t *request, size_t row, const char *text)
{
	char *end;
	long long number = strtoll(text, &end, 10);

	if (rows[row].type == JSON_STRING)
		json_object_set_new(request, rows[row].name, json_string(text));
	else if (end != text && *end == '\0')
		json_object_set_new(request, rows[row].name, json_integer(number));
}

/* The settings' line into the request; the number of settings in it. */
static int
take_settings(const char *line, json_t *request)
{
	char key[64], value[256];
	int count = 0, width, height;

	while ((line = next_setting(line, key, sizeof(key), value, sizeof(value))) != NULL) {
		count++;
		for (size_t i = 0; i < ROWS; i++) {
			if (strcmp(rows[i].a1111, key) == 0)
				set_member(request, i, value);
		}
		if (strcmp(key, "Size") == 0 && sscanf(value, "%6dx%6d", &width, &height) == 2) {
			json_object_set_new(request, "width", json_integer(width));
			json_object_set_new(request, "height", json_integer(height));
		}
	}
	return count;
}

/* Our runner gives the colon of these keys one more backslash where a prompt has them; that is taken away. */
static json_t *
plain_text(const char *text, size_t length)
{
	static const char *const keys[] = {"Negative prompt\\", "Steps\\"};
	char *copy = strndup(text, length);
	json_t *string;

	for (size_t k = 0; copy != NULL && k < sizeof(keys) / sizeof(keys[0]); k++) {
		for (char *at = copy; (at = strstr(at, keys[k])) != NULL;) {
			at += strlen(keys[k]);
			if (at[strspn(at, "\\")] == ':')
				memmove(at - 1, at, strlen(at) + 1);
		}
	}
	string = copy != NULL ? json_string(copy) : NULL;
	free(copy);
	return string;
}

json_t *
request_from_parameters(const char *text)
{
	static const char mark[] = "\nNegative prompt: ";
	size_t length = strlen(text), start;
	const char *negative = NULL;
	json_t *request = json_object();

	while (length > 0 && isspace((unsigned char)text[length - 1]))
		length--;
	for (start = length; start > 0 && text[start - 1] != '\n'; start--) {
	}
	if (take_settings(text + start, request) < MIN_SETTINGS) {
		json_decref(request);
		return NULL;
	}
	length = start > 0 ? start - 1 : 0; /* without the newline before the settings */
	for (const char *at = text; (at = strstr(at, mark)) != NULL && at < text + length; at++)
		negative = at;
	if (negative != NULL)
		json_object_set_new(request, "negative_prompt",
		    plain_text(negative + strlen(mark), (size_t)(text + length - negative) - strlen(mark)));
	json_object_set_new(
	    request, "prompt", plain_text(text, negative != NULL ? (size_t)(negative - text) : length));
	return request;
}

/* ---- objects */

static json_t *
from_swarm(const json_t *object)
{
	const json_t *params = json_object_get(object, "sui_image_params");
	json_t *request = params != NULL ? json_object() : NULL;

	for (size_t i = 0; i < ROWS && request != NULL; i++) {
		json_t *value = json_object_get(params, rows[i].swarm);
		if (value != NULL && json_typeof(value) == rows[i].type)
			json_object_set(request, rows[i].name, value);
	}
	return request;
}

/* A copy without the members that are of another type than `submit` takes. */
static json_t *
checked(const json_t *object)
{
	json_t *request = json_copy((json_t *)object);

	for (size_t i = 0; i < ROWS; i++) {
		const json_t *value = json_object_get(request, rows[i].name);
		if (value != NULL && json_typeof(value) != rows[i].type)
			json_object_del(request, rows[i].name);
	}
	return request;
}

json_t *
request_from_texts(const json_t *texts)
{
	const char *parameters = output_text(texts, "parameters");
	json_t *object = json_loads(output_text(texts, "zit"), 0, NULL), *request;

	if (json_is_object(object))
		request = checked(object);
	else {
		json_decref(object);
		object = json_loads(parameters, 0, NULL);
		request = json_is_object(object) ? from_swarm(object) : request_from_parameters(parameters);
	}
	json_decref(object);
	return request;
}
