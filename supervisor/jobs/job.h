/*
 * A job: what was asked for, where it stands, and the one final record it ends with. The state machine of
 * design.md section 6; the state is written by the engine only.
 *
 * A job ends for its client at the moment its outcome is known. If a runner still works on it then, that is
 * the runner's matter (its state CANCELLING): whatever it still says about the job is fenced off.
 */
#ifndef SUPERVISOR_JOBS_JOB_H
#define SUPERVISOR_JOBS_JOB_H

#include <ev.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "ipc/api.h"
#include "ipc/err.h"
#include "ipc/fsm.h"
#include "ipc/group.h"
#include "ipc/proto.h"
#include "ipc/shm.h"
#include "supervisor/scheduling/fair.h"
#include "supervisor/scheduling/forecast.h"
#include "supervisor/id.h"
#include "supervisor/store/store.h"

struct conf_queue;
struct daemon;
struct runner;

enum job_class { CLASS_HIGH, CLASS_NORMAL, CLASS_LOW, CLASS_COUNT };

enum job_state {
#define JOB_STATE(name, ...) JOB_##name,
#include "ipc/states.def"
	JOB_STATE_COUNT,
	JOB_FIRST_FINAL = JOB_DONE,
};

#define JOB_EVENTS(JOB_EVENT) \
	JOB_EVENT(CLAIMED) /* a runner has a place for it; the attempt is being written down */ \
	JOB_EVENT(PICKED)  /* it is, and the runner takes the job */ \
	JOB_EVENT(HOLD)	   /* somebody wants it to wait */ \
	JOB_EVENT(RELEASE) \
	JOB_EVENT(ACKNOWLEDGED) \
	JOB_EVENT(ADVANCED)  /* a step or a stage */ \
	JOB_EVENT(SUSPENDED) /* it made way for another, and stays where it is on the device */ \
	JOB_EVENT(RESUMED) \
	JOB_EVENT(RESULT)  /* all pictures are here */ \
	JOB_EVENT(WRITTEN) /* and on disk */ \
	JOB_EVENT(FAULT)   /* an error that the job owns */ \
	JOB_EVENT(CANCEL) \
	JOB_EVENT(EVICT) /* its place is another's now */ \
	JOB_EVENT(QUEUE_CLOCK) \
	JOB_EVENT(ACK_CLOCK) \
	JOB_EVENT(EXEC_CLOCK) \
	JOB_EVENT(SUSPENSION_CLOCK) \
	JOB_EVENT(WRITE_CLOCK) \
	JOB_EVENT(RETRY)   /* its runner died, once more is allowed */ \
	JOB_EVENT(GIVE_UP) /* its runner died, and it is to blame */

enum job_event {
#define JOB_EVENT(name) JOB_EVENT_##name,
	JOB_EVENTS(JOB_EVENT)
#undef JOB_EVENT
	    JOB_EVENT_COUNT
};

enum { JOB_MAX_PICTURES = 16, JOB_MAX_WARNINGS = 4 };

struct picture {
	int fd; /* the sealed memfd until it is on disk and delivered; else -1 */
	uint64_t bytes, seed;
	char name[64]; /* file in the results directory; "" before it is written */
};

struct waiter;
TAILQ_HEAD(waiter_line, waiter);

struct job {
	struct fair_item turn; /* queue.c's, as are these: */
	bool in_queue;
	int place;		    /* in the order that was looked at last */
	struct plan_spot spot;	    /* likewise when it starts and is done */
	double charged_s;	    /* device seconds that its client was charged for the present attempt */
	TAILQ_ENTRY(job) all_link;  /* of all that are in memory, oldest first */
	struct waiter_line waiters; /* methods/waiters.c's: who waits for it */
	struct daemon *daemon;
	uint64_t number; /* for runners and the store; never used again */
	char id[ID_SIZE];

	/* what the store has of it: daemon_store.c's */
	TAILQ_ENTRY(job) unsaved_link;
	bool unsaved;			  /* waits for the next transaction */
	int in_batches;			  /* transactions under way, or just over, that have it: 0, 1 or 2 */
	int64_t revision, saved_revision; /* of what is to be written, and of what is; 0: nothing yet */
	enum job_state told_state;	  /* of its last event; JOB_STATE_COUNT: there was none */
	bool durable;			  /* survives a restart */
	bool refused;			  /* it could not be written: it never was accepted */

	/* what was asked for */
	char *prompt, *negative_prompt;
	int asked_width, asked_height, asked_steps; /* 0: not given */
	int width, height;			    /* 0: the model's own, resolved when it is dispatched */
	int steps, count;
	uint64_t seed;
	bool truncate, keep;   /* keep: goes on when its client goes away */
	char key[STORE_KEY];   /* of idempotency, with its client; "": none */
	uint64_t request_hash; /* of what was asked for, if there is a key */
	enum job_class class;
	uid_t uid;
	pid_t pid;				/* of the client */
	char client[FAIR_KEY];			/* whose share of the devices it uses */
	char group[GROUP_SIZE];			/* group.h; "": none */
	double cost_s;				/* predicted device seconds */
	double pending_s;			/* of that, what its client's limits still count as to come */
	double used_s;				/* device seconds of its attempts so far */
	struct forecast_promise promise;	/* made when it came */
	int device;				/* index of the runner that it ran on last; -1: none */
	double queue_timeout_s, exec_timeout_s; /* exec 0: the runner's */
	double deadline_s;			/* from its submission; 0: none */
	char *warnings[JOB_MAX_WARNINGS];	/* owned */

