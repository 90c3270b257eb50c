/*
 * The waiting jobs: three classes in order, first come first served within each.
 */
#include "supervisor/queue.h"

void
queue_init(struct queue *q)
{
	for (int i = 0; i < CLASS_COUNT; i++) {
		TAILQ_INIT(&q->lines[i]);
		q->counts[i] = 0;
	}
}

int
queue_length(const struct queue *q)
{
	int length = 0;

	for (int i = 0; i < CLASS_COUNT; i++)
		length += q->counts[i];
	return length;
}

void
queue_push(struct queue *q, struct job *job)
{
	TAILQ_INSERT_TAIL(&q->lines[job->class], job, queue_link);
	q->counts[job->class]++;
	job->in_queue = true;
}

void
queue_push_front(struct queue *q, struct job *job)
{
	TAILQ_INSERT_HEAD(&q->lines[job->class], job, queue_link);
	q->counts[job->class]++;
	job->in_queue = true;
}

void
queue_remove(struct queue *q, struct job *job)
{
	TAILQ_REMOVE(&q->lines[job->class], job, queue_link);
	q->counts[job->class]--;
	job->in_queue = false;
}

/* The first job of the classes from `class` on. */
static struct job *
first_from(const struct queue *q, int class)
{
	for (; class < CLASS_COUNT; class ++) {
		if (!TAILQ_EMPTY(&q->lines[class]))
			return TAILQ_FIRST(&q->lines[class]);
	}
	return NULL;
}

struct job *
queue_first(const struct queue *q)
{
	return first_from(q, 0);
}

struct job *
queue_next(const struct queue *q, const struct job *job)
{
	struct job *next;

	if (job == NULL)
		return queue_first(q);
	next = TAILQ_NEXT(job, queue_link);
	return next != NULL ? next : first_from(q, job->class + 1);
}

int
queue_position(const struct queue *q, const struct job *job)
{
	int position = 0;

	for (const struct job *j = queue_first(q); j != NULL; j = queue_next(q, j)) {
		position++;
		if (j == job)
			return position;
	}
	return 0;
}
