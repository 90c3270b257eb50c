/*
 * The options of conf.def as rows: what a value may be, how it is read and written.
 */
#include "supervisor/conf_inside.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/runners/devices.h"

static const struct {
	const char *alone, *named;
} section_names[SECTION_COUNT] = {
    {"zitd", NULL}, {"queue", NULL}, {"results", NULL}, {"runner", "runner"}, {"clients", "client"}};

static const char *const type_names[] = {"text", "environment", "word", "path", "integer", "seconds",
    "signal", "window", "device"}; /* enum conf_type */

#define AT_ONCE CONF_AT_ONCE
#define RESPAWN CONF_RESPAWN
#define RESTART CONF_RESTART
#define ROW(section, struct_name, name, type, fallback, min, max, words, when, help) \
	{section, #name, type, fallback, min, max, words, when, help, offsetof(struct struct_name, name), \
	    offsetof(struct struct_name, name##_origin), sizeof(conf_##type)},
static const struct conf_row rows[] = {
#define ZITD(name, ...) ROW(SECTION_ZITD, conf_zitd, name, __VA_ARGS__)
#define QUEUE(name, ...) ROW(SECTION_QUEUE, conf_queue, name, __VA_ARGS__)
#define RESULTS(name, ...) ROW(SECTION_RESULTS, conf_results, name, __VA_ARGS__)
#define RUNNER(name, ...) ROW(SECTION_RUNNER, conf_runner, name, __VA_ARGS__)
#define CLIENT(name, ...) ROW(SECTION_CLIENT, conf_client, name, __VA_ARGS__)
#include "supervisor/conf.def"
};
#undef ROW

const struct conf_row *
conf_row_at(int index)
{
	return index < (int)(sizeof(rows) / sizeof(rows[0])) ? &rows[index] : NULL;
}

const struct conf_row *
conf_row_find(enum conf_section section, const char *name)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (rows[i].section == section && strcmp(rows[i].name, name) == 0)
			return &rows[i];
	}
	return NULL;
}

const char *
conf_section_alone(enum conf_section section)
{
	return section_names[section].alone;
}

const char *
conf_section_named(enum conf_section section)
{
	return section_names[section].named;
}

const char *
conf_when_name(enum conf_when when)
{
	static const char *const names[] = {
	    [CONF_AT_ONCE] = "at_once", [CONF_RESPAWN] = "respawn", [CONF_RESTART] = "restart"};

	return names[when];
}

/* ---- text to value */

static const struct {
	const char *name;
	int number;
} signals[] = {{"INT", SIGINT}, {"TERM", SIGTERM}, {"QUIT", SIGQUIT}, {"HUP", SIGHUP}, {"USR1", SIGUSR1},
    {"USR2", SIGUSR2}};

static bool
parse_signal(int *out, const char *text)
{
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		if (strcmp(signals[i].name, text) == 0) {
			*out = signals[i].number;
			return true;
		}
	}
	return false;
}

static bool
is_word(const char *words, const char *text)
{
	size_t length = strlen(text);

	for (; words != NULL && *words != '\0'; words += strcspn(words, "|"), words += *words == '|') {
		if (strcspn(words, "|") == length && strncmp(words, text, length) == 0)
			return true;
	}
	return words == NULL;
}

static bool
parse_number(const struct conf_row *row, void *member, const char *text)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end != '\0' || !(value >= row->min && value <= row->max))
		return false;
	if (row->type == SECONDS)
		*(double *)member = value;
	else
		*(int64_t *)member = (int64_t)value;
	return row->type == SECONDS || (double)(int64_t)value == value;
}

/* Relative paths mean the configuration file's own directory. */
static bool
parse_path(char *member, const char *text, const char *dir)
{
	int n = dir == NULL || *text == '\0' || *text == '/'
		    ? snprintf(member, CONF_TEXT, "%s", text)
		    : snprintf(member, CONF_TEXT, "%s/%s", dir, text);

	return n >= 0 && n < CONF_TEXT;
}

bool
conf_parse(const struct conf_row *row, void *member, const char *text, const char *dir)
{
	switch (row->type) {
	case TEXT:
	case ENVIRONMENT:
	case WORD:
		return is_word(row->words, text) && snprintf(member, row->size, "%s", text) < (int)row->size;
	case DEVICE:
		return device_is_word(text) && snprintf(member, row->size, "%s", text) < (int)row->size;
	case WINDOW:
		return gate_parse_window(text, member);
	case PATH:
		return parse_path(member, text, dir);
	case SIGNAL:
		return parse_signal(member, text);
	default:
		return parse_number(row, member, text);
	}
}

