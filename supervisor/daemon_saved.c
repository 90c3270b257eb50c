/*
 * What is on disk, and what it means for a job that it is, or cannot be.
 */
#include <string.h>

#include "supervisor/daemon_inside.h"

int64_t
daemon_change(const struct daemon *d)
{
	return d->change;
}

int64_t
daemon_saved_change(const struct daemon *d)
{
	return d->saved_change;
}

bool
daemon_end_is_pending(const struct daemon *d, const struct job *job)
{
	return job_is_final(job) && !job->refused && d->store_error == 0 &&
	       (job->unsaved || job->in_batches > 0);
}

void
daemon_forget(struct daemon *d, struct job *job)
{
	TAILQ_REMOVE(&d->jobs, job, all_link);
	job_free(&job);
}

static bool
is_finished_with(const struct job *job)
{
	return job_is_final(job) && !job->unsaved && job->in_batches == 0;
}

/* Its claim is on disk: the attempt begins, if its runner still has the place. */
static void
begin(struct daemon *d, struct job *job)
{
	if (d->phase == SERVING && runner_can_begin(job->promised, job))
		runner_dispatch(job->promised, job);
	else
		job_event(job, JOB_EVENT_RETRY);
}

void
daemon_job_saved(struct daemon *d, struct job *job, int64_t revision)
{
	bool known = job->saved_revision == revision; /* by daemon_job_end_saved: its end has been told */

	job->saved_revision = revision;
	d->options.public->job_saved(job);
	if (job->unsaved || job->in_batches > 0)
		return; /* what it has become meanwhile is not on disk yet */
	if (job_state(job) == JOB_CLAIMED)
		begin(d, job);
	else if (job_is_final(job) && !known)
		d->options.public->job_ended(job);
	if (is_finished_with(job))
		daemon_forget(d, job);
}

void
daemon_job_end_saved(struct daemon *d, struct job *job, int64_t revision)
{
	bool known = job->saved_revision == revision;

	job->saved_revision = revision;
	d->options.public->job_saved(job);
	if (!known)
		d->options.public->job_ended(job);
	daemon_save_again(d, job);
}

/* It was promised to nobody: no such job. */
static void
refuse(struct daemon *d, struct job *job, int error)
{
	struct err e;

	err_set(&e, ERR_DISK_FULL, "The job cannot be written down, and is not accepted: %s. %s",
	    strerror(error), "Free some space, or submit it with wait and durable: false.");
	job->refused = true;
	if (!job_is_final(job))
		job_event_error(job, JOB_EVENT_FAULT, &e);
	job->error = e;
	d->options.public->job_ended(job);
	if (is_finished_with(job))
		daemon_forget(d, job);
}

void
daemon_job_unsaved(struct daemon *d, struct job *job, int error)
{
	const bool untold = job->in_batches > 0; /* it is on disk as it was, and in a moment that is told */

	if (job->saved_revision == 0 && job->durable && !untold) {
		refuse(d, job, error);
		return;
	}
	if (job_state(job) == JOB_CLAIMED)
		job_event(job, JOB_EVENT_RETRY);
	/* Who waits is told, unless he was, when the end was saved alone; it is written when that is
	 * possible. */
	if (job_is_final(job) && job->saved_revision != job->revision)
		d->options.public->job_ended(job);
	if (job_is_final(job) && !job->durable && !untold)
		daemon_forget(d, job);
	else
		daemon_save_again(d, job);
}
