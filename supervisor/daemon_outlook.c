/*
 * When jobs will be done: the queue played through (plan.h) on the runners that serve, with what jobs are
 * predicted to cost there (cost.h), and what experience adds to that (forecast.h).
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "supervisor/calendar.h"
#include "supervisor/daemon_inside.h"
#include "supervisor/journal.h"
#include "supervisor/timer.h"

#define LOAD_CLOCK_US INT64_C(1000000)
#define DEFAULT_SIDE 1024.0 /* before a runner has said its model's */

/* ---- what jobs cost */

static struct cost_work
work_of(const struct daemon *d, const struct job *job, int device)
{
	const struct runner_limits *l = runner_limits(d->runners[device]);
	double side = l != NULL ? l->default_side : DEFAULT_SIDE;
	double width = job->width > 0 ? job->width : side, height = job->height > 0 ? job->height : side;

	return (struct cost_work){width * height * 1e-6, job->steps, job->count};
}

static double
cost_on(void *arg, const struct job *job, int device, double *variance)
{
	const struct daemon *d = arg;
	const struct cost_work work = work_of(d, job, device);

	return cost_predict(&d->costs[device], &work, variance);
}

double
daemon_predict_s(const struct daemon *d, const struct job *job)
{
	double sum = 0, variance;
	int count = 0;

	for (int i = 0; i < d->runner_count; i++) {
		if (!runner_may_serve(d->runners[i]))
			continue;
		sum += cost_on((void *)d, job, i, &variance);
		count++;
	}
	return count > 0 ? sum / count : cost_on((void *)d, job, 0, &variance);
}

bool
daemon_knows_costs(const struct daemon *d)
{
	for (int i = 0; i < d->runner_count; i++) {
		if (d->costs[i].samples > 0)
			return true;
	}
	return false;
}

void
daemon_learn(struct daemon *d, const struct job *job)
{
	if (job->attempt != 1 || job->device < 0)
		return; /* a part of it may have come from a checkpoint */
	if (job->promise.done_s[FORECAST_SURE] > 0)
		forecast_learn(&d->forecast, (int)job->class, &job->promise,
		    (double)(job->ended_us - job->submitted_us) * 1e-6);
	const struct cost_work work = work_of(d, job, job->device);
	cost_learn(&d->costs[job->device], &work, job_attempt_s(job));
}

/* ---- the devices as they are */

static double
left_s(const struct daemon *d, const struct job *job, int device, double *variance)
{
	double predicted_s = cost_on((void *)d, job, device, variance);

	return cost_left(predicted_s, *variance, job_attempt_s(job), variance);
}

static void
fill_line(const struct daemon *d, int device, struct plan_line *line)
{
	const struct job *job, *victim = runner_victim(d->runners[device], NULL);
	double variance;
	int at = 0, held = 0;

	*line = (struct plan_line){.number = device};
	if (victim != NULL)
		line->yields_s = left_s(d, victim, device, &variance);
	while ((job = runner_next_job(d->runners[device], &at)) != NULL) {
		line->free_s += left_s(d, job, device, &variance);
		line->variance += variance;
		if (held < PLAN_HELD)
			line->running[held++] = job->client;
	}
	if (held < PLAN_HELD)
		line->running[held] = NULL;
}

static int
lines_now(void *arg, struct plan_line lines[PLAN_LINES])
{
	const struct daemon *d = arg;
	int count = 0;

	for (int i = 0; i < d->runner_count; i++) {
		if (runner_may_serve(d->runners[i]))
			fill_line(d, i, &lines[count++]);
	}
	return count;
}

/* ---- what holds jobs back */

/* The local clock, for windows; of no use for a class that has none. */
static struct gate_clock
clock_for(const struct daemon *d, enum job_class class)
{
	const struct calendar *c;
	double wall_s;

	if (!gate_has_window(&d->gate, (int)class))
		return (struct gate_clock){.change_s = INFINITY};
	wall_s = (double)clock_wall_us() * 1e-6;
	c = calendar_at(wall_s);
	return (struct gate_clock){c->day_s + wall_s - c->from_s, c->change_s - wall_s, c->shift_s};
}

static bool
may_start(void *arg, const struct job *job, double at_s, double *again_s)
{
	const struct daemon *d = arg;
	const struct gate_clock clock = clock_for(d, job->class);
	double early_s = job->not_before_us > 0 ? (double)(job->not_before_us - clock_now_us()) * 1e-6 : 0;
	enum gate_reason reason;

	*again_s = early_s;
	if (early_s > at_s)
		return false;
	reason = gate_check(&d->gate, (int)job->class, job->client, &clock, at_s);
	*again_s =
	    reason == GATE_WINDOW ? at_s + gate_opens_in(&d->gate, (int)job->class, &clock, at_s) : INFINITY;
	return reason == GATE_OPEN;
}

const struct queue_world daemon_queue_world = {NULL, lines_now, cost_on, may_start};

/* In words, what keeps it from being started though it were its turn; "" when nothing does. */
static void
tell_held_back(const struct daemon *d, const struct job *job, char *out, size_t size)
{
	const struct fair_client *c = job->turn.client;
	double early_s = (double)(job->not_before_us - clock_now_us()) * 1e-6;
	const struct gate_clock clock = clock_for(d, job->class);
	double opens_s = gate_opens_in(&d->gate, (int)job->class, &clock, 0);

	*out = '\0';
	if (job_state(job) == JOB_HELD)
		snprintf(out, size, "held");
	else if (!job->in_queue)
		return;
	else if (early_s > 0)
		snprintf(out, size, "not before %.0f s from now", ceil(early_s));
	else if (d->gate.all)
		snprintf(out, size, "everything is paused");
	else if (d->gate.classes[job->class])
		snprintf(out, size, "class %s is paused", job_class_name(job->class));
	else if (gate_check(&d->gate, (int)job->class, job->client, &clock, 0) == GATE_CLIENT_PAUSED)
		snprintf(out, size, "client %.40s is paused", job->client);
	else if (opens_s > 0)
		snprintf(out, size, "class %s starts again in %.0f s", job_class_name(job->class), opens_s);
	else if (c != NULL && c->max_running > 0 && c->running >= c->max_running)
		snprintf(out, size, "its client has %d running, as many as it may", c->running);
}

