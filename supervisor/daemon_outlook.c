/*
 * How long a job will take to be done: the queue's order played through on the runners that serve, with what
 * jobs are predicted to cost and how wrong such predictions were.
 */
#include <math.h>

#include "ipc/clock.h"
#include "supervisor/daemon_inside.h"

#define P95 1.645 /* standard deviations */

/* When a device is free, and how sure that is: jobs on one runner share it, so it counts as one line. */
struct line {
	double free_s, variance;
};

static void
put(const struct daemon *d, struct line *line, double cost_s)
{
	line->free_s += cost_s;
	line->variance += cost_s * cost_s * d->cost_error;
}

/* The lines as they are now; their number. */
static int
lines_now(const struct daemon *d, struct line lines[CONF_MAX_RUNNERS])
{
	const struct job *job;
	int count = 0;

	for (int i = 0; i < d->runner_count; i++) {
		if (!runner_may_serve(d->runners[i]))
			continue;
		lines[count] = (struct line){0, 0};
		TAILQ_FOREACH(job, &d->jobs, all_link)
		{
			if (job->runner == d->runners[i])
				put(d, &lines[count], fmax(0, job->cost_s - job_attempt_s(job)));
		}
		count++;
	}
	return count;
}

static struct line *
first_free(struct line *lines, int count)
{
	struct line *first = lines;

	for (int i = 1; i < count; i++)
		first = lines[i].free_s < first->free_s ? &lines[i] : first;
	return first;
}

struct outlook
daemon_outlook(struct daemon *d, const struct job *job)
{
	struct outlook o = {.position = daemon_position(d, job), .eta_s = -1, .eta_p95_s = -1};
	struct line lines[CONF_MAX_RUNNERS], *line = lines;
	int count = lines_now(d, lines);

	if (o.position == 0 || d->seconds_per_work == 0 || count == 0)
		return o;
	for (const struct job *j = queue_first(&d->queue); j != NULL; j = queue_next(&d->queue, j)) {
		line = first_free(lines, count);
		put(d, line, j->cost_s);
		if (j == job)
			break;
	}
	o.eta_s = line->free_s;
	o.eta_p95_s = line->free_s + P95 * sqrt(line->variance);
	return o;
}
