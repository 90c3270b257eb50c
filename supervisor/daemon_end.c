/*
 * How zitd ends: it drains, stops the runners, and lets the answers leave.
 */
#include "supervisor/daemon_inside.h"
#include "supervisor/journal.h"
#include "supervisor/notify.h"
#include "supervisor/timer.h"

enum { FLUSH_S = 2, LAST_WAIT_S = 75 /* more than a result may take to be written */ };

static bool
waits(const struct job *job)
{
	return job_state(job) == JOB_QUEUED || job_state(job) == JOB_HELD;
}

bool
daemon_has_put_off(const struct daemon *d, const struct job *job)
{
	return d->phase != SERVING && job->durable && waits(job);
}

/* Jobs that survive stay in the store; others fail, and leave the queue by that. */
static void
put_off_queue(struct daemon *d)
{
	struct job *job;

	TAILQ_FOREACH(job, &d->jobs, all_link) /* none is freed within this turn */
	{
		if (waits(job))
			daemon_put_off(d, job);
	}
}

/* What stopping may take: each runner's own clocks, then the disk thread's. */
static int64_t
longest_stop_us(const struct daemon *d)
{
	double longest_s = 0;

	for (int i = 0; i < d->runner_count; i++) {
		double wait_s = runner_conf(d->runners[i])->stopwaitsecs;
		longest_s = wait_s > longest_s ? wait_s : longest_s;
	}
	return (int64_t)(longest_s * 1e6) + LAST_WAIT_S * INT64_C(1000000);
}

void
daemon_begin_drain(struct daemon *d)
{
	journal(EVENT_STOPPING, .limit_us = (int64_t)(d->conf.zitd.drain_timeout * 1e6));
	upgrade_abandon(d, "zitd is stopping");
	probe_stop(&d->probe);
	notify_stopping((int64_t)(d->conf.zitd.drain_timeout * 1e6) + longest_stop_us(d));
	d->phase = DRAINING;
	clients_close_listener(d->clients);
	put_off_queue(d);
	d->note_is_due = true;
	timer_arm(d->loop, &d->drain_clock, (int64_t)(d->conf.zitd.drain_timeout * 1e6) + 1);
	d->changed = true;
}

static void
stop_runners(struct daemon *d, bool finish)
{
	for (int i = 0; i < d->runner_count; i++) {
		if (runner_state(d->runners[i]) != RUNNER_STOPPED)
			runner_stop(d->runners[i], finish);
	}
}

void
daemon_begin_stop(struct daemon *d)
{
	if (d->phase >= STOPPING)
		return;
	d->phase = STOPPING;
	stop_runners(d, false);
	timer_arm(d->loop, &d->drain_clock, longest_stop_us(d));
	d->changed = true;
}

static bool
processes_remain(const struct daemon *d)
{
	for (int i = 0; i < d->runner_count; i++) {
		if (runner_has_process(d->runners[i]) && runner_state(d->runners[i]) != RUNNER_WEDGED)
			return true;
	}
	return false;
}

/* One look at the end: runners without a job go first; when all are gone, answers leave; then the loop ends.
 */
void
daemon_advance_end(struct daemon *d)
{
	if (d->phase == SERVING)
		return;
	if (d->phase == DRAINING)
		stop_runners(d, true);
	if (processes_remain(d) || disk_pending(d->disk) > 0 || !daemon_is_saved(d))
		return;
	if (d->phase != FLUSHING) {
		d->phase = FLUSHING;
		timer_arm(d->loop, &d->drain_clock, FLUSH_S * INT64_C(1000000));
	}
	if (clients_are_flushed(d->clients))
		ev_break(d->loop, EVBREAK_ALL);
}

void
daemon_on_drain_clock(struct ev_loop *loop, struct ev_timer *w, int events)
{
	struct daemon *d = w->data;

	(void)events;
	if (d->phase == STOPPING)
		journal(EVENT_STOP_INCOMPLETE);
	if (d->phase >= STOPPING) { /* FLUSHING: somebody does not read. They had their time */
		ev_break(loop, EVBREAK_ALL);
		return;
	}
	journal(EVENT_STOP_HURRIED, .limit_us = (int64_t)(d->conf.zitd.drain_timeout * 1e6));
	daemon_begin_stop(d);
}
