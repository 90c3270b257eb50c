/*
 * The waiting jobs: bounded, three classes in order, first come first served within each.
 */
#ifndef SUPERVISOR_QUEUE_H
#define SUPERVISOR_QUEUE_H

#include "supervisor/job.h"

TAILQ_HEAD(job_line, job);

struct queue {
	struct job_line lines[CLASS_COUNT];
	int counts[CLASS_COUNT];
};

void queue_init(struct queue *q);
int queue_length(const struct queue *q);
void queue_push(
    struct queue *q, struct job *job); /* at the end of its class's line; the bound is the caller's */
void queue_push_front(struct queue *q, struct job *job); /* at its front: it has waited already */
void queue_remove(struct queue *q, struct job *job);
struct job *queue_first(const struct queue *q);			  /* the one to run next, or NULL */
int queue_position(const struct queue *q, const struct job *job); /* 1.., or 0 when it is not in it */
/* The job after `job` in running order, or NULL; NULL gives the first. */
struct job *queue_next(const struct queue *q, const struct job *job);

#endif
