/*
 * What a job keeps of its attempts: the memory of its steps, and how a runner ended under it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "supervisor/jobs/job.h"

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
	free(job->last_words);
	free(job->log_tail);
	job->last_words = strdup(words); /* without memory there are none */
	job->log_tail = strdup(log_tail);
}
