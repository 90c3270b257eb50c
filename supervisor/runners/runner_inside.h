/*
 * What the files of a runner share: runner.c (states), runner_clocks.c (how long they may last),
 * runner_make.c (the runner as memory), runner_start.c (its process), runner_device.c (for which device),
 * runner_jobs.c (the jobs it holds), runner_preempt.c (one makes way for another), runner_orders.c (what
 * administrators want of it), runner_messages.c (what it says), runner_death.c (how it ends),
 * runner_handover.c (from one zitd to the next). Nobody else includes this.
 */
#ifndef SUPERVISOR_RUNNERS_RUNNER_INSIDE_H
#define SUPERVISOR_RUNNERS_RUNNER_INSIDE_H

#include <ev.h>
#include <sys/types.h>

#include "ipc/channel.h"
#include "ipc/shm.h"
#include "supervisor/runners/devices.h"
#include "supervisor/jobs/job.h"
#include "supervisor/runners/runner.h"
#include "supervisor/runners/runner_log.h"

#define RUNNER_SECOND INT64_C(1000000)
#define FIRST_PROBE_US (300 * RUNNER_SECOND)
#define LAST_PROBE_US (3600 * RUNNER_SECOND)

enum {
	RUNNER_MAX_HELD = 16, /* jobs, those that are only being written as PNG included */
	DEATHS_KEPT = 16,     /* for the restart intensity */
};

/* Why a process ends, as far as it is our doing. */
enum runner_end {
	END_ITSELF,  /* nobody asked it to */
	END_OVERDUE, /* a job of its overran or was cancelled, and it did not let go */
	END_PLANNED, /* restart, stop or recycling */
	END_HUNG,    /* no sign of life in time */
	END_LIED,    /* it broke the protocol */
	END_UNTOLD,  /* zitd itself had no means to send it what it must know */
};

/* A clock that ran out, as the log has it. */
struct runner_timeout {
	const char *kind, *text;
};
extern const struct runner_timeout
    runner_timeout_ack; /* the detail of a HANG_CLOCK that a job's clock caused */

/* A job that it was given. */
struct held {
	struct proto_header head; /* the fence: job, attempt, generation; job 0: this place is free */
	struct job *job;	  /* NULL: not its any more, but it has not said that it let go */
	bool device_over;	  /* no step is to come: its last picture is being decoded, or written */
	bool undelivered;	  /* it is in the post, or the process was gone when it was sent */
	bool waits;		  /* it was told to make way: it is suspended, or will be at the next step */
};

struct runner {
	const struct runner_world *world;
	struct conf_runner conf, started; /* started: as conf was when the process was made */
	struct fsm fsm;
	struct ev_timer timer;

	/* the process */
	pid_t pid; /* 0: none */
	int pidfd;
	struct ev_io death_io, channel_io;
	struct ev_timer reap_poll; /* while it is dead and cannot be reaped */
	struct channel *channel;
	const struct status_page *page;
	int page_fd;
	bool deaf;  /* what it says waits in the kernel */
	bool elder; /* started by a zitd that may have been of another build */
	uint32_t generation;
	int64_t spawned_us;
	int64_t oom_kills; /* of the whole machine when it was spawned */
	uint64_t loaded_bytes;
	bool proved; /* was READY in this life */
	enum runner_end end;
	bool untold;
	int64_t stop_wait_us;
	char fatal_text[SHM_LAST_WORDS]; /* of its FATAL message */
	struct runner_log log;		 /* of this name, over all its processes */

	/* its device */
	struct gpu gpu;		 /* of its next process; uuid "": none, or it is not known */
	char gpu_used[GPU_UUID]; /* of its present process */
	bool on_host;		 /* device = auto, and there is none for it */
	bool awaits_device;	 /* it is not started before that is known */
	bool retired;		 /* it was there for a device that is gone */
	char no_device[80];	 /* why it cannot be started; "": it can */

	/* its jobs */
	struct held held[RUNNER_MAX_HELD];
	struct held *posted[RUNNER_MAX_HELD]; /* given to it in this turn, to be sent in this order */
	int posted_count;
	int promised, promised_loners; /* places kept for jobs whose attempt is being written down */
	int jobs_taken;		       /* by this process */
	int64_t dispatched_us, advanced_us, slowest_step_us;

	/* what it said of itself when it was ready */
	char device[160], model[80];
	char text_encoder[12]; /* where its matrices are; "": a build that did not tell */
	struct runner_limits limits; /* default_side 0: it never was ready */
	uint64_t checkpoint_bytes;
	int spares[RUNNER_MAX_HELD], spare_count; /* memory of that size, in no use */

