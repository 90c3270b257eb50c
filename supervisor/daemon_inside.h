/*
 * What the files of the daemon share: daemon.c (the loop, its start), daemon_end.c (how it ends),
 * daemon_socket.c (the public socket), daemon_admit.c (admission), daemon_clients.c (what clients may have,
 * and had), daemon_jobs.c (jobs in memory, results), daemon_store.c (what is written down), daemon_saved.c
 * (what that means for jobs), daemon_replay.c (what the last life left), daemon_runners.c (what runners live
 * in), daemon_dead.c (dead letters, quarantine), daemon_orders.c (status, restart), daemon_conf.c (what is
 * configured), daemon_outlook.c (when jobs will be done), daemon_turns.c (hold, move, pause, why),
 * daemon_metrics.c (what monitoring is told), daemon_devices.c (runners for CUDA devices), daemon_memory.c
 * (scheduling over a restart), daemon_handover.c (all of it over an upgrade). Nobody else includes this.
 */
#ifndef SUPERVISOR_DAEMON_INSIDE_H
#define SUPERVISOR_DAEMON_INSIDE_H

#include "supervisor/age_clock.h"
#include "supervisor/socket/client.h"
#include "supervisor/scheduling/cost.h"
#include "supervisor/daemon.h"
#include "supervisor/runners/devices.h"
#include "supervisor/disk.h"
#include "supervisor/scheduling/forecast.h"
#include "supervisor/scheduling/gate.h"
#include "supervisor/scheduling/limits.h"
#include "supervisor/scheduling/load.h"
#include "supervisor/metrics.h"
#include "supervisor/paths.h"
#include "supervisor/runners/probe.h"
#include "supervisor/jobs/quarantine.h"
#include "supervisor/jobs/queue.h"
#include "supervisor/runners/runner.h"
#include "supervisor/upgrade.h"

enum { SIGNALS = 3 };

#define DAEMON_NOTE "scheduling" /* the store's note of what scheduling must remember */

/* What the watchdog is told, and why it was not the last time. */
struct health {
	struct ev_timer watchdog;
	double period_s; /* between pings; 0: systemd does not watch */
	int64_t due_us;	 /* the next look */
	const char *fault;
};

enum phase { SERVING, DRAINING, STOPPING, FLUSHING };

/* What goes with the next transaction: daemon_group.c's. */
struct commit_group {
	int full;	       /* as many rows wait for no others */
	int64_t rest_until_us; /* fewer do until then */
	struct ev_timer rest;  /* ends then, if there are any */
};

struct daemon {
	struct ev_loop *loop;
	struct conf conf;
	struct daemon_options options;
	struct paths paths;
	struct clients *clients;
	struct clients_world clients_world;
	struct disk *disk;
	struct runner *runners[CONF_MAX_RUNNERS];
	int runner_count;
	struct probe probe;
	struct devices *devices;	    /* as they were told last; NULL: never */
	char probe_failure[DEVICES_REASON]; /* of the last probe; "": it did not fail */
	struct queue queue;
	struct queue_world queue_world;
	struct job_world job_world;
	struct runner_world runner_world;
	struct quarantine quarantine;
	struct job_line jobs; /* all in memory, by all_link, oldest first: open ones, and ended ones until
				 that is on disk */
	uint64_t last_number;
	int64_t last_event; /* on disk */

	struct disk_opening following; /* of the store that the zitd before an upgrade left */
	struct disk_opening opening;   /* of the store; its status is not 0 while that cannot be used */
	struct job_line unsaved;       /* by unsaved_link: with the next transaction */
	int unsaved_count;
	struct store_row *loose; /* likewise: rows of ended jobs that are not in memory */
	int loose_count;
	int64_t change;		   /* number of the last one that must survive */
	int64_t saved_change;	   /* likewise, of those on disk */
	bool hurried;		   /* somebody may be waiting for what is to be written, or it must survive */
	struct ev_timer leisure;   /* else it is written when this ends */
	struct commit *commit;	   /* the transaction under way, or NULL */
	struct commit_group group; /* the next one */
	int64_t noted_us;	   /* when the last note was written */
	bool note_is_due;	   /* the next one shall be, even without a job to write */
	bool note_is_owed;	   /* the last transaction went without */
	int store_error;	   /* errno of the last one; 0: it went well */
	struct ev_timer store_retry;

