/*
 * A runner's jobs: which it may have, how it is given one and told to drop it.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "supervisor/journal.h"
#include "supervisor/runners/runner_inside.h"

#define ACK_CLOCK_US (2 * RUNNER_SECOND)

/* ---- saying it */

bool
runner_send(struct runner *r, struct proto_msg *m, const int *fds)
{
	int status;

	runner_deliver(r); /* everything in order */
	if (r->fsm.state == RUNNER_REAPING || r->fsm.state == RUNNER_WEDGED)
		return false; /* killed, perhaps for want of the message before */
	status = channel_send(r->channel, m, fds);
	if (status != 0 && status != -ERR_UNREACHABLE) { /* gone is gone: its death comes by the pidfd */
		journal(EVENT_RUNNER_UNTOLD, .runner = r, .detail = proto_name(m->head.type),
		    .error_name = err_row(status)->name);
		r->untold = true;
		fsm_event(&r->fsm, RUNNER_EVENT_LIE, NULL);
		return false;
	}
	if (channel_has_output(r->channel))
		runner_watch_channel(r);
	return status == 0;
}

/* ---- the jobs it holds */

int
runner_held_count(const struct runner *r)
{
	int count = 0;

	for (int i = 0; i < RUNNER_MAX_HELD; i++)
		count += r->held[i].head.job != 0;
	return count;
}

bool
runner_has_jobs(const struct runner *r)
{
	return runner_held_count(r) > 0;
}

struct held *
runner_find_held(struct runner *r, const struct proto_header *head)
{
	for (int i = 0; i < RUNNER_MAX_HELD; i++) {
		const struct proto_header *own = &r->held[i].head;
		if (own->job == head->job && own->job != 0 && own->attempt == head->attempt &&
		    own->generation == head->generation)
			return &r->held[i];
	}
	return NULL;
}

static struct held *
held_of_job(struct runner *r, const struct job *job)
{
	for (int i = 0; i < RUNNER_MAX_HELD; i++) {
		if (r->held[i].job == job)
			return &r->held[i];
	}
	return NULL;
}

void
runner_release(struct held *held, enum job_event event, const struct err *e)
{
	struct job *job = held->job;

	if (job == NULL)
		return;
	held->job = NULL;
	job->runner = NULL;
	job_event_error(job, event, e);
}

bool
runner_take_result(struct runner *r, struct held *held)
{
	struct job *job = held->job;

	if (job->picture_count < job->count)
		return false;
	runner_release(held, JOB_EVENT_RESULT, NULL);
	r->world->result(r->world->arg, job);
	return true;
}

void
runner_let_go(struct runner *r, struct held *held)
{
	bool others = false, cancelling = false;

	*held = (struct held){0};
	for (int i = 0; i < RUNNER_MAX_HELD; i++) {
		others |= r->held[i].head.job != 0;
		cancelling |= r->held[i].head.job != 0 && r->held[i].job == NULL;
	}
	if (r->fsm.state == RUNNER_BUSY || r->fsm.state == RUNNER_CANCELLING) {
		if (!others)
			fsm_event(&r->fsm, RUNNER_EVENT_ALL_OVER, NULL);
		else if (!cancelling && r->fsm.state == RUNNER_CANCELLING)
			fsm_event(&r->fsm, RUNNER_EVENT_LET_GO, NULL);
	}
	runner_go_on(r);
	runner_changed(r);
}

/* ---- jobs in */

int
runner_at_work(const struct runner *r)
{
	int count = 0;

	for (int i = 0; i < RUNNER_MAX_HELD; i++)
		count += r->held[i].head.job != 0 && !r->held[i].device_over && !r->held[i].waits;
	return count;
}

bool
runner_waits(const struct runner *r)
{
	for (int i = 0; i < RUNNER_MAX_HELD; i++) {
		if (r->held[i].waits && !r->held[i].device_over)
			return true;
	}
	return false;
}

static bool
holds_loner(const struct runner *r)
{
	for (int i = 0; i < RUNNER_MAX_HELD; i++) {
		if (r->held[i].job != NULL && r->held[i].job->alone)
			return true;
	}
	return false;
}

bool
runner_is_open(const struct runner *r)
{
	return (r->fsm.state == RUNNER_IDLE || r->fsm.state == RUNNER_BUSY) && !r->draining &&
	       r->recycling[0] == '\0';
}

bool
runner_can_take(const struct runner *r, const struct job *job)
{
	int promised = r->promised - (job->promised == r);
	int loners = r->promised_loners - (job->promised == r && job->alone);

	if (!runner_is_open(r) || (job->fresh && r->jobs_taken > 0))
		return false;
	if (job->alone)
		return runner_held_count(r) + promised == 0;
	return runner_at_work(r) + promised < r->conf.concurrency && !runner_waits(r) &&
	       runner_held_count(r) + promised < RUNNER_MAX_HELD && !holds_loner(r) && loners == 0;
}