	/* its deaths */
	int deaths, start_failures;
	enum runner_cause last_cause;
	int restarts[RUNNER_CAUSE_COUNT];
	struct {
		int64_t at_us;
		int weight;	  /* in halves */
	} unplanned[DEATHS_KEPT]; /* as a ring */
	int unplanned_next;
	int64_t delay_us, probe_us;
	bool permanent, unwanted, draining;
	char recycling[80]; /* why this process shall have a successor soon; "": it shall not */
	char last_error[SHM_LAST_WORDS];
	int last_status;  /* of waitpid, of the last end that nobody planned; 0: there was none */
	int64_t since_us; /* in its state */
};

/* ---- runner.c */

void runner_changed(const struct runner *r); /* the world hears it */

/* ---- runner_clocks.c */

extern const struct fsm_state runner_states[RUNNER_STATE_COUNT];
void runner_arm(void *runner, int64_t clock_us); /* its state's clock; <= 0 stops it */
void runner_on_timer(struct ev_loop *loop, struct ev_timer *w, int events);
void runner_rearm(struct runner *r); /* for an idle one the configuration may say otherwise now */
/* When its page says that a part of its work was last done, on our clock; 0: it does not say, or what cannot
 * be. */
int64_t runner_worked_us(const struct runner *r);

/* ---- runner_start.c */

/* BACKOFF and FAILED end: makes the process, or counts a failure. */
void runner_spawn(struct runner *r);
/* Has the loop watch its end, and what it says as far as that is wanted. */
void runner_watch(struct runner *r);
void runner_watch_channel(struct runner *r);
/* Closes what belongs to the process. */
void runner_close(struct runner *r);

/* ---- runner_device.c */

/* What its next process is told to compute on. */
const char *runner_device(const struct runner *r);
/* It has another option `device`: which one that is has to be found first. */
void runner_forget_device(struct runner *r);

/* ---- runner_jobs.c */

/* Sends; a channel that does not take it is a lie. `fds`: NULL when the message carries none. false: it is
 * gone, or was told so. */
bool runner_send(struct runner *r, struct proto_msg *m, const int *fds);
/* Sends the jobs that it was given in this turn, as is done before all else that it is sent. */
void runner_deliver(struct runner *r);
struct held *runner_find_held(struct runner *r, const struct proto_header *head);
/* The place is free again: what that means for the runner's state. The job is somewhere else already. */
void runner_let_go(struct runner *r, struct held *held);
/* Ends the tie of a held job, and fires the event at it. */
void runner_release(struct held *held, enum job_event event, const struct err *e);
/* Of a runner that ends: a job whose pictures are all here is done without its last word; false: they are
 * not. */
bool runner_take_result(struct runner *r, struct held *held);

/* Whether it may get jobs at all: it serves, and no order or recycling is in the way. */
bool runner_is_open(const struct runner *r);
/* Jobs that need the device, without one that waits: one whose PNG is being written does not count. */
int runner_at_work(const struct runner *r);
/* Whether one waits: then the next room is that one's. */
bool runner_waits(const struct runner *r);

/* ---- runner_spares.c */

/* The process is done with that job: what its checkpoint was kept in is for the next one. */
void runner_keep_checkpoint(struct runner *r, struct job *job);
/* Sees that it has memory for its checkpoint; false: there is none. */
bool runner_give_checkpoint(struct runner *r, struct job *job);
void runner_drop_spares(struct runner *r); /* the process has ended */

/* ---- runner_preempt.c */

/* Right before JOB is sent to a runner that counts `newcomer` already: if it is a high one and there is no
 * room for it on the device, tells a lower job to make way. */
void runner_make_way(struct runner *r, const struct job *newcomer);
/* Something has left the device, or has been suspended: one that waits goes on when there is room for it. */
void runner_go_on(struct runner *r);

/* ---- runner_orders.c */

/* Sees whether the process has done enough: then it takes no more jobs, and ends when it holds none. */
void runner_recycle_if_due(struct runner *r);

/* ---- runner_messages.c */

/* Reads and writes what the channel has. */
void runner_talk(struct runner *r, int events);

/* ---- runner_death.c */

/* The pidfd is readable: takes the status, settles the jobs, decides what comes. */
void runner_reap(struct runner *r);
/* There is no process. `counts`: as a death before READY, else it is tried again soon. */
void runner_not_started(struct runner *r, bool counts);
/* How often the machine has killed for want of memory; 0 if it does not say. */
int64_t runner_oom_kills(void);

#endif