	struct upgrade upgrade;
	enum phase phase;
	int exit_status;
	bool changed, was_ready;
	int64_t started_us, turn_us;	     /* turn: when the loop woke last */
	struct cost costs[CONF_MAX_RUNNERS]; /* by runner */
	json_t *costs_noted;		     /* by name, of the last life; NULL: there are none */
	struct forecast forecast;
	struct limits limits;
	struct gate gate;
	struct load load;
	long long admitted, ended, done; /* counts of jobs */
	struct metrics metrics;

	struct ev_prepare before_sleep;
	struct ev_check after_sleep;
	struct ev_signal signals[SIGNALS];
	struct ev_timer housekeeping, drain_clock, sched_again, sweep, load_clock;
	int64_t sweep_us; /* until the next look for strays */
	struct health health;
	struct age_clock age_clock; /* that pictures are removed by */
};

/* Runners that serve, or are on their way to. */
int daemon_serving_runners(const struct daemon *d);
void daemon_set_log(const struct daemon *d); /* level, form, what of prompts */
/* Of classes and clients, windows, costs before there are any: from the configuration. */
void daemon_set_shares(struct daemon *d);
/* Has pictures past their time and records over the limit removed. */
void daemon_retain(struct daemon *d);
/* zitd ends before the job does: it stays for the next life, or fails. */
void daemon_put_off(struct daemon *d, struct job *job);

/* ---- daemon_socket.c */

/* The public socket, a new one or the one that was handed over. 0 or -ERR_SYSTEM with *e. */
int daemon_open_clients(struct daemon *d, struct err *e);
void daemon_set_clients(struct daemon *d); /* what they may do: from the configuration */

/* ---- daemon_end.c */

/* No new jobs and clients; what runs is waited for, drain_timeout at most. */
void daemon_begin_drain(struct daemon *d);
/* That is not waited for, or not any longer. */
void daemon_begin_stop(struct daemon *d);
/* One look at the end: runners without a job go first; when all are gone, answers leave; then the loop ends.
 */
void daemon_advance_end(struct daemon *d);
void daemon_on_drain_clock(struct ev_loop *loop, struct ev_timer *w, int events);

/* ---- daemon_health.c */
const char *daemon_phase_name(
    const struct daemon *d); /* "ready", "degraded", "starting", "failed", "draining" */
/* How we are, in a line. */
void daemon_describe(const void *daemon, char *text, size_t size);
/* Systemd hears it: in STATUS, and once that we are ready, which is when a runner is, or when none is on its
 * way to be. */
void daemon_tell_status(struct daemon *d);
void daemon_start_watchdog(struct daemon *d);
void daemon_stop_watchdog(struct daemon *d);

/* ---- daemon_store.c */

/* It changed: that goes with the turn's transaction. */
void daemon_save(struct daemon *d, struct job *job);
void daemon_save_again(struct daemon *d, struct job *job); /* as it is: what was to be written was not */
/* Likewise of one that is not in memory: its new row, or that it goes. */
void daemon_save_ended(struct daemon *d, struct job *job);
void daemon_remove_ended(struct daemon *d, const struct job *job);
void daemon_save_note(struct daemon *d); /* what scheduling remembers, likewise */
/* Hands over what has changed, if the last transaction is done and it is time. */
void daemon_commit(struct daemon *d);
bool daemon_is_saved(const struct daemon *d); /* nothing waits to be written, or it cannot be */
void daemon_on_leisure(struct ev_loop *loop, struct ev_timer *w, int events);
void daemon_on_store_retry(struct ev_loop *loop, struct ev_timer *w, int events);
void daemon_drop_unsaved(struct daemon *d);

/* ---- daemon_group.c */

/* A transaction of so many rows went well; nobody is told yet, nor is handed over what waits. */
void daemon_group_begin(struct daemon *d, int rows, int64_t took_us);
/* Whether what waits is handed over now; if not, the loop looks again when it is time. */
bool daemon_group_is_ready(struct daemon *d);
void daemon_on_rested(struct ev_loop *loop, struct ev_timer *w, int events);

