/*
 * Progress of a job on stderr: a bar that redraws itself on a terminal, or JSON lines.
 */
#include "ctl/progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "ctl/output.h"

enum { BAR_WIDTH = 24, SHORT_BAR_WIDTH = 10, NARROW = 60 };

void
progress_init(struct progress *p, const struct ctl *ctl)
{
	const char *term = getenv("TERM");
	bool terminal = isatty(STDERR_FILENO) && term != NULL && strcmp(term, "dumb") != 0;

	*p = (struct progress){.mode = ctl->progress};
	if (p->mode == PROGRESS_AUTO)
		p->mode = terminal && !ctl->quiet ? PROGRESS_BAR : PROGRESS_NONE;
}

/* Columns of the terminal behind stderr. */
static int
terminal_columns(void)
{
	struct winsize size;

	return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

void
progress_line(long long done, long long all, const char *format, ...)
{
	int columns = terminal_columns(), width = columns >= NARROW ? BAR_WIDTH : SHORT_BAR_WIDTH, used = 0;
	char bar[BAR_WIDTH + 1], text[256], plain[256];
	va_list args;

	memset(bar, '.', sizeof(bar));
	memset(bar, '#', done >= 0 && done <= all && all > 0 ? (size_t)(width * done / all) : 0);
	if (all > 0)
		used = snprintf(text, sizeof(text), "[%.*s] ", width, bar);
	va_start(args, format);
	vsnprintf(text + used, sizeof(text) - (size_t)used, format, args);
	va_end(args);
	output_plain(text, plain, sizeof(plain));
	output_cut(plain, columns - 1); /* in the last one the terminal would begin a new line */
	fprintf(stderr, "\r%s\033[K", plain);
}

static void
draw(const json_t *params)
{
	const json_t *position = json_object_get(params, "position");
	long long step = json_integer_value(json_object_get(params, "step"));
	long long steps = json_integer_value(json_object_get(params, "steps"));

	if (strcmp(output_text(params, "state"), "running") == 0)
		progress_line(step, steps, "%lld/%lld %s", step, steps, output_text(params, "stage"));
	else if (json_is_integer(position))
		progress_line(0, 0, "queued, place %lld", (long long)json_integer_value(position));
	else
		progress_line(0, 0, "%s", output_text(params, "state"));
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
	} else if (p->mode == PROGRESS_JSON)
		output_line(stderr, params);
	fflush(stderr);
}

void
progress_end(struct progress *p)
{
	if (p->drawn)
		fprintf(stderr, "\r\033[K");
	p->drawn = false;
}
