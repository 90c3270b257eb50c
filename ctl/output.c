/*
 * How zitctl prints records: for people as tables, for programs as JSON, for shells as names.
 */
#include "ctl/output.h"

#include <stdio.h>
#include <string.h>

enum { CELL = 256, MAX_COLUMNS = 16 };

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

/* Bytes below space would break a table or drive the terminal. */
static void
make_plain(char *text)
{
	for (; *text != '\0'; text++) {
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = ' ';
	}
}

/* The value as people read it; "" when absent. */
static void
cell_text(const json_t *value, char out[CELL])
{
	if (value == NULL || json_is_null(value))
		out[0] = '\0';
	else if (json_is_string(value))
		snprintf(out, CELL, "%s", json_string_value(value));
	else if (json_is_integer(value))
		snprintf(out, CELL, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	else if (json_is_real(value))
		snprintf(out, CELL, "%.2f", json_real_value(value));
	else
		snprintf(out, CELL, "%s", json_is_true(value) ? "yes" : "no");
	make_plain(out);
}

/* Columns of the terminal that UTF-8 text takes, near enough: wide East Asian characters count two. */
static int
display_width(const char *text)
{
	int width = 0;

	for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
		if ((*p & 0xc0) == 0x80)
			continue;
		width += *p >= 0xe3 && *p <= 0xf0 ? 2 : 1;
	}
	return width;
}

static void
print_padded(const char *text, int width)
{
	printf("%s%*s", text, width > display_width(text) ? width - display_width(text) : 0, "");
}

void
output_json(const struct ctl *ctl, const json_t *value)
{
	json_dumpf(value, stdout, ctl->format == FORMAT_JSON ? JSON_INDENT(2) : JSON_COMPACT);
	putchar('\n');
}

/* JSON and names, for programs; false: the format is one for people. */
static bool
print_for_programs(const struct ctl *ctl, const json_t *list, const char *name)
{
	size_t i;
	json_t *item;

	if (ctl->format == FORMAT_JSON) {
		output_json(ctl, list);
		return true;
	}
	if (ctl->format != FORMAT_JSONL && ctl->format != FORMAT_NAME)
		return false;
	json_array_foreach(list, i, item)
	{
		if (ctl->format == FORMAT_JSONL)
			output_json(ctl, item);
		else
			puts(output_text(item, name));
	}
	return true;
}

void
output_list(const struct ctl *ctl, const json_t *list, const struct output_column *columns, size_t count,
    const char *name, const char *nothing)
{
	int widths[MAX_COLUMNS] = {0};
	char text[CELL];
	size_t i;
	json_t *item;

	if (print_for_programs(ctl, list, name))
		return;
	if (json_array_size(list) == 0) {
		if (!ctl->quiet)
			puts(nothing);
		return;
	}
	for (size_t c = 0; c < count; c++) {
		widths[c] = display_width(columns[c].title);
		json_array_foreach(list, i, item)
		{
			cell_text(output_at(item, columns[c].path), text);
			widths[c] = display_width(text) > widths[c] ? display_width(text) : widths[c];
		}
	}
	for (size_t row = 0; row <= json_array_size(list); row++) {
		for (size_t c = 0; c < count; c++) {
			if (columns[c].wide && ctl->format != FORMAT_WIDE)
				continue;
			if (row == 0)
				snprintf(text, sizeof(text), "%s", columns[c].title);
			else
				cell_text(output_at(json_array_get(list, row - 1), columns[c].path), text);
			print_padded(text, c + 1 < count ? widths[c] + 2 : 0);
		}
		putchar('\n');
	}
}

void
output_record(const struct ctl *ctl, const json_t *record, const struct output_column *columns, size_t count,
    const char *name)
{
	char text[CELL];

	if (ctl->format == FORMAT_NAME) {
		puts(output_text(record, name));
		return;
	}
	if (ctl->format == FORMAT_JSON || ctl->format == FORMAT_JSONL) {
		output_json(ctl, record);
		return;
	}
	for (size_t c = 0; c < count; c++) {
		cell_text(output_at(record, columns[c].path), text);
		if (text[0] != '\0' && (!columns[c].wide || ctl->format == FORMAT_WIDE))
			printf("%-12s  %s\n", columns[c].title, text);
	}
}
