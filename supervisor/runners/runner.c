/*
 * A runner's life: its states and the kill escalation, as one table. The clocks of states are in
 * runner_clocks.c, its jobs in runner_jobs.c, what administrators want of it in runner_orders.c, what it says
 * in runner_messages.c, how it ends in runner_death.c, its process in runner_start.c.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "ipc/clock.h"
#include "supervisor/runners/cgroup.h"
#include "supervisor/journal.h"
#include "supervisor/runners/runner_inside.h"

static const char *const event_names[RUNNER_EVENT_COUNT] = {
#define RUNNER_EVENT(name) #name,
    RUNNER_EVENTS(RUNNER_EVENT)
#undef RUNNER_EVENT
};

void
runner_changed(const struct runner *r)
{
	r->world->changed(r->world->arg);
}

/* ---- the escalation: CANCEL, stopsignal, SIGKILL, WEDGED; each rung says so */

/* Since its last job was given to it, or its start. */
static int64_t
busy_us(const struct runner *r)
{
	return clock_now_us() - (r->dispatched_us != 0 ? r->dispatched_us : r->spawned_us);
}

static void
tell_timeout(const struct runner *r, const struct runner_timeout *clock)
{
	journal(EVENT_RUNNER_TIMEOUT, .runner = r, .timeout_kind = clock->kind, .detail = clock->text,
	    .after_us = busy_us(r));
}

static const struct runner_timeout cancel_clock = {
    "cancel", "did not stop its job in time, sending stopsignal"};
static const struct runner_timeout stop_clock = {"stop", "did not end in time after stopsignal"};
static const struct runner_timeout start_clock = {"start", "was not ready in time"};
static const struct runner_timeout hang_clock = {"hang", "showed no sign of life in time"};
const struct runner_timeout runner_timeout_ack = {"hang", "did not acknowledge a job in time"};

static void
do_stopsignal(void *object, void *detail)
{
	struct runner *r = object;

	(void)detail;
	r->end = END_OVERDUE;
	tell_timeout(r, &cancel_clock);
	kill(r->pid, r->conf.stopsignal);
}

/* An administrator's stop, or ours. */
static void
do_stop(void *object, void *detail)
{
	struct runner *r = object;
	struct proto_msg m = {.head.type = PROTO_STOP, .STOP = {0}};

	(void)detail;
	m.head.generation = r->generation;
	runner_send(r, &m, NULL);
	kill(r->pid, r->conf.stopsignal);
}

static void
do_kill(void *object, void *detail)
{
	struct runner *r = object;

	(void)detail;
	journal(EVENT_RUNNER_KILLED, .runner = r, .after_us = busy_us(r));
	cgroup_kill(r->conf.section_name);
	kill(-r->pid, SIGKILL); /* its group: it leads one since it began its session */
	kill(r->pid, SIGKILL);	/* in case it had not yet */
}

static void
do_kill_unstopped(void *object, void *detail)
{
	tell_timeout(object, &stop_clock);
	do_kill(object, detail);
}

/* `detail`: the clock, if it is not the state's own. */
static void
do_kill_hung(void *object, void *detail)
{
	struct runner *r = object;

	tell_timeout(r, detail != NULL ? detail : r->proved ? &hang_clock : &start_clock);
	r->end = END_HUNG;
	do_kill(object, detail);
}

static void
do_kill_liar(void *object, void *detail)
{
	struct runner *r = object;

	r->end = r->untold ? END_UNTOLD : END_LIED;
	do_kill(object, detail);
}

/* What it held goes elsewhere; it may still write into their checkpoints, so those do not count any more. */
static void
do_wedged(void *object, void *detail)
{
	struct runner *r = object;

	(void)detail;
	snprintf(
	    r->last_error, sizeof(r->last_error), "process %d is not gone 10 s after SIGKILL", (int)r->pid);
	journal(EVENT_RUNNER_WEDGED, .runner = r, .detail = r->last_error);
	for (int i = 0; i < RUNNER_MAX_HELD; i++) {
		if (r->held[i].job == NULL || runner_take_result(r, &r->held[i]))
			continue;
		job_drop_checkpoint(r->held[i].job);
		runner_release(&r->held[i], JOB_EVENT_RETRY, NULL);
	}
	memset(r->held, 0, sizeof(r->held));
	runner_changed(r);
}

