/*
 * An open job from one zitd to the next: its row, and what lives in memory only.
 */
#ifndef SUPERVISOR_JOBS_JOB_HANDOVER_H
#define SUPERVISOR_JOBS_JOB_HANDOVER_H

#include "supervisor/handover.h"
#include "supervisor/jobs/job.h"

json_t *job_hand_over(const struct job *job, struct handover *h); /* new reference; NULL: no memory */
/* Whether `job` is one that was handed over, as we know it. */
bool job_is_handed_over(const json_t *job);
/* The job, in its state, its clock where it was; its runner is told by runner_take_over_jobs. The caller puts
 * it where it belongs. NULL: not as we know it, or no memory. */
struct job *job_take_over(struct daemon *d, const json_t *job);

#endif
