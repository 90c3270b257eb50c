/*
 * Which waiting job goes to which runner. One job a runner at a time; classes in order (weights and fairness
 * are to come).
 */
#ifndef SUPERVISOR_SCHED_H
#define SUPERVISOR_SCHED_H

#include "supervisor/queue.h"
#include "supervisor/runner.h"

/* Hands jobs to idle runners until one side is used up. */
void sched_run(struct queue *q, struct runner *const *runners, int runner_count);

#endif