static void
do_alarm(void *object, void *detail)
{
	struct runner *r = object;

	(void)detail;
	journal(EVENT_RUNNER_STILL_WEDGED, .runner = r, .detail = r->last_error);
}

/* ---- the rest of the actions */

static void
do_spawn(void *object, void *detail)
{
	(void)detail;
	runner_spawn(object);
}

static void
do_ready(void *object, void *detail)
{
	struct runner *r = object;

	(void)detail;
	r->proved = true;
	r->start_failures = 0;
	r->probe_us = FIRST_PROBE_US;
	journal(EVENT_RUNNER_READY, .runner = r, .after_us = clock_now_us() - r->spawned_us);
	runner_changed(r);
}

static void
do_schedule(void *object, void *detail)
{
	struct runner *r = object;

	(void)detail;
	runner_changed(r);
}

/* It holds nothing: the time for a fresh process, if one is due. */
static void
do_idle(void *object, void *detail)
{
	runner_recycle_if_due(object);
	do_schedule(object, detail);
}

static void
do_test(void *object, void *detail)
{
	struct runner *r = object;
	struct proto_msg m = {.head.type = PROTO_CANARY};

	(void)detail;
	r->advanced_us = clock_now_us();
	m.head.generation = r->generation;
	runner_send(r, &m, NULL);
}

static void
do_failed(void *object, void *detail)
{
	struct runner *r = object;

	(void)detail;
	journal(EVENT_RUNNER_FAILED, .runner = r, .limit_us = r->permanent ? -1 : r->probe_us,
	    .detail = r->last_error);
	r->probe_us = 2 * r->probe_us < LAST_PROBE_US ? 2 * r->probe_us : LAST_PROBE_US;
	runner_changed(r);
}

/* ---- the table */

#define IN(state) FSM_BIT(RUNNER_##state)
#define STARTING (IN(SPAWNING) | IN(LOADING) | IN(WARMING))
#define SERVING (IN(IDLE) | IN(TESTING) | IN(BUSY) | IN(CANCELLING))
#define ENDING (IN(STOPPING) | IN(REAPING) | IN(WEDGED))
#define LIVE (STARTING | SERVING | ENDING)
#define RESTING (IN(BACKOFF) | IN(FAILED) | IN(STOPPED))