bool
runner_promise(struct runner *r, struct job *job)
{
	if (!runner_give_checkpoint(r, job)) {
		journal(EVENT_OUT_OF_MEMORY, .job = job, .detail = "its checkpoint; tried again soon");
		return false;
	}
	job->promised = r;
	r->promised++;
	r->promised_loners += job->alone;
	return true;
}

void
runner_unpromise(struct job *job)
{
	struct runner *r = job->promised;

	r->promised--;
	r->promised_loners -= job->alone;
	job->promised = NULL;
	runner_changed(r);
}

bool
runner_awaits_loner(const struct runner *r)
{
	return r->promised_loners > 0;
}

static struct proto_msg
job_message(const struct held *held)
{
	const struct job *job = held->job;
	struct proto_msg m = {.head = held->head};

	m.head.type = PROTO_JOB;
	m.JOB = (struct proto_JOB){(uint32_t)job->width, (uint32_t)job->height, (uint32_t)job->steps,
	    (uint32_t)job->count, (uint32_t)job->picture_count, job->truncate, job->seed, job->id,
	    job->prompt, job->negative_prompt};
	return m;
}

/* Jobs of one turn leave together: it wakes once, and finds all of them. */
static void
put_in_the_post(struct runner *r, struct held *held)
{
	if (r->posted_count == RUNNER_MAX_HELD)
		runner_deliver(r);
	held->undelivered = true;
	r->posted[r->posted_count++] = held;
}

void
runner_deliver(struct runner *r)
{
	int count = r->posted_count;

	r->posted_count = 0;
	for (int i = 0; i < count; i++) {
		struct held *held = r->posted[i];
		struct proto_msg m;

		if (held->job == NULL || !held->undelivered)
			continue; /* it has lost it, by a lie perhaps */
		m = job_message(held);
		held->undelivered = !runner_send(r, &m, &held->job->checkpoint);
	}
}

/* There is one: runner_can_take has seen it. */
static struct held *
free_place(struct runner *r)
{
	struct held *held = r->held;

	while (held->head.job != 0)
		held++;
	return held;
}

void
runner_dispatch(struct runner *r, struct job *job)
{
	struct held *held = free_place(r);

	runner_unpromise(job);
	held->head =
	    (struct proto_header){.job = job->number, .attempt = job->attempt, .generation = r->generation};
	held->job = job;
	held->device_over = held->waits = false;
	job->width = job->width > 0 ? job->width : r->limits.default_side;
	job->height = job->height > 0 ? job->height : r->limits.default_side;
	job->runner = r;
	job->generation = r->generation;
	job->stage = STAGE_NONE;
	job->step = 0;
	job->picture = (uint32_t)job->picture_count;
	job->told_start = false;
	r->jobs_taken++;
	r->dispatched_us = clock_now_us();
	if (runner_held_count(r) == 1)
		r->advanced_us = r->dispatched_us;
	journal(EVENT_JOB_STARTED, .job = job, .runner = r);
	job_event(job, JOB_EVENT_PICKED);
	fsm_event(&r->fsm, RUNNER_EVENT_DISPATCH, NULL);
	runner_make_way(r, job);
	put_in_the_post(r, held);
	runner_recycle_if_due(r); /* the last one of this process, perhaps */
}

/* A runner at work looks at its socket between two units, so it may take as long as a unit may. */
int64_t
runner_ack_clock_us(const struct runner *r)
{
	int64_t hang_us = (int64_t)(r->conf.hang_timeout * 1e6);

	if (runner_held_count(r) <= 1)
		return ACK_CLOCK_US;
	return 8 * r->slowest_step_us > hang_us ? 8 * r->slowest_step_us : hang_us;
}

void
runner_unanswered(struct runner *r)
{
	if (runner_held_count(r) > 1 && clock_now_us() - runner_worked_us(r) < runner_ack_clock_us(r))
		return; /* it is at work on another job; this one's clock begins anew */
	fsm_event(&r->fsm, RUNNER_EVENT_HANG_CLOCK, (void *)&runner_timeout_ack);
}

void
runner_drop_job(struct runner *r, struct job *job)
{
	struct held *held = held_of_job(r, job);
	struct proto_msg m = {.head = held->head, .CANCEL = {ERR_CANCELLED}};

	runner_deliver(r); /* or it would be told to drop what it never had */
	held->job = NULL;
	job->runner = NULL;
	if (r->fsm.state != RUNNER_BUSY && r->fsm.state != RUNNER_CANCELLING)
		return; /* it is being ended already */
	m.head.type = PROTO_CANCEL;
	r->stop_wait_us = (int64_t)(r->conf.stopwaitsecs_timeout * 1e6);
	fsm_event(&r->fsm, RUNNER_EVENT_CANCEL, NULL);
	runner_send(r, &m, NULL);
}
