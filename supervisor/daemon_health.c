/*
 * Whether all is well, and what systemd is told of it: ready, STATUS, and the watchdog's pings.
 *
 * A sick runner is a legal state, whatever ails its device: the pings go on. They stay away while the loop
 * lags, a timer is overdue or the disk is stuck, for as long as that lasts; what can never be true again is
 * told at once.
 */
#include <stdio.h>
#include <string.h>

#include "ipc/clock.h"
#include "ipc/utf8.h"
#include "supervisor/daemon_inside.h"
#include "supervisor/journal.h"
#include "supervisor/notify.h"
#include "supervisor/timer.h"

#define MAX_LAG_US INT64_C(1000000)
#define LOOK_AGAIN_S 1.0 /* when a ping stayed away, or sooner if pings are due more often */

/* ---- in a line */

static int
ready_runners(const struct daemon *d)
{
	int ready = 0;

	for (int i = 0; i < d->runner_count; i++) {
		enum runner_state state = runner_state(d->runners[i]);
		ready += state == RUNNER_IDLE || state == RUNNER_TESTING || state == RUNNER_BUSY ||
			 state == RUNNER_CANCELLING;
	}
	return ready;
}

const char *
daemon_phase_name(const struct daemon *d)
{
	int ready = ready_runners(d);

	if (d->phase != SERVING)
		return "draining";
	if (ready == d->runner_count)
		return "ready";
	return ready > 0 ? "degraded" : daemon_serving_runners(d) > 0 ? "starting" : "failed";
}

/* The first runner that is out of service, and why; "" when none is. */
static void
describe_trouble(const struct daemon *d, char *text, size_t size)
{
	text[0] = '\0';
	for (int i = 0; i < d->runner_count; i++) {
		const struct runner *r = d->runners[i];
		if (runner_state(r) == RUNNER_FAILED || runner_state(r) == RUNNER_WEDGED) {
			snprintf(
			    text, size, "; %s: %.120s", runner_conf(r)->section_name, runner_last_error(r));
			return;
		}
	}
}

void
daemon_describe(const void *daemon, char *text, size_t size)
{
	const struct daemon *d = daemon;
	int queued = queue_length(&d->queue);
	char wait[32] = "", trouble[200], disk[120] = "";

	if (queued > 0 && d->load.wait_s > 0)
		snprintf(wait, sizeof(wait), ", p95 %.1f s", d->load.wait_s);
	describe_trouble(d, trouble, sizeof(trouble));
	if (d->store_error != 0)
		snprintf(disk, sizeof(disk), "; no new jobs: the state directory takes no writes: %s",
		    strerror(d->store_error));
	snprintf(text, size, "%s: %d/%d runners ready, %d queued (h%d n%d l%d)%s%s%s", daemon_phase_name(d),
	    ready_runners(d), d->runner_count, queued, queue_class_length(&d->queue, CLASS_HIGH),
	    queue_class_length(&d->queue, CLASS_NORMAL), queue_class_length(&d->queue, CLASS_LOW), wait, disk,
	    trouble);
	utf8_make_line(text);
}

/* None is ready nor on its way there: systemctl start shall not wait for what does not come. */
static bool
nobody_is_coming(const struct daemon *d)
{
	for (int i = 0; i < d->runner_count; i++) {
		enum runner_state state = runner_state(d->runners[i]);
		if (state != RUNNER_FAILED && state != RUNNER_STOPPED && state != RUNNER_WEDGED)
			return false;
	}
	return true;
}

static void
become_ready(struct daemon *d)
{
	if (d->was_ready || d->phase != SERVING || (ready_runners(d) == 0 && !nobody_is_coming(d)))
		return;
	d->was_ready = true;
	journal(EVENT_READY, .count = ready_runners(d), .total = d->runner_count);
}

void
daemon_tell_status(struct daemon *d)
{
	become_ready(d);
	if (d->was_ready)
		notify_ready();
	else
		notify_status();
}

/* ---- what must hold before a ping */

struct look {
	struct daemon *d;
	int64_t now_us, late_us; /* late: how much after its time the look itself comes */
};

