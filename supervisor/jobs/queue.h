/*
 * The waiting jobs, and whose turn it is (fair.h).
 */
#ifndef SUPERVISOR_JOBS_QUEUE_H
#define SUPERVISOR_JOBS_QUEUE_H

#include "supervisor/scheduling/fair.h"
#include "supervisor/scheduling/forecast.h"
#include "supervisor/jobs/job.h"
#include "supervisor/scheduling/plan.h"

TAILQ_HEAD(job_line, job);

/* What the queue must know of the world beside whose turn it is. */
struct queue_world {
	void *arg;
	/* The devices as they are now; their number. */
	int (*lines)(void *arg, struct plan_line lines[PLAN_LINES]);
	double (*cost)(void *arg, const struct job *job, int line, double *variance);
	/* Whether it may start so many seconds from now; if not, *again_s as in plan.h. */
	bool (*may_start)(void *arg, const struct job *job, double at_s, double *again_s);
};

struct queue {
	struct fair fair;
	const struct queue_world *world; /* NULL: one device, and everybody may start */
	struct drain_rate drain;
	int loners; /* waiting jobs that want a runner for themselves */

	/* all of them in running order, as it was when last looked at */
	struct job **order;
	int order_count, order_room;
	bool order_stale;
	int64_t looked_us; /* when that was: spots of jobs count from then */
};

void queue_init(struct queue *q);
void queue_clear(struct queue *q); /* the jobs are their owners' */
int queue_length(const struct queue *q);
int queue_class_length(const struct queue *q, enum job_class class);

/* At the end of its client's line, or at its front when it was interrupted. false: no memory. */
bool queue_push(struct queue *q, struct job *job);
bool queue_push_front(struct queue *q, struct job *job);
/* Over a restart: by the order that it had, which is in job->turn. */
bool queue_push_again(struct queue *q, struct job *job);
bool queue_hold_again(struct queue *q, struct job *job); /* likewise one that is held */
void queue_remove(struct queue *q, struct job *job);	 /* waiting or held */
/* Keeps its place but has no turn until it is released. */
void queue_hold(struct queue *q, struct job *job);
void queue_release(struct queue *q, struct job *job);

/* The job whose turn it is among those that may run, taken out and charged to its client; NULL: there is
 * none. */
struct job *queue_pick(struct queue *q, bool (*may_run)(void *arg, const struct job *job), void *arg);
/* Whether the world lets it start now. */
bool queue_may_start(const struct queue *q, const struct job *job);
/* That job out of turn, charged likewise. */
void queue_take(struct queue *q, struct job *job);
/* A job that was picked has ended, or comes back: what it really took, in device seconds. */
void queue_settle(struct queue *q, struct job *job, double actual_s);

/* What becomes of a newcomer; *victim as in fair_admit. */
enum fair_verdict queue_admit(const struct queue *q, const struct fair_limits *limits, const char *client,
    enum job_class class, struct job **victim);

/* In running order, were nothing to change: the first, the one after `job` (NULL: the first). */
struct job *queue_first(struct queue *q);
struct job *queue_next(struct queue *q, const struct job *job);
/* Its place there, from 1, and when its turn comes, in seconds from now; place 0: it is not in it. Where
 * hundreds wait, so that looking at them takes its time, it may be some milliseconds old, or a guess from
 * where others of its client are. */
struct plan_spot queue_spot(struct queue *q, const struct job *job);
/* The same, old or a guess however few wait. */
struct plan_spot queue_rough_spot(struct queue *q, const struct job *job);
bool queue_guesses(const struct queue *q, const struct job *job);
void queue_look(struct queue *q); /* now: nothing is a guess */

#endif