void
conf_describe(const struct conf_row *row, char *out, size_t size)
{
	if (row->type == INTEGER || row->type == SECONDS)
		snprintf(out, size, "%s from %.10g to %.10g", row->type == INTEGER ? "an integer" : "seconds",
		    row->min, row->max);
	else if (row->type == SIGNAL)
		snprintf(out, size, "INT, TERM, QUIT, HUP, USR1 or USR2");
	else if (row->type == WINDOW)
		snprintf(out, size, "two times of the day such as 22:00-06:00");
	else if (row->type == DEVICE)
		snprintf(out, size, "auto, cuda, cuda:N, GPU-UUID, MIG-UUID, cpu or ref");
	else if (row->words != NULL)
		snprintf(out, size, "one of %s", row->words);
	else if (row->type == PATH)
		snprintf(out, size, "a path of less than %d bytes", CONF_TEXT);
	else
		snprintf(out, size, "a text of less than %d bytes", CONF_TEXT);
}

/* ---- value to text */

static const char *
signal_text(int number)
{
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		if (signals[i].number == number)
			return signals[i].name;
	}
	return "";
}

static void
print_window(const struct gate_window *w, char out[CONF_TEXT])
{
	if (w->from_s == w->to_s)
		out[0] = '\0';
	else
		snprintf(out, CONF_TEXT, "%02d:%02d-%02d:%02d", w->from_s / 3600, w->from_s / 60 % 60,
		    w->to_s / 3600, w->to_s / 60 % 60);
}

void
conf_print(const struct conf_row *row, const void *member, char out[CONF_TEXT])
{
	switch (row->type) {
	case INTEGER:
		snprintf(out, CONF_TEXT, "%lld", (long long)*(const int64_t *)member);
		break;
	case SECONDS:
		snprintf(out, CONF_TEXT, "%.15g", *(const double *)member);
		break;
	case SIGNAL:
		snprintf(out, CONF_TEXT, "%s", signal_text(*(const int *)member));
		break;
	case WINDOW:
		print_window(member, out);
		break;
	default:
		snprintf(out, CONF_TEXT, "%s", (const char *)member);
	}
}

/* "A=1,B=2" to "A=...,B=...". */
static json_t *
names_alone(const char *environment)
{
	char out[2 * CONF_TEXT] = "";
	size_t used = 0;

	while (*environment != '\0') {
		size_t whole = strcspn(environment, ","), name = strcspn(environment, "=,");
		used += (size_t)snprintf(out + used, sizeof(out) - used, "%s%.*s%s", used > 0 ? "," : "",
		    (int)name, environment, name < whole ? "=..." : "");
		environment += whole;
		environment += *environment == ',';
	}
	return json_string(out);
}

json_t *
conf_json(const struct conf_row *row, const void *member, bool hide)
{
	char text[CONF_TEXT];

	if (row->type == INTEGER)
		return json_integer(*(const int64_t *)member);
	if (row->type == SECONDS)
		return json_real(*(const double *)member);
	if (row->type == ENVIRONMENT && hide)
		return names_alone(member);
	conf_print(row, member, text);
	return json_string(text);
}

bool
conf_same(const struct conf_row *row, const void *a, const void *b)
{
	char a_text[CONF_TEXT], b_text[CONF_TEXT];

	conf_print(row, a, a_text);
	conf_print(row, b, b_text);
	return strcmp(a_text, b_text) == 0;
}

void
conf_copy(const struct conf_row *row, void *to, const void *from)
{
	memcpy(conf_member(row, to), conf_member(row, from), row->size);
	*conf_origin(row, to) = *conf_origin(row, from);
}

/* ---- the table for programs */

static json_t *
section_words(enum conf_section section)
{
	json_t *list = json_array();

	json_array_append_new(list, json_string(section_names[section].alone));
	if (section_names[section].named != NULL)
		json_array_append_new(list, json_sprintf("%s:NAME", section_names[section].named));
	return list;
}

static json_t *
split_words(const char *words)
{
	json_t *list = json_array();

	for (; *words != '\0'; words += strcspn(words, "|"), words += *words == '|')
		json_array_append_new(list, json_stringn(words, strcspn(words, "|")));
	return list;
}

json_t *
conf_options(void)
{
	json_t *list = json_array(), *option;

	for (const struct conf_row *row = rows; row < rows + sizeof(rows) / sizeof(rows[0]); row++) {
		option = json_pack("{s:o, s:s, s:s, s:s, s:s, s:s}", "sections", section_words(row->section),
		    "key", row->name, "type", type_names[row->type], "default", row->fallback, "when",
		    conf_when_name(row->when), "help", row->help);
		if (row->type == INTEGER || row->type == SECONDS) {
			json_object_set_new(option, "min", json_real(row->min));
			json_object_set_new(option, "max", json_real(row->max));
		}
		if (row->words != NULL)
			json_object_set_new(option, "words", split_words(row->words));
		json_array_append_new(list, option);
	}
	return list;
}
