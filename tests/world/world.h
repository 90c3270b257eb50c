/*
 * What the files of this test's world share: the run in hand, its descriptors, processes, clocks and books.
 * test_world.c says what it is for.
 */
#ifndef TESTS_WORLD_H
#define TESTS_WORLD_H

#include "tests/unit/test.h"
#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "build_id.h"
#include "ipc/channel.h"
#include "ipc/clock.h"
#include "ipc/log.h"
#include "supervisor/runners/cgroup.h"
#include "supervisor/socket/client.h"
#include "supervisor/daemon.h"
#include "supervisor/runners/device_lock.h"
#include "supervisor/disk.h"
#include "supervisor/notify.h"
#include "supervisor/paths.h"
#include "supervisor/runners/runner.h"
#include "supervisor/runners/runner_log.h"
#include "supervisor/runners/spawn.h"
#include "supervisor/runners/strays.h"
#include "supervisor/methods/waiters.h"
#include "supervisor/methods/events.h"
#include "supervisor/methods/lookup.h"
#include "supervisor/methods/acks.h"

/* Every row is driven in the first 10000; sanitized they take three times as long. */
#ifdef __SANITIZE_ADDRESS__
enum { RUNS = 12000 };
#else
enum { RUNS = 40000 };
#endif

enum {
	MAX_RUNNERS = 3,
	MAX_PROCESSES = MAX_RUNNERS + 1, /* one more while a new one is prepared */
	MAX_DESCRIPTORS = 20000,	 /* of one run: numbers are not used again */
	MAX_TIMERS = 256,
	MAX_IOS = 16,
	MAX_TASKS = 256,
	MAX_OPEN = 64,	 /* jobs without an end */
	MAX_SHELF = 256, /* jobs in the store */
	LIVES = 6,	 /* of zitd in one run, at most */
	MAIL = 64,	 /* messages in one direction */
	MAX_WORKS = 16,	 /* jobs that a process holds at most, runner/session_messages.c */
	MAX_SLOTS =
	    5, /* of them, that need the device: the largest concurrency and one, runner/generation.h */
	FIRST_FD = 100000,
	FIRST_PID = 1000,
};

#define MS INT64_C(1000)
#define SECOND INT64_C(1000000)
#define NEVER INT64_MAX

/* From the last that people did to the end of all jobs: the longest queue clock, then all clocks of a runner
 * for as often as a job may be tried again. */
#define LONGEST_REST_US (3000 * SECOND)
/* From SIGTERM to the loop's end: drain_timeout, stopwaitsecs, the wait for the reaping, and a slow disk. */
#define LONGEST_END_US (400 * SECOND)
#define WATCHDOG_US (17 * SECOND)

struct process;

bool daemon_is_saved(const struct daemon *d); /* daemon_inside.h has names that are also ours */

/* ---- world.c */

/* How bad this run's world is, each in thousandths. */
struct climate {
	uint32_t fault;	     /* a process's, each time it acts */
	uint32_t defect;     /* one that it is born with */
	uint32_t unkillable; /* SIGKILL does not end it soon, or never */
	uint32_t trouble;    /* a system call's */
};

struct run {
	uint32_t seed;
	uint64_t chance;
	struct climate climate;
	int64_t now_us;
	struct daemon *daemon;
	struct disk *disk;
	struct runner *runners[MAX_RUNNERS];
	int runner_count;
	int actions_left;
	int64_t action_us;
	int64_t settled_us;   /* when the last action was; from there all must come to rest; 0: not yet */
	int64_t term_us;      /* when SIGTERM came; 0: not yet */
	int64_t no_memory_us; /* when a checkpoint could not be had last */
	long long oom_kills;
	pid_t last_pid;
	bool reloaded, pinged, disk_slow, disk_full, device_stolen;
	bool mortal;	       /* zitd is killed often */
	bool killed;	       /* zitd, by somebody: the next life begins */
	bool opened, replayed; /* the store could be opened in this life; what it had was looked at */
	int64_t upgrade_by_us; /* zitd wants to hand over, until then; 0: it does not */
	bool upgrading;	       /* memory goes, descriptors stay */
	int life;
	int pages; /* mapped */
};

extern struct run run;

/* ---- outside.c */
extern const struct daemon_public world_public;

struct totals {
	long long runs, lives, upgrades, events, jobs, processes, lies, refusals, turns, refused, replayed;
	long long ends[JOB_STATE_COUNT];
};

extern struct totals totals;

struct open_job {
	struct job *job; /* NULL: of an earlier life of zitd, not yet looked for in this one */
	uint64_t number;
	char id[ID_SIZE];
	uint32_t given;		    /* the last attempt that left for a process */
	bool undelivered;	    /* which was gone before it got the job */
	int lone_deaths;	    /* of runners that had no other one */
	bool unwritten;		    /* a picture of its could not be written */
	bool durable, acknowledged; /* it is on disk, and its client knows */
};

extern bool loud;
extern struct open_job open_jobs[MAX_OPEN];
extern int open_count;