	/* where it stands */
	struct fsm fsm;
	struct ev_timer timer;
	struct runner *promised;      /* while CLAIMED: keeps a place for it */
	struct runner *runner;	      /* while DISPATCHED, RUNNING or SUSPENDED */
	uint32_t attempt, generation; /* with its number, the fence */
	int checkpoint;		      /* memfd of its steps, kept over attempts; -1: none */
	uint64_t checkpoint_bytes;
	bool told_start; /* this attempt has said where it begins */
	int resumed, steps_saved;
	int blamed_deaths, memory_deaths;
	int lost;	       /* attempts that ended with zitd itself */
	bool alone, fresh;     /* wants a runner for itself; one that has done nothing yet */
	int64_t not_before_us; /* when it may run again; 0: at once */
	enum stage stage;
	uint32_t picture, step;
	int64_t submitted_us, submitted_wall_us, started_us, ended_us; /* started 0: never ran */
	int64_t queued_us, waited_us;	  /* in the queue since, 0: it is not; in it before that */
	int64_t held_us;		  /* since when it is held; 0: it is not */
	int64_t running_since_us, ran_us; /* 0: it does not run; in the present attempt, before that */
	int64_t suspended_since_us, suspended_us; /* 0: it is not; before that, in its life */
	int suspensions;			  /* it makes way at most once */
	struct picture *pictures;		  /* room for `count`; owned */
	int picture_count, unwritten;		  /* of them, those that are here; of these, not on disk */
	bool was_waited_for, expired;		  /* expired: its pictures are removed */

	/* how it ended */
	struct proto_DONE sums;
	struct err error;
	int exit_status;	     /* of the runner that it died with, as waitpid has it; -1: none did */
	char *last_words, *log_tail; /* of that runner, and what it printed last; owned; NULL: nothing */
	char retry_of[ID_SIZE];	     /* the dead letter that this is a new try of, or "" */
	char retried_as[ID_SIZE];
	uint64_t fingerprint; /* quarantine.h */
	bool probe;	      /* let in to see whether such jobs still kill */
};

/* What jobs live in, and who hears of them. Those that ask about job->runner are asked only while it has one.
 */
struct job_world {
	struct ev_loop *loop;
	const struct conf_queue *conf;

	double (*exec_timeout_s)(const struct job *job); /* the longest that its runner lets one run */
	int64_t (*ack_clock_us)(const struct job *job);	 /* that its runner may take to acknowledge it */

	void (*moved)(struct job *job, enum job_event event); /* to another state, or it stays there */
	void (*started)(struct job *job);		      /* a runner has begun with it */
	void (*advanced)(struct job *job);		      /* progress worth telling */
	void (*ended)(struct job *job);			      /* reached a final state: exactly once a job */
	void (*claimed)(struct job *job);		      /* its attempt is to be written down */
	void (*requeued)(struct job *job);		      /* back to the front of its line */
	void (*held)(struct job *job);			      /* out of its line, or back in it */
	void (*released)(struct job *job);
	void (*overdue)(struct job *job);	/* cancelled or overran: its runner no longer holds it */
	void (*unanswered)(struct job *job);	/* its runner did not acknowledge it in time */
	void (*suspended_out)(struct job *job); /* it made way for long enough, and goes on */
};

/* Once, before the first of them; it stays the caller's. */
void job_set_world(const struct job_world *world);

/* From a submit's parameters; defaults from the configuration; QUEUED, its clock running, without a number
 * yet. `d` is whose it is. NULL: no memory. */
struct job *job_new(struct daemon *d, const struct api_submit *p, uid_t uid, pid_t pid);
/* Whether a job that is asked for so goes on when its client goes away. */
bool job_is_to_be_kept(const struct api_submit *p);
/* One without content and state, for job_from_row. NULL: no memory. */
struct job *job_blank(struct daemon *d);
void job_add_warning(struct job *job, const char *text); /* copied; beyond JOB_MAX_WARNINGS it is dropped */
/* What was asked for, to be asked again with the same seed; strings are the job's. */
struct api_submit job_request(const struct job *job);
void job_free(struct job **job); /* closes what it holds; it must be in no line */

/* Fires an event; 0 or -ERR_INVALID_REQUEST when the state does not take it (which was logged). */
int job_event(struct job *job, enum job_event event);
/* FAULT and GIVE_UP with their error. */
int job_event_error(struct job *job, enum job_event event, const struct err *e);

bool job_is_final(const struct job *job);
bool job_is_past_deadline(const struct job *job);
double job_attempt_s(const struct job *job);   /* seconds that its last attempt ran, up to now */
double job_suspended_s(const struct job *job); /* seconds that it made way for another, up to now */
enum job_state job_state(const struct job *job);
const char *job_state_name(const struct job *job);
const char *job_class_name(enum job_class class);

/* ---- what it keeps of its attempts (job_attempt.c) */

/* Sees that it has memory of that size for its checkpoint; what is there from an earlier attempt stays. */
bool job_need_checkpoint(struct job *job, uint64_t bytes);
void job_drop_checkpoint(struct job *job);
/* How a runner ended under it: its wait status, its last words, what it printed last. */
void job_note_death(struct job *job, int status, const char *words, const char *log_tail);

extern const struct fsm_kind job_kind; /* for its test */

#endif
