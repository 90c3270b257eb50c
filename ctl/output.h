/*
 * How zitctl prints records: for people as tables, for programs as JSON, for shells as names.
 */
#ifndef CTL_OUTPUT_H
#define CTL_OUTPUT_H

#include <jansson.h>
#include <stddef.h>
#include <stdio.h>

#include "ctl/ctl.h"

/* What every JSON object that zitctl prints says of itself, as its member "schema". Members may be added to
 * objects; when one goes or means something else, the number is another. */
#define OUTPUT_SCHEMA "zitctl/1"

/* A value by its dotted path ("result.path", "runners"), borrowed; NULL when it is not there. */
const json_t *output_at(const json_t *object, const char *path);
/* The same as a string; "" when it is not there or not a string. */
const char *output_text(const json_t *object, const char *path);

struct output_column {
	const char *title;
	const char *path;
	int wide; /* 1: in the wide format only */
};

/* How records of one kind are shown. */
struct output_table {
	const char *name;		     /* path of what -o name prints */
	const char *nothing;		     /* said to people for an empty list; NULL: nothing */
	const struct output_column *columns; /* at most 40, up to the first without a title */
};

/* The list at `path` of an answer, in ctl's format: rows for people, the whole answer as JSON, an element on
 * each line as JSON lines, a name on each. */
void output_list(
    const struct ctl *ctl, const json_t *answer, const char *path, const struct output_table *table);
/* What an order has done, likewise; with -q it is for programs alone. */
void output_done(
    const struct ctl *ctl, const json_t *answer, const char *path, const struct output_table *table);
/* One record: "title  value" lines for people; absent values are left out. */
void output_record(const struct ctl *ctl, const json_t *record, const struct output_table *table);
/* For answers that have no table. Prints them if the format is one for programs, the strings at `path` as
 * names; false: it is one for people. */
bool output_for_programs(const struct ctl *ctl, const json_t *answer, const char *path);
/* An object as JSON with its schema, indented when the format is FORMAT_JSON, else on one line. */
void output_json(const struct ctl *ctl, const json_t *object);
/* Any value on one line, in one piece when the stream has no buffer: who reads along sees no half lines. */
void output_line(FILE *to, const json_t *value);
/* Copies text for a table or a terminal: at most size - 1 bytes, without half characters, control characters
 * as spaces. */
void output_plain(const char *text, char *out, size_t size);
/* Columns of the terminal that UTF-8 text takes, near enough: wide East Asian characters count two. */
int output_width(const char *text);
/* Cuts it to so many of them, at a character's end. */
void output_cut(char *text, int columns);

#endif