/* Ends the test, saying which run it was. */
void violated(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
/* 0 .. n-1; xorshift64*. */
uint32_t draw(uint32_t n);
bool odds(uint32_t per_mille);
/* Of the order of `least` mostly, of `most` sometimes. */
int64_t span_us(int64_t least, int64_t most);
double draw_seconds(int64_t least_us, int64_t most_us);
/* NULL: it has ended. */
struct open_job *find_open_job(uint64_t number);

/* ---- descriptors.c */

enum kind { CLOSED, ZITD_END, PEER_END, PAGE, CHECKPOINT, PICTURE, OUTPUT, LOCK, PIDFD };

struct descriptor {
	enum kind kind;
	struct process *process;
	bool sealed;
	uint64_t bytes;
	uint32_t picture, step; /* of a checkpoint */
};

extern struct descriptor descriptors[MAX_DESCRIPTORS];
extern int descriptor_count;

int new_fd(enum kind kind, struct process *process);
struct descriptor *look_up(int fd, const char *who);
/* A system call that fails now and then. */
bool is_refused(int error);

/* ---- processes.c */

/* A job that a process holds. */
struct work {
	struct proto_header head;
	uint32_t steps, count;
	uint64_t seed;
	uint32_t picture, step; /* where it is; picture == count: all are with the encoder */
	uint32_t encoding;	/* how many are */
	bool begun, poison, suspended;
	struct descriptor *checkpoint;
};

struct mail {
	struct proto_msg m;
	bool garbage;		       /* no message at all */
	bool unsealed;		       /* PICTURE */
	uint64_t bytes;		       /* its file's true size */
	bool poison;		       /* JOB: one that kills */
	struct descriptor *checkpoint; /* JOB */
};

struct mailbox {
	struct mail mail[MAIL];
	int first, count;
};

/* zitd's end. */
struct channel {
	int fd;
	struct process *process;
};

enum phase { BEFORE_HELLO, BEFORE_LOADING, LOADING, BEFORE_READY, SERVING, PHASES };

/* A process and what ties it to zitd: made by channel_pair, brought to life by spawn_process. */
struct process {
	bool in_use, hung_up; /* hung_up: zitd's end is closed */
	struct channel channel;
	struct status_page page;
	struct mailbox to_zitd, to_process;
	int arrived; /* of to_process; the others are still in zitd's own queue */
	int room;    /* of its socket */

	pid_t pid; /* 0: not born */
	uint32_t generation;
	bool dead, reaped;
	int status;	     /* as waitpid has it */
	int64_t reapable_us; /* a tracer has it until then */
	int64_t act_us, busy_us, dies_us;
	enum phase phase;
	uint64_t loaded_bytes;
	int64_t pace_us; /* of its units */
	struct work works[MAX_WORKS];
	int work_count, given; /* given: in all */
	int newcomers;	       /* given since one was suspended last */
	bool testing, stopping, interrupted;

	/* what is wrong with it */
	bool hung, closed, lied;
	bool deaf_to_cancel, deaf_to_stop, deaf_to_signals;
	bool immune;	 /* no signal reaches it: its user is another one now, say */
	bool unkillable; /* in the kernel: SIGKILL takes long */
};

extern struct process processes[MAX_PROCESSES];

struct process *find_process(pid_t pid);
/* Nothing is left that somebody could ask about. */
void process_hung_up(struct process *p);
struct mail *mailbox_add(struct mailbox *b);
struct mail *mailbox_take(struct mailbox *b);
void wake(struct process *p, int64_t delay_us);

/* ---- behaviour.c */

/* A message that it sends, to be filled in. */
struct mail *say(struct process *p, unsigned type, const struct work *work);
void process_end(struct process *p, int status);
void be_chosen_by_oom_killer(struct process *p);
void hang(struct process *p);
/* It goes on later, as if nothing had been. */
void stall(struct process *p);
void process_act(struct process *p);

/* ---- loop.c */

struct ev_loop {
	bool broken;
	struct ev_prepare *prepare;
	struct ev_check *check;
	struct ev_signal *term;
	struct {
		struct ev_timer *watcher;
		int64_t at_us;
	} timers[MAX_TIMERS];
	struct ev_io *ios[MAX_IOS];
	int timer_count, io_count;
};

/* One of those that are ready, by chance; false: none is. */
bool serve_io(struct ev_loop *loop);
int first_timer(const struct ev_loop *loop);
void serve_timer(struct ev_loop *loop, int at);

/* ---- disk.c */

struct disk {
	struct disk_task tasks[MAX_TASKS];
	int64_t ready_us[MAX_TASKS];
	int count;
};

int first_task(const struct disk *d);
void finish_task(struct disk *d, int at);

struct shelved {
	uint64_t number;
	int64_t revision;
	bool final, dead, claimed;
	char *body;
};

extern struct shelved shelf[MAX_SHELF];
extern int shelf_count;

bool is_shelved(uint64_t number, bool *final);
int64_t shelved_revision(uint64_t number); /* -1: it is not there */
void clear_shelf(void);
void audit_recorded(const struct job *job);
struct job *load_dead_letter(void); /* the caller frees it; NULL: there is none */

/* ---- audit.c */

enum { MAX_STATES = 32, MAX_EVENTS = 40 };

extern long long job_cells[MAX_STATES][MAX_EVENTS], runner_cells[MAX_STATES][MAX_EVENTS];

bool has_row(const struct fsm_kind *kind, int state, int event);
void book_job(struct job *job);
void audit(void);
void forget_early(void);
void audit_replay(void); /* a new life has begun: is all there that was promised? */
void audit_kept(void);	 /* a life has ended in peace: what is open is on disk */

/* ---- successor.c */

void want_upgrade(void);
bool is_time_to_upgrade(const struct ev_loop *loop);
void upgrade(const struct daemon_options *options);

/* ---- orders.c */

void book_order(const struct job *job); /* somebody gave one about it, and waits for the answer; NULL: none */
void audit_orders(bool all_is_saved);
void forget_orders(void); /* who gave them has gone with zitd */

/* ---- people.c */

void act(void);

#endif
