/*
 * How long a job will take to be done: the queue's order played through on the runners that serve, with what
 * jobs are predicted to cost and how wrong such predictions were. The first high job on a line does not wait
 * for the one that would make way for it.
 */
#include <math.h>

#include "ipc/clock.h"
#include "supervisor/daemon_inside.h"

#define P95 1.645 /* standard deviations */

/* When a device is free, and how sure that is: jobs on one runner share it, so it counts as one line. */
struct line {
	double free_s, variance;
	double victim_s; /* of that, what would be put off for a high job */
};

static double
variance_of(const struct daemon *d, double cost_s)
{
	return cost_s * cost_s * d->cost_error;
}

static void
put(const struct daemon *d, struct line *line, double cost_s)
{
	line->free_s += cost_s;
	line->variance += variance_of(d, cost_s);
}

static double
left_s(const struct job *job)
{
	return fmax(0, job->cost_s - job_attempt_s(job));
}

/* The lines as they are now; their number. */
static int
lines_now(const struct daemon *d, struct line lines[CONF_MAX_RUNNERS])
{
	const struct job *job, *victim;
	int count = 0;

	for (int i = 0; i < d->runner_count; i++) {
		if (!runner_may_serve(d->runners[i]))
			continue;
		victim = runner_victim(d->runners[i], NULL);
		lines[count] = (struct line){0, 0, victim != NULL ? left_s(victim) : 0};
		TAILQ_FOREACH(job, &d->jobs, all_link)
		{
			if (job->runner == d->runners[i] || job->promised == d->runners[i])
				put(d, &lines[count], left_s(job));
		}
		count++;
	}
	return count;
}

/* When a job could begin there. */
static double
begin_s(const struct line *line, const struct job *job)
{
	return line->free_s - (job->class == CLASS_HIGH ? line->victim_s : 0);
}

static struct line *
first_free(struct line *lines, int count, const struct job *job)
{
	struct line *first = lines;

	for (int i = 1; i < count; i++)
		first = begin_s(&lines[i], job) < begin_s(first, job) ? &lines[i] : first;
	return first;
}

/* Puts the job there; what that says of its end. */
static struct line
play(const struct daemon *d, struct line *line, const struct job *job)
{
	struct line end = *line;

	end.free_s = begin_s(line, job);
	if (job->class == CLASS_HIGH) {
		end.variance -= variance_of(d, line->victim_s);
		line->victim_s = 0;
	}
	put(d, &end, job->cost_s);
	put(d, line, job->cost_s);
	return end;
}

struct outlook
daemon_outlook(struct daemon *d, const struct job *job)
{
	struct outlook o = {.position = daemon_position(d, job), .eta_s = -1, .eta_p95_s = -1};
	struct line lines[CONF_MAX_RUNNERS], end = {0};
	int count = lines_now(d, lines);

	if (o.position == 0 || d->seconds_per_work == 0 || count == 0)
		return o;
	for (const struct job *j = queue_first(&d->queue); j != NULL; j = queue_next(&d->queue, j)) {
		end = play(d, first_free(lines, count, j), j);
		if (j == job)
			break;
	}
	o.eta_s = end.free_s;
	o.eta_p95_s = end.free_s + P95 * sqrt(fmax(0, end.variance));
	return o;
}