/* The loop's time between waking and here, and the watchdog's own delay: it is a timer like all others. */
static bool
loop_is_in_time(const struct look *l)
{
	return l->now_us - l->d->turn_us < MAX_LAG_US && l->late_us < MAX_LAG_US;
}

static bool
is_overdue(const struct look *l, const struct ev_timer *timer)
{
	int64_t end_us = timer_end_us(l->d->loop, timer);

	return end_us != 0 && end_us < l->now_us - MAX_LAG_US;
}

static bool
no_timer_is_overdue(const struct look *l)
{
	const struct daemon *d = l->d;
	const struct ev_timer *const own[] = {&d->housekeeping, &d->drain_clock, &d->sched_again, &d->sweep,
	    &d->leisure, &d->group.rest, &d->store_retry, &d->load_clock, &d->probe.clock};
	const struct job *job;

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		if (is_overdue(l, own[i]))
			return false;
	}
	for (int i = 0; i < d->runner_count; i++) {
		if (is_overdue(l, runner_clock(d->runners[i])))
			return false;
	}
	TAILQ_FOREACH(job, &d->jobs, all_link)
	{
		if (is_overdue(l, &job->timer))
			return false;
	}
	return true;
}

/* Every job that was admitted is somewhere, once. */
static bool
jobs_are_conserved(const struct look *l)
{
	long long open = 0;
	const struct job *job;

	TAILQ_FOREACH(job, &l->d->jobs, all_link)
	open += !job_is_final(job);
	return l->d->admitted == l->d->ended + open;
}

static bool
runners_are_sound(const struct look *l)
{
	for (int i = 0; i < l->d->runner_count; i++) {
		if (!runner_is_sound(l->d->runners[i]))
			return false;
	}
	return true;
}

static bool
disk_works(const struct look *l)
{
	return disk_is_alive(l->d->disk);
}

static const struct condition {
	bool (*holds)(const struct look *l);
	bool passes; /* it may hold again by itself */
	const char *otherwise;
} conditions[] = {
    {loop_is_in_time, true, "the loop lags by over a second"},
    {no_timer_is_overdue, true, "a timer is overdue by over a second"},
    {disk_works, true, "the disk thread has finished nothing for a minute"},
    {jobs_are_conserved, false, "the count of jobs is wrong"},
    {runners_are_sound, false, "a runner waits for somebody without a clock"},
};

/* The first that does not hold; NULL: all is well. */
static const struct condition *
find_fault(const struct look *l)
{
	for (size_t i = 0; i < sizeof(conditions) / sizeof(conditions[0]); i++) {
		if (!conditions[i].holds(l))
			return &conditions[i];
	}
	return NULL;
}

static void
complain(struct daemon *d, const struct condition *fault)
{
	if (d->health.fault != fault->otherwise)
		journal(EVENT_WATCHDOG_LATE, .detail = fault->otherwise);
	d->health.fault = fault->otherwise;
	if (!fault->passes)
		notify_trigger();
}

static void
on_watchdog(struct ev_loop *loop, struct ev_timer *w, int events)
{
	struct daemon *d = w->data;
	struct health *h = &d->health;
	const struct look l = {d, clock_now_us(), clock_now_us() - h->due_us};
	const struct condition *fault = find_fault(&l);
	double next_s = h->period_s;

	(void)events;
	if (fault != NULL) {
		complain(d, fault);
		next_s = next_s < LOOK_AGAIN_S ? next_s : LOOK_AGAIN_S;
	} else {
		notify_watchdog();
		h->fault = NULL;
	}
	h->due_us = l.now_us + (int64_t)(next_s * 1e6);
	w->repeat = next_s;
	ev_timer_again(loop, w);
}

void
daemon_start_watchdog(struct daemon *d)
{
	struct health *h = &d->health;

	h->period_s = (double)notify_watchdog_period_us() * 1e-6;
	ev_timer_init(&h->watchdog, on_watchdog, h->period_s, h->period_s);
	h->watchdog.data = d;
	if (h->period_s <= 0)
		return;
	h->due_us = clock_now_us() + (int64_t)(h->period_s * 1e6);
	ev_timer_start(d->loop, &h->watchdog);
}

void
daemon_stop_watchdog(struct daemon *d)
{
	ev_timer_stop(d->loop, &d->health.watchdog);
}
