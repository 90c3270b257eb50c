/*
 * What zitctl top shows: the service, its runners and its jobs, as lines of a screen of any size.
 */
#include "ctl/top_frame.h"

#include <stdio.h>
#include <string.h>

#include "ctl/advice.h"
#include "ctl/output.h"

enum {
	WIDE = 76,    /* columns from which ids are shown whole, and more of a job */
	TALL = 16,    /* rows from which there are empty lines between the parts */
	TAIL = 8,     /* characters of an id that tell jobs apart: ids begin with the time */
	MIN_JOBS = 3, /* lines that runners leave to jobs */
};

static long long
number(const json_t *object, const char *path)
{
	return (long long)json_integer_value(output_at(object, path));
}

void
top_summary(const json_t *status, char *out, size_t size)
{
	long up = (long)json_number_value(json_object_get(status, "uptime_s"));

	snprintf(out, size, "zitd %s, up %ld:%02ld:%02ld, waiting %lld/%lld/%lld of %lld, %lld done",
	    output_text(status, "state"), up / 3600, up / 60 % 60, up % 60, number(status, "queue.high"),
	    number(status, "queue.normal"), number(status, "queue.low"), number(status, "queue.max_size"),
	    number(status, "counters.done"));
}

/* ---- parts of lines */

static const char *
short_id(const char *id, bool wide)
{
	size_t length = strlen(id);

	return wide || length <= TAIL ? id : id + length - TAIL;
}

/* Where the job is: its place in the queue, its step, or why it ended. */
static void
place_of(const json_t *job, char *out, size_t size)
{
	const json_t *position = json_object_get(job, "position"),
		     *progress = json_object_get(job, "progress");

	if (json_is_object(progress))
		snprintf(out, size, "%lld/%lld", number(progress, "step"), number(progress, "steps"));
	else if (json_is_integer(position))
		snprintf(out, size, "#%lld", (long long)json_integer_value(position));
	else
		snprintf(out, size, "%s", output_text(job, "error.name"));
}

static void
eta_of(const json_t *job, char *out, size_t size)
{
	const json_t *eta = json_object_get(job, "eta_s");

	out[0] = '\0';
	if (json_is_number(eta))
		snprintf(out, size, "%.1fs", json_number_value(eta));
}

static void
add_job(struct screen_frame *f, enum screen_style style, const json_t *job)
{
	bool wide = f->columns >= WIDE;
	char place[40], eta[24];
	const char *id = short_id(output_text(job, "job"), wide), *state = output_text(job, "state"),
		   *class = output_text(job, "priority"), *prompt = output_text(job, "prompt");

	place_of(job, place, sizeof(place));
	eta_of(job, eta, sizeof(eta));
	if (wide)
		screen_add(f, style, "%-30s %-9s %-6s %-7s %6s %s", id, state, class, place, eta, prompt);
	else
		screen_add(f, style, "%-8s %-9s %.1s %-7s %s", id, state, class, place, prompt);
}

static void
add_job_title(struct screen_frame *f)
{
	if (f->columns >= WIDE)
		screen_add(f, STYLE_BOLD, "%-30s %-9s %-6s %-7s %6s %s", "JOB", "STATE", "CLASS", "AT", "ETA",
		    "PROMPT");
	else
		screen_add(f, STYLE_BOLD, "%-8s %-9s %.1s %-7s %s", "JOB", "STATE", "CLASS", "AT", "PROMPT");
}

static void
add_runner(struct screen_frame *f, bool selected, const json_t *runner)
{
	const char *state = output_text(runner, "state"),
		   *job = short_id(output_text(runner, "job"), f->columns >= WIDE);
	bool bad = strcmp(state, "failed") == 0 || strcmp(state, "wedged") == 0;

	screen_add(f,
	    selected ? STYLE_SELECTED
	    : bad    ? STYLE_ALARM
		     : STYLE_PLAIN,
	    "runner %-6s %-9s %s%s", output_text(runner, "name"), state,
	    json_is_true(json_object_get(runner, "draining")) ? "(draining) " : "",
	    *job != '\0' ? job
	    : bad	 ? output_text(runner, "last_error")
			 : output_text(runner, "device"));
}

/* ---- parts of the screen */

static void
add_gap(struct screen_frame *f)
{
	if (f->rows >= TALL)
		screen_add(f, STYLE_PLAIN, "%s", "");
}

/* The most urgent advice. */
static void
add_advice(struct screen_frame *f, const json_t *status)
{
	json_t *list = advice_list(status);
	const json_t *first = json_array_get(list, 0);

	if (first != NULL)
		screen_add(f, strcmp(output_text(first, "level"), "wrong") == 0 ? STYLE_ALARM : STYLE_PLAIN,
		    "%s: %s", output_text(first, "what"), output_text(first, "do"));
	json_decref(list);
}

/* The first one shown of `count`, in so many lines, so that the selected one is among them. */
static int
first_shown(int selected, int count, int lines)
{
	int first = selected - lines + 1, last = count - lines;

	if (lines <= 0 || first < 0 || last < 0)
		return 0;
	return first < last ? first : last;
}

/* As many rows of a list as there are lines up to `end`. */
static void
add_runners(struct screen_frame *f, const struct top_view *view, int end)
{
	const json_t *runners = json_object_get(view->status, "runners");
	int count = (int)json_array_size(runners), lines = end - f->count;

	for (int i = first_shown(view->selected, count, lines); i < count && f->count < end; i++)
		add_runner(f, i == view->selected, json_array_get(runners, (size_t)i));
}

static void
add_jobs(struct screen_frame *f, const struct top_view *view, int end)
{
	int selected = view->selected - (int)json_array_size(json_object_get(view->status, "runners"));
	int count = (int)json_array_size(view->jobs), lines = end - f->count;

	for (int i = first_shown(selected, count, lines); i < count && f->count < end; i++)
		add_job(
		    f, i == selected ? STYLE_SELECTED : STYLE_PLAIN, json_array_get(view->jobs, (size_t)i));
	if (count == 0 && f->count < end)
		screen_add(f, STYLE_PLAIN, "There are no jobs.");
}

void
top_frame(const struct top_view *view, struct screen_frame *f)
{
	char summary[200];

	if (view->status != NULL) {
		top_summary(view->status, summary, sizeof(summary));
		screen_add(f, STYLE_BOLD, "%s", summary);
	}
	if (view->trouble != NULL)
		screen_add(f, STYLE_ALARM, "%s", view->trouble);
	else if (view->status != NULL)
		add_advice(f, view->status);
	if (view->status != NULL) {
		add_gap(f);
		add_runners(f, view, f->rows - 2 - MIN_JOBS);
		add_gap(f);
		add_job_title(f);
		add_jobs(f, view, f->rows - 1);
	}
	while (f->count < f->rows - 1)
		screen_add(f, STYLE_PLAIN, "%s", "");
	screen_add(f, STYLE_BOLD, "%s", view->bottom);
}
