/*
 * Which waiting job goes to which runner. Jobs are looked at in their order; one that must wait for a time or
 * for a runner of its own kind lets others pass, unless they would keep what it waits for.
 */
#include "supervisor/sched.h"

#include "ipc/clock.h"

#define RETRY_US INT64_C(1000000)

struct fleet {
	struct runner *const *runners;
	int count;
};

static struct runner *
find_runner(const struct fleet *f, const struct job *job)
{
	for (int i = 0; i < f->count; i++) {
		if (runner_can_take(f->runners[i], job))
			return f->runners[i];
	}
	return NULL;
}

/* A job that wants a runner which has done nothing yet: if none is on its way, one is replaced, at best one
 * that holds nothing. */
static void
provide_fresh(const struct fleet *f)
{
	struct runner *used = NULL;

	for (int i = 0; i < f->count; i++) {
		struct runner *r = f->runners[i];
		if (runner_is_starting(r))
			return;
		if (runner_may_serve(r) && (used == NULL || runner_state(r) == RUNNER_IDLE))
			used = r;
	}
	if (used != NULL)
		runner_recycle(used, "a job that ran out of memory wants one");
}

static int64_t
earlier(int64_t a_us, int64_t b_us)
{
	return a_us == 0 || b_us < a_us ? b_us : a_us;
}

int64_t
sched_run(struct queue *q, struct runner *const *runners, int runner_count)
{
	const struct fleet fleet = {runners, runner_count};
	int64_t now_us = clock_now_us(), again_us = 0;
	struct job *next;

	for (struct job *job = queue_first(q); job != NULL; job = next) {
		struct runner *r;
		next = queue_next(q, job);
		if (job->not_before_us > now_us) {
			again_us = earlier(again_us, job->not_before_us);
			continue;
		}
		r = find_runner(&fleet, job);
		if (r != NULL) {
			queue_remove(q, job);
			if (runner_dispatch(r, job))
				continue;
			queue_push_front(q, job);
			return earlier(again_us, now_us + RETRY_US);
		}
		if (job->fresh)
			provide_fresh(&fleet);
		else
			break; /* no room; or it must be alone, and who overtook it would be its company */
	}
	return again_us;
}
