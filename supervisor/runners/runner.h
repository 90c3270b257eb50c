/*
 * A runner: one device's process and its life. The state machine of design.md section 6, the kill escalation,
 * and what a death means for the jobs that were on it.
 */
#ifndef SUPERVISOR_RUNNERS_RUNNER_H
#define SUPERVISOR_RUNNERS_RUNNER_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "ipc/fsm.h"
#include "ipc/shm.h"
#include "supervisor/conf.h"
#include "supervisor/runners/devices.h"

struct ev_loop;
struct ev_timer;
struct handover;
struct job;
struct journal_facts;
struct runner;

enum runner_state {
#define RUNNER_STATE(name, ...) RUNNER_##name,
#include "ipc/states.def"
	RUNNER_STATE_COUNT
};

#define RUNNER_EVENTS(RUNNER_EVENT) \
	RUNNER_EVENT(START) \
	RUNNER_EVENT(HELLO) \
	RUNNER_EVENT(LOADING) /* more bytes are in */ \
	RUNNER_EVENT(WARMING) \
	RUNNER_EVENT(READY) \
	RUNNER_EVENT(TEST_CLOCK) /* idle for long: does it still work? */ \
	RUNNER_EVENT(TESTED) \
	RUNNER_EVENT(DISPATCH) \
	RUNNER_EVENT(ADVANCED) /* a job of its did a step */ \
	RUNNER_EVENT(CANCEL)   /* a job is not its any more, and it has been told */ \
	RUNNER_EVENT(LET_GO)   /* it holds no such job any more, but others */ \
	RUNNER_EVENT(ALL_OVER) /* it holds none at all */ \
	RUNNER_EVENT(STOP) \
	RUNNER_EVENT(LIE)	  /* it broke the protocol */ \
	RUNNER_EVENT(START_CLOCK) /* no hello, no progress in loading, not warm in time */ \
	RUNNER_EVENT(HANG_CLOCK) \
	RUNNER_EVENT(CANCEL_CLOCK) \
	RUNNER_EVENT(STOP_CLOCK) \
	RUNNER_EVENT(REAP_CLOCK) \
	RUNNER_EVENT(ALARM_CLOCK) \
	RUNNER_EVENT(GONE)	    /* dead, and somebody keeps it from being reaped */ \
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

/* What a process of it may end by; the words are labels of metrics. */
#define RUNNER_CAUSES(CAUSE) \
	CAUSE(PLANNED, "planned") \
	CAUSE(OVERDUE, "overdue") /* a job overran and it did not let go: that job has its end already */ \
	CAUSE(DEVICE_MEMORY, "device_memory") /* exit 72 */ \
	CAUSE(HOST_MEMORY, "host_memory")     /* exit 73, or the kernel's choice */ \
	CAUSE(CRASH, "crash")		      /* any other end by itself, a hang, a lie */ \
	CAUSE(START, "start")		      /* before it was ready */ \
	CAUSE(OURS, "zitd")		      /* zitd was short of something and could not talk to it */ \
	CAUSE(WEIGHTS, "weights")	      /* exit 65 after it was ready: the model's files were changed */

enum runner_cause {
#define CAUSE(name, text) CAUSE_##name,
	RUNNER_CAUSES(CAUSE)
#undef CAUSE
	    RUNNER_CAUSE_COUNT
};

/* What runners live in, and who hears of them. It stays the caller's. */
struct runner_world {
	void *arg;
	struct ev_loop *loop;
	const struct conf_zitd *conf;
	const char *runtime_dir; /* where devices are locked */
	const char *program;	 /* the runner's, beside ours */

	/* The name of the runner whose process that is; NULL: none's. */
	const char *(*name_of)(const void *arg, pid_t pid);
	struct job *(*find_job)(void *arg, uint64_t number);

	void (*changed)(void *arg); /* something may be dispatched, or STATUS= is another */
	void (*loading)(void *arg); /* it makes progress in that, or in warming up */
	void (*moved)(void *arg, enum runner_event event); /* to another state, or it stays there */
	void (*died)(void *arg);			   /* it may have left processes behind */
	void (*result)(void *arg, struct job *job);	   /* all pictures are here, to be stored */
};

/* Starts its life at once, or is STOPPED without `autostart`. NULL: no memory. */
struct runner *runner_new(const struct runner_world *world, const struct conf_runner *conf);
void runner_free(struct runner **r); /* it must have no process */
void runner_set_conf(struct runner *r, const struct conf_runner *conf);

const struct conf_runner *runner_conf(const struct runner *r);
/* Of its options that take a fresh process, what the present one has; NULL: there is none. */
const struct conf_runner *runner_started_with(const struct runner *r);
enum runner_state runner_state(const struct runner *r);
bool runner_has_process(const struct runner *r);
pid_t runner_pid(const struct runner *r); /* 0: none */
/* Processes that were started because the one before ended by that. */
int runner_restarts(const struct runner *r, enum runner_cause cause);
const char *runner_cause_name(enum runner_cause cause);
bool runner_has_jobs(const struct runner *r);
int runner_held_count(const struct runner *r); /* jobs that it has */
/* The jobs that it has, one after the other from *at = 0 on; NULL: no more. */
const struct job *runner_next_job(const struct runner *r, int *at);
bool runner_may_serve(const struct runner *r);	 /* ready, or on its way there, and not drained */
bool runner_is_starting(const struct runner *r); /* on its way to ready, or about to be replaced */
bool runner_is_sound(const struct runner *r);	 /* in a legal state, its clock armed */
const struct ev_timer *runner_clock(const struct runner *r); /* its state's */
const char *runner_last_error(const struct runner *r);	     /* "": there was none */

