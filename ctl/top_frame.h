/*
 * What zitctl top shows: the service, its runners and its jobs, as lines of a screen of any size.
 */
#ifndef CTL_TOP_FRAME_H
#define CTL_TOP_FRAME_H

#include <jansson.h>

#include "ctl/ctl.h"
#include "ctl/screen.h"

struct top_view {
	const json_t *status; /* zitd's answer, or NULL: it does not answer */
	const json_t *jobs;   /* of list, or NULL */
	int selected;	      /* of all runners, then all jobs, in their order */
	const char *bottom;   /* the last line: keys, a question, or what came of an order */
	const char *trouble;  /* why there is no status, or that it is old; NULL: all is well */
};

/* Fills the frame, which has its size. */
void top_frame(const struct top_view *view, struct screen_frame *f);

/* Without a screen: prints a line whenever something is otherwise than a second ago, until interrupted. An
 * exit code. */
int top_lines(struct ctl *ctl);

/* One line about the service. */
void top_summary(const json_t *status, char *out, size_t size);

#endif
