/*
 * The command line of zitctl. The options that are members of `submit` are taken from ipc/api.def, so a
 * parameter added there is an option here; their ranges are checked by zitd, which says what it wants.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "build_id.h"
#include "ctl/ctl.h"
#include "ipc/api.h"
#include "ipc/nearest.h"

enum {
	DONE = -1,	   /* what an option returns that has printed all that was asked for */
	CODE_GLOBAL = 256, /* getopt codes: CODE_GLOBAL + i is globals[i], above all letters */
	CODE_PARAM = 512,  /* CODE_PARAM + i is params[i] */
	MAX_OPTIONS = 64,
};

enum param_type { PARAM_STRING, PARAM_INTEGER, PARAM_NUMBER, PARAM_BOOLEAN, PARAM_CHOICE, PARAM_IDS };

struct param_row {
	const char *method, *name;
	enum param_type type;
	const char *words; /* of a choice */
	const char *help;
};

/* Every field of every method; only submit's become options. */
#define STRING(name, need, min, max, help) {NULL, #name, PARAM_STRING, NULL, help},
#define INTEGER(name, need, min, max, multiple, help) {NULL, #name, PARAM_INTEGER, NULL, help},
#define NUMBER(name, need, min, max, help) {NULL, #name, PARAM_NUMBER, NULL, help},
#define BOOLEAN(name, need, help) {NULL, #name, PARAM_BOOLEAN, NULL, help},
#define CHOICE(name, need, words, help) {NULL, #name, PARAM_CHOICE, words, help},
#define IDS(name, need, max, help) {NULL, #name, PARAM_IDS, NULL, help},
#define METHOD(name, role, fields, help) {#name, NULL, PARAM_STRING, NULL, NULL}, fields
static const struct param_row api_rows[] = {
#include "ipc/api.def"
};
#undef METHOD
#undef STRING
#undef INTEGER
#undef NUMBER
#undef BOOLEAN
#undef CHOICE
#undef IDS

/* Members of submit that zitctl sets itself. */
static const char *const own_members[] = {"prompt", "wait", "events", "deliver", "group"};

static const struct param_row *params[MAX_OPTIONS];
static char param_names[MAX_OPTIONS][32]; /* with '-' for '_' */
static int param_count;

static bool
is_own(const char *name)
{
	for (size_t i = 0; i < sizeof(own_members) / sizeof(own_members[0]); i++) {
		if (strcmp(own_members[i], name) == 0)
			return true;
	}
	return false;
}

static void
collect_params(void)
{
	const char *method = "";

	param_count = 0;
	for (size_t i = 0; i < sizeof(api_rows) / sizeof(api_rows[0]) && param_count < MAX_OPTIONS; i++) {
		if (api_rows[i].method != NULL) {
			method = api_rows[i].method;
			continue;
		}
		if (strcmp(method, "submit") != 0 || is_own(api_rows[i].name))
			continue;
		snprintf(param_names[param_count], sizeof(param_names[0]), "%s", api_rows[i].name);
		for (char *p = param_names[param_count]; *p != '\0'; p++) {
			if (*p == '_')
				*p = '-';
		}
		params[param_count++] = &api_rows[i];
	}
}

/* ---- values */

static int
usage_error(const char *format, const char *a, const char *b)
{
	fprintf(stderr, "zitctl: ");
	fprintf(stderr, format, a, b);
	fprintf(stderr, "; 'zitctl --help' lists what there is\n");
	return CTL_USAGE;
}

/* The JSON value of an option's text; NULL when it is not one of its type. */
static json_t *
param_value(const struct param_row *row, const char *text)
{
	char *end = NULL;
	long long integer;
	double number;

	switch (row->type) {
	case PARAM_BOOLEAN:
		return json_true();
	case PARAM_INTEGER:
		errno = 0;
		integer = strtoll(text, &end, 10);
		return errno == 0 && end != text && *end == '\0' ? json_integer(integer) : NULL;
	case PARAM_NUMBER:
		number = strtod(text, &end);
		return end != text && *end == '\0' ? json_real(number) : NULL;
	default:
		return json_string(text);
	}
}

