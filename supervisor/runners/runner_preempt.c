/*
 * A job that makes way for another: which one, how the runner is told, and when it goes on.
 *
 * SUSPEND is sent right before the newcomer's JOB, so both are read at one step boundary. From then on the
 * job `waits`: it does not count for the device, and the runner takes no further job until it has gone on,
 * which it does as soon as there is room. So at most one of a runner's jobs waits, and the device holds at
 * most `concurrency` pictures and one: what the runner has reserved.
 */
#include <string.h>

#include "supervisor/journal.h"
#include "supervisor/runners/runner_inside.h"

/* ---- who makes way */

/* Pixels' steps that are still to be made: how long it would hold the device. */
static double
work_left(const struct job *job)
{
	double steps = (double)job->steps * (job->count - (int)job->picture) - job->step;

	return steps * job->width * job->height;
}

bool
runner_makes_way_before(const struct job *a, const struct job *b)
{
	if (a->class != b->class)
		return a->class > b->class;
	return work_left(a) > work_left(b);
}

static bool
may_make_way(const struct held *held)
{
	const struct job *job = held->job;

	return job != NULL && !held->device_over && job->class != CLASS_HIGH && !job->alone &&
	       job->suspensions == 0;
}

static int
find_victim(const struct runner *r)
{
	int found = -1;

	for (int i = 0; i < RUNNER_MAX_HELD; i++) {
		if (may_make_way(&r->held[i]) &&
		    (found < 0 || runner_makes_way_before(r->held[i].job, r->held[found].job)))
			found = i;
	}
	return found;
}

const struct job *
runner_victim(const struct runner *r, const struct job *newcomer)
{
	int at = find_victim(r), promised = r->promised - (newcomer != NULL && newcomer->promised == r);

	if (at < 0 || promised > 0 || strcmp(r->conf.preemption, "true") != 0 || !runner_is_open(r) ||
	    runner_waits(r) || runner_at_work(r) != r->conf.concurrency ||
	    runner_held_count(r) == RUNNER_MAX_HELD)
		return NULL;
	return r->held[at].job;
}

bool
runner_can_begin(const struct runner *r, const struct job *job)
{
	bool may_interrupt = job->class == CLASS_HIGH && !job->alone;

	return runner_can_take(r, job) || (may_interrupt && runner_victim(r, job) != NULL);
}

/* ---- making way */

static void
tell(struct runner *r, const struct held *held, unsigned type)
{
	struct proto_msg m = {.head = held->head};

	m.head.type = (uint16_t)type;
	runner_send(r, &m, NULL);
}

void
runner_make_way(struct runner *r, const struct job *newcomer)
{
	int at = find_victim(r);

	if (newcomer->class != CLASS_HIGH || runner_at_work(r) <= r->conf.concurrency || at < 0)
		return;
	journal(EVENT_JOB_PREEMPTED, .job = r->held[at].job, .other_job = newcomer->id);
	r->held[at].waits = true;
	tell(r, &r->held[at], PROTO_SUSPEND);
}

/* ---- going on */

static bool
listens(const struct runner *r)
{
	return r->fsm.state == RUNNER_BUSY || r->fsm.state == RUNNER_CANCELLING; /* else it is being ended */
}

static void
go_on(struct runner *r, struct held *held)
{
	struct job *job = held->job;

	held->waits = false;
	if (listens(r))
		tell(r, held, PROTO_RESUME);
	job_event(job, JOB_EVENT_RESUMED);
	runner_changed(r); /* another one may have to make way now */
}

void
runner_go_on(struct runner *r)
{
	for (int i = 0; i < RUNNER_MAX_HELD; i++) {
		struct held *held = &r->held[i];
		bool suspended = held->job != NULL && job_state(held->job) == JOB_SUSPENDED;
		if (suspended && listens(r) && runner_at_work(r) < r->conf.concurrency)
			go_on(r, held);
	}
}

void
runner_end_suspension(struct runner *r, struct job *job)
{
	for (int i = 0; i < RUNNER_MAX_HELD; i++) {
		if (r->held[i].job == job)
			go_on(r, &r->held[i]);
	}
}
