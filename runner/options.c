/*
 * The command line that zitd gives a runner.
 */
#include "runner/options.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "build_id.h"
#include "ipc/utf8.h"

/* Each puts the text into its member; false: not a value of that kind. */

static bool
set_text(void *member, const char *text)
{
	*(const char **)member = text; /* UTF-8, for it goes into messages and pictures */
	return *text != '\0' && utf8_valid(text, strlen(text));
}

static bool
set_long(void *member, const char *text)
{
	char *end;
	long long value;

	errno = 0;
	value = strtoll(text, &end, 10);
	*(int64_t *)member = value;
	return errno == 0 && end != text && *end == '\0' && value >= 0;
}

static bool
set_int(void *member, const char *text)
{
	int64_t value;
	bool good = set_long(&value, text) && value <= INT_MAX;

	*(int *)member = (int)value;
	return good;
}

/* Which of the words, NULL after the last one; -1: none. */
static int
find_word(const char *const *words, const char *text)
{
	for (int i = 0; words[i] != NULL; i++) {
		if (strcmp(words[i], text) == 0)
			return i;
	}
	return -1;
}

static bool
set_precision(void *member, const char *text)
{
	static const char *const words[] = {"auto", "f32", "bf16", NULL}; /* enum precision */
	int which = find_word(words, text);

	*(enum precision *)member = (enum precision)which;
	return which >= 0;
}

static bool
set_text_weights(void *member, const char *text)
{
	static const char *const words[] = {"auto", "resident", "streamed", NULL}; /* enum text_weights */
	int which = find_word(words, text);

	*(enum text_weights *)member = (enum text_weights)which;
	return which >= 0;
}

static bool
set_kernels(void *member, const char *text)
{
	static const char *const words[] = {"auto", "portable", NULL};
	int which = find_word(words, text);

	*(bool *)member = which == 1;
	return which >= 0;
}

static const struct {
	const char *name, *arg, *help;
	size_t offset;
	bool (*set)(void *member, const char *text);
} rows[] = {
#define OPTION(member, name, arg, set, help) {name, arg, help, offsetof(struct runner_options, member), set},
#include "runner/options.def"
};

enum { ROWS = sizeof(rows) / sizeof(rows[0]), HELP = ROWS, VERSION, PROBE, FLAGS };

static bool
print_help(void)
{
	printf("usage: zit-runner --option value ...\n       zit-runner --probe\n"
	       "Started by zitd, which speaks to it over --channel. --probe prints the CUDA devices as "
	       "JSON.\n\n");
	for (int i = 0; i < ROWS; i++)
		printf("  --%s %s\n        %s\n", rows[i].name, rows[i].arg, rows[i].help);
	return true;
}

static bool
check(const struct runner_options *o)
{
	if (o->channel_fd >= 0 && o->status_fd >= 0 && o->model != NULL)
		return true;
	fprintf(stderr, "zit-runner: --channel, --status and --model are needed; zitd gives them: start "
			"zitd, not zit-runner\n");
	return false;
}

bool
runner_options_parse(struct runner_options *o, int argc, char **argv, bool *done)
{
	struct option table[FLAGS + 1] = {{0}};
	int index;

	*o = (struct runner_options){.channel_fd = -1,
	    .status_fd = -1,
	    .name = "0",
	    .device = "auto",
	    .cache = getenv("CACHE_DIRECTORY")};
	for (int i = 0; i < ROWS; i++)
		table[i] = (struct option){rows[i].name, required_argument, NULL, i};
	table[HELP] = (struct option){"help", no_argument, NULL, HELP};
	table[VERSION] = (struct option){"version", no_argument, NULL, VERSION};
	table[PROBE] = (struct option){"probe", no_argument, NULL, PROBE};
	*done = false;
	while ((index = getopt_long(argc, argv, "", table, NULL)) != -1) {
		if (index == HELP || index == VERSION) {
			*done = true;
			return index == HELP ? print_help() : printf("zit-runner %s\n", ZIT_BUILD) > 0;
		}
		if (index == PROBE) {
			o->probe = true;
			return true;
		}
		if (index < 0 || index >= ROWS)
			return false; /* getopt has said why */
		if (!rows[index].set((char *)o + rows[index].offset, optarg)) {
			fprintf(stderr, "zit-runner: --%s wants %s, not '%s'\n", rows[index].name,
			    rows[index].arg, optarg);
			return false;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "zit-runner: '%s' belongs to no option\n", argv[optind]);
		return false;
	}
	return check(o);
}
