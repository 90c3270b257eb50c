/*
 * A runner: one device's process and its life. The state machine of design.md section 6, the kill escalation,
 * and what a death means for the job that was on it.
 */
#ifndef SUPERVISOR_RUNNER_H
#define SUPERVISOR_RUNNER_H

#include <jansson.h>
#include <stdbool.h>

#include "ipc/fsm.h"
#include "supervisor/conf.h"

struct daemon;
struct job;
struct runner;

#define RUNNER_STATES(RUNNER_STATE) \
	RUNNER_STATE(BACKOFF, "backoff") \
	RUNNER_STATE(SPAWNING, "spawning") \
	RUNNER_STATE(LOADING, "loading") \
	RUNNER_STATE(WARMING, "warming") \
	RUNNER_STATE(IDLE, "idle") \
	RUNNER_STATE(BUSY, "busy") \
	RUNNER_STATE(CANCELLING, "cancelling") \
	RUNNER_STATE(STOPPING, "stopping") \
	RUNNER_STATE(REAPING, "reaping") \
	RUNNER_STATE(FAILED, "failed") \
	RUNNER_STATE(WEDGED, "wedged") \
	RUNNER_STATE(STOPPED, "stopped")

enum runner_state {
#define RUNNER_STATE(name, text) RUNNER_##name,
	RUNNER_STATES(RUNNER_STATE)
#undef RUNNER_STATE
	    RUNNER_STATE_COUNT
};

#define RUNNER_EVENTS(RUNNER_EVENT) \
	RUNNER_EVENT(START) \
	RUNNER_EVENT(HELLO) \
	RUNNER_EVENT(LOADING) /* more bytes are in */ \
	RUNNER_EVENT(WARMING) \
	RUNNER_EVENT(READY) \
	RUNNER_EVENT(DISPATCH) \
	RUNNER_EVENT(ADVANCED) /* its job did a step */ \
	RUNNER_EVENT(JOB_OVER) \
	RUNNER_EVENT(CANCEL) \
	RUNNER_EVENT(STOP) \
	RUNNER_EVENT(LIE)	  /* it broke the protocol */ \
	RUNNER_EVENT(START_CLOCK) /* no hello, no progress in loading, not warm in time */ \
	RUNNER_EVENT(HANG_CLOCK) \
	RUNNER_EVENT(CANCEL_CLOCK) \
	RUNNER_EVENT(STOP_CLOCK) \
	RUNNER_EVENT(REAP_CLOCK) \
	RUNNER_EVENT(ALARM_CLOCK) \
	RUNNER_EVENT(DIED)	    /* reaped, to be respawned */ \
	RUNNER_EVENT(DIED_FOR_GOOD) /* reaped once too often, or for a reason that stays */ \
	RUNNER_EVENT(DIED_STOPPED)  /* reaped, and not wanted any more */ \
	RUNNER_EVENT(REVIVE)

enum runner_event {
#define RUNNER_EVENT(name) RUNNER_EVENT_##name,
	RUNNER_EVENTS(RUNNER_EVENT)
#undef RUNNER_EVENT
	    RUNNER_EVENT_COUNT
};

/* Starts its life at once. NULL: no memory. */
struct runner *runner_new(struct daemon *d, const struct conf_runner *conf);
void runner_free(struct runner **r); /* it must have no process */
void runner_set_conf(struct runner *r, const struct conf_runner *conf);

const struct conf_runner *runner_conf(const struct runner *r);
enum runner_state runner_state(const struct runner *r);
bool runner_has_process(const struct runner *r);
bool runner_may_serve(const struct runner *r); /* ready, or on its way there */
bool runner_is_sound(const struct runner *r);  /* in a legal state, its clock armed */

/* Sizes it can draw, once it was ready; false before. */
bool runner_limits(const struct runner *r, int *default_side, int *max_side, int64_t *max_pixels);

/* IDLE takes the job and becomes BUSY. */
void runner_dispatch(struct runner *r, struct job *job);
/* The job is not its any more: cancelled or overdue. It is told to stop, and made to. */
void runner_drop_job(struct runner *r);

/* A fresh process: the old one is stopped first; its job goes back to the front. */
void runner_restart(struct runner *r);
/* An end: with its job when `finish`, else at once. No respawn. */
void runner_stop(struct runner *r, bool finish);

json_t *runner_record(const struct runner *r); /* new reference */

extern const struct fsm_kind runner_kind; /* for its test */

#endif
