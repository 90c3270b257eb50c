/*
 * Memory for checkpoints that a process has finished with: its next jobs have it, for a new one costs more
 * than all else that is done to give a job out. It stays with the process, which might still write there.
 */
#include <unistd.h>

#include "supervisor/runners/runner_inside.h"

void
runner_keep_checkpoint(struct runner *r, struct job *job)
{
	if (job->checkpoint < 0 || job->checkpoint_bytes != r->checkpoint_bytes ||
	    r->spare_count == RUNNER_MAX_HELD ||
	    shm_clear_checkpoint(job->checkpoint, r->checkpoint_bytes) != 0)
		return; /* it goes with the job */
	r->spares[r->spare_count++] = job->checkpoint;
	job->checkpoint = -1;
}

bool
runner_give_checkpoint(struct runner *r, struct job *job)
{
	if (job->checkpoint < 0 && r->spare_count > 0) {
		job->checkpoint = r->spares[--r->spare_count];
		job->checkpoint_bytes = r->checkpoint_bytes;
	}
	return job_need_checkpoint(job, r->checkpoint_bytes);
}

void
runner_drop_spares(struct runner *r)
{
	while (r->spare_count > 0)
		close(r->spares[--r->spare_count]);
}

void
runner_rest(struct runner *r)
{
	runner_deliver(r);
	if (!runner_has_jobs(r) && r->promised == 0)
		runner_drop_spares(r);
}
