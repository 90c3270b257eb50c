/*
 * A job's life: the state machine and its clocks.
 */
#include "ipc/clock.h"
#include "supervisor/conf.h"
#include "supervisor/jobs/job_inside.h"
#include "supervisor/journal.h"
#include "supervisor/timer.h"

#define RETRY_WAIT_US (30 * INT64_C(1000000))  /* that an interrupted job may wait at least */
#define WRITE_CLOCK_US (60 * INT64_C(1000000)) /* that the disk thread may take for a result */

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

/* ---- clocks of states */

/* Until the deadline, at least a moment; of a clock that would be longer. */
static int64_t
before_deadline_us(const struct job *job, int64_t clock_us)
{
	int64_t left_us = job->submitted_us + (int64_t)(job->deadline_s * 1e6) - clock_now_us();

	if (job->deadline_s == 0 || clock_us < left_us)
		return clock_us;
	return left_us > 1 ? left_us : 1;
}

bool
job_is_past_deadline(const struct job *job)
{
	return job->deadline_s > 0 && clock_now_us() >= job->submitted_us + (int64_t)(job->deadline_s * 1e6);
}

/* How long it has waited since it was queued last; before its not_before it does not count as waiting. */
static int64_t
waits_us(const struct job *job)
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
	int64_t left_us = (int64_t)(job->queue_timeout_s * 1e6) - job->waited_us - waits_us(job);
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

static double
exec_timeout_s(const struct job *job)
{
	double ceiling = world->exec_timeout_s(job);

	return job->exec_timeout_s > 0 && job->exec_timeout_s < ceiling ? job->exec_timeout_s : ceiling;
}

/* Of running time alone. */
static int64_t
exec_clock_us(const void *object)
{
	const struct job *job = object;
	int64_t left_us = (int64_t)(exec_timeout_s(job) * 1e6) - job->ran_us;

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
	return WRITE_CLOCK_US;
}

static const struct fsm_state states[JOB_STATE_COUNT] = {
#define JOB_STATE(name, text, event, clock_us, help) [JOB_##name] = {text, event, clock_us},
#include "ipc/states.def"
};

static const char *const event_names[JOB_EVENT_COUNT] = {
#define JOB_EVENT(name) #name,
    JOB_EVENTS(JOB_EVENT)
#undef JOB_EVENT
};

/* ---- actions */

/* Puts by what is counted: a stretch of running or a suspension has ended. */
static void
stop_counting(struct job *job)
{
	int64_t now_us = clock_now_us();

	if (job->running_since_us != 0)
		job->ran_us += now_us - job->running_since_us;
	if (job->suspended_since_us != 0)
		job->suspended_us += now_us - job->suspended_since_us;
	job->running_since_us = job->suspended_since_us = 0;
}

static void
do_start(void *object, void *detail)
{
	struct job *job = object;

	(void)detail;
	job->started_us = job->running_since_us = clock_now_us();
	world->started(job);
	world->advanced(job);
}

static void
do_advance(void *object, void *detail)
{
	(void)detail;
	world->advanced(object);
}

static void
do_suspend(void *object, void *detail)
{
	struct job *job = object;

	(void)detail;
	stop_counting(job);
	job->suspended_since_us = clock_now_us();
	job->suspensions++;
	world->advanced(job);
}

static void
do_resume(void *object, void *detail)
{
	struct job *job = object;

	(void)detail;
	stop_counting(job);
	job->running_since_us = clock_now_us();
	journal(EVENT_JOB_RESUMED, .job = job, .after_us = job->suspended_us);
	world->advanced(job);
}

static const enum event ends[JOB_STATE_COUNT] = {
    [JOB_DONE] = EVENT_JOB_FINISHED,
    [JOB_EXPIRED] = EVENT_JOB_EXPIRED,
    [JOB_EVICTED] = EVENT_JOB_EVICTED,
    [JOB_CANCELLED] = EVENT_JOB_CANCELLED,
    [JOB_FAILED] = EVENT_JOB_FAILED,
    [JOB_TIMED_OUT] = EVENT_JOB_TIMED_OUT,
    [JOB_DEAD] = EVENT_JOB_DEAD,
};

static void
end(struct job *job, const struct err *e)
{
	job->ended_us = clock_now_us();
	stop_counting(job);
	job_drop_checkpoint(job);
	if (e != NULL)
		job->error = *e;
	journal(ends[job_state(job)], .job = job);
	world->ended(job);
}

static void
do_done(void *object, void *detail)
{
	(void)detail;
	end(object, NULL);
}

static void
do_fault(void *object, void *detail)
{
	end(object, detail);
}