static int
set_param(struct ctl *ctl, int index, const char *text)
{
	json_t *value = param_value(params[index], text);

	if (value == NULL)
		return usage_error("--%s does not take '%s'", param_names[index], text);
	json_object_set_new(ctl->params, params[index]->name, value);
	return 0;
}

static int
set_size(struct ctl *ctl, const char *text)
{
	int width, height, used = 0;

	if (sscanf(text, "%5dx%5d%n", &width, &height, &used) != 2 || text[used] != '\0')
		return usage_error("--%s wants WIDTHxHEIGHT such as 1024x768, not '%s'", "size", text);
	json_object_set_new(ctl->params, "width", json_integer(width));
	json_object_set_new(ctl->params, "height", json_integer(height));
	return 0;
}

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

static int
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
		return usage_error("--%s is table, json, jsonl, wide or name, not '%s'", "output", text);
	ctl->format = (enum ctl_format)index;
	return 0;
}

static int
set_json(struct ctl *ctl, const char *text)
{
	(void)text;
	ctl->format = FORMAT_JSON;
	return 0;
}

static int
set_progress(struct ctl *ctl, const char *text)
{
	static const char *const words[] = {"auto", "bar", "json", "none", NULL}; /* enum ctl_progress */
	int index = word_index(words, text);

	if (index < 0)
		return usage_error("--%s is auto, bar, json or none, not '%s'", "progress", text);
	ctl->progress = (enum ctl_progress)index;
	return 0;
}

static int
set_timeout(struct ctl *ctl, const char *text)
{
	char *end;

	ctl->timeout_s = strtod(text, &end);
	if (end == text || *end != '\0' || !(ctl->timeout_s > 0 && ctl->timeout_s < 1e9))
		return usage_error("--%s wants seconds above 0, not '%s'", "timeout", text);
	return 0;
}

static int
set_jobs(struct ctl *ctl, const char *text)
{
	char *end;
	long jobs = strtol(text, &end, 10);

	if (end == text || *end != '\0' || jobs < 1 || jobs > CTL_MAX_JOBS)
		return usage_error("--%s wants a number from 1 to 100, not '%s'", "jobs", text);
	ctl->jobs = (int)jobs;
	return 0;
}

static int
set_follow(struct ctl *ctl, const char *text)
{
	(void)text;
	ctl->follow = true;
	return 0;
}

static int
set_lines(struct ctl *ctl, const char *text)
{
	char *end;
	long lines = strtol(text, &end, 10);

	if (end == text || *end != '\0' || lines < 1 || lines > 1000000)
		return usage_error("--%s wants a number from 1 to 1000000, not '%s'", "lines", text);
	ctl->lines = (int)lines;
	return 0;
}

static int
set_job(struct ctl *ctl, const char *text)
{
	ctl->job = text;
	return 0;
}

static int
set_runner(struct ctl *ctl, const char *text)
{
	ctl->runner = text;
	return 0;
}

static int
set_command(struct ctl *ctl, const char *text)
{
	struct nearest near = {.word = text};

	ctl->command = command_find(text);
	if (ctl->command != NULL)
		return 0;
	for (size_t i = 0; command_at(i) != NULL; i++)
		nearest_consider(&near, command_at(i)->name);
	if (near.best != NULL)
		return usage_error("there is no command '%s'; did you mean '%s'", text, near.best);
	return usage_error("there is no command '%s'%s", text, "");
}

static int
set_operand(struct ctl *ctl, const char *text)
{
	if (ctl->command == NULL)
		return set_command(ctl, text);
	if (ctl->arg_count == CTL_MAX_ARGS)
		return usage_error("%s takes no more operands%s", ctl->command->name, "");
	ctl->args[ctl->arg_count++] = text;
	return 0;
}

/* ---- the options, one row each */

static int set_help(struct ctl *ctl, const char *text);
static int set_version(struct ctl *ctl, const char *text);

