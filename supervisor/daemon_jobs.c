/*
 * The daemon's jobs: those in memory, what becomes of their results. Which are let in is in daemon_admit.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/log.h"
#include "supervisor/daemon_inside.h"

/* ---- jobs in memory */

struct job *
daemon_next_job(const struct daemon *d, const struct job *job)
{
	return job == NULL ? TAILQ_FIRST(&d->jobs) : TAILQ_NEXT(job, all_link);
}

struct job *
daemon_next_queued(struct daemon *d, const struct job *job)
{
	return queue_next(&d->queue, job);
}

struct job *
daemon_find_job(const struct daemon *d, const char *id)
{
	struct job *job;

	TAILQ_FOREACH(job, &d->jobs, all_link)
	{
		if (strcmp(job->id, id) == 0)
			return job;
	}
	return NULL;
}

struct job *
daemon_find_key(const struct daemon *d, const char *key)
{
	struct job *job;

	TAILQ_FOREACH(job, &d->jobs, all_link)
	{
		if (strcmp(job->key, key) == 0 && !job->refused)
			return job;
	}
	return NULL;
}

void
daemon_keep_job(struct daemon *d, struct job *job)
{
	job->keep = true;
	daemon_save(d, job);
}

int64_t
daemon_age_us(struct daemon *d)
{
	return age_clock_us(&d->age_clock, clock_now_us(), clock_wall_us());
}

static void
on_retained(struct disk_task *task)
{
	struct daemon *d = task->arg;

	if (task->error == EUCLEAN)
		daemon_save_note(d);		/* the next transaction mends the file */
	if (task->more && !upgrade_is_quiet(d)) /* then the next zitd goes on with it */
		daemon_retain(d);
}

void
daemon_retain(struct daemon *d)
{
	struct disk_task task = {.kind = DISK_RETAIN,
	    .done = on_retained,
	    .arg = d,
	    .retention = {.now_us = daemon_age_us(d),
		.max_bytes = d->conf.results.budget * 1024 * 1024,
		.history = d->conf.queue.history}};

	disk_put(d->disk, &task); /* without memory: the next time */
}

/* ---- what jobs tell */

/* Its attempt is over: the accounts are told what it took. */
static void
settle(struct daemon *d, struct job *job)
{
	if (job->charged_s > 0)
		daemon_count_attempt(d, job);
	queue_settle(&d->queue, job, job_attempt_s(job));
}

/* Notes where it runs; a job that ends has forgotten its runner. */
static void
on_advanced(struct job *job)
{
	const struct daemon *d = job->daemon;

	for (int i = 0; i < d->runner_count; i++) {
		if (job->runner == d->runners[i])
			job->device = i;
	}
	d->options.public->job_advanced(job);
}

static void
on_started(struct job *job)
{
	metrics_count_started(&job->daemon->metrics, job);
}

static void
on_ended(struct job *job)
{
	struct daemon *d = job->daemon;

	if (job->turn.client != NULL)
		queue_remove(&d->queue, job);
	if (job->promised != NULL)
		runner_unpromise(job);
	settle(d, job);
	daemon_count_ended(d, job);
	metrics_count_ended(&d->metrics, job);
	d->ended++;
	d->done += job_state(job) == JOB_DONE;
	if (job_state(job) == JOB_DONE)
		daemon_learn(d, job);
	daemon_judge_ended(d, job);
	if (!job->refused)
		daemon_save(d, job);
	if (!job->durable)
		d->options.public->job_ended(job); /* others hear of it when it is on disk */
	d->changed = true;
}

static void
on_claimed(struct job *job)
{
	if (job->durable)
		daemon_save(job->daemon, job);
	else
		runner_dispatch(job->promised, job);
}

/* When zitd ends, a job that survives that stays as it is; who waits for it is told. */
static void
on_requeued(struct job *job)
{
	struct daemon *d = job->daemon;
	struct err e;
	bool queued;

	if (job->promised != NULL)
		runner_unpromise(job);
	settle(d, job);
	queued = queue_push_front(&d->queue, job);
	daemon_save(d, job);
	d->changed = true;
	if (!queued) {
		err_set(&e, ERR_SYSTEM, "no memory for its place in the queue");
		job_event_error(job, JOB_EVENT_FAULT, &e);
	} else if (d->phase != SERVING)
		daemon_put_off(d, job);
}

void
daemon_put_off(struct daemon *d, struct job *job)
{
	struct err e;

	if (job->durable) {
		d->options.public->job_put_off(job);
		return;
	}
	err_set(&e, ERR_DRAINING, "%s", err_row(ERR_DRAINING)->text);
	job_event_error(job, JOB_EVENT_FAULT, &e);
}

static void
on_overdue(struct job *job)
{
	if (job->runner != NULL)
		runner_drop_job(job->runner, job);
}

static void
on_held(struct job *job)
{
	struct daemon *d = job->daemon;

	queue_hold(&d->queue, job);
	d->changed = true; /* others may have waited for it, if it wanted a runner to itself */
	daemon_save(d, job);
	d->options.public->job_advanced(job);
}

static void
on_released(struct job *job)
{
	struct daemon *d = job->daemon;

	queue_release(&d->queue, job);
	d->changed = true;
	daemon_save(d, job);
	d->options.public->job_advanced(job);
}

