/*
 * Progress of a job on stderr: a bar that redraws itself on a terminal, or JSON lines.
 */
#ifndef CTL_PROGRESS_H
#define CTL_PROGRESS_H

#include <jansson.h>

#include "ctl/ctl.h"

struct progress {
	enum ctl_progress mode; /* resolved: never AUTO */
	bool drawn;		/* a bar stands on the terminal's line */
	char job[64];		/* id, from the first event */
};

/* Draws one line on stderr in the place of the last one: a bar for `done` of `all`, unless that is 0, and the
 * text, as far as the terminal is wide. */
void progress_line(long long done, long long all, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

void progress_init(struct progress *p, const struct ctl *ctl);
/* One event of a job; `progress` is a struct progress. Fits client_call. */
void progress_event(void *progress, const json_t *params);
void progress_end(struct progress *p); /* clears the bar */

#endif
