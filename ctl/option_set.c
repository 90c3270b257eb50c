/*
 * What options of the command line do that do more than set a member of struct ctl (options.def), and what
 * they say when they do not like it.
 */
#include "ctl/option_set.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/commands.h"

int
option_usage(const char *format, const char *a, const char *b)
{
	fprintf(stderr, "zitctl: ");
	fprintf(stderr, format, a, b);
	fprintf(stderr, "; 'zitctl --help' lists what there is\n");
	return CTL_USAGE;
}

/* ---- values */

/* Position of `word` in a NULL-terminated list, or -1. */
static int
word_index(const char *const *words, const char *word)
{
	for (int i = 0; words[i] != NULL; i++) {
		if (strcmp(words[i], word) == 0)
			return i;
	}
	return -1;
}

int
set_output(struct ctl *ctl, const char *text)
{
	static const char *const words[] = {
	    "table", "wide", "json", "jsonl", "name", NULL}; /* enum ctl_format */
	int index = word_index(words, text);

	/* `generate "..." -o cat.png`: the picture is what the command puts out. */
	if (ctl->command != NULL && strcmp(ctl->command->name, "generate") == 0) {
		ctl->save = text;
		return 0;
	}
	if (index < 0)
		return option_usage("--%s is table, json, jsonl, wide or name, not '%s'", "output", text);
	ctl->format = (enum ctl_format)index;
	return 0;
}

int
set_json(struct ctl *ctl, const char *text)
{
	(void)text;
	ctl->format = FORMAT_JSON;
	return 0;
}

int
set_progress(struct ctl *ctl, const char *text)
{
	static const char *const words[] = {"auto", "bar", "json", "none", NULL}; /* enum ctl_progress */
	int index = word_index(words, text);

	if (index < 0)
		return option_usage("--%s is auto, bar, json or none, not '%s'", "progress", text);
	ctl->progress = (enum ctl_progress)index;
	return 0;
}

int
set_timeout(struct ctl *ctl, const char *text)
{
	char *end;

	ctl->timeout_s = strtod(text, &end);
	if (end == text || *end != '\0' || !(ctl->timeout_s > 0 && ctl->timeout_s < 1e9))
		return option_usage("--%s wants seconds above 0, not '%s'", "timeout", text);
	return 0;
}

int
set_size(struct ctl *ctl, const char *text)
{
	int width, height, used = 0;

	if (sscanf(text, "%5dx%5d%n", &width, &height, &used) != 2 || text[used] != '\0')
		return option_usage("--%s wants WIDTHxHEIGHT such as 1024x768, not '%s'", "size", text);
	json_object_set_new(ctl->params, "width", json_integer(width));
	json_object_set_new(ctl->params, "height", json_integer(height));
	return 0;
}
