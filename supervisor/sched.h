/*
 * Which waiting job goes to which runner: whose turn it is (queue.h), and who wants a runner to itself or a
 * fresh one.
 */
#ifndef SUPERVISOR_SCHED_H
#define SUPERVISOR_SCHED_H

#include "supervisor/jobs/queue.h"
#include "supervisor/runners/runner.h"

/* Hands jobs to runners until one side is used up; those that are durable only if their attempts are
 * `writable`, for they are written down first. Returns when it should be done again though nothing changed
 * (CLOCK_MONOTONIC), or 0: it need not. */
int64_t sched_run(struct queue *q, struct runner *const *runners, int runner_count, bool writable);

#endif
