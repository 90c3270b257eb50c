/*
 * A job's life: the state machine. How long each state may last is in job_clocks.c.
 */
#include <stdio.h>

#include "ipc/clock.h"
#include "supervisor/jobs/job_inside.h"
#include "supervisor/journal.h"

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
	job_world()->started(job);
	job_world()->advanced(job);
}

static void
do_advance(void *object, void *detail)
{
	(void)detail;
	job_world()->advanced(object);
}

static void
do_suspend(void *object, void *detail)
{
	struct job *job = object;

	(void)detail;
	stop_counting(job);
	job->suspended_since_us = clock_now_us();
	job->suspensions++;
	job_world()->advanced(job);
}

static void
do_resume(void *object, void *detail)
{
	struct job *job = object;

	(void)detail;
	stop_counting(job);
	job->running_since_us = clock_now_us();
	journal(EVENT_JOB_RESUMED, .job = job, .after_us = job->suspended_us);
	job_world()->advanced(job);
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
	job_world()->ended(job);
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
		job_world()->overdue(job);
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
		    "The job ran for %g s, in stage %s, step %u of %d, and was stopped.",
		    job_exec_timeout_s(job), stage_name(job->stage), job->step, job->steps);
	job_world()->overdue(job);
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
		job_world()->suspended_out(job);
}

static void
do_write_failed(void *object, void *detail)
{
	struct err e;

	(void)detail;
	err_set(&e, ERR_DISK_FULL, "The result could not be written within %d s.",
	    (int)(JOB_WRITE_CLOCK_US / 1000000));
	end(object, &e);
}

/* The runner did not acknowledge: it hangs, and its death brings the job back. */
static void
do_no_answer(void *object, void *detail)
{
	(void)detail;
	job_world()->unanswered(object);
}

/* It counts before it begins: one that takes the machine down is remembered for it. */
static void
do_claim(void *object, void *detail)
{
	struct job *job = object;

	(void)detail;
	job->attempt++;
	job->ran_us = 0;
	job_world()->claimed(job);
}

static void
do_pick(void *object, void *detail)
{
	struct job *job = object;

	(void)detail;
	job->waited_us += job_waits_us(job);
	job->queued_us = 0;
}

/* Nothing was begun: the runner is not there any more, or the disk did not take the note. */
static void
do_unclaim(void *object, void *detail)
{
	struct job *job = object;

	(void)detail;
	job->attempt--;
	if (job->attempt == 0)
		job_drop_checkpoint(job); /* nothing is in it, and it may be that runner's */
	job_world()->requeued(job);
}

static void
do_hold(void *object, void *detail)
{
	struct job *job = object;

	(void)detail;
	job->held_us = clock_now_us();
	job->waited_us += job_waits_us(job);
	job->queued_us = 0;
	job_world()->held(job);
}

static void
do_release(void *object, void *detail)
{
	struct job *job = object;

	(void)detail;
	job->held_us = 0;
	job->queued_us = clock_now_us();
	job_world()->released(job);
}

static void
do_requeue(void *object, void *detail)
{
	struct job *job = object;

	(void)detail;
	job->queued_us = clock_now_us();
	stop_counting(job);
	journal(EVENT_JOB_REQUEUED, .job = job);
	job_world()->requeued(job);
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
moved(void *object, int from, int to, int event)
{
	struct job *job = object;

	(void)to; /* it is in that already */
	job_world()->moved(job, (enum job_event)event);
	journal(
	    EVENT_JOB_MOVED, .job = job, .state_before = job_states[from].name, .detail = event_names[event]);
}

static void
refused(void *object, int state, int event)
{
	(void)state;
	journal(EVENT_STATE_REFUSED, .job = object, .detail = event_names[event]);
}

const struct fsm_kind job_kind = {
    .what = "job",
    .states = job_states,
    .state_count = JOB_STATE_COUNT,
    .event_names = event_names,
    .event_count = JOB_EVENT_COUNT,
    .rows = rows,
    .row_count = sizeof(rows) / sizeof(rows[0]),
    .arm = job_arm,
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
	static char names[CLASS_COUNT][16]; /* as api.def has them, looked up once */

	if (names[class][0] == '\0')
		snprintf(names[class], sizeof(names[class]), "%s",
		    api_choice_word(API_submit, "priority", (int)class));
	return names[class];
}
