/*
 * A job's life: the state machine, its clocks, and its record.
 */
#include "supervisor/job.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/log.h"
#include "ipc/random.h"
#include "supervisor/daemon.h"
#include "supervisor/journal.h"
#include "supervisor/metrics.h"
#include "supervisor/runner.h"

enum { DEFAULT_STEPS = 8 };

#define RETRY_WAIT_US (30 * INT64_C(1000000))  /* that an interrupted job may wait at least */
#define WRITE_CLOCK_US (60 * INT64_C(1000000)) /* that the disk thread may take for a result */

static struct job_hooks hooks;

void
job_set_hooks(const struct job_hooks *given)
{
	hooks = *given;
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

static bool
is_past_deadline(const struct job *job)
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

	return before_deadline_us(job, (int64_t)(daemon_conf(job->daemon)->queue.hold_timeout * 1e6));
}

static int64_t
ack_clock_us(const void *object)
{
	const struct job *job = object;

	return runner_ack_clock_us(job->runner);
}

static double
exec_timeout_s(const struct job *job)
{
	double ceiling = runner_conf(job->runner)->exec_timeout;

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

	return before_deadline_us(job, (int64_t)(runner_conf(job->runner)->exec_timeout * 1e6));
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
	hooks.started(job);
	hooks.advanced(job);
}

static void
do_advance(void *object, void *detail)
{
	(void)detail;
	hooks.advanced(object);
}

static void
do_suspend(void *object, void *detail)
{
	struct job *job = object;

	(void)detail;
	stop_counting(job);
	job->suspended_since_us = clock_now_us();
	job->suspensions++;
	hooks.advanced(job);
}

static void
do_resume(void *object, void *detail)
{
	struct job *job = object;

	(void)detail;
	stop_counting(job);
	job->running_since_us = clock_now_us();
	journal(EVENT_JOB_RESUMED, .job = job, .after_us = job->suspended_us);
	hooks.advanced(job);
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
	hooks.ended(job);
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
		hooks.overdue(job);
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
	if (is_past_deadline(job))
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
	if (is_past_deadline(job))
		err_set(&e, ERR_DEADLINE_UNREACHABLE,
		    "The job was in stage %s, step %u of %d, at its deadline of %g s, and was stopped.",
		    stage_name(job->stage), job->step, job->steps, job->deadline_s);
	else
		err_set(&e, ERR_EXECUTION_TIMEOUT,
		    "The job ran for %g s, in stage %s, step %u of %d, and was stopped.", exec_timeout_s(job),
		    stage_name(job->stage), job->step, job->steps);
	hooks.overdue(job);
	end(job, &e);
}

static void
do_suspension_over(void *object, void *detail)
{
	struct job *job = object;

	(void)detail;
	if (is_past_deadline(job))
		job_event(job, JOB_EVENT_EXEC_CLOCK);
	else
		runner_end_suspension(job->runner, job);
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
	struct job *job = object;

	(void)detail;
	runner_unanswered(job->runner);
}

/* It counts before it begins: one that takes the machine down is remembered for it. */
static void
do_claim(void *object, void *detail)
{
	struct job *job = object;

	(void)detail;
	job->attempt++;
	job->ran_us = 0;
	hooks.claimed(job);
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
	hooks.requeued(job);
}

static void
do_hold(void *object, void *detail)
{
	struct job *job = object;

	(void)detail;
	job->held_us = clock_now_us();
	job->waited_us += waits_us(job);
	job->queued_us = 0;
	hooks.held(job);
}

static void
do_release(void *object, void *detail)
{
	struct job *job = object;

	(void)detail;
	job->held_us = 0;
	job->queued_us = clock_now_us();
	hooks.released(job);
}

