/*
 * The command line of zitctl. The options that are members of `submit` are taken from ipc/api.def, so a
 * parameter added there is an option here; their ranges are checked by zitd, which says what it wants.
 */
#include "ctl/options.h"

#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/option_set.h"
#include "ipc/api.h"
#include "ipc/nearest.h"
#include "ipc/utf8.h"

enum {
	CODE_GLOBAL = 256, /* getopt codes: CODE_GLOBAL + i is globals[i], above all letters */
	CODE_PARAM = 512,  /* CODE_PARAM + i is params[i] */
	MAX_OPTIONS = 64,
	COMMAND_TO_COME = -1, /* as the count of operands */
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
#define METHOD(name, role, when, fields, help) {#name, NULL, PARAM_STRING, NULL, NULL}, fields
static const struct param_row api_rows[] = {
#include "ipc/api.def"
};

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

/* A name of one letter is the option's letter as well, for the commands that draw; others may have another
 * option by it. 0: it has none. */
static int
param_letter(int index)
{
	return param_names[index][1] == '\0' ? param_names[index][0] : 0;
}

/* ---- values of parameters */

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
		return option_usage("--%s does not take '%s'", param_names[index], text);
	json_object_set_new(ctl->params, params[index]->name, value);
	return 0;
}

/* ---- operands */

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
		return option_usage("there is no command '%s'; did you mean '%s'", text, near.best);
	return option_usage("there is no command '%s'%s", text, "");
}

static int
set_operand(struct ctl *ctl, const char *text)
{
	if (ctl->arg_count == COMMAND_TO_COME) {
		ctl->arg_count = 0;
		return set_command(ctl, text);
	}
	if (ctl->arg_count == CTL_MAX_ARGS)
		return option_usage("%s takes no more operands%s", ctl->command->name, "");
	ctl->args[ctl->arg_count++] = text;
	return 0;
}

/* ---- the other options, one row each */

enum kind { KIND_TEXT, KIND_FLAG, KIND_COUNT, KIND_CALL };

