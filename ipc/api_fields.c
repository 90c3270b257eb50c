/*
 * The fields of a request: each checks one member against its row in api.def and says what is wrong.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/api_inside.h"
#include "ipc/utf8.h"

enum { OPTIONAL, REQUIRED }; /* the words of the rows */

void
api_name_param(char param[64], const char *name)
{
	snprintf(param, 64, "%s", name);
	utf8_make_line(param);
}

/* The next field's value, or NULL when it is absent or an earlier one failed. */
static const json_t *
take(struct taker *t, const char *name, int need)
{
	const json_t *value = t->values[t->taken++];

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
		snprintf(wanted, sizeof(wanted), "a number from %.15g to %.15g", min, max);
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

void
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
#define METHOD(NAME, role, when, fields, help) \
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
