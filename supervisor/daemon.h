/*
 * zitd as a whole: what the parts ask of it, and its start and end.
 */
#ifndef SUPERVISOR_DAEMON_H
#define SUPERVISOR_DAEMON_H

#include <ev.h>
#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "ipc/err.h"
#include "supervisor/conf.h"
#include "supervisor/jobs/job.h"

struct daemon;
struct client;
struct clients;
struct handover;
struct journal_facts;
struct metrics;
struct runner;

/* Who asks zitd for something and is told what becomes of it: methods/. */
struct daemon_public {
	/* clients: a line that came, one that is gone */
	void (*line)(struct daemon *d, struct client *c, const char *line, size_t bytes);
	void (*client_gone)(struct daemon *d, struct client *c);
	void (*client_caught_up)(const struct client *c); /* it reads again: events.h */

	/* who waits for a job: waiters.h */
	void (*job_advanced)(struct job *job);
	void (*job_saved)(struct job *job);
	void (*job_ended)(struct job *job);
	void (*job_put_off)(struct job *job);
	bool (*job_needs_files)(const struct job *job);

	/* who hears of all of them: events.h */
	bool (*event_make)(
	    struct store_event *event, int64_t seq, const struct job *job, enum job_state state);
	void (*events_tell)(const struct store_event *events, int count);

	/* who waits for what is on disk: lookup.h */
	void (*lookups_send)(struct daemon *d);
	bool (*lookups_are_done)(void);

	/* who waits for what he changed: acks.h */
	void (*acks_send)(struct daemon *d);

	void (*job_facts)(const struct job *job, struct journal_facts *facts); /* for the log */
	void (*clear)(void);						       /* the disk thread is gone */
	/* From one zitd to the next: into the document, false without memory; and back, when clients and jobs
	 * are there. */
	bool (*hand_over)(json_t *document);
	void (*take_over)(struct daemon *d, struct clients *clients, const json_t *document);
};

struct daemon_options {
	const struct daemon_public *public;
	const char *config;
	const char *runtime_dir, *state_dir; /* NULL: the configuration's */
	const char *log_level, *log_format;  /* NULL: the configuration's */
	const struct handover *handover;     /* of the zitd before, until daemon_start is done; NULL: none */
};

/* Starts everything; the configuration is taken over. 0, or a negative code with its reason, and errno. */
int daemon_start(
    struct daemon **d, const struct daemon_options *options, const struct conf *conf, struct err *e);
int daemon_run(struct daemon *d); /* until it has stopped; the exit status */
void daemon_free(struct daemon **d);

/* ---- for its parts */
struct ev_loop *daemon_loop(const struct daemon *d);
const struct conf *daemon_conf(const struct daemon *d);
const char *daemon_results_dir(const struct daemon *d);
void daemon_changed(struct daemon *d);		      /* something may be dispatched, or STATUS= is another */
void daemon_store(struct daemon *d, struct job *job); /* its result to disk */
/* errno with which the state directory takes no writes; 0: it does. */
int daemon_store_error(const struct daemon *d);
/* What must survive is numbered as it changes: the last change, and the last up to which all is on disk. */
int64_t daemon_change(const struct daemon *d);
int64_t daemon_saved_change(const struct daemon *d);
/* The job has ended, and that is on its way to the disk: nobody is told yet. */
bool daemon_end_is_pending(const struct daemon *d, const struct job *job);

/* ---- for methods/ */

/* Admits a job: refuses what cannot be (NULL, *e, and data for the error's details), else queues it. `force`:
 * even one that is quarantined, as a probe. */
struct job *daemon_admit(struct daemon *d, const struct api_submit *p, uid_t uid, pid_t pid, bool force,
    struct err *e, json_t **data);
/* In memory: by its id, or its key of idempotency; NULL: it has ended, or never was. */
struct job *daemon_find_job(const struct daemon *d, const char *id);
struct job *daemon_find_key(const struct daemon *d, const char *key);
/* The job goes on whoever goes away, from the next transaction on over zitd's end too. */
void daemon_keep_job(struct daemon *d, struct job *job);
/* Wall clock by which what is kept grows old (age_clock.h), in microseconds since the epoch. */
int64_t daemon_age_us(struct daemon *d);
struct job *daemon_find_number(const struct daemon *d, uint64_t number);
/* Name of the runner of that index; NULL: there is none. */
const char *daemon_runner_name(const struct daemon *d, int index);
struct disk *daemon_disk(const struct daemon *d);
int64_t daemon_last_event(const struct daemon *d); /* number of the newest one */
/* zitd ends first: the job goes on in the next life. */
bool daemon_has_put_off(const struct daemon *d, const struct job *job);
/* Oldest first, of all in memory; NULL starts and ends. */
struct job *daemon_next_job(const struct daemon *d, const struct job *job);
/* In running order; NULL starts and ends. */
struct job *daemon_next_queued(struct daemon *d, const struct job *job);
/* What is known of a waiting job's future. */
struct outlook {
	int position;		 /* 1.. in the queue; 0: it does not wait */
	double eta_s, eta_p95_s; /* until it is done, likely and almost surely; below 0: nobody knows */
	double start_s;		 /* until it starts, likely */
	char held_back[64];	 /* by what it may not start now, or "" */
};

