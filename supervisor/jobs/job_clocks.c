/*
 * The clocks of a job's states, and the world that they are taken from.
 */
#include "ipc/clock.h"
#include "supervisor/conf.h"
#include "supervisor/jobs/job_inside.h"
#include "supervisor/timer.h"

#define RETRY_WAIT_US (30 * INT64_C(1000000)) /* that an interrupted job may wait at least */

static const struct job_world *world;

void
job_set_world(const struct job_world *given)
{
	world = given;
}

const struct job_world *
job_world(void)
{
	return world;
}

/* ---- how long they are */

/* Until the deadline, at least a moment; of a clock that would be longer. */
static int64_t
before_deadline_us(const struct job *job, int64_t clock_us)
{
	int64_t left_us;

	if (job->deadline_s == 0)
		return clock_us;
	left_us = job->submitted_us + (int64_t)(job->deadline_s * 1e6) - clock_now_us();
	if (clock_us < left_us)
		return clock_us;
	return left_us > 1 ? left_us : 1;
}

bool
job_is_past_deadline(const struct job *job)
{
	return job->deadline_s > 0 && clock_now_us() >= job->submitted_us + (int64_t)(job->deadline_s * 1e6);
}

int64_t
job_waits_us(const struct job *job)
{
	int64_t since_us = job->queued_us > job->not_before_us ? job->queued_us : job->not_before_us;
	int64_t now_us = clock_now_us();

	return job->queued_us > 0 && now_us > since_us ? now_us - since_us : 0;
}

/* Retries do not restart it: it counts the time spent waiting, over all attempts. But one that was
 * interrupted by another's fault does not end for want of the moment that a new runner takes. */
static int64_t
queue_clock_us(const void *object)
{
	const struct job *job = object;
	int64_t left_us = (int64_t)(job->queue_timeout_s * 1e6) - job->waited_us - job_waits_us(job);
	int64_t least_us = job->attempt > 0 ? RETRY_WAIT_US : 1;
	int64_t early_us = job->attempt == 0 ? job->not_before_us - clock_now_us() : 0; /* its own wish */

	left_us = left_us > least_us ? left_us : least_us;
	return before_deadline_us(job, early_us > 0 ? early_us + left_us : left_us);
}

static int64_t
hold_clock_us(const void *object)
{
	const struct job *job = object;

	return before_deadline_us(job, (int64_t)(world->conf->hold_timeout * 1e6));
}

static int64_t
ack_clock_us(const void *object)
{
	return world->ack_clock_us(object);
}

double
job_exec_timeout_s(const struct job *job)
{
	double ceiling = world->exec_timeout_s(job);

	return job->exec_timeout_s > 0 && job->exec_timeout_s < ceiling ? job->exec_timeout_s : ceiling;
}

/* Of running time alone. */
static int64_t
exec_clock_us(const void *object)
{
	const struct job *job = object;
	int64_t left_us = (int64_t)(job_exec_timeout_s(job) * 1e6) - job->ran_us;

	return before_deadline_us(job, left_us > 1 ? left_us : 1);
}

/* No longer than the one that it made way for may run. */
static int64_t
suspension_clock_us(const void *object)
{
	const struct job *job = object;

	return before_deadline_us(job, (int64_t)(world->exec_timeout_s(job) * 1e6));
}

static int64_t
write_clock_us(const void *object)
{
	(void)object;
	return JOB_WRITE_CLOCK_US;
}

const struct fsm_state job_states[JOB_STATE_COUNT] = {
#define JOB_STATE(name, text, event, clock_us, help) [JOB_##name] = {text, event, clock_us},
#include "ipc/states.def"
};

void
job_arm(void *object, int64_t clock_us)
{
	struct job *job = object;

	timer_arm(world->loop, &job->timer, clock_us);
}
