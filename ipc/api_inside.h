/*
 * What the files of the public dialect share: api.c (a line and what is around its fields), api_fields.c (the
 * fields), api_rows.c (api.def as data), api_reply.c. Nobody else includes this.
 */
#ifndef IPC_API_INSIDE_H
#define IPC_API_INSIDE_H

#include "ipc/api.h"

/* ---- api_rows.c: the rows as a flat list, where a method's row has no field, and its fields follow it */

struct field_row {
	const char *method; /* of a method's row, else NULL */
	const char *name;
	const char *words; /* of a choice, else NULL */
};

/* The first field row of a method; its fields end at the next row that has a method. */
const struct field_row *api_fields_of(enum api_method method);
/* Length of the index-th word of "a|b|c", at *word; 0 when there is none. */
size_t api_nth_word(const char *words, int index, const char **word);

/* ---- api_fields.c */

/* As large as the method with the most fields has fields. */
union most_fields {
#define STRING(name, need, min, max, help) char name;
#define INTEGER(name, need, min, max, multiple, help) char name;
#define NUMBER(name, need, min, max, help) char name;
#define BOOLEAN(name, need, help) char name;
#define CHOICE(name, need, words, help) char name;
#define IDS(name, need, max, help) char name;
#define METHOD(name, role, when, fields, help) \
	struct { \
		fields \
	} name;
#include "ipc/api.def"
};

struct taker {
	const json_t
	    *values[sizeof(union most_fields)]; /* of the method's fields, by its rows; NULL: absent */
	int taken;				/* fields: they are taken in the rows' order */
	struct err *e;
	char *param; /* [64] */
	int status;  /* of the first failure; the rest is skipped then */
};

/* Every field of r->method from its value. */
void api_take_fields(struct taker *t, struct api_request *r);
void api_name_param(char param[64], const char *name);

#endif