static void
do_requeue(void *object, void *detail)
{
	struct job *job = object;

	(void)detail;
	job->queued_us = clock_now_us();
	stop_counting(job);
	journal(EVENT_JOB_REQUEUED, .job = job);
	hooks.requeued(job);
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
on_timer(struct ev_loop *loop, struct ev_timer *w, int events)
{
	struct job *job = w->data;

	(void)loop;
	(void)events;
	fsm_clock(&job->fsm);
}

static void
arm(void *object, int64_t clock_us)
{
	struct job *job = object;

	daemon_arm_timer(job->daemon, &job->timer, clock_us);
}

/* A clock that ran out, by its event. */
static enum metrics_timeout
timeout_of(const struct job *job, int event)
{
	switch (event) {
	case JOB_EVENT_QUEUE_CLOCK:
		return is_past_deadline(job) ? METRICS_TIMEOUT_DEADLINE : METRICS_TIMEOUT_QUEUE;
	case JOB_EVENT_EXEC_CLOCK:
		return is_past_deadline(job) ? METRICS_TIMEOUT_DEADLINE : METRICS_TIMEOUT_EXECUTION;
	case JOB_EVENT_WRITE_CLOCK:
		return METRICS_TIMEOUT_WRITE;
	default:
		return METRICS_TIMEOUT_NONE;
	}
}

static void
moved(void *object, int from, int to, int event)
{
	struct job *job = object;

	(void)to; /* it is in that already */
	metrics_count_timeout(daemon_metrics(job->daemon), timeout_of(job, event));
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

/* ---- its checkpoint */

bool
job_need_checkpoint(struct job *job, uint64_t bytes)
{
	if (job->checkpoint >= 0 && job->checkpoint_bytes == bytes)
		return true;
	job_drop_checkpoint(job); /* of a runner with another model: it would not count */
	job->checkpoint = shm_create_checkpoint(bytes);
	job->checkpoint_bytes = bytes;
	return job->checkpoint >= 0;
}

void
job_drop_checkpoint(struct job *job)
{
	if (job->checkpoint >= 0)
		close(job->checkpoint);
	job->checkpoint = -1;
}

void
job_note_death(struct job *job, int status, const char *words, const char *log_tail)
{
	job->exit_status = status;
	snprintf(job->last_words, sizeof(job->last_words), "%s", words);
	free(job->log_tail);
	job->log_tail = strdup(log_tail); /* without memory there is none */
}

/* ---- making and freeing */

static uint64_t
random_seed(void)
{
	uint32_t seed; /* short enough to type again */

	random_bytes(&seed, sizeof(seed));
	return seed;
}

void
job_add_warning(struct job *job, const char *text)
{
	int n = 0;

	while (n < JOB_MAX_WARNINGS && job->warnings[n] != NULL)
		n++;
	if (n < JOB_MAX_WARNINGS)
		job->warnings[n] = strdup(text); /* without memory it goes without saying */
}

static void
add_warnings(struct job *job, const struct api_submit *p)
{
	if (p->has_negative_prompt && p->negative_prompt[0] != '\0')
		job_add_warning(job, "negative_prompt has no effect: this model runs without guidance");
	if (p->has_guidance && p->guidance != 0)
		job_add_warning(job, "guidance has no effect: this model runs without it");
}

static void
take_params(struct job *job, const struct api_submit *p, const struct conf *conf)
{
	job->asked_width = job->width = p->has_width ? (int)p->width : 0;
	job->asked_height = job->height = p->has_height ? (int)p->height : 0;
	job->asked_steps = p->has_steps ? (int)p->steps : 0;
	job->steps = p->has_steps ? (int)p->steps : DEFAULT_STEPS;
	job->count = p->has_n ? (int)p->n : 1;
	job->seed = p->has_seed ? (uint64_t)p->seed : random_seed();
	job->truncate = p->truncate;
	job->class = p->has_priority ? (enum job_class)p->priority : CLASS_NORMAL;
	job->queue_timeout_s = p->has_queue_timeout ? p->queue_timeout : conf->queue.queue_timeout;
	job->exec_timeout_s = p->has_exec_timeout ? p->exec_timeout : 0;
	job->deadline_s = p->has_deadline ? p->deadline : 0;
	job->keep = p->has_on_disconnect ? p->on_disconnect == 1 : !p->wait;
	job->was_waited_for = p->wait;
	job->durable = !p->has_durable || p->durable;
	add_warnings(job, p);
}

struct job *
job_blank(struct daemon *d)
{
	struct job *job = calloc(1, sizeof(*job));

	if (job == NULL)
		return NULL;
	job->daemon = d;
	job->durable = true;
	job->told_state = JOB_STATE_COUNT;
	job->exit_status = job->checkpoint = job->device = -1;
	for (int i = 0; i < JOB_MAX_PICTURES; i++)
		job->pictures[i].fd = -1;
	ev_init(&job->timer, on_timer);
	job->timer.data = job;
	return job;
}

struct job *
job_new(struct daemon *d, const struct api_submit *p, uid_t uid, pid_t pid)
{
	struct job *job = job_blank(d);

	if (job == NULL)
		return NULL;
	job->prompt = strdup(p->prompt);
	job->negative_prompt = strdup(p->has_negative_prompt ? p->negative_prompt : "");
	if (job->prompt == NULL || job->negative_prompt == NULL) {
		job_free(&job);
		return NULL;
	}
	job->number = daemon_next_number(d);
	job->uid = uid;
	if (p->has_client)
		snprintf(job->client, sizeof(job->client), "%s", p->client);
	else
		snprintf(job->client, sizeof(job->client), "uid:%d", (int)uid);
	snprintf(job->group, sizeof(job->group), "%s", p->has_group ? p->group : "");
	job->pid = pid;
	job->submitted_us = job->queued_us = clock_now_us();
	job->submitted_wall_us = clock_wall_us();
	id_make(job->id);
	take_params(job, p, daemon_conf(d));
	if (p->has_not_before)
		job->not_before_us = job->submitted_us + (int64_t)(p->not_before * 1e6);
	fsm_init(&job->fsm, &job_kind, job, JOB_QUEUED);
	return job;
}

struct api_submit
job_request(const struct job *job)
{
	struct api_submit p = {
	    .prompt = job->prompt,
	    .has_prompt = true,
	    .negative_prompt = job->negative_prompt,
	    .has_negative_prompt = job->negative_prompt[0] != '\0',
	    .width = job->asked_width,
	    .has_width = job->asked_width > 0,
	    .height = job->asked_height,
	    .has_height = job->asked_height > 0,
	    .steps = job->asked_steps,
	    .has_steps = job->asked_steps > 0,
	    .seed = (int64_t)job->seed,
	    .has_seed = true,
	    .n = job->count,
	    .has_n = true,
	    .priority = (int)job->class,
	    .has_priority = true,
	    .queue_timeout = job->queue_timeout_s,
	    .has_queue_timeout = true,
	    .exec_timeout = job->exec_timeout_s,
	    .has_exec_timeout = job->exec_timeout_s > 0,
	    .client = job->client,
	    .has_client = true,
	    .group = job->group,
	    .has_group = job->group[0] != '\0',
	    .truncate = job->truncate,
	    .has_truncate = true,
	};

	return p;
}

void
job_free(struct job **out)
{
	struct job *job = *out;

	if (job == NULL)
		return;
	daemon_arm_timer(job->daemon, &job->timer, 0);
	for (int i = 0; i < job->picture_count; i++) {
		if (job->pictures[i].fd >= 0)
			close(job->pictures[i].fd);
	}
	job_drop_checkpoint(job);
	for (int i = 0; i < JOB_MAX_WARNINGS; i++)
		free(job->warnings[i]);
	free(job->prompt);
	free(job->negative_prompt);
	free(job->log_tail);
	free(job);
	*out = NULL;
}
