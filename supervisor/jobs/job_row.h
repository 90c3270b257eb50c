/*
 * A job as the store keeps it: all that its next life needs, sealed (seal.h).
 */
#ifndef SUPERVISOR_JOBS_JOB_ROW_H
#define SUPERVISOR_JOBS_JOB_ROW_H

#include "supervisor/jobs/job.h"
#include "supervisor/store/store.h"

/* The row as the job is now, its text the caller's: store_row_clear. false: no memory. `keep_s`: how long its
 * pictures are kept, from its end. */
bool job_to_row(const struct job *job, double keep_s, struct store_row *row);

/* The job of a row: in its final state, HELD, or QUEUED with its clock running. NULL: damaged, or no memory.
 * The caller frees it, and puts it where it belongs. Its clocks go on as if nobody had been away, by the wall
 * clock if the machine was restarted. *was_with_runner: it was, or about to be. */
struct job *job_from_row(struct daemon *d, const char *body, bool *was_with_runner);

#endif
