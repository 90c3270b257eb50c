/*
 * zitd: the command line.
 */
#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "build_id.h"
#include "ipc/log.h"
#include "supervisor/daemon.h"
#include "supervisor/handover.h"
#include "supervisor/journal.h"
#include "supervisor/methods/methods.h"
#include "supervisor/notify.h"
#include "supervisor/upgrade.h"

enum { EXIT_BAD_USAGE = 64, EXIT_BAD_CONFIG = 78 };

enum { LARGE_BLOCK = 128 * 1024 };

enum option_code {
	OPTION_CONFIG = 1,
	OPTION_RUNTIME_DIR,
	OPTION_STATE_DIR,
	OPTION_LOG_LEVEL,
	OPTION_LOG_FORMAT,
	OPTION_HANDOVER,
	OPTION_CHECK_HANDOVER,
	OPTION_CHECK,
	OPTION_PRINT_OPTIONS,
	OPTION_PRINT_EVENTS,
	OPTION_VERSION,
	OPTION_HELP
};

static const struct option table[] = {
    {"config", required_argument, NULL, OPTION_CONFIG},
    {"runtime-dir", required_argument, NULL, OPTION_RUNTIME_DIR},
    {"state-dir", required_argument, NULL, OPTION_STATE_DIR},
    {"log-level", required_argument, NULL, OPTION_LOG_LEVEL},
    {"log-format", required_argument, NULL, OPTION_LOG_FORMAT},
    {"handover", required_argument, NULL, OPTION_HANDOVER},
    {"check-handover", required_argument, NULL, OPTION_CHECK_HANDOVER},
    {"check-config", no_argument, NULL, OPTION_CHECK},
    {"print-options", no_argument, NULL, OPTION_PRINT_OPTIONS},
    {"print-events", no_argument, NULL, OPTION_PRINT_EVENTS},
    {"version", no_argument, NULL, OPTION_VERSION},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

static const char usage[] = "usage: zitd --config FILE [--runtime-dir DIR] [--state-dir DIR] [--log-level "
			    "err|warning|notice|info|debug]\n"
			    "            [--log-format auto|journal|json|text] [--check-config]\n"
			    "       zitd --print-options | --print-events | --version\n";

struct command_line {
	struct daemon_options options;
	const char *handover, *check_handover; /* descriptors of the zitd before */
	bool check;
	void (*print)(void); /* all that is wanted; NULL: it is not */
};

/* ---- what is printed, from the tables that zitd is made of */

static void
print_json(json_t *value)
{
	json_dumpf(value, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
	putchar('\n');
	json_decref(value);
}

static void
print_options(void)
{
	print_json(conf_options());
}

static void
print_events(void)
{
	print_json(journal_table());
}

static void
print_version(void)
{
	puts("zitd " ZIT_BUILD);
}

static void
print_usage(void)
{
	fputs(usage, stdout);
}

static void (*const printers[])(void) = {[OPTION_PRINT_OPTIONS] = print_options,
    [OPTION_PRINT_EVENTS] = print_events,
    [OPTION_VERSION] = print_version,
    [OPTION_HELP] = print_usage};

/* ---- */

/* false after saying what is wrong. */
static bool
parse(struct command_line *c, int argc, char **argv)
{
	const char **const texts[] = {[OPTION_CONFIG] = &c->options.config,
	    [OPTION_RUNTIME_DIR] = &c->options.runtime_dir,
	    [OPTION_STATE_DIR] = &c->options.state_dir,
	    [OPTION_LOG_LEVEL] = &c->options.log_level,
	    [OPTION_LOG_FORMAT] = &c->options.log_format,
	    [OPTION_HANDOVER] = &c->handover,
	    [OPTION_CHECK_HANDOVER] = &c->check_handover};
	enum log_level level;
	int code;

	while ((code = getopt_long(argc, argv, "", table, NULL)) != -1) {
		if (code == '?')
			return false;
		if (code <= OPTION_CHECK_HANDOVER)
			*texts[code] = optarg;
		else if (code == OPTION_CHECK)
			c->check = true;
		else
			c->print = printers[code];
	}
	if (c->print != NULL)
		return true;
	if (c->options.config == NULL || optind < argc)
		fputs(usage, stderr);
	else if (c->options.log_level != NULL && !log_level_parse(c->options.log_level, &level))
		fprintf(stderr, "zitd: there is no log level '%s'\n%s", c->options.log_level, usage);
	else if (c->options.log_format != NULL && !journal_is_form(c->options.log_format))
		fprintf(stderr, "zitd: there is no log format '%s'\n%s", c->options.log_format, usage);
	else
		return true;
	return false;
}

/* The last word on the command line that makes a descriptor; 0, which is none of ours, if it is no number. */
static int
descriptor(const char *text)
{
	return (int)strtol(text, NULL, 10);
}

/* Both the log and systemctl status tell why there is no zitd. */
static void
fail(const struct err *e, int error)
{
	journal(EVENT_START_FAILED, .error = e);
	notify_failed(e->text, e->code == ERR_BAD_CONFIG ? EINVAL : error);
	notify_end();
}

static int
serve(struct command_line *line, const struct conf *conf)
{
	struct handover before = {0};
	struct daemon *d = NULL;
	struct err e;
	int status = 0;

	if (line->handover != NULL) {
		status = handover_read(&before, descriptor(line->handover), &e);
		line->options.handover = &before;
	}
	line->options.public = &methods_public;
	if (status == 0)
		status = daemon_start(&d, &line->options, conf, &e);
	handover_clear(&before);
	if (status != 0) {
		fail(&e, errno);
		return e.code == ERR_BAD_CONFIG ? EXIT_BAD_CONFIG
						: EXIT_FAILURE; /* a restart would not help */
	}
	status = daemon_run(d);
	daemon_free(&d);
	return status;
}

/* A configuration that cannot be used: told to who asks about it, or to the log. */
static int
refuse(const struct command_line *line, const struct err *e)
{
	if (line->check || line->check_handover != NULL)
		fprintf(stderr, "zitd: %s\n", e->text);
	else
		fail(e, EINVAL);
	return EXIT_BAD_CONFIG;
}

/* A channel's buffers are large and seldom full: pages of their own that nobody writes to are no memory. Once
 * such a block is freed, malloc would take the next one from the heap, and write to all of it. */
static void
keep_large_blocks_apart(void)
{
	mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK);
}

int
main(int argc, char **argv)
{
	struct command_line line = {0};
	static struct conf conf; /* too large for a stack that should stay small */
	struct err e;

	keep_large_blocks_apart();
	if (!parse(&line, argc, argv))
		return EXIT_BAD_USAGE;
	if (line.print != NULL) {
		line.print();
		return 0;
	}
	log_open("zitd", LOG_LEVEL_INFO);
	journal_set_form(line.options.log_format != NULL ? line.options.log_format : "auto");
	umask(0027);
	if (daemon_read_conf(&conf, &line.options, &e) != 0)
		return refuse(&line, &e);
	if (line.check_handover != NULL)
		return upgrade_check(descriptor(line.check_handover), &conf);
	return line.check ? 0 : serve(&line, &conf);
}
