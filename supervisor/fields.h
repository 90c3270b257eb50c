/*
 * Members of a struct as members of a JSON object, by a table: what one zitd hands to the next (handover.h).
 * A row is FIELD(type, member); its name is the member's. Whole numbers, flags, doubles and texts in arrays
 * of characters.
 */
#ifndef SUPERVISOR_FIELDS_H
#define SUPERVISOR_FIELDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum field_kind { FIELD_INTEGER, FIELD_NUMBER, FIELD_FLAG, FIELD_TEXT };

struct field {
	const char *name;
	enum field_kind kind;
	size_t at, bytes;
};

#define FIELD_KIND(type, member) \
	_Generic(((type *)0)->member, bool: FIELD_FLAG, double: FIELD_NUMBER, char *: FIELD_TEXT, \
	    default: FIELD_INTEGER)
#define FIELD(type, member) \
	{ \
#member, FIELD_KIND(type, member), offsetof(type, member), sizeof(((type *)0)->member) \
	}
#define FIELD_COUNT(table) (sizeof(table) / sizeof((table)[0]))

/* Sets them all in `to`. */
void fields_put(const void *object, const struct field *table, size_t count, json_t *to);
/* Back. One that is not there keeps its value; false: one is of another kind, or does not fit, and the object
 * is not to be used. */
bool fields_take(void *object, const struct field *table, size_t count, const json_t *from);

#endif
