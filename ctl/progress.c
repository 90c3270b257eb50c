/*
 * Progress of a job on stderr: a bar that redraws itself on a terminal, or JSON lines.
 */
#include "ctl/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl/output.h"

enum { BAR_WIDTH = 24 };

void
progress_init(struct progress *p, const struct ctl *ctl)
{
	const char *term = getenv("TERM");
	bool terminal = isatty(STDERR_FILENO) && term != NULL && strcmp(term, "dumb") != 0;

	*p = (struct progress){.mode = ctl->progress};
	if (p->mode == PROGRESS_AUTO)
		p->mode = terminal && !ctl->quiet ? PROGRESS_BAR : PROGRESS_NONE;
}

static void
draw_bar(const json_t *params)
{
	json_int_t step = json_integer_value(json_object_get(params, "step"));
	json_int_t steps = json_integer_value(json_object_get(params, "steps"));
	json_int_t done = steps > 0 && step <= steps && step >= 0 ? BAR_WIDTH * step / steps : 0;
	char bar[BAR_WIDTH + 1];

	memset(bar, '.', BAR_WIDTH);
	memset(bar, '#', (size_t)done);
	bar[BAR_WIDTH] = '\0';
	fprintf(stderr, "\r[%s] %" JSON_INTEGER_FORMAT "/%" JSON_INTEGER_FORMAT " %s\033[K", bar, step, steps,
	    output_text(params, "stage"));
}

static void
draw(const json_t *params)
{
	const json_t *position = json_object_get(params, "position");

	if (strcmp(output_text(params, "state"), "running") == 0)
		draw_bar(params);
	else if (json_is_integer(position))
		fprintf(
		    stderr, "\rqueued, place %" JSON_INTEGER_FORMAT "\033[K", json_integer_value(position));
	else
		fprintf(stderr, "\r%s\033[K", output_text(params, "state"));
}

void
progress_event(void *progress, const json_t *params)
{
	struct progress *p = progress;

	if (p->job[0] == '\0')
		snprintf(p->job, sizeof(p->job), "%s", output_text(params, "job"));
	if (p->mode == PROGRESS_BAR) {
		draw(params);
		p->drawn = true;
	} else if (p->mode == PROGRESS_JSON) {
		json_dumpf(params, stderr, JSON_COMPACT);
		fputc('\n', stderr);
	}
	fflush(stderr);
}

void
progress_end(struct progress *p)
{
	if (p->drawn)
		fprintf(stderr, "\r\033[K");
	p->drawn = false;
}
