/*
 * How zitctl prints records: for people as tables, for programs as JSON, for shells as names.
 */
#include "ctl/output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CELL = 256, MAX_COLUMNS = 40 };

const json_t *
output_at(const json_t *object, const char *path)
{
	while (object != NULL && *path != '\0') {
		size_t length = strcspn(path, ".");
		object = json_object_getn(object, path, length);
		path += length + (path[length] == '.');
	}
	return object;
}

const char *
output_text(const json_t *object, const char *path)
{
	const char *text = json_string_value(output_at(object, path));

	return text != NULL ? text : "";
}

void
output_plain(const char *text, char *out, size_t size)
{
	size_t n = strnlen(text, size - 1);

	if (text[n] != '\0') { /* cut: not within a character */
		while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
			n--;
	}
	for (size_t i = 0; i < n; i++)
		out[i] = (unsigned char)text[i] < ' ' || text[i] == 0x7f ? ' ' : text[i];
	out[n] = '\0';
}

/* The value as people read it; "" when absent. */
static void
cell_text(const json_t *value, char out[CELL])
{
	if (value == NULL || json_is_null(value))
		out[0] = '\0';
	else if (json_is_string(value))
		output_plain(json_string_value(value), out, CELL);
	else if (json_is_integer(value))
		snprintf(out, CELL, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	else if (json_is_real(value))
		snprintf(out, CELL, "%.2f", json_real_value(value));
	else
		snprintf(out, CELL, "%s", json_is_true(value) ? "yes" : "no");
}

int
output_width(const char *text)
{
	int width = 0;

	for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
		if ((*p & 0xc0) == 0x80)
			continue;
		width += *p >= 0xe3 && *p <= 0xf0 ? 2 : 1;
	}
	return width;
}

void
output_cut(char *text, int columns)
{
	char one[8];
	int width = 0;

	for (char *p = text; *p != '\0';) {
		size_t bytes = 1;
		while (((unsigned char)p[bytes] & 0xc0) == 0x80 && bytes < sizeof(one) - 1)
			bytes++;
		memcpy(one, p, bytes);
		one[bytes] = '\0';
		width += output_width(one);
		if (width > columns) {
			*p = '\0';
			return;
		}
		p += bytes;
	}
}

static void
print_padded(const char *text, int width)
{
	printf("%s%*s", text, width > output_width(text) ? width - output_width(text) : 0, "");
}

void
output_json(const struct ctl *ctl, const json_t *object)
{
	json_t *whole = json_pack("{s:s}", "schema", OUTPUT_SCHEMA);

	json_object_update(whole, (json_t *)object);
	json_dumpf(whole, stdout,
	    (ctl->format == FORMAT_JSON ? JSON_INDENT(2) : JSON_COMPACT) | JSON_REAL_PRECISION(15));
	putchar('\n');
	json_decref(whole);
}

void
output_line(FILE *to, const json_t *value)
{
	char *text = json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(15));

	if (text != NULL)
		fprintf(to, "%s\n", text);
	free(text);
}

/* The elements of a list, or what is no list itself, a line each; false: the format is not of lines. */
static bool
print_lines(const struct ctl *ctl, const json_t *list, const struct output_table *table)
{
	size_t i;
	json_t *item;

	if (ctl->format != FORMAT_JSONL && ctl->format != FORMAT_NAME)
		return false;
	json_array_foreach(list, i, item)
	{
		if (ctl->format == FORMAT_JSONL)
			output_json(ctl, item);
		else
			puts(output_text(item, table->name));
	}
	return true;
}

static bool
is_shown(const struct ctl *ctl, const struct output_column *column)
{
	return !column->wide || ctl->format == FORMAT_WIDE;
}

static void
print_row(const struct ctl *ctl, const struct output_table *table, const json_t *item, const int *widths)
{
	char text[CELL];

	for (const struct output_column *c = table->columns; c->title != NULL; c++) {
		if (!is_shown(ctl, c))
			continue;
		if (item == NULL)
			snprintf(text, sizeof(text), "%s", c->title);
		else
			cell_text(output_at(item, c->path), text);
		print_padded(text, c[1].title != NULL ? widths[c - table->columns] + 2 : 0);
	}
	putchar('\n');
}

static void
print_table(const struct ctl *ctl, const json_t *list, const struct output_table *table)
{
	int widths[MAX_COLUMNS] = {0};
	char text[CELL];
	size_t i;
	json_t *item;

	for (size_t c = 0; table->columns[c].title != NULL; c++) {
		widths[c] = output_width(table->columns[c].title);
		json_array_foreach(list, i, item)
		{
			cell_text(output_at(item, table->columns[c].path), text);
			widths[c] = output_width(text) > widths[c] ? output_width(text) : widths[c];
		}
	}
	print_row(ctl, table, NULL, widths);
	json_array_foreach(list, i, item) print_row(ctl, table, item, widths);
}

void
output_list(const struct ctl *ctl, const json_t *answer, const char *path, const struct output_table *table)
{
	const json_t *list = output_at(answer, path);

	if (ctl->format == FORMAT_JSON) {
		output_json(ctl, answer);
		return;
	}
	if (print_lines(ctl, list, table))
		return;
	if (json_array_size(list) > 0)
		print_table(ctl, list, table);
	else if (!ctl->quiet && table->nothing != NULL)
		puts(table->nothing);
}

void
output_done(const struct ctl *ctl, const json_t *answer, const char *path, const struct output_table *table)
{
	if (!ctl->quiet || ctl->format > FORMAT_WIDE)
		output_list(ctl, answer, path, table);
}

bool
output_for_programs(const struct ctl *ctl, const json_t *answer, const char *path)
{
	const json_t *names = output_at(answer, path);
	size_t i;
	json_t *name;

	if (ctl->format == FORMAT_JSON || ctl->format == FORMAT_JSONL) {
		output_json(ctl, answer);
		return true;
	}
	if (ctl->format != FORMAT_NAME)
		return false;
	if (json_is_string(names))
		puts(json_string_value(names));
	json_array_foreach(names, i, name)
	{
		if (json_is_string(name))
			puts(json_string_value(name));
	}
	return true;
}

/* A text of any length, on one line. */
static void
print_whole(const char *text)
{
	for (; *text != '\0'; text++)
		putchar((unsigned char)*text < ' ' || *text == 0x7f ? ' ' : *text);
	putchar('\n');
}

void
output_record(const struct ctl *ctl, const json_t *record, const struct output_table *table)
{
	char text[CELL];

	if (output_for_programs(ctl, record, table->name))
		return;
	for (const struct output_column *c = table->columns; c->title != NULL; c++) {
		const json_t *value = output_at(record, c->path);
		if (!is_shown(ctl, c))
			continue;
		cell_text(value, text);
		if (text[0] != '\0')
			printf("%-12s  ", c->title);
		if (text[0] != '\0' && json_is_string(value))
			print_whole(json_string_value(value));
		else if (text[0] != '\0')
			puts(text);
	}
}
