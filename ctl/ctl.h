/*
 * What the parts of zitctl share: the parsed command line, the exit codes, and what commands are called with.
 */
#ifndef CTL_CTL_H
#define CTL_CTL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum ctl_exit {
#define EXIT(name, number, text) CTL_##name = (number),
#include "ctl/exits.def"
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
	bool help, version;	  /* asked for, and nothing else then */
	const char *job, *runner; /* whose logs, or NULL */
	uint32_t given;		  /* bit i: the i-th row of options.def was given */
	json_t *params;		  /* members of `submit` given as options; owned */
};

/* What each command does, with the parsed command line; its exit code. */
#define COMMAND(name, operands, min, max, params, saves, help) int command_##name(struct ctl *ctl);
#include "ctl/commands.def"

#endif