/* Sizes it can draw, in pixels. */
struct runner_limits {
	int default_side, max_side;
	int granule; /* sides are multiples of it */
	int64_t max_pixels;
};

const struct runner_limits *runner_limits(const struct runner *r); /* NULL: it never was ready */

/* Whether it takes this job now: it has room, and nobody who must be alone would have company. */
bool runner_can_take(const struct runner *r, const struct job *job);
/* Keeps a place for the job, which it can take. false: there is no memory for its checkpoint; nothing has
 * changed. */
bool runner_promise(struct runner *r, struct job *job);
void runner_unpromise(struct job *job); /* it does not need that place any more */
/* Whether it keeps a place for a job that wants it to itself. */
bool runner_awaits_loner(const struct runner *r);
/* The job of its that makes way for a high one at the next step; NULL: none has to. A runner must have no
 * room, nobody who waits already, no place promised but to `newcomer` (NULL: nobody yet), and a job of a
 * lower class that never made way before. */
const struct job *runner_victim(const struct runner *r, const struct job *newcomer);
/* Of two victims: the one of the lower class, then the one with more to do, which loses the least by it. */
bool runner_makes_way_before(const struct job *a, const struct job *b);
/* Whether a job that it promised a place can have it now, if another one makes way for it. */
bool runner_can_begin(const struct runner *r, const struct job *job);
/* Gives it the job that it has promised a place and that can begin; if there is no room, its victim makes
 * way. */
void runner_dispatch(struct runner *r, struct job *job);
/* The job is not its any more: cancelled or overdue. It is told to stop, and made to. */
void runner_drop_job(struct runner *r, struct job *job);
/* The job was suspended for long enough: it goes on beside the one that it made way for. */
void runner_end_suspension(struct runner *r, struct job *job);
/* It did not acknowledge the job in time: it hangs, unless it is at work on another one. */
void runner_unanswered(struct runner *r);
/* How long it may take to acknowledge a job. */
int64_t runner_ack_clock_us(const struct runner *r);

/* ---- its CUDA device (runner_device.c) */

/* The one that its next process will see, and no other; NULL: it has none, or it is not known which. */
const char *runner_gpu_uuid(const struct runner *r);
/* What its live process read from the device's sensors within the last ten seconds, a negative number for
 * what cannot be; false: nothing. */
bool runner_readings(const struct runner *r, struct shm_readings *readings);
/* It is not started before it is known which one it has. */
void runner_await_device(struct runner *r);
bool runner_awaits_device(const struct runner *r);
void runner_wish(const struct runner *r, struct device_wish *w);
/* The answer to its wish; `gpu` for CHOICE_GPU. A process on a device that is gone has a successor elsewhere
 * when it holds no job any more; a further runner that gets none ends then. */
void runner_give_device(
    struct runner *r, enum device_choice choice, const struct gpu *gpu, bool present_is_there);
/* Nobody knows which devices there are: what it has stays, and if that is nothing, auto means the CPU. */
void runner_keep_device(struct runner *r);

/* ---- orders of administrators, and of zitd's end */
void runner_start(struct runner *r);   /* from STOPPED, FAILED or BACKOFF; else nothing */
void runner_restart(struct runner *r); /* a fresh process; its jobs go back to the front */
void runner_drain(struct runner *r);   /* takes no new jobs */
void runner_resume(struct runner *r);
/* An end without a successor: at once, or, when `finish`, not before it holds nothing (then it must be asked
 * again). */
void runner_stop(struct runner *r, bool finish);
/* A fresh process for a job that wants one, if it holds nothing. */
void runner_recycle(struct runner *r, const char *why);

/* At the end of a turn: what it was given leaves; one that has nothing to do keeps nothing for it. */
void runner_rest(struct runner *r);

/* What the log says of it (journal.h); strings are the runner's. */
void runner_facts(const struct runner *r, struct journal_facts *facts);
json_t *runner_record(const struct runner *r); /* new reference */

/* ---- from one zitd to the next (runner_handover.c) */

/* What it says waits in the kernel, until it is heard again. */
void runner_set_deaf(struct runner *r, bool deaf);
/* It was told what it has not taken yet. */
bool runner_has_unsent(const struct runner *r);
json_t *runner_hand_over(const struct runner *r, struct handover *h); /* new reference */
/* Its name; NULL: `runner` is not what was handed over, or not as we know it. */
const char *runner_handed_over(const json_t *runner);
/* Into a new one: its process goes on. `elder`: it may be of another build. 0 or -ERR_SYSTEM. */
int runner_take_over(struct runner *r, const json_t *runner, bool elder);
/* Then its jobs, when they are there. */
void runner_take_over_jobs(struct runner *r, const json_t *runner);

extern const struct fsm_kind runner_kind; /* for its test */

#endif