bool
daemon_is_held_back(const struct daemon *d, const struct job *job)
{
	char text[64];

	tell_held_back(d, job, text, sizeof(text));
	return text[0] != '\0';
}

/* Likewise, when it is no order that keeps it. */
static void
tell_obstacle(const struct daemon *d, const struct job *job, char *out, size_t size)
{
	if (job_state(job) == JOB_SUSPENDED)
		snprintf(out, size, "made way for a high job");
	else if (!job->in_queue)
		return;
	else if (job->durable && d->store_error != 0)
		snprintf(out, size, "the state directory takes no writes");
	else if (daemon_serving_runners(d) == 0)
		snprintf(out, size, "no runner can take jobs");
	else if (job->alone)
		snprintf(out, size, "it gets a runner to itself, and none is empty");
}

/* ---- outlooks */

struct forecast_promise
daemon_promise(struct daemon *d, const struct job *job)
{
	const struct plan_spot spot = queue_rough_spot(&d->queue, job);

	return forecast_make(&d->forecast, (int)job->class, &spot);
}

/* Of the runner that has it, or keeps a place for it; -1: none. */
static int
device_of(const struct daemon *d, const struct job *job)
{
	const struct runner *r = job->runner != NULL ? job->runner : job->promised;

	for (int i = 0; i < d->runner_count && r != NULL; i++) {
		if (d->runners[i] == r)
			return i;
	}
	return -1;
}

/* Until one of those that it made way for has ended, and it goes on. */
static double
resumes_s(const struct daemon *d, const struct job *suspended, int device, double *variance)
{
	const struct job *job;
	double first_s = INFINITY, own;
	int at = 0;

	*variance = 0;
	while ((job = runner_next_job(d->runners[device], &at)) != NULL) {
		double s = job != suspended ? left_s(d, job, device, &own) : INFINITY;
		if (s < first_s) {
			first_s = s;
			*variance = own;
		}
	}
	return isinf(first_s) ? 0 : first_s;
}

static void
look_at_running(const struct daemon *d, const struct job *job, int device, struct outlook *o)
{
	double variance, before = 0;

	o->start_s = job_state(job) == JOB_SUSPENDED ? resumes_s(d, job, device, &before) : 0;
	o->eta_s = o->start_s + left_s(d, job, device, &variance);
	o->eta_p95_s = o->eta_s + 1.645 * sqrt(variance + before);
}

struct outlook
daemon_outlook(struct daemon *d, const struct job *job)
{
	struct outlook o = {.eta_s = -1, .eta_p95_s = -1, .start_s = -1};
	const struct plan_spot spot = queue_spot(&d->queue, job);
	const int device = device_of(d, job);
	struct forecast_promise p;

	o.position = spot.place;
	tell_held_back(d, job, o.held_back, sizeof(o.held_back));
	if (o.held_back[0] == '\0')
		tell_obstacle(d, job, o.held_back, sizeof(o.held_back));
	if (device >= 0)
		look_at_running(d, job, device, &o);
	if (!spot.runs)
		return o;
	p = forecast_make(&d->forecast, (int)job->class, &spot);
	o.start_s = p.start_s[FORECAST_LIKELY];
	o.eta_s = p.done_s[FORECAST_LIKELY];
	o.eta_p95_s = p.done_s[FORECAST_SURE];
	return o;
}

/* ---- when the queue is long */

static int
by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* What 95 % of the waiting normal jobs will not wait longer than. */
static double
normal_wait_s(struct daemon *d)
{
	int room = queue_class_length(&d->queue, CLASS_NORMAL), count = 0;
	double *waits = room > 0 ? malloc((size_t)room * sizeof(double)) : NULL, wait_s = 0;
	const int64_t now_us = clock_now_us();

	for (struct job *job = queue_first(&d->queue); waits != NULL && job != NULL;
	     job = queue_next(&d->queue, job)) {
		if (job->class == CLASS_NORMAL && job->spot.runs && count < room)
			waits[count++] = job->spot.start_s + (double)(now_us - job->queued_us) * 1e-6;
	}
	if (count > 0) {
		qsort(waits, (size_t)count, sizeof(double), by_value);
		wait_s = waits[(int)(0.95 * (count - 1) + 0.5)];
	}
	free(waits);
	return wait_s;
}

void
daemon_watch_load(struct daemon *d)
{
	bool adapts = strcmp(d->conf.queue.adapt, "true") == 0, was_on = d->load.on;
	double wait_s = adapts ? normal_wait_s(d) : 0;

	if (!adapts)
		d->load = (struct load){0};
	else
		load_update(&d->load, (double)clock_now_us() * 1e-6, wait_s);
	if (d->load.on != was_on) {
		journal(d->load.on ? EVENT_LOW_GIVES_WAY : EVENT_LOW_IS_BACK,
		    .after_us = (int64_t)(wait_s * 1e6));
		daemon_set_shares(d);
		d->changed = true;
	}
	if (queue_length(&d->queue) > 0 || d->load.on)
		timer_arm(d->loop, &d->load_clock, LOAD_CLOCK_US);
}
