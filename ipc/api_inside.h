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

struct taker {
	const json_t *params; /* object, or NULL */
	struct err *e;
	char *param; /* [64] */
	int status;  /* of the first failure; the rest is skipped then */
};

/* Every field of r->method from the parameters. */
void api_take_fields(struct taker *t, struct api_request *r);
void api_name_param(char param[64], const char *name);

#endif