/* ---- daemon_saved.c */

/* That revision of it is on disk, and all that went with it. */
void daemon_job_saved(struct daemon *d, struct job *job, int64_t revision);
/* Its end is on disk without the rest of its transaction. Who waits hears it; those who subscribed hear it
 * when its event has a number. */
void daemon_job_end_saved(struct daemon *d, struct job *job, int64_t revision);
void daemon_job_unsaved(struct daemon *d, struct job *job, int error); /* it could not be written */
/* Nothing more will happen to it, and its last word is on disk, or is not worth keeping. */
void daemon_forget(struct daemon *d, struct job *job);

/* ---- daemon_replay.c */

/* At the start: 0, or a negative code with *e when zitd cannot serve with what is there. */
int daemon_open_store(struct daemon *d, struct err *e);
/* Tries again, if that failed; false: it is open. */
bool daemon_reopen(struct daemon *d);
/* The store, in use, was damaged and is a new file: open jobs are newer here, and are written again. */
void daemon_store_salvaged(struct daemon *d, const struct store_report *r);

/* Whether a request like that is refused (*e, *data), or is let in to see how it ends (*probe). */
bool daemon_is_quarantined(
    const struct daemon *d, uint64_t fingerprint, bool force, bool *probe, struct err *e, json_t **data);

const char *const *daemon_class_names(void); /* CLASS_COUNT of them */
struct fair_limits daemon_queue_limits(const struct daemon *d);
/* By the kernel's account. */
double daemon_resident_bytes(void);

/* ---- daemon_outlook.c */
extern const struct queue_world daemon_queue_world; /* but for its `arg` */
/* What the job will cost: the mean of what the devices say. */
double daemon_predict_s(const struct daemon *d, const struct job *job);
/* A job that is done tells what such jobs cost, and whether what was promised held. */
void daemon_learn(struct daemon *d, const struct job *job);
/* Whether anybody has shown what jobs cost here. */
bool daemon_knows_costs(const struct daemon *d);
struct forecast_promise daemon_promise(struct daemon *d, const struct job *job);
/* Whether the queue is long, every second while anybody waits. */
void daemon_watch_load(struct daemon *d);

/* ---- daemon_devices.c */

/* Asks which CUDA devices there are, if a runner needs one; the answer comes later, or never. */
void daemon_find_devices(struct daemon *d);
void daemon_find_awaited_devices(struct daemon *d); /* if one waits for that */
/* The answer, which is the daemon's now; NULL: there is none, and why. */
void daemon_devices_found(void *d, struct devices *found, const char *why);
/* {state, found: [{uuid, name, memory_bytes, compute_capability, runner, reason}], reason}; a new reference.
 */
json_t *daemon_devices(const struct daemon *d);
/* The section's runner, or for a name one more like it; NULL: there is no memory, or too many. */
struct runner *daemon_add_runner(struct daemon *d, const struct conf_runner *section, const char *name);

/* ---- daemon_memory.c */

/* What jobs cost on that runner, if the last life knew; false: that is damaged. */
bool daemon_recall_cost(struct daemon *d, int runner);

/* ---- daemon_clients.c */
struct limits_time daemon_limits_time(void);
void daemon_introduce(void *d, struct fair_client *c); /* for fair.h */
/* Whether the client's rates and quotas let the job in (its class may then be a lower one); else *e, *data.
 */
bool daemon_within_limits(struct daemon *d, struct job *job, struct err *e, json_t **data);
void daemon_count_admitted(struct daemon *d, struct job *job);
void daemon_count_refused(struct daemon *d, const char *key);
void daemon_count_attempt(struct daemon *d, struct job *job); /* one is over */
void daemon_count_ended(struct daemon *d, struct job *job);
/* What a job's end says of others like it. */
void daemon_judge_ended(struct daemon *d, const struct job *job);

/* ---- daemon_runners.c */
void daemon_set_runner_world(struct daemon *d); /* before there are runners */
void daemon_runner_died(void *d);		/* or another child: it may have left processes behind */

/* ---- daemon_jobs.c */
void daemon_set_job_world(struct daemon *d); /* before there are jobs */

#endif
