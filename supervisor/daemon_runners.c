/*
 * zitd's side of its runners: what they live in, who hears of them, and the processes that they leave behind.
 */
#include "supervisor/daemon_inside.h"
#include "supervisor/notify.h"
#include "supervisor/runners/strays.h"
#include "supervisor/timer.h"

#define FIRST_SWEEP_US (20 * INT64_C(1000))
#define LAST_SWEEP_US (10 * INT64_C(1000000))
/* That systemd allows until more is done: a runner may be silent for 60 s, take 10 to be reaped, and the next
 * one 72 to be started and 5 to say hello. zitd is to end what hangs, not systemd zitd. */
#define LOADING_US (150 * INT64_C(1000000))

const char *
daemon_runner_name(const struct daemon *d, int index)
{
	return index >= 0 && index < d->runner_count ? runner_conf(d->runners[index])->section_name : NULL;
}

static const char *
name_of(const void *arg, pid_t pid)
{
	const struct daemon *d = arg;

	for (int i = 0; i < d->runner_count; i++) {
		if (pid > 0 && runner_pid(d->runners[i]) == pid)
			return daemon_runner_name(d, i);
	}
	return NULL;
}

/* ---- what they tell */

static void
on_changed(void *arg)
{
	daemon_changed(arg);
}

static void
on_loading(void *arg)
{
	(void)arg;
	notify_extend(LOADING_US);
}

/* A clock that ran out, by its event. */
static enum metrics_timeout
timeout_of(enum runner_event event)
{
	switch (event) {
	case RUNNER_EVENT_START_CLOCK:
		return METRICS_TIMEOUT_START;
	case RUNNER_EVENT_HANG_CLOCK:
		return METRICS_TIMEOUT_HANG;
	case RUNNER_EVENT_CANCEL_CLOCK:
		return METRICS_TIMEOUT_CANCEL;
	case RUNNER_EVENT_STOP_CLOCK:
		return METRICS_TIMEOUT_STOP;
	case RUNNER_EVENT_REAP_CLOCK:
		return METRICS_TIMEOUT_REAP;
	default:
		return METRICS_TIMEOUT_NONE;
	}
}

static void
on_moved(void *arg, enum runner_event event)
{
	struct daemon *d = arg;

	metrics_count_timeout(&d->metrics, timeout_of(event));
}

static void
on_result(void *arg, struct job *job)
{
	daemon_store(arg, job);
}

static struct job *
find_job(void *arg, uint64_t number)
{
	return daemon_find_number(arg, number);
}

/* ---- what they leave behind */

void
daemon_runner_died(void *arg)
{
	struct daemon *d = arg;

	d->sweep_us = FIRST_SWEEP_US;
	timer_arm(d->loop, &d->sweep, d->sweep_us);
}

static bool
is_known_child(void *arg, pid_t pid)
{
	const struct daemon *d = arg;

	return upgrade_is_trial(d, pid) || d->probe.pid == pid || name_of(d, pid) != NULL;
}

/* One that does not go is looked at ever more rarely. */
static void
on_sweep(struct ev_loop *loop, struct ev_timer *w, int events)
{
	struct daemon *d = w->data;

	(void)loop;
	(void)events;
	if (!strays_sweep(is_known_child, d))
		return;
	d->sweep_us = 2 * d->sweep_us < LAST_SWEEP_US ? 2 * d->sweep_us : LAST_SWEEP_US;
	timer_arm(d->loop, &d->sweep, d->sweep_us);
}

void
daemon_set_runner_world(struct daemon *d)
{
	d->runner_world = (struct runner_world){
	    .arg = d,
	    .loop = d->loop,
	    .conf = &d->conf.zitd,
	    .runtime_dir = d->paths.runtime_dir,
	    .program = d->paths.runner,
	    .name_of = name_of,
	    .find_job = find_job,
	    .changed = on_changed,
	    .loading = on_loading,
	    .moved = on_moved,
	    .died = daemon_runner_died,
	    .result = on_result,
	};
	probe_init(&d->probe, d->loop, d, daemon_devices_found, daemon_runner_died);
	ev_init(&d->sweep, on_sweep);
	d->sweep.data = d;
}
