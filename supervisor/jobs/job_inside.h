/*
 * What the files of jobs share: job.c (states and clocks), job_make.c (beginning and end), job_handover.c
 * (from one zitd to the next). Nobody else includes this.
 */
#ifndef SUPERVISOR_JOBS_JOB_INSIDE_H
#define SUPERVISOR_JOBS_JOB_INSIDE_H

#include "supervisor/jobs/job.h"

/* The one that was set. */
const struct job_world *job_world(void);

#endif
