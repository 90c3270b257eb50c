/*
 * What the files of the configuration share: conf.c (files to a checked struct), conf_rows.c (the table,
 * single values), conf_compare.c (all values of one, the differences of two), and the manual's lists. Nobody
 * else includes this.
 */
#ifndef SUPERVISOR_CONF_INSIDE_H
#define SUPERVISOR_CONF_INSIDE_H

#include <stddef.h>

#include "supervisor/conf.h"

enum conf_type { TEXT, ENVIRONMENT, WORD, PATH, INTEGER, SECONDS, SIGNAL, WINDOW, DEVICE };

enum conf_section {
	SECTION_ZITD,
	SECTION_QUEUE,
	SECTION_RESULTS,
	SECTION_RUNNER,
	SECTION_CLIENT,
	SECTION_COUNT
};

struct conf_row {
	enum conf_section section;
	const char *name;
	enum conf_type type;
	const char *fallback;
	double min, max;
	const char *words; /* "a|b", or NULL */
	enum conf_when when;
	const char *help;
	size_t at, origin_at; /* in the section's struct */
	size_t size;
};

/* In the order of conf.def; NULL past the end. */
const struct conf_row *conf_row_at(int index);
/* The row of that option, or NULL. */
const struct conf_row *conf_row_find(enum conf_section section, const char *name);

/* As it is alone, "runner" or "clients", and before the colon of one that has a name; NULL: it has none. */
const char *conf_section_alone(enum conf_section section);
const char *conf_section_named(enum conf_section section);

static inline void *
conf_member(const struct conf_row *row, const void *section)
{
	return (char *)section + row->at;
}

static inline struct conf_origin *
conf_origin(const struct conf_row *row, const void *section)
{
	return (struct conf_origin *)((char *)section + row->origin_at);
}

/* From the text of a file in `dir`, or of no file (NULL). false: it is no such value; what was there may be
 * overwritten. */
bool conf_parse(const struct conf_row *row, void *member, const char *text, const char *dir);
/* What conf_parse makes the same value of. */
void conf_print(const struct conf_row *row, const void *member, char out[CONF_TEXT]);
bool conf_same(const struct conf_row *row, const void *a, const void *b);
/* Value and origin. */
void conf_copy(const struct conf_row *row, void *to_section, const void *from_section);
/* What the row takes, for people. */
void conf_describe(const struct conf_row *row, char *out, size_t size);

#endif