static void
do_cancel(void *object, void *detail)
{
	struct job *job = object;
	struct err e;

	(void)detail;
	err_set(&e, ERR_CANCELLED, "%s", err_row(ERR_CANCELLED)->text);
	if (job->runner != NULL)
		world->overdue(job);
	end(job, &e);
}

static void
do_evict(void *object, void *detail)
{
	struct err e;

	(void)detail;
	err_set(&e, ERR_EVICTED, "%s", err_row(ERR_EVICTED)->text);
	end(object, &e);
}

static void
do_expire(void *object, void *detail)
{
	struct job *job = object;
	struct err e;

	(void)detail;
	if (job_is_past_deadline(job))
		err_set(&e, ERR_DEADLINE_UNREACHABLE, "The job was still waiting at its deadline of %g s.",
		    job->deadline_s);
	else if (job->held_us != 0)
		err_set(&e, ERR_QUEUE_TIMEOUT,
		    "The job was held for %g s, longer than hold_timeout; release it in time.",
		    (double)(clock_now_us() - job->held_us) * 1e-6);
	else
		err_set(&e, ERR_QUEUE_TIMEOUT,
		    "The job waited %g s in the queue and no runner was free; try again, or allow more.",
		    job->queue_timeout_s);
	end(job, &e);
}

static void
do_time_out(void *object, void *detail)
{
	struct job *job = object;
	struct err e;

	(void)detail;
	if (job_is_past_deadline(job))
		err_set(&e, ERR_DEADLINE_UNREACHABLE,
		    "The job was in stage %s, step %u of %d, at its deadline of %g s, and was stopped.",
		    stage_name(job->stage), job->step, job->steps, job->deadline_s);
	else
		err_set(&e, ERR_EXECUTION_TIMEOUT,
		    "The job ran for %g s, in stage %s, step %u of %d, and was stopped.", exec_timeout_s(job),
		    stage_name(job->stage), job->step, job->steps);
	world->overdue(job);
	end(job, &e);
}

static void
do_suspension_over(void *object, void *detail)
{
	struct job *job = object;

	(void)detail;
	if (job_is_past_deadline(job))
		job_event(job, JOB_EVENT_EXEC_CLOCK);
	else
		world->suspended_out(job);
}

static void
do_write_failed(void *object, void *detail)
{
	struct err e;

	(void)detail;
	err_set(&e, ERR_DISK_FULL, "The result could not be written within %d s.",
	    (int)(WRITE_CLOCK_US / 1000000));
	end(object, &e);
}

/* The runner did not acknowledge: it hangs, and its death brings the job back. */
static void
do_no_answer(void *object, void *detail)
{
	(void)detail;
	world->unanswered(object);
}

/* It counts before it begins: one that takes the machine down is remembered for it. */
static void
do_claim(void *object, void *detail)
{
	struct job *job = object;

	(void)detail;
	job->attempt++;
	job->ran_us = 0;
	world->claimed(job);
}

static void
do_pick(void *object, void *detail)
{
	struct job *job = object;

	(void)detail;
	job->waited_us += waits_us(job);
	job->queued_us = 0;
}

/* Nothing was begun: the runner is not there any more, or the disk did not take the note. */
static void
do_unclaim(void *object, void *detail)
{
	struct job *job = object;

	(void)detail;
	job->attempt--;
	world->requeued(job);
}

static void
do_hold(void *object, void *detail)
{
	struct job *job = object;

	(void)detail;
	job->held_us = clock_now_us();
	job->waited_us += waits_us(job);
	job->queued_us = 0;
	world->held(job);
}

static void
do_release(void *object, void *detail)
{
	struct job *job = object;

	(void)detail;
	job->held_us = 0;
	job->queued_us = clock_now_us();
	world->released(job);
}

static void
do_requeue(void *object, void *detail)
{
	struct job *job = object;

	(void)detail;
	job->queued_us = clock_now_us();
	stop_counting(job);
	journal(EVENT_JOB_REQUEUED, .job = job);
	world->requeued(job);
}

/* ---- the table of design.md section 6 */

#define IN(state) FSM_BIT(JOB_##state)
#define WAITS (IN(QUEUED) | IN(CLAIMED) | IN(HELD))
#define AT_WORK (IN(DISPATCHED) | IN(RUNNING))
#define WITH_RUNNER (AT_WORK | IN(SUSPENDED))