static const struct fsm_row rows[] = {
    {IN(BACKOFF) | IN(FAILED), RUNNER_EVENT_START, RUNNER_SPAWNING, do_spawn},
    {RESTING, RUNNER_EVENT_REVIVE, RUNNER_BACKOFF, NULL},
    {RESTING, RUNNER_EVENT_STOP, RUNNER_STOPPED, do_schedule},

    {IN(SPAWNING), RUNNER_EVENT_HELLO, RUNNER_LOADING, NULL},
    {IN(LOADING), RUNNER_EVENT_LOADING, RUNNER_LOADING, NULL},
    {IN(LOADING), RUNNER_EVENT_WARMING, RUNNER_WARMING, NULL},
    {IN(WARMING), RUNNER_EVENT_READY, RUNNER_IDLE, do_ready},
    {STARTING, RUNNER_EVENT_START_CLOCK, RUNNER_REAPING, do_kill_hung},

    {IN(IDLE), RUNNER_EVENT_TEST_CLOCK, RUNNER_TESTING, do_test},
    {IN(TESTING), RUNNER_EVENT_TESTED, RUNNER_IDLE, do_idle},
    {IN(IDLE) | IN(BUSY), RUNNER_EVENT_DISPATCH, RUNNER_BUSY, NULL},
    {IN(BUSY), RUNNER_EVENT_ADVANCED, RUNNER_BUSY, NULL},
    {IN(CANCELLING) | IN(STOPPING), RUNNER_EVENT_ADVANCED, FSM_SAME, NULL},
    {IN(BUSY), RUNNER_EVENT_CANCEL, RUNNER_CANCELLING, NULL},
    {IN(CANCELLING), RUNNER_EVENT_CANCEL, FSM_SAME, NULL},
    {IN(CANCELLING), RUNNER_EVENT_LET_GO, RUNNER_BUSY, do_schedule},
    {IN(BUSY) | IN(CANCELLING), RUNNER_EVENT_ALL_OVER, RUNNER_IDLE, do_idle},
    {IN(CANCELLING), RUNNER_EVENT_CANCEL_CLOCK, RUNNER_STOPPING, do_stopsignal},
    {IN(BUSY) | IN(TESTING) | IN(CANCELLING), RUNNER_EVENT_HANG_CLOCK, RUNNER_REAPING, do_kill_hung},
    {IN(STOPPING) | IN(REAPING), RUNNER_EVENT_HANG_CLOCK, FSM_SAME, NULL},

    /* what was on its way when it was told to stop */
    {IN(STOPPING), RUNNER_EVENT_HELLO, FSM_SAME, NULL},
    {IN(STOPPING), RUNNER_EVENT_LOADING, FSM_SAME, NULL},
    {IN(STOPPING), RUNNER_EVENT_WARMING, FSM_SAME, NULL},
    {IN(STOPPING), RUNNER_EVENT_READY, FSM_SAME, NULL},
    {IN(STOPPING), RUNNER_EVENT_TESTED, FSM_SAME, NULL},

    {STARTING | SERVING, RUNNER_EVENT_STOP, RUNNER_STOPPING, do_stop},
    {ENDING, RUNNER_EVENT_STOP, FSM_SAME, NULL},
    {IN(STOPPING), RUNNER_EVENT_STOP_CLOCK, RUNNER_REAPING, do_kill_unstopped},
    {STARTING | SERVING | IN(STOPPING), RUNNER_EVENT_LIE, RUNNER_REAPING, do_kill_liar},
    {STARTING | SERVING | IN(STOPPING), RUNNER_EVENT_GONE, RUNNER_REAPING, NULL},
    {IN(REAPING) | IN(WEDGED), RUNNER_EVENT_GONE, FSM_SAME, NULL},
    {IN(REAPING), RUNNER_EVENT_REAP_CLOCK, RUNNER_WEDGED, do_wedged},
    {IN(WEDGED), RUNNER_EVENT_ALARM_CLOCK, RUNNER_WEDGED, do_alarm},

    {LIVE, RUNNER_EVENT_DIED, RUNNER_BACKOFF, do_schedule},
    {LIVE, RUNNER_EVENT_DIED_FOR_GOOD, RUNNER_FAILED, do_failed},
    {LIVE, RUNNER_EVENT_DIED_STOPPED, RUNNER_STOPPED, do_schedule},
};

static void
moved(void *object, int from, int to, int event)
{
	struct runner *r = object;

	r->world->moved(r->world->arg, (enum runner_event)event);
	if (from != to)
		r->since_us = clock_now_us();
	if (from != to)
		journal(EVENT_RUNNER_MOVED, .runner = r, .state_before = runner_states[from].name,
		    .detail = event_names[event]);
}

static void
refused(void *object, int state, int event)
{
	(void)state;
	journal(EVENT_STATE_REFUSED, .runner = object, .detail = event_names[event]);
}

const struct fsm_kind runner_kind = {
    .what = "runner",
    .states = runner_states,
    .state_count = RUNNER_STATE_COUNT,
    .event_names = event_names,
    .event_count = RUNNER_EVENT_COUNT,
    .rows = rows,
    .row_count = sizeof(rows) / sizeof(rows[0]),
    .arm = runner_arm,
    .moved = moved,
    .refused = refused,
};

/* ---- what its state says */

enum runner_state
runner_state(const struct runner *r)
{
	return (enum runner_state)r->fsm.state;
}

bool
runner_may_serve(const struct runner *r)
{
	return !r->draining && (FSM_BIT(r->fsm.state) & (IN(FAILED) | IN(WEDGED) | IN(STOPPED))) == 0;
}

bool
runner_is_starting(const struct runner *r)
{
	return !r->draining && !r->unwanted &&
	       (r->recycling[0] != '\0' || (FSM_BIT(r->fsm.state) & (IN(BACKOFF) | STARTING)) != 0);
}
