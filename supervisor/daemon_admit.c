/*
 * Which jobs are let in: what can be drawn here at all, who has a place, and what it will cost.
 */
#include <math.h>
#include <string.h>

#include "ipc/clock.h"
#include "ipc/log.h"
#include "supervisor/daemon_inside.h"

enum {
	MIN_SIDE = 64, /* api.def's */
	MIN_CAP = 2,   /* jobs that any client may have waiting */
};

#define MIN_COST_S 1e-3
#define MAX_ERROR 4.0		    /* of one prediction, squared: one job does not spoil all */
#define FIRST_SECONDS_PER_WORK 1e-7 /* a pixel's step, before any job is done */

void
daemon_set_weights(struct daemon *d)
{
	fair_set_weight(&d->queue.fair, CLASS_HIGH, (double)d->conf.queue.weight_high);
	fair_set_weight(&d->queue.fair, CLASS_NORMAL, (double)d->conf.queue.weight_normal);
	fair_set_weight(&d->queue.fair, CLASS_LOW, (double)d->conf.queue.weight_low);
}

int
daemon_serving_runners(const struct daemon *d)
{
	int count = 0;

	for (int i = 0; i < d->runner_count; i++)
		count += runner_may_serve(d->runners[i]);
	return count;
}

/* How long until a place is free: the time that one of the runners takes for a job, by the last ones. */
static double
retry_after_s(const struct daemon *d)
{
	int runners = daemon_serving_runners(d);
	double wait_s = d->mean_run_s > 0 && runners > 0 ? d->mean_run_s / runners : 1.0;

	return wait_s > 1.0 ? ceil(wait_s) : 1.0;
}

static bool
fits(const struct runner_limits *l, int64_t width, int64_t height)
{
	return width % l->granule == 0 && height % l->granule == 0 && width <= l->max_side &&
	       height <= l->max_side && width * height <= l->max_pixels;
}

/* Says what the runner with the most pixels could draw. */
static void
complain_of_size(const struct runner_limits *l, int64_t width, int64_t height, struct err *e)
{
	int largest = (int)sqrt((double)l->max_pixels) / l->granule * l->granule;

	if (width % l->granule != 0 || height % l->granule != 0)
		err_set(e, ERR_INVALID_PARAM,
		    "width and height must be multiples of %d from %d to %d, at most %lld pixels together; "
		    "%lldx%lld is not",
		    l->granule, (MIN_SIDE + l->granule - 1) / l->granule * l->granule,
		    l->max_side / l->granule * l->granule, (long long)l->max_pixels, (long long)width,
		    (long long)height);
	else
		err_set(e, ERR_TOO_BIG,
		    "%lldx%lld is too big: at most %lld pixels (%dx%d), and %d on a side, can be drawn here",
		    (long long)width, (long long)height, (long long)l->max_pixels, largest, largest,
		    l->max_side);
}

/* Whether any runner that has been ready could draw it; true while none has been. */
static bool
size_fits(const struct daemon *d, const struct api_submit *p, struct err *e)
{
	const struct runner_limits *best = NULL;
	int64_t width = 0, height = 0;

	for (int i = 0; i < d->runner_count; i++) {
		const struct runner_limits *l = runner_limits(d->runners[i]);
		if (l == NULL)
			continue;
		width = p->has_width ? p->width : l->default_side;
		height = p->has_height ? p->height : l->default_side;
		if (fits(l, width, height))
			return true;
		if (best == NULL || l->max_pixels > best->max_pixels)
			best = l;
	}
	if (best == NULL)
		return true;
	complain_of_size(best, width, height, e);
	return false;
}

static bool
may_enter(const struct daemon *d, const struct api_submit *p, struct err *e)
{
	if (d->phase != SERVING)
		err_set(e, ERR_DRAINING, "%s", err_row(ERR_DRAINING)->text);
	else if (d->store_error != 0 && (!p->has_durable || p->durable))
		err_set(e, ERR_DISK_FULL,
		    "The state directory takes no writes (%s), so the job cannot be kept: free some space, "
		    "or submit "
		    "it with wait and durable: false.",
		    strerror(d->store_error));
	else if (daemon_serving_runners(d) == 0)
		err_set(e, ERR_NO_RUNNER, "%s", err_row(ERR_NO_RUNNER)->text);
	else if (p->has_seed && p->has_n && p->seed > INT64_MAX - p->n + 1)
		err_set(e, ERR_INVALID_PARAM, "seed + n must stay below 2^63: picture i of n uses seed + i");
	else if (!p->has_group || group_check(p->group, e) == 0)
		return size_fits(d, p, e);
	return false;
}

/* ---- what it costs */