static int
set_socket(struct ctl *ctl, const char *text)
{
	ctl->socket = text;
	return 0;
}

static int
set_save(struct ctl *ctl, const char *text)
{
	ctl->save = text;
	return 0;
}

static int
set_group(struct ctl *ctl, const char *text)
{
	ctl->group = text;
	return 0;
}

static int
set_out(struct ctl *ctl, const char *text)
{
	ctl->out = text;
	return 0;
}

static int
set_resume(struct ctl *ctl, const char *text)
{
	(void)text;
	ctl->resume = true;
	return 0;
}

static int
set_quiet(struct ctl *ctl, const char *text)
{
	(void)text;
	ctl->quiet = true;
	return 0;
}

static int
set_origin(struct ctl *ctl, const char *text)
{
	(void)text;
	ctl->origin = true;
	return 0;
}

static int
set_front(struct ctl *ctl, const char *text)
{
	(void)ctl;
	(void)text;
	return 0;
}

static const struct option_row {
	const char *name;
	int letter;				       /* or 0 */
	const char *arg;			       /* its argument's name, or NULL */
	int (*set)(struct ctl *ctl, const char *text); /* 0, an exit code, or DONE */
	const char *help;
} globals[] = {
#define OPTION(name, letter, arg, help) {#name, letter, arg, set_##name, help},
#include "ctl/options.def"
#undef OPTION
};

enum { GLOBAL_COUNT = sizeof(globals) / sizeof(globals[0]) };

static void
print_option(int letter, const char *name, const char *arg, const char *help)
{
	char left[64], dash[8] = "    ";

	if (letter != 0)
		snprintf(dash, sizeof(dash), "-%c, ", letter);
	snprintf(
	    left, sizeof(left), "%s--%s%s%s", dash, name, arg != NULL ? " " : "", arg != NULL ? arg : "");
	if (strlen(left) > 26)
		printf("  %s\n  %-26s  %s\n", left, "", help);
	else
		printf("  %-26s  %s\n", left, help);
}

bool
options_at(size_t index, struct ctl_option *out)
{
	static const char *const type_words[] = {"TEXT", "N", "NUMBER", NULL, NULL, "ID"};
	const struct param_row *p;

	if (index < GLOBAL_COUNT) {
		const struct option_row *o = &globals[index];
		*out = (struct ctl_option){o->name, o->arg, o->help, o->letter, false};
		return true;
	}
	index -= GLOBAL_COUNT;
	if (index >= (size_t)param_count)
		return false;
	p = params[index];
	*out = (struct ctl_option){
	    param_names[index], p->words != NULL ? p->words : type_words[p->type], p->help, 0, true};
	return true;
}

static void
print_options(bool of_submit)
{
	struct ctl_option o;

	for (size_t i = 0; options_at(i, &o); i++) {
		if (o.of_submit == of_submit)
			print_option(o.letter, o.name, o.arg, o.help);
	}
}

static int
set_help(struct ctl *ctl, const char *text)
{
	(void)ctl;
	(void)text;
	printf("usage: zitctl [options] COMMAND ...\n\ncommands:\n");
	for (size_t i = 0; command_at(i) != NULL; i++) {
		const struct ctl_command *c = command_at(i);
		char left[48];
		snprintf(left, sizeof(left), "%s %s", c->name, c->operands);
		printf("  %-26s  %s\n", left, c->help);
	}
	printf("\noptions:\n");
	print_options(false);
	printf("\noptions of the commands that draw (generate, submit, batch, replay):\n");
	print_options(true);
	printf("\nExit codes and examples: zitctl(1).\n");
	return DONE;
}

static int
set_version(struct ctl *ctl, const char *text)
{
	(void)ctl;
	(void)text;
	printf("zitctl %s\n", ZIT_BUILD);
	return DONE;
}

/* ---- parsing */

/* The options that not every command takes; --save is told by a command's row. */
static const struct {
	const char *option, *commands;
} limited[] = {
    {"group", " generate submit batch cancel "},
    {"out", " batch "},
    {"resume", " batch "},
    {"jobs", " batch "},
    {"origin", " config "},
    {"front", " move "},
    {"size", " generate submit batch replay "},
    {"follow", " logs "},
    {"lines", " logs "},
    {"job", " logs "},
    {"runner", " logs "},
};

