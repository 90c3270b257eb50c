/*
 * How zitctl prints records: for people as tables, for programs as JSON, for shells as names.
 */
#ifndef CTL_OUTPUT_H
#define CTL_OUTPUT_H

#include <jansson.h>
#include <stddef.h>

#include "ctl/ctl.h"

/* A value by its dotted path ("result.path", "runners"), borrowed; NULL when it is not there. */
const json_t *output_at(const json_t *object, const char *path);
/* The same as a string; "" when it is not there or not a string. */
const char *output_text(const json_t *object, const char *path);

struct output_column {
	const char *title;
	const char *path;
	int wide; /* 1: in the wide format only */
};

/* A list of records in ctl's format; `name` is the path printed by -o name. An empty list prints `nothing`
 * for people. */
void output_list(const struct ctl *ctl, const json_t *list, const struct output_column *columns, size_t count,
    const char *name, const char *nothing);
/* One record: "title  value" lines for people; absent values are left out. */
void output_record(const struct ctl *ctl, const json_t *record, const struct output_column *columns,
    size_t count, const char *name);
/* One value as JSON, indented when `format` is FORMAT_JSON. */
void output_json(const struct ctl *ctl, const json_t *value);

#endif
