/*
 * Members of a struct as members of a JSON object, by a table.
 */
#include "supervisor/fields.h"

#include <stdint.h>
#include <string.h>

#include "ipc/utf8.h"

/* ---- there. Whole numbers of any size and sign go as 64 bits with a sign, which keeps every bit. */

static json_t *
put_integer(const void *member, size_t bytes)
{
	int64_t value = 0;

	memcpy(&value, member, bytes); /* little-endian, as is all that zit runs on */
	if (bytes == sizeof(int32_t))
		value = (int32_t)value;
	return json_integer(value);
}

static json_t *
put_text(const char *text, size_t bytes)
{
	size_t length = strnlen(text, bytes);

	return json_stringn(text, utf8_valid(text, length) ? length : 0);
}

void
fields_put(const void *object, const struct field *table, size_t count, json_t *to)
{
	for (size_t i = 0; i < count; i++) {
		const char *member = (const char *)object + table[i].at;
		json_t *value = NULL;

		switch (table[i].kind) {
		case FIELD_INTEGER:
			value = put_integer(member, table[i].bytes);
			break;
		case FIELD_NUMBER:
			value = json_real(*(const double *)member);
			break;
		case FIELD_FLAG:
			value = json_boolean(*(const bool *)member);
			break;
		case FIELD_TEXT:
			value = put_text(member, table[i].bytes);
			break;
		}
		json_object_set_new(to, table[i].name, value);
	}
}

/* ---- and back */

static bool
take_integer(char *member, size_t bytes, const json_t *from)
{
	int64_t value = json_integer_value(from), wide = 0;

	if (!json_is_integer(from))
		return false;
	memcpy(member, &value, bytes);
	memcpy(&wide, member, bytes);
	return wide == value || (bytes == sizeof(int32_t) && (int32_t)wide == value);
}

static bool
take_text(char *member, size_t bytes, const json_t *from)
{
	if (!json_is_string(from) || json_string_length(from) >= bytes)
		return false;
	memcpy(member, json_string_value(from), json_string_length(from) + 1);
	return true;
}

static bool
take(char *member, const struct field *f, const json_t *from)
{
	switch (f->kind) {
	case FIELD_INTEGER:
		return take_integer(member, f->bytes, from);
	case FIELD_NUMBER:
		*(double *)member = json_number_value(from);
		return json_is_number(from);
	case FIELD_FLAG:
		*(bool *)member = json_is_true(from);
		return json_is_boolean(from);
	case FIELD_TEXT:
		return take_text(member, f->bytes, from);
	}
	return false;
}

bool
fields_take(void *object, const struct field *table, size_t count, const json_t *from)
{
	for (size_t i = 0; i < count; i++) {
		const json_t *value = json_object_get(from, table[i].name);
		if (value != NULL && !take((char *)object + table[i].at, &table[i], value))
			return false;
	}
	return true;
}