/* Device seconds that it will take: by the last jobs, in proportion to steps and pixels. */
static double
predict_s(const struct daemon *d, const struct job *job)
{
	const struct runner_limits *l = d->runner_count > 0 ? runner_limits(d->runners[0]) : NULL;
	double side = l != NULL ? l->default_side : 1024;
	double width = job->width > 0 ? job->width : side, height = job->height > 0 ? job->height : side;
	double work = width * height * job->steps * job->count;

	return fmax(
	    MIN_COST_S, work * (d->seconds_per_work > 0 ? d->seconds_per_work : FIRST_SECONDS_PER_WORK));
}

/* Learns from a job that is done what a pixel's step costs. */
void
daemon_learn_cost(struct daemon *d, const struct job *job)
{
	double work = (double)job->width * job->height * job->steps * job->count;
	double measured = job_attempt_s(job) / work, wrong = job_attempt_s(job) / job->cost_s - 1;

	if (job->attempt != 1 || work <= 0)
		return; /* a part of it may have come from a checkpoint */
	if (d->seconds_per_work > 0)
		d->cost_error = 0.95 * d->cost_error + 0.05 * fmin(wrong * wrong, MAX_ERROR);
	d->seconds_per_work = d->seconds_per_work > 0 ? 0.9 * d->seconds_per_work + 0.1 * measured : measured;
}

/* ---- places */

/* Whether there is a place for one more of that client and class; who must go for it goes. */
static bool
find_place(struct daemon *d, const struct job *job, struct err *e, json_t **data)
{
	const struct conf_queue *c = &d->conf.queue;
	const int cap = (int)(c->max_size * c->client_cap / 100);
	const struct fair_limits limits = {
	    (int)c->max_size, cap > MIN_CAP ? cap : MIN_CAP, (int)(c->max_size * c->reserved_high / 100)};
	struct job *victim;

	switch (queue_admit(&d->queue, &limits, job->client, job->class, &victim)) {
	case FAIR_ADMIT:
		return true;
	case FAIR_DISPLACE:
		log_notice("job %s: gives its place to one of %s, who has fewer", victim->id, job->client);
		job_event(victim, JOB_EVENT_EVICT);
		return true;
	case FAIR_CLIENT_CAP:
		*data = json_pack(
		    "{s:f, s:i}", "retry_after_s", retry_after_s(d), "client_cap", limits.client_cap);
		err_set(e, ERR_CLIENT_CAP,
		    "You have %d jobs waiting, as many as one client may; wait for one to end.",
		    limits.client_cap);
		return false;
	case FAIR_FULL:
		break;
	}
	*data = json_pack("{s:f, s:i}", "retry_after_s", retry_after_s(d), "max_size", (int)c->max_size);
	err_set(e, ERR_QUEUE_FULL, "The queue is full with %d jobs; try again after %g seconds.",
	    queue_length(&d->queue), retry_after_s(d));
	return false;
}

/* Whether it would almost surely be late: played through as if it had its place. */
static bool
is_hopeless(struct daemon *d, struct job *job, struct err *e, json_t **data)
{
	struct outlook o;

	if (job->deadline_s == 0 || !queue_push(&d->queue, job))
		return false;
	o = daemon_outlook(d, job);
	queue_remove(&d->queue, job);
	if (o.eta_p95_s <= job->deadline_s)
		return false;
	*data = json_pack("{s:f, s:f}", "eta_s", o.eta_s, "eta_p95_s", o.eta_p95_s);
	err_set(e, ERR_DEADLINE_UNREACHABLE,
	    "The job would be done in about %.1f s, almost surely in %.1f s, after its deadline of %g s; "
	    "allow more, or give it a higher priority.",
	    o.eta_s, o.eta_p95_s, job->deadline_s);
	return true;
}

struct job *
daemon_admit(struct daemon *d, const struct api_submit *p, uid_t uid, pid_t pid, bool force, struct err *e,
    json_t **data)
{
	struct job *job;
	bool probe;

	if (!may_enter(d, p, e) || daemon_is_quarantined(d, p, force, &probe, e, data))
		return NULL;
	job = job_new(d, p, uid, pid);
	if (job == NULL) {
		err_set(e, ERR_SYSTEM, "out of memory");
		return NULL;
	}
	job->cost_s = predict_s(d, job);
	if (is_hopeless(d, job, e, data) || !find_place(d, job, e, data)) {
		job_free(&job);
		return NULL;
	}
	job->fingerprint = quarantine_fingerprint(p);
	job->probe = job->alone = probe;
	if (!queue_push(&d->queue, job)) {
		err_set(e, ERR_SYSTEM, "out of memory");
		job_free(&job);
		return NULL;
	}
	if (probe)
		quarantine_probe(&d->quarantine, job->fingerprint);
	TAILQ_INSERT_TAIL(&d->jobs, job, all_link);
	d->admitted++;
	daemon_save(d, job);
	d->changed = true;
	log_info("job %s: accepted from %s, class %s", job->id, job->client, job_class_name(job->class));
	return job;
}