static bool
is_taken(const char *option, const char *command)
{
	char word[40];

	snprintf(word, sizeof(word), " %s ", command);
	for (size_t i = 0; i < sizeof(limited) / sizeof(limited[0]); i++) {
		if (strcmp(limited[i].option, option) == 0)
			return strstr(limited[i].commands, word) != NULL;
	}
	return true;
}

bool
options_taken(const struct ctl_option *o, const struct ctl_command *c)
{
	if (o->of_submit)
		return c->takes_params;
	if (strcmp(o->name, "save") == 0)
		return c->saves;
	return is_taken(o->name, c->name);
}

static int
check_command(const struct ctl *ctl)
{
	const struct ctl_command *c = ctl->command;

	if (c == NULL)
		return usage_error("no command was given%s%s", "", "");
	if (ctl->arg_count < c->min_args || ctl->arg_count > c->max_args)
		return usage_error("usage: zitctl %s %s", c->name, c->operands);
	for (int i = 0; i < GLOBAL_COUNT; i++) {
		if ((ctl->given & 1u << i) != 0 && !is_taken(globals[i].name, c->name))
			return usage_error("%s does not take --%s", c->name, globals[i].name);
	}
	if (json_object_size(ctl->params) > 0 && !c->takes_params)
		return usage_error(
		    "--%s is an option of the commands that draw only: generate, submit, batch, replay%s",
		    json_object_iter_key(json_object_iter(ctl->params)), "");
	if (ctl->save != NULL && !c->saves)
		return usage_error("%s has no picture to save%s", c->name, "");
	return 0;
}

/* Does what one code of getopt says. 0, an exit code, or DONE. */
static int
take_option(struct ctl *ctl, int code, const char *text)
{
	if (code == 1) /* an operand in its place */
		return set_operand(ctl, text);
	if (code >= CODE_PARAM && code < CODE_PARAM + param_count)
		return set_param(ctl, code - CODE_PARAM, text);
	for (int i = 0; i < GLOBAL_COUNT; i++) {
		if (code != CODE_GLOBAL + i && (globals[i].letter == 0 || code != globals[i].letter))
			continue;
		ctl->given |= 1u << i;
		return globals[i].set(ctl, text);
	}
	return usage_error("the command line is wrong%s%s", "", ""); /* getopt has said where */
}

/* getopt's tables of all that we take. */
static void
build_tables(struct option table[], char *letters)
{
	int n = 0;

	*letters++ = '-'; /* operands come in their place, as code 1 */
	for (int i = 0; i < GLOBAL_COUNT; i++) {
		table[n++] = (struct option){globals[i].name, globals[i].arg != NULL, NULL, CODE_GLOBAL + i};
		if (globals[i].letter == 0)
			continue;
		*letters++ = (char)globals[i].letter;
		if (globals[i].arg != NULL)
			*letters++ = ':';
	}
	for (int i = 0; i < param_count; i++)
		table[n++] =
		    (struct option){param_names[i], params[i]->type != PARAM_BOOLEAN, NULL, CODE_PARAM + i};
	table[n] = (struct option){0};
	*letters = '\0';
}

int
options_parse(struct ctl *ctl, int argc, char **argv, bool *done)
{
	struct option table[MAX_OPTIONS + GLOBAL_COUNT + 1];
	char letters[2 * GLOBAL_COUNT + 2];
	int code, status = 0;

	collect_params();
	build_tables(table, letters);
	while (status == 0 && (code = getopt_long(argc, argv, letters, table, NULL)) != -1)
		status = take_option(ctl, code, optarg);
	while (status == 0 && optind < argc) /* after "--" */
		status = set_operand(ctl, argv[optind++]);
	*done = status == DONE;
	if (*done)
		return 0;
	return status == 0 ? check_command(ctl) : status;
}