static const struct fsm_row rows[] = {
    {IN(QUEUED), JOB_EVENT_CLAIMED, JOB_CLAIMED, do_claim},
    {IN(QUEUED), JOB_EVENT_EVICT, JOB_EVICTED, do_evict}, {IN(QUEUED), JOB_EVENT_GIVE_UP, JOB_DEAD, do_fault},
    {IN(QUEUED), JOB_EVENT_HOLD, JOB_HELD, do_hold}, {IN(HELD), JOB_EVENT_RELEASE, JOB_QUEUED, do_release},
    {IN(CLAIMED), JOB_EVENT_PICKED, JOB_DISPATCHED, do_pick},
    {IN(CLAIMED), JOB_EVENT_RETRY, JOB_QUEUED, do_unclaim},
    {WAITS, JOB_EVENT_QUEUE_CLOCK, JOB_EXPIRED, do_expire},
    {WAITS, JOB_EVENT_CANCEL, JOB_CANCELLED, do_cancel}, {WAITS, JOB_EVENT_FAULT, JOB_FAILED, do_fault},
    {IN(DISPATCHED), JOB_EVENT_ACKNOWLEDGED, JOB_RUNNING, do_start},
    {IN(DISPATCHED), JOB_EVENT_ACK_CLOCK, JOB_DISPATCHED, do_no_answer},
    {WITH_RUNNER, JOB_EVENT_CANCEL, JOB_CANCELLED, do_cancel},
    {WITH_RUNNER, JOB_EVENT_FAULT, JOB_FAILED, do_fault},
    {WITH_RUNNER, JOB_EVENT_RETRY, JOB_QUEUED, do_requeue}, {AT_WORK, JOB_EVENT_GIVE_UP, JOB_DEAD, do_fault},
    {IN(RUNNING), JOB_EVENT_ADVANCED, FSM_SAME, do_advance},
    {IN(RUNNING) | IN(SUSPENDED), JOB_EVENT_EXEC_CLOCK, JOB_TIMED_OUT, do_time_out},
    {IN(RUNNING), JOB_EVENT_SUSPENDED, JOB_SUSPENDED, do_suspend},
    {IN(SUSPENDED), JOB_EVENT_RESUMED, JOB_RUNNING, do_resume},
    {IN(SUSPENDED), JOB_EVENT_SUSPENSION_CLOCK, FSM_SAME, do_suspension_over},
    {IN(RUNNING), JOB_EVENT_RESULT, JOB_STORED, NULL}, {IN(STORED), JOB_EVENT_WRITTEN, JOB_DONE, do_done},
    {IN(STORED), JOB_EVENT_FAULT, JOB_FAILED, do_fault},
    {IN(STORED), JOB_EVENT_WRITE_CLOCK, JOB_FAILED, do_write_failed},
    {IN(STORED), JOB_EVENT_CANCEL, FSM_SAME, NULL}, /* the picture is made; it comes */
};

static void
arm(void *object, int64_t clock_us)
{
	struct job *job = object;

	timer_arm(world->loop, &job->timer, clock_us);
}

static void
moved(void *object, int from, int to, int event)
{
	struct job *job = object;

	(void)to; /* it is in that already */
	world->moved(job, (enum job_event)event);
	journal(EVENT_JOB_MOVED, .job = job, .state_before = states[from].name, .detail = event_names[event]);
}

static void
refused(void *object, int state, int event)
{
	(void)state;
	journal(EVENT_STATE_REFUSED, .job = object, .detail = event_names[event]);
}

const struct fsm_kind job_kind = {
    .what = "job",
    .states = states,
    .state_count = JOB_STATE_COUNT,
    .event_names = event_names,
    .event_count = JOB_EVENT_COUNT,
    .rows = rows,
    .row_count = sizeof(rows) / sizeof(rows[0]),
    .arm = arm,
    .moved = moved,
    .refused = refused,
};

int
job_event(struct job *job, enum job_event event)
{
	return fsm_event(&job->fsm, event, NULL);
}

int
job_event_error(struct job *job, enum job_event event, const struct err *e)
{
	return fsm_event(&job->fsm, event, (void *)e);
}

double
job_attempt_s(const struct job *job)
{
	int64_t us = job->running_since_us != 0 ? clock_now_us() - job->running_since_us : 0;

	return (double)(job->ran_us + us) * 1e-6;
}

double
job_suspended_s(const struct job *job)
{
	int64_t us = job->suspended_since_us != 0 ? clock_now_us() - job->suspended_since_us : 0;

	return (double)(job->suspended_us + us) * 1e-6;
}

bool
job_is_final(const struct job *job)
{
	return job->fsm.state >= JOB_FIRST_FINAL;
}

enum job_state
job_state(const struct job *job)
{
	return (enum job_state)job->fsm.state;
}

const char *
job_state_name(const struct job *job)
{
	return fsm_state_name(&job->fsm);
}

const char *job_class_name(enum job_class class)
{
	return api_choice_word(API_submit, "priority", (int)class);
}
