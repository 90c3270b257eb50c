/*
 * Which jobs are let in: what can be drawn here at all, who has a place, and whose future is hopeless.
 */
#include <math.h>
#include <string.h>

#include "ipc/clock.h"
#include "supervisor/daemon_inside.h"
#include "supervisor/journal.h"

enum {
	MIN_SIDE = 64, /* api.def's */
	MIN_CAP = 2,   /* jobs that any client may have waiting */
};

void
daemon_set_shares(struct daemon *d)
{
	const struct conf_queue *c = &d->conf.queue;
	double low = (double)c->weight_low * (d->load.on ? LOAD_LOW_SHARE : 1);

	fair_set_weight(&d->queue.fair, CLASS_HIGH, (double)c->weight_high);
	fair_set_weight(&d->queue.fair, CLASS_NORMAL, (double)c->weight_normal);
	fair_set_weight(&d->queue.fair, CLASS_LOW, low);
	fair_introduce(&d->queue.fair, daemon_introduce, d);
	d->gate.windows[CLASS_HIGH] = c->window_high;
	d->gate.windows[CLASS_NORMAL] = c->window_normal;
	d->gate.windows[CLASS_LOW] = c->window_low;
	for (int i = 0; i < d->runner_count; i++) {
		const struct conf_runner *r = runner_conf(d->runners[i]);
		cost_set_constants(&d->costs[i], r->cost_base, r->cost_step, r->cost_picture);
	}
	d->queue.order_stale = true;
}

int
daemon_serving_runners(const struct daemon *d)
{
	int count = 0;

	for (int i = 0; i < d->runner_count; i++)
		count += runner_may_serve(d->runners[i]);
	return count;
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
size_fits(const struct daemon *d, const struct api_submit *p, struct err *e, json_t **data)
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
	*data = json_pack("{s:s}", "param",
	    width % best->granule != 0 || width > best->max_side || width >= height ? "width" : "height");
	return false;
}

static bool
may_enter(const struct daemon *d, const struct api_submit *p, struct err *e, json_t **data)
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
	else
		return size_fits(d, p, e, data);
	return false;
}

/* ---- places */

/* Until the first job of that client that waits has started. */
static double
own_wait_s(struct daemon *d, const char *client)
{
	for (struct job *job = queue_first(&d->queue); job != NULL; job = queue_next(&d->queue, job)) {
		if (strcmp(job->client, client) == 0 && job->spot.runs)
			return fmax(1, ceil(queue_spot(&d->queue, job).start_s));
	}
	return drain_rate_wait(&d->queue.drain, 1);
}

struct fair_limits
daemon_queue_limits(const struct daemon *d)
{
	const struct conf_queue *c = &d->conf.queue;
	const int cap = (int)(c->max_size * c->client_cap / 100);

	return (struct fair_limits){(int)c->max_size, cap > MIN_CAP ? cap : MIN_CAP,
	    (int)(c->max_size * c->reserved_high / 100), d->load.on ? (int)(c->max_size + 1) / 2 : 0};
}

/* Whether there is a place for one more of that client and class; *victim must go for it, or NULL. */
static bool
find_place(struct daemon *d, const struct job *job, struct job **victim, struct err *e, json_t **data)
{
	const struct fair_limits limits = daemon_queue_limits(d);
	double wait_s;

	switch (queue_admit(&d->queue, &limits, job->client, job->class, victim)) {
	case FAIR_ADMIT:
	case FAIR_DISPLACE:
		return true;
	case FAIR_CLIENT_CAP:
		*data = json_pack("{s:f, s:i}", "retry_after_s", own_wait_s(d, job->client), "client_cap",
		    limits.client_cap);
		err_set(e, ERR_CLIENT_CAP,
		    "You have %d jobs waiting, as many as one client may; wait for one to end.",
		    limits.client_cap);
		return false;
	case FAIR_FULL:
		break;
	}
	wait_s = drain_rate_wait(&d->queue.drain, 1);
	*data = json_pack("{s:f, s:i}", "retry_after_s", wait_s, "max_size", limits.max_size);
	err_set(e, ERR_QUEUE_FULL, "The queue is full with %d jobs; try again after %g seconds.",
	    d->queue.fair.count + d->queue.fair.held, wait_s);
	return false;
}

/* ---- the future */

static void
complain_of_late(const struct job *job, const struct forecast_promise *p, struct err *e, json_t **data)
{
	*data = json_pack(
	    "{s:f, s:f}", "eta_s", p->done_s[FORECAST_LIKELY], "eta_p95_s", p->done_s[FORECAST_SURE]);
	err_set(e, ERR_DEADLINE_UNREACHABLE,
	    "The job would be done in about %.1f s, almost surely not before %.1f s, after its deadline of "
	    "%g s; allow more, or give it a higher priority.",
	    p->done_s[FORECAST_LIKELY], p->done_s[FORECAST_EARLY], job->deadline_s);
}