/* A clock that ran out, by its event. */
static enum metrics_timeout
timeout_of(const struct job *job, enum job_event event)
{
	switch (event) {
	case JOB_EVENT_QUEUE_CLOCK:
		return job_is_past_deadline(job) ? METRICS_TIMEOUT_DEADLINE : METRICS_TIMEOUT_QUEUE;
	case JOB_EVENT_EXEC_CLOCK:
		return job_is_past_deadline(job) ? METRICS_TIMEOUT_DEADLINE : METRICS_TIMEOUT_EXECUTION;
	case JOB_EVENT_WRITE_CLOCK:
		return METRICS_TIMEOUT_WRITE;
	default:
		return METRICS_TIMEOUT_NONE;
	}
}

static void
on_moved(struct job *job, enum job_event event)
{
	metrics_count_timeout(&job->daemon->metrics, timeout_of(job, event));
}

/* ---- what they ask of their runner, and tell it */

static double
exec_timeout_s(const struct job *job)
{
	return runner_conf(job->runner)->exec_timeout;
}

static int64_t
ack_clock_us(const struct job *job)
{
	return runner_ack_clock_us(job->runner);
}

static void
on_unanswered(struct job *job)
{
	runner_unanswered(job->runner);
}

static void
on_suspended_out(struct job *job)
{
	runner_end_suspension(job->runner, job);
}

void
daemon_set_job_world(struct daemon *d)
{
	d->job_world = (struct job_world){
	    .loop = d->loop,
	    .conf = &d->conf.queue,
	    .exec_timeout_s = exec_timeout_s,
	    .ack_clock_us = ack_clock_us,
	    .moved = on_moved,
	    .started = on_started,
	    .advanced = on_advanced,
	    .ended = on_ended,
	    .claimed = on_claimed,
	    .requeued = on_requeued,
	    .held = on_held,
	    .released = on_released,
	    .overdue = on_overdue,
	    .unanswered = on_unanswered,
	    .suspended_out = on_suspended_out,
	};
	job_set_world(&d->job_world);
}

/* ---- results */

struct job *
daemon_find_number(const struct daemon *d, uint64_t number)
{
	struct job *job;

	TAILQ_FOREACH(job, &d->jobs, all_link)
	{
		if (job->number == number)
			return job;
	}
	return NULL;
}

/* One picture's file is there, or not. arg_number is the job's number * JOB_MAX_PICTURES + picture. */
static void
on_written(struct disk_task *task)
{
	struct daemon *d = task->arg;
	struct job *job = daemon_find_number(d, task->arg_number / JOB_MAX_PICTURES);
	struct err e;

	if (job == NULL || job_state(job) != JOB_STORED)
		return; /* it failed meanwhile; the sweep of the next start takes the file */
	if (task->error != 0) {
		bool full = task->error == ENOSPC || task->error == EDQUOT || task->error == EROFS;
		err_set(&e, full ? ERR_DISK_FULL : ERR_SYSTEM, "The picture cannot be written to %s: %s.",
		    disk_dir(d->disk), strerror(task->error));
		job_event_error(job, JOB_EVENT_FAULT, &e);
		return;
	}
	snprintf(
	    job->pictures[task->arg_number % JOB_MAX_PICTURES].name, sizeof(task->name), "%s", task->name);
	if (--job->unwritten == 0)
		job_event(job, JOB_EVENT_WRITTEN);
}

void
daemon_store(struct daemon *d, struct job *job)
{
	struct err e;

	if (!d->options.public->job_needs_files(job)) {
		job_event(job, JOB_EVENT_WRITTEN); /* they go from the runner's memory to the client's */
		return;
	}
	job->unwritten = job->picture_count;
	for (int i = 0; i < job->picture_count; i++) {
		struct disk_task task = {.kind = DISK_WRITE,
		    .unsynced = !job->durable,
		    .done = on_written,
		    .arg = d,
		    .arg_number = job->number * JOB_MAX_PICTURES + (uint64_t)i};
		task.fd = fcntl(job->pictures[i].fd, F_DUPFD_CLOEXEC, 0);
		snprintf(task.name, sizeof(task.name), "%s-%d.png", job->id, i);
		if (task.fd >= 0 && disk_put(d->disk, &task) == 0)
			continue;
		err_set(
		    &e, ERR_SYSTEM, "The result cannot be handed to the disk thread: %s.", strerror(errno));
		if (task.fd >= 0)
			close(task.fd);
		job_event_error(job, JOB_EVENT_FAULT, &e);
		return;
	}
}

/* The file as zitd wrote it, and nothing else of its name: others could be without an end. -1 with errno. */
static int
open_result(const struct daemon *d, const struct picture *p)
{
	char path[PATH_MAX];
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), "%.3900s/%s", d->paths.results, p->name);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 || (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == p->bytes))
		return fd;
	close(fd);
	errno = EUCLEAN;
	return -1;
}

int
daemon_open_picture(const struct daemon *d, const struct job *job, int index, bool to_give_away)
{
	const struct picture *p = &job->pictures[index];
	char path[64];

	if (p->fd >= 0 && !to_give_away)
		return fcntl(p->fd, F_DUPFD_CLOEXEC, 0);
	if (p->fd < 0)
		return open_result(d, p);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", p->fd);
	return open(path, O_RDONLY | O_CLOEXEC);
}
