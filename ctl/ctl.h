/*
 * What the parts of zitctl share: the parsed command line and the commands' table.
 */
#ifndef CTL_CTL_H
#define CTL_CTL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum ctl_exit {
#define EXIT(name, number, text) CTL_##name = (number),
#include "ctl/exits.def"
#undef EXIT
};

enum ctl_format { FORMAT_TABLE, FORMAT_WIDE, FORMAT_JSON, FORMAT_JSONL, FORMAT_NAME };
enum ctl_progress { PROGRESS_AUTO, PROGRESS_BAR, PROGRESS_JSON, PROGRESS_NONE };

enum { CTL_MAX_ARGS = 1000, CTL_MAX_JOBS = 100 };

struct ctl {
	const struct ctl_command *command; /* NULL: none was named */
	const char *args[CTL_MAX_ARGS];	   /* the command's operands, borrowed from argv */
	int arg_count;
	const char *socket; /* -H, or NULL: look where zitd usually is */
	const char *save;   /* where a picture goes, or NULL */
	enum ctl_format format;
	enum ctl_progress progress;
	bool quiet;
	double timeout_s;	  /* 0: as long as it takes */
	const char *group;	  /* or NULL */
	const char *out;	  /* batch's directory, or NULL */
	bool resume;		  /* batch goes on with what is there */
	bool origin;		  /* config show says where values come from */
	int jobs;		  /* batch's at a time; 0: as many as zitd lets in */
	bool front;		  /* said, and nothing else to move to */
	bool follow;		  /* logs goes on */
	int lines;		  /* logs' last ones; 0: all */
	const char *job, *runner; /* whose logs, or NULL */
	uint32_t given;		  /* bit i: the i-th row of options.def was given */
	json_t *params;		  /* members of `submit` given as options; owned */
};

struct ctl_command {
	const char *name;
	const char *operands; /* for the usage line */
	int min_args, max_args;
	bool takes_params; /* accepts the options that are members of `submit` */
	bool saves;	   /* accepts --save */
	int (*run)(struct ctl *ctl);
	const char *help;
};

/* The row of commands.def with that name, or NULL; and rows in order, NULL past the end. */
const struct ctl_command *command_find(const char *name);
const struct ctl_command *command_at(size_t index);

/* The options, of options.def and then of `submit`; false past the end. Works once options_parse was called.
 */
struct ctl_option {
	const char *name, *arg, *help; /* arg: NULL for none */
	int letter;		       /* or 0 */
	bool of_submit;
	const char *commands; /* that take it, " a b ", or NULL: all */
};
bool options_at(size_t index, struct ctl_option *out);
bool options_taken(const struct ctl_option *o, const struct ctl_command *c); /* by that command */

/* Fills *ctl from the command line. 0, or an exit code after saying on stderr what is wrong. Help and version
 * are printed here too and end with *done = true. */
int options_parse(struct ctl *ctl, int argc, char **argv, bool *done);

#define COMMAND(name, operands, min, max, params, saves, help) int command_##name(struct ctl *ctl);
#include "ctl/commands.def"
#undef COMMAND

#endif