static const struct option_row {
	const char *name;
	int letter;	 /* or 0 */
	const char *arg; /* its argument's name, or NULL */
	enum kind kind;
	size_t at;					/* of its member in struct ctl */
	int (*call)(struct ctl *ctl, const char *text); /* 0, or an exit code */
	int max;
	const char *commands, *help;
} globals[] = {
#define TEXT(name) KIND_TEXT, offsetof(struct ctl, name), NULL
#define FLAG(name) KIND_FLAG, offsetof(struct ctl, name), NULL
#define COUNT(name) KIND_COUNT, offsetof(struct ctl, name), NULL
#define CALL(name) KIND_CALL, 0, set_##name
#define OPTION(name, letter, arg, kind, max, commands, help) \
	{#name, letter, arg, kind(name), max, commands, help},
#include "ctl/options.def"
};

enum { GLOBAL_COUNT = sizeof(globals) / sizeof(globals[0]) };

static int
set_count(int *member, const struct option_row *row, const char *text)
{
	char *end, range[40];
	long count = strtol(text, &end, 10);

	if (end != text && *end == '\0' && count >= 1 && count <= row->max) {
		*member = (int)count;
		return 0;
	}
	snprintf(range, sizeof(range), "a number from 1 to %d", row->max);
	return option_usage("--%s wants %s", row->name, range);
}

static int
set_global(struct ctl *ctl, const struct option_row *row, const char *text)
{
	void *member = (char *)ctl + row->at;

	switch (row->kind) {
	case KIND_TEXT:
		*(const char **)member = text;
		return 0;
	case KIND_FLAG:
		*(bool *)member = true;
		return 0;
	case KIND_COUNT:
		return set_count(member, row, text);
	default:
		return row->call(ctl, text);
	}
}

bool
options_at(size_t index, struct ctl_option *out)
{
	static const char *const type_words[] = {"TEXT", "N", "NUMBER", NULL, NULL, "ID"};
	const struct param_row *p;

	if (index < GLOBAL_COUNT) {
		const struct option_row *o = &globals[index];
		*out = (struct ctl_option){o->name, o->arg, o->help, o->letter, false, o->commands};
		return true;
	}
	index -= GLOBAL_COUNT;
	if (index >= (size_t)param_count)
		return false;
	p = params[index];
	*out = (struct ctl_option){param_names[index], p->words != NULL ? p->words : type_words[p->type],
	    p->help, param_letter((int)index), true, NULL};
	return true;
}

/* ---- parsing */

bool
options_taken(const struct ctl_option *o, const struct ctl_command *c)
{
	char word[40];

	if (o->of_submit)
		return c->takes_params;
	if (strcmp(o->name, "save") == 0)
		return c->saves;
	snprintf(word, sizeof(word), " %s ", c->name);
	return o->commands == NULL || strstr(o->commands, word) != NULL;
}

static int
check_command(const struct ctl *ctl)
{
	const struct ctl_command *c = ctl->command;
	struct ctl_option o;

	if (c == NULL)
		return option_usage("no command was given%s%s", "", "");
	if (ctl->arg_count < c->min_args || ctl->arg_count > c->max_args)
		return option_usage("usage: zitctl %s %s", c->name, c->operands);
	for (size_t i = 0; i < GLOBAL_COUNT && options_at(i, &o); i++) {
		if ((ctl->given & 1u << i) != 0 && strcmp(o.name, "save") != 0 && !options_taken(&o, c))
			return option_usage("%s does not take --%s", c->name, o.name);
	}
	if (json_object_size(ctl->params) > 0 && !c->takes_params)
		return option_usage(
		    "--%s is an option of the commands that draw only: generate, submit, batch, replay%s",
		    json_object_iter_key(json_object_iter(ctl->params)), "");
	if (ctl->save != NULL && !c->saves)
		return option_usage("%s has no picture to save%s", c->name, "");
	if (ctl->save != NULL && *ctl->save == '\0')
		return option_usage("--%s wants the name of a file or directory, not ''%s", "save", "");
	return 0;
}

/* Does what one code of getopt says. 0, or an exit code. */
static int
take_option(struct ctl *ctl, int code, const char *text)
{
	if (code == 1) /* an operand in its place */
		return set_operand(ctl, text);
	for (int i = 0; i < param_count; i++) {
		bool draws = ctl->command != NULL && ctl->command->takes_params;
		if (code == CODE_PARAM + i || (draws && code == param_letter(i)))
			return set_param(ctl, i, text);
	}
	for (int i = 0; i < GLOBAL_COUNT; i++) {
		if (code != CODE_GLOBAL + i && (globals[i].letter == 0 || code != globals[i].letter))
			continue;
		ctl->given |= 1u << i;
		return set_global(ctl, &globals[i], text);
	}
	return option_usage("the command line is wrong%s%s", "", ""); /* getopt has said where */
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

/* What else is on the command line does not matter then. */
static bool
is_answered(const struct ctl *ctl)
{
	return ctl->help || ctl->version;
}

/* The command, before it comes: what -n and -o stand for depends on it. NULL: there is none, or none such. */
static const struct ctl_command *
look_ahead(int argc, char **argv, const char *letters, const struct option table[])
{
	const char *word = NULL;
	int code, shown = opterr;

	opterr = 0;
	while ((code = getopt_long(argc, argv, letters, table, NULL)) != -1 && code != 1) {
	}
	if (code == 1)
		word = optarg;
	else if (optind < argc) /* after "--" */
		word = argv[optind];
	opterr = shown;
	optind = 0; /* from the beginning again */
	return word != NULL ? command_find(word) : NULL;
}

/* JSON has no other texts. A name that is none must not be taken for no name, which often stands for all. */
static int
check_texts(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (!utf8_valid(argv[i], strlen(argv[i])))
			return option_usage("'%s' is not valid UTF-8; set the terminal to UTF-8, and give a "
					    "file with such a name another one%s",
			    argv[i], "");
	}
	return 0;
}

int
options_parse(struct ctl *ctl, int argc, char **argv)
{
	struct option table[MAX_OPTIONS + GLOBAL_COUNT + 1];
	char letters[2 * GLOBAL_COUNT + 2];
	int code, status = check_texts(argc, argv);

	collect_params();
	build_tables(table, letters);
	ctl->command = look_ahead(argc, argv, letters, table);
	ctl->arg_count = COMMAND_TO_COME;
	while (
	    status == 0 && !is_answered(ctl) && (code = getopt_long(argc, argv, letters, table, NULL)) != -1)
		status = take_option(ctl, code, optarg);
	while (status == 0 && !is_answered(ctl) && optind < argc) /* after "--" */
		status = set_operand(ctl, argv[optind++]);
	return status == 0 && !is_answered(ctl) ? check_command(ctl) : status;
}
