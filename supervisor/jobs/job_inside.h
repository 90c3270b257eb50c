/*
 * What the files of jobs share: job.c (states), job_clocks.c (how long they may last), job_make.c (beginning
 * and end), job_row.c (as the store has it), job_handover.c (from one zitd to the next). Nobody else includes
 * this.
 */
#ifndef SUPERVISOR_JOBS_JOB_INSIDE_H
#define SUPERVISOR_JOBS_JOB_INSIDE_H

#include "supervisor/jobs/job.h"

/* ---- job_make.c */

/* For the pictures that were asked for, none of which is here yet. false: no memory. */
bool job_make_room(struct job *job);

/* ---- job_clocks.c */

#define JOB_WRITE_CLOCK_US (60 * INT64_C(1000000)) /* that the disk thread may take for a result */

/* The one that was set. */
const struct job_world *job_world(void);
extern const struct fsm_state job_states[JOB_STATE_COUNT];
void job_arm(void *job, int64_t clock_us); /* its state's clock; <= 0 stops it */
/* How long it has waited since it was queued last; before its not_before it does not count as waiting. */
int64_t job_waits_us(const struct job *job);
/* How long it may run: its own limit, and no longer than its runner's. */
double job_exec_timeout_s(const struct job *job);

#endif
