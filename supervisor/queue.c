/*
 * The waiting jobs. Their order is fair.c's; what is here ties it to jobs, and remembers the order for those
 * who look.
 */
#include "supervisor/queue.h"

#include <stddef.h>
#include <stdlib.h>

static struct job *
job_of(const struct fair_item *item)
{
	return (struct job *)((char *)item - offsetof(struct job, turn));
}

void
queue_init(struct queue *q)
{
	*q = (struct queue){.order_stale = true};
	fair_init(&q->fair);
}

void
queue_clear(struct queue *q)
{
	fair_clear(&q->fair);
	free(q->order);
	q->order = NULL;
	q->order_count = q->order_room = 0;
}

int
queue_length(const struct queue *q)
{
	return q->fair.count;
}

int
queue_class_length(const struct queue *q, enum job_class class)
{
	return q->fair.classes[class].count;
}

/* ---- in and out */

static bool
entered(struct queue *q, struct job *job, bool good)
{
	job->in_queue = good;
	q->loners += good && job->alone;
	q->order_stale = true;
	return good;
}

static void
left(struct queue *q, struct job *job)
{
	job->in_queue = false;
	q->loners -= job->alone;
	q->order_stale = true;
}

bool
queue_push(struct queue *q, struct job *job)
{
	return entered(q, job, fair_push(&q->fair, &job->turn, job->client, (int)job->class, job->cost_s));
}

bool
queue_push_front(struct queue *q, struct job *job)
{
	return entered(
	    q, job, fair_push_front(&q->fair, &job->turn, job->client, (int)job->class, job->cost_s));
}

void
queue_remove(struct queue *q, struct job *job)
{
	fair_remove(&q->fair, &job->turn);
	left(q, job);
}

/* ---- picking */

struct choice {
	bool (*may_run)(void *arg, const struct job *job);
	void *arg;
};

static bool
item_may_run(void *arg, const struct fair_item *item)
{
	const struct choice *choice = arg;

	return choice->may_run(choice->arg, job_of(item));
}

struct job *
queue_pick(struct queue *q, bool (*may_run)(void *arg, const struct job *job), void *arg)
{
	struct choice choice = {may_run, arg};
	struct fair_item *item = fair_pick(&q->fair, item_may_run, &choice);

	if (item == NULL)
		return NULL;
	job_of(item)->charged_s = item->cost;
	left(q, job_of(item));
	return job_of(item);
}

static bool
is_it(void *arg, const struct job *job)
{
	return job == arg;
}

void
queue_take(struct queue *q, struct job *job)
{
	queue_pick(q, is_it, job);
}

void
queue_settle(struct queue *q, struct job *job, double actual_s)
{
	if (job->charged_s == 0)
		return;
	fair_done(&q->fair, job->client, (int)job->class, job->charged_s, actual_s);
	job->charged_s = 0;
	q->order_stale = true;
}

enum fair_verdict
queue_admit(const struct queue *q, const struct fair_limits *limits, const char *client, enum job_class class,
    struct job **victim)
{
	struct fair_item *item;
	enum fair_verdict verdict = fair_admit(&q->fair, limits, client, (int)class, &item);

	*victim = item != NULL ? job_of(item) : NULL;
	return verdict;
}

/* ---- looking */

/* Without memory nobody has a place for the moment. */
static void
look(struct queue *q)
{
	struct fair_item **items;

	if (!q->order_stale)
		return;
	q->order_count = 0;
	items = malloc((size_t)(q->fair.count + 1) * sizeof(struct fair_item *));
	if (q->order_room < q->fair.count) {
		free(q->order);
		q->order = malloc((size_t)q->fair.count * 2 * sizeof(struct job *));
		q->order_room = q->order != NULL ? 2 * q->fair.count : 0;
	}
	if (items != NULL && q->order_room >= q->fair.count && fair_order(&q->fair, items)) {
		for (; q->order_count < q->fair.count; q->order_count++) {
			q->order[q->order_count] = job_of(items[q->order_count]);
			q->order[q->order_count]->place = q->order_count;
		}
		q->order_stale = false;
	}
	free(items);
}

struct job *
queue_first(struct queue *q)
{
	look(q);
	return q->order_count > 0 ? q->order[0] : NULL;
}

struct job *
queue_next(struct queue *q, const struct job *job)
{
	if (job == NULL)
		return queue_first(q);
	look(q);
	return job->in_queue && job->place + 1 < q->order_count ? q->order[job->place + 1] : NULL;
}

int
queue_position(struct queue *q, const struct job *job)
{
	look(q);
	return job->in_queue && job->place < q->order_count ? job->place + 1 : 0;
}