static void
complain_of_wait(const struct daemon *d, const struct job *job, const struct forecast_promise *p,
    struct err *e, json_t **data)
{
	int before = job->spot.place - 1;
	double early_s = p->start_s[FORECAST_EARLY];
	double wait_s = fmin(drain_rate_wait(&d->queue.drain, before > 0 ? before : 1),
	    fmax(1, ceil(early_s - job->queue_timeout_s)));

	*data = json_pack("{s:f, s:i, s:f}", "retry_after_s", wait_s, "position", job->spot.place, "wait_s",
	    p->start_s[FORECAST_LIKELY]);
	err_set(e, ERR_QUEUE_TIMEOUT,
	    "The job would wait about %.0f s for its turn, and its queue_timeout is %g s; allow more, or try "
	    "again after %g seconds.",
	    p->start_s[FORECAST_LIKELY], job->queue_timeout_s, wait_s);
}

/* What its own wish makes it wait is not waiting in the queue. */
static double
patience_s(const struct job *job)
{
	double early_s = (double)(job->not_before_us - job->submitted_us) * 1e-6;

	return job->queue_timeout_s + (early_s > 0 ? early_s : 0);
}

static enum forecast_verdict
judge(struct daemon *d, struct job *job)
{
	job->promise = daemon_promise(d, job);
	return forecast_judge(&job->promise, job->deadline_s, patience_s(job));
}

/* Whether it will almost surely be late or not run at all; it has its place. What jobs cost must have been
 * seen before anybody is refused for it, and nobody is for a guess; many are let in for one. */
static bool
is_hopeless(struct daemon *d, struct job *job, struct err *e, json_t **data)
{
	enum forecast_verdict verdict;

	if (!daemon_knows_costs(d))
		return false;
	verdict = judge(d, job);
	if (verdict != FORECAST_GOOD && queue_guesses(&d->queue, job)) {
		queue_look(&d->queue);
		verdict = judge(d, job);
	}
	if (verdict == FORECAST_LATE)
		complain_of_late(job, &job->promise, e, data);
	else if (verdict == FORECAST_EXPIRES)
		complain_of_wait(d, job, &job->promise, e, data);
	return verdict != FORECAST_GOOD;
}

/* ---- in */

/* Its place in the queue, if its client may have what it asks for, and it has a future. */
static bool
take_place(struct daemon *d, struct job *job, struct err *e, json_t **data)
{
	bool is_admin = daemon_is_admin(d, job->uid, (gid_t)-1);
	struct job *victim;

	if (!daemon_may_have_class(d, job->client, job->class, is_admin, e) ||
	    !daemon_within_limits(d, job, e, data) || !find_place(d, job, &victim, e, data))
		return false;
	if (!queue_push(&d->queue, job)) {
		err_set(e, ERR_SYSTEM, "out of memory");
		return false;
	}
	if (is_hopeless(d, job, e, data)) {
		queue_remove(&d->queue, job);
		return false;
	}
	if (victim != NULL) {
		journal(EVENT_JOB_DISPLACED, .job = victim, .other_job = job->id);
		job_event(victim, JOB_EVENT_EVICT);
	}
	return true;
}

struct job *
daemon_admit(struct daemon *d, const struct api_submit *p, uid_t uid, pid_t pid, bool force, struct err *e,
    json_t **data)
{
	const uint64_t fingerprint = quarantine_fingerprint(p);
	struct job *job;
	bool probe;

	if (!may_enter(d, p, e, data) || daemon_is_quarantined(d, fingerprint, force, &probe, e, data))
		return NULL;
	job = job_new(d, p, uid, pid);
	if (job == NULL) {
		err_set(e, ERR_SYSTEM, "out of memory");
		return NULL;
	}
	job->number = ++d->last_number;
	job->cost_s = round(daemon_predict_s(d, job) * 1e6) / 1e6; /* its row is written faster so */
	job->fingerprint = fingerprint;
	job->probe = job->alone = probe;
	if (!take_place(d, job, e, data)) {
		daemon_count_refused(d, job->client);
		job_free(&job);
		return NULL;
	}
	if (probe)
		quarantine_probe(&d->quarantine, job->fingerprint);
	TAILQ_INSERT_TAIL(&d->jobs, job, all_link);
	daemon_count_admitted(d, job);
	d->admitted++;
	daemon_save(d, job);
	d->changed = true;
	journal(EVENT_JOB_ACCEPTED, .job = job);
	return job;
}