struct outlook daemon_outlook(struct daemon *d, const struct job *job);
/* Whether by order or by its client's limits it may not be started though it were its turn. */
bool daemon_is_held_back(const struct daemon *d, const struct job *job);

/* Whose turn it is, by order (daemon_turns.c). What is so already stays so; jobs that do not wait stay as
 * they are. */
void daemon_hold(struct daemon *d, struct job *job);
void daemon_release(struct daemon *d, struct job *job);
void daemon_move_to_front(struct daemon *d, struct job *job); /* of its client's line */
void daemon_set_class(struct daemon *d, struct job *job, enum job_class class);
/* Whether a job of that client may have that class; else *e. Administrators have a ceiling only by a section
 * of the client's own. */
bool daemon_may_have_class(
    const struct daemon *d, const char *key, enum job_class class, bool is_admin, struct err *e);
/* Whether its client's quotas let the job into that class, from the lowest one; else *e, *data. */
bool daemon_may_raise(
    struct daemon *d, const struct job *job, enum job_class class, struct err *e, json_t **data);
/* No job of that class (< 0: none in particular) and that client (NULL: likewise) is started, of none at all
 * when both are left out; or they are again. false: too many clients are paused. */
bool daemon_pause(struct daemon *d, int class, const char *client, bool paused);
json_t *daemon_paused(const struct daemon *d); /* {all, classes, clients}, a new reference */
/* What scheduling has learned and owes, over a restart (daemon_memory.c): accounts, costs by runner, how
 * promises were kept, usage, pauses. A new reference; and back, before the jobs that waited are queued again
 * (queue_push_again): a part that is no such thing is left out, with a warning. */
json_t *daemon_remember(const struct daemon *d);
void daemon_recall(struct daemon *d, const json_t *memory);
/* Why the job waits: what is before it, by which tags, the parts of its ETA; a new reference. */
json_t *daemon_why(struct daemon *d, struct job *job);
/* What clients have used: one, or all for NULL; a new reference. */
json_t *daemon_usage(struct daemon *d, const char *key);

/* A new job from one that ended without a picture, or NULL as with daemon_admit; a dead letter's end. */
struct job *daemon_retry(struct daemon *d, struct job *dead, bool force, struct err *e, json_t **data);
void daemon_drop_dead(struct daemon *d, const struct job *dead);
bool daemon_is_admin(const struct daemon *d, uid_t uid, gid_t gid);
json_t *daemon_status(struct daemon *d); /* new references */
json_t *daemon_runners(struct daemon *d);
/* An order of runner.h for the runner of that name, or all for NULL. Their names (new reference); NULL: there
 * is none. */
json_t *daemon_order(struct daemon *d, const char *name, void (*order)(struct runner *r));
/* Where its parts count (metrics.h); and all that monitoring is told, in the text form of Prometheus: the
 * caller frees it, NULL: no memory. */
struct metrics *daemon_metrics(struct daemon *d);
char *daemon_metrics_text(const struct daemon *d);
/* The configuration (daemon_conf.c): the files, and over them the command line; 0 or -ERR_BAD_CONFIG with *e.
 */
int daemon_read_conf(struct conf *c, const struct daemon_options *options, struct err *e);
/* {files, options: [{key, value, origin, when}]}: what is in use. `hide`: not the values of environment
 * variables. New references, here and below; NULL with *e. */
json_t *daemon_show_conf(const struct daemon *d, bool hide, struct err *e);
/* {changed: [{key, before, after, when}], restart_runners: [name], restart_zitd}: from what is in use to what
 * the files say now; what a reload does. */
json_t *daemon_diff_conf(const struct daemon *d, bool hide, struct err *e);
json_t *daemon_reload(struct daemon *d, struct err *e);
/* A picture of a job that is done, to read: the caller's descriptor, or -1 with errno; EUCLEAN or ELOOP: its
 * file is not what zitd wrote. One to give away has an offset of
 * its own and no way to write; else it is for pread only, which costs less. */
int daemon_open_picture(const struct daemon *d, const struct job *job, int index, bool to_give_away);

#endif
