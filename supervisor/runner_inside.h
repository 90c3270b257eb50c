/*
 * What the three files of a runner share: runner.c (life), runner_messages.c (what it says), runner_death.c
 * (how it ends). Nobody else includes this.
 */
#ifndef SUPERVISOR_RUNNER_INSIDE_H
#define SUPERVISOR_RUNNER_INSIDE_H

#include <ev.h>
#include <sys/types.h>

#include "ipc/channel.h"
#include "ipc/shm.h"
#include "supervisor/job.h"
#include "supervisor/runner.h"

#define FIRST_PROBE_US (300 * INT64_C(1000000))
#define LAST_PROBE_US (3600 * INT64_C(1000000))

enum { INTENSITY = 5 }; /* unplanned deaths within 10 minutes that end the trying */

/* Why a process ends, as far as it is our doing. */
enum runner_end {
	END_ITSELF,  /* nobody asked it to */
	END_TIMEOUT, /* a job of its overran or was cancelled, and it did not let go */
	END_PLANNED, /* restart or stop */
	END_HUNG,    /* no sign of life in time */
	END_LIED,    /* it broke the protocol */
};

struct runner {
	struct daemon *daemon;
	struct conf_runner conf;
	struct fsm fsm;
	struct ev_timer timer;

	/* the process */
	pid_t pid; /* 0: none */
	int pidfd;
	struct ev_io death_io, channel_io;
	struct channel *channel;
	const struct status_page *page;
	uint32_t generation;
	int64_t spawned_us;
	uint64_t loaded_bytes;
	bool proved; /* was READY in this life */
	enum runner_end end;
	int64_t stop_wait_us;
	char fatal_text[SHM_LAST_WORDS]; /* of its FATAL message */

	/* its job */
	struct job *job;	     /* NULL: none, or one that is not its any more */
	struct proto_header current; /* what it was given last */
	int64_t dispatched_us, advanced_us, slowest_step_us;

	/* what it said of itself when it was ready */
	char device[160], model[80];
	int default_side, max_side; /* 0: never was ready */
	int64_t max_pixels;

	/* its deaths */
	int deaths, start_failures;
	int64_t death_times_us[INTENSITY]; /* of unplanned ones, as a ring */
	int death_index;
	int64_t delay_us, probe_us;
	bool permanent, unwanted;
	char last_error[SHM_LAST_WORDS];
};

/* Sends; a channel that does not take it is a lie. */
void runner_send(struct runner *r, struct proto_msg *m);
/* Reads and writes what the channel has. */
void runner_talk(struct runner *r, int events);
/* The pidfd is readable: takes the status, settles the job, decides what comes. */
void runner_reap(struct runner *r);
/* There is no process: counts as a death before READY. */
void runner_not_started(struct runner *r, int error);
/* Ends the tie to its job, if there is one, and fires the event at it. */
void runner_release_job(struct runner *r, enum job_event event, const struct err *e);
/* Closes what belongs to the process. */
void runner_close(struct runner *r);

#endif
