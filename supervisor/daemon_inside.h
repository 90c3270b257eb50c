/*
 * What the files of the daemon share: daemon.c (the loop, start and end), daemon_admit.c (admission),
 * daemon_jobs.c (records, results), daemon_dead.c (dead letters, quarantine), daemon_orders.c (status,
 * restart, reload). Nobody else includes this.
 */
#ifndef SUPERVISOR_DAEMON_INSIDE_H
#define SUPERVISOR_DAEMON_INSIDE_H

#include "supervisor/client.h"
#include "supervisor/daemon.h"
#include "supervisor/disk.h"
#include "supervisor/paths.h"
#include "supervisor/quarantine.h"
#include "supervisor/queue.h"
#include "supervisor/runner.h"

enum { SIGNALS = 3 };

#define FIRST_SWEEP_US (20 * INT64_C(1000))
#define LAST_SWEEP_US (10 * INT64_C(1000000))

enum phase { SERVING, DRAINING, STOPPING, FLUSHING };

struct daemon {
	struct ev_loop *loop;
	struct conf conf;
	struct daemon_options options;
	struct paths paths;
	struct clients *clients;
	struct disk *disk;
	struct runner *runners[CONF_MAX_RUNNERS];
	int runner_count;
	struct queue queue;
	struct quarantine quarantine;
	struct job_line jobs; /* all that are kept, by all_link, oldest first */
	int final_kept;

	enum phase phase;
	bool changed, was_ready;
	int64_t started_us, turn_us;	 /* turn: when the loop woke last */
	double mean_run_s;		 /* of the last jobs, for advice */
	double cost_error;		 /* mean square of how wrong predicted costs were, as a share */
	double seconds_per_work;	 /* of a device, per step and pixel; 0: no job is done yet */
	long long admitted, ended, done; /* counts of jobs */

	struct ev_prepare before_sleep;
	struct ev_check after_sleep;
	struct ev_signal signals[SIGNALS];
	struct ev_timer housekeeping, drain_clock, watchdog, sched_again, sweep;
	int64_t sweep_us; /* until the next look for strays */
};

/* Runners that serve, or are on their way to. */
int daemon_serving_runners(const struct daemon *d);
void daemon_set_log_level(const struct daemon *d);
void daemon_set_weights(struct daemon *d); /* of the classes, from the configuration */
void daemon_tell_status(const struct daemon *d);
/* Forgets the oldest records over the limit; removes pictures past their retention. */
void daemon_trim_history(struct daemon *d);
void daemon_expire_results(struct daemon *d);

/* Whether such a request is refused (*e, *data), or is let in to see how it ends (*probe). */
bool daemon_is_quarantined(const struct daemon *d, const struct api_submit *p, bool force, bool *probe,
    struct err *e, json_t **data);
/* A job that is done tells what such jobs cost. */
void daemon_learn_cost(struct daemon *d, const struct job *job);
/* What a job's end says of others like it. */
void daemon_judge_ended(struct daemon *d, const struct job *job);

extern const struct job_hooks daemon_job_hooks;

#endif
