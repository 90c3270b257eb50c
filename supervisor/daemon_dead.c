/*
 * Jobs that killed their runner twice: kept as dead letters until somebody tries them again or drops them,
 * and others like them refused meanwhile.
 */
#include <string.h>

#include "ipc/clock.h"
#include "supervisor/daemon_inside.h"
#include "supervisor/journal.h"

/* ---- quarantine */

bool
daemon_is_quarantined(
    const struct daemon *d, uint64_t fingerprint, bool force, bool *probe, struct err *e, json_t **data)
{
	double left_s;
	enum verdict verdict = quarantine_check(&d->quarantine, fingerprint, clock_now_us(), force, &left_s);

	*probe = verdict == VERDICT_PROBE;
	if (verdict != VERDICT_REFUSE)
		return false;
	*data = json_pack("{s:f}", "retry_after_s", left_s);
	if (left_s > 0)
		err_set(e, ERR_POISONED,
		    "A job like this one killed its runner twice; such jobs are refused for another %.0f s.",
		    left_s);
	else
		err_set(e, ERR_POISONED,
		    "A job like this one killed its runner twice; one is being tried now, wait for its end.");
	return true;
}

/* The waiting and held jobs that are like this one would end like it. */
static void
refuse_waiting(struct daemon *d, const struct job *dead)
{
	struct job *job;
	struct err e;

	err_set(&e, ERR_POISONED, "Job %s, which asked for the same, killed its runner twice.", dead->id);
	for (job = daemon_next_job(d, NULL); job != NULL; job = daemon_next_job(d, job)) {
		if (job->fingerprint == dead->fingerprint && (job->in_queue || job_state(job) == JOB_HELD))
			job_event_error(job, JOB_EVENT_FAULT, &e);
	}
}

void
daemon_judge_ended(struct daemon *d, const struct job *job)
{
	int64_t time_us = (int64_t)(d->conf.queue.quarantine * 1e6);

	if (job->probe)
		quarantine_probed(&d->quarantine, job->fingerprint, job_state(job) == JOB_DONE);
	if (job_state(job) != JOB_DEAD || time_us == 0 || job->error.code != ERR_RUNNER_CRASHED)
		return; /* one that was lost with zitd too often may be innocent */
	quarantine_add(&d->quarantine, job->fingerprint, clock_now_us() + time_us);
	journal(EVENT_JOB_QUARANTINED, .job = job, .limit_us = time_us);
	refuse_waiting(d, job);
}

/* ---- dead letters */

struct job *
daemon_retry(struct daemon *d, struct job *dead, bool force, struct err *e, json_t **data)
{
	struct api_submit p = job_request(dead);
	struct job *job = daemon_admit(d, &p, dead->uid, dead->pid, force, e, data);

	if (job == NULL)
		return NULL;
	metrics_count_submitted(&d->metrics, job, METRICS_FROM_RETRY);
	memcpy(job->retry_of, dead->id, sizeof(job->retry_of));
	memcpy(dead->retried_as, job->id, sizeof(dead->retried_as));
	daemon_save_ended(d, dead);
	journal(EVENT_JOB_RETRIED, .job = dead, .other_job = job->id);
	return job;
}

void
daemon_drop_dead(struct daemon *d, const struct job *dead)
{
	journal(EVENT_JOB_DROPPED, .job = dead);
	daemon_remove_ended(d, dead);
}
