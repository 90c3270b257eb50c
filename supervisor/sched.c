/*
 * Which waiting job goes to which runner. Whose turn it is is the queue's matter; here is who must wait for a
 * time, for a runner to itself, or for one that is fresh.
 */
#include "supervisor/sched.h"

#include "ipc/clock.h"

#define RETRY_US INT64_C(1000000)

struct round {
	struct runner *const *runners;
	int count;
	int64_t now_us, again_us;
	bool writable;	   /* attempts can be written down */
	uint64_t reserved; /* runners that are emptied for jobs that want them to themselves, by bit */
};

_Static_assert(CONF_MAX_RUNNERS <= 64, "a bit for each runner");

static struct runner *
find_runner(const struct round *r, const struct job *job)
{
	for (int i = 0; i < r->count; i++) {
		bool reserved = (r->reserved >> i & 1) != 0 && !job->alone;
		if (!reserved && runner_can_take(r->runners[i], job))
			return r->runners[i];
	}
	return NULL;
}

static void
come_again(struct round *r, int64_t at_us)
{
	if (r->again_us == 0 || at_us < r->again_us)
		r->again_us = at_us;
}

static bool
is_due(struct round *r, const struct job *job)
{
	if (job->durable && !r->writable)
		return false;
	if (job->not_before_us <= r->now_us)
		return true;
	come_again(r, job->not_before_us);
	return false;
}

/* false: there is no memory for its checkpoint; it stays first in line, and this round is over. */
static bool
dispatch(struct queue *q, struct round *r, struct job *job, struct runner *runner)
{
	if (runner_promise(runner, job)) {
		job_event(job, JOB_EVENT_CLAIMED);
		return true;
	}
	queue_settle(q, job, 0);
	queue_push_front(q, job);
	come_again(r, r->now_us + RETRY_US);
	return false;
}

/* ---- jobs that want a runner to themselves */

/* If none is fresh or on its way to be, one is replaced, at best one that holds nothing. */
static void
provide_fresh(const struct round *r)
{
	struct runner *used = NULL;

	for (int i = 0; i < r->count; i++) {
		if (runner_is_starting(r->runners[i]) || runner_awaits_loner(r->runners[i]))
			return; /* that one may be free for this job in a moment */
		if (runner_may_serve(r->runners[i]) &&
		    (used == NULL || runner_state(r->runners[i]) == RUNNER_IDLE))
			used = r->runners[i];
	}
	if (used != NULL)
		runner_recycle(used, "a job that ran out of memory wants one");
}

/* The one with the least to do takes no others until the loner has it. */
static void
reserve(struct round *r)
{
	int best = -1;

	for (int i = 0; i < r->count; i++) {
		if (runner_may_serve(r->runners[i]) && (r->reserved >> i & 1) == 0 &&
		    (best < 0 || runner_held_count(r->runners[i]) < runner_held_count(r->runners[best])))
			best = i;
	}
	if (best >= 0)
		r->reserved |= UINT64_C(1) << best;
}

/* Each gets its runner before all others; where none is empty, one is kept for it. false: this round is over.
 */
static bool
serve_loners(struct queue *q, struct round *r)
{
	struct job *next;

	if (q->loners == 0)
		return true;
	for (struct job *job = queue_first(q); job != NULL; job = next) {
		next = queue_next(q, job);
		if (!job->alone || !is_due(r, job) || !queue_may_start(q, job))
			continue;
		if (find_runner(r, job) != NULL) {
			queue_take(q, job);
			if (!dispatch(q, r, job, find_runner(r, job)))
				return false;
		} else if (job->fresh)
			provide_fresh(r);
		else
			reserve(r);
	}
	return true;
}

/* ---- all others */

static bool
may_run(void *arg, const struct job *job)
{
	struct round *r = arg;

	return !job->alone && is_due(r, job) && find_runner(r, job) != NULL;
}

/* Whether any runner could take a job without wishes; if not, nobody needs to be asked. */
static bool
has_room(const struct round *r)
{
	static const struct job plain;

	return find_runner(r, &plain) != NULL;
}

/* ---- a high job does not wait for the end of a lower one */

static bool
may_interrupt(void *arg, const struct job *job)
{
	return job->class == CLASS_HIGH && !job->alone && is_due(arg, job);
}

/* The runner whose victim makes way before all others'; NULL: none has one. */
static struct runner *
find_interruptible(const struct round *r)
{
	const struct job *victim = NULL;
	struct runner *found = NULL;

	for (int i = 0; i < r->count; i++) {
		const struct job *own =
		    (r->reserved >> i & 1) == 0 ? runner_victim(r->runners[i], NULL) : NULL;
		if (own == NULL || (victim != NULL && !runner_makes_way_before(own, victim)))
			continue;
		victim = own;
		found = r->runners[i];
	}
	return found;
}

static void
interrupt(struct queue *q, struct round *r)
{
	struct runner *runner;
	struct job *job;

	while (queue_class_length(q, CLASS_HIGH) > 0 && (runner = find_interruptible(r)) != NULL) {
		job = queue_pick(q, may_interrupt, r);
		if (job == NULL || !dispatch(q, r, job, runner))
			return;
	}
}

int64_t
sched_run(struct queue *q, struct runner *const *runners, int runner_count, bool writable)
{
	struct round r = {runners, runner_count, clock_now_us(), 0, writable, 0};
	struct job *job;

	if (!serve_loners(q, &r))
		return r.again_us;
	while (has_room(&r) && (job = queue_pick(q, may_run, &r)) != NULL) {
		if (!dispatch(q, &r, job, find_runner(&r, job)))
			return r.again_us;
	}
	interrupt(q, &r);
	return r.again_us;
}
