/*
 * The waiting jobs. Their order is fair.c's; what is here ties it to jobs, and remembers the order for those
 * who look.
 */
#include "supervisor/jobs/queue.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#include "ipc/clock.h"

/* Looks are good for so long when nothing happens: the time that is left of running jobs goes by. */
#define LOOK_US (20 * INT64_C(1000))
/* Where more are waiting than this, a look is good for so long for each of them: thirty times what it takes.
 */
#define LONG_QUEUE 200
#define LONG_LOOK_US INT64_C(20)

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

/* Whether the order as it was looked at last has it. */
static bool
is_in_order(const struct queue *q, const struct job *job)
{
	return job->place < q->order_count && q->order[job->place] == job;
}

static bool
entered(struct queue *q, struct job *job, bool good)
{
	job->in_queue = good;
	job->spot = (struct plan_spot){0};
	q->loners += good && job->alone;
	q->order_stale = true;
	return good;
}

static void
left(struct queue *q, struct job *job)
{
	if (is_in_order(q, job))
		q->order[job->place] = NULL;
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

bool
queue_push_again(struct queue *q, struct job *job)
{
	return entered(
	    q, job, fair_push_again(&q->fair, &job->turn, job->client, (int)job->class, job->cost_s));
}

bool
queue_hold_again(struct queue *q, struct job *job)
{
	return fair_hold_again(&q->fair, &job->turn, job->client, (int)job->class, job->cost_s);
}

void
queue_remove(struct queue *q, struct job *job)
{
	fair_remove(&q->fair, &job->turn);
	if (job->in_queue)
		left(q, job);
}

void
queue_hold(struct queue *q, struct job *job)
{
	fair_hold(&q->fair, &job->turn);
	left(q, job);
}

void
queue_release(struct queue *q, struct job *job)
{
	fair_release(&q->fair, &job->turn);
	entered(q, job, true);
}

/* ---- picking */

bool
queue_may_start(const struct queue *q, const struct job *job)
{
	const struct fair_client *c = job->turn.client;
	double again_s;

	if (c != NULL && c->max_running > 0 && c->running >= c->max_running)
		return false;
	return q->world == NULL || q->world->may_start(q->world->arg, job, 0, &again_s);
}

struct choice {
	const struct queue *queue;
	bool (*may_run)(void *arg, const struct job *job);
	void *arg;
};

static bool
item_may_run(void *arg, const struct fair_item *item)
{
	const struct choice *choice = arg;

	return choice->may_run(choice->arg, job_of(item)) && queue_may_start(choice->queue, job_of(item));
}

static void
picked(struct queue *q, struct job *job)
{
	job->charged_s = job->turn.cost;
	left(q, job);
	drain_rate_note(&q->drain, (double)clock_now_us() * 1e-6, q->fair.count);
}

struct job *
queue_pick(struct queue *q, bool (*may_run)(void *arg, const struct job *job), void *arg)
{
	struct choice choice = {q, may_run, arg};
	struct fair_item *item = fair_pick(&q->fair, item_may_run, &choice);

	if (item == NULL)
		return NULL;
	picked(q, job_of(item));
	return job_of(item);
}

void
queue_take(struct queue *q, struct job *job)
{
	fair_take(&q->fair, &job->turn);
	picked(q, job);
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

static double
cost_on(void *arg, const struct fair_item *item, int line, double *variance)
{
	const struct queue *q = arg;

	return q->world->cost(q->world->arg, job_of(item), line, variance);
}

static bool
may_start(void *arg, const struct fair_item *item, double at_s, double *again_s)
{
	const struct queue *q = arg;

	return q->world->may_start(q->world->arg, job_of(item), at_s, again_s);
}

static void
note_spot(void *arg, struct fair_item *item, const struct plan_spot *spot)
{
	struct queue *q = arg;
	struct job *job = job_of(item);

	q->order[q->order_count] = job;
	job->place = q->order_count++;
	job->spot = *spot;
}

static bool
make_room(struct queue *q)
{
	if (q->order_room >= q->fair.count)
		return true;
	free(q->order);
	q->order = malloc((size_t)q->fair.count * 2 * sizeof(struct job *));
	q->order_room = q->order != NULL ? 2 * q->fair.count : 0;
	return q->order != NULL;
}

/* Without memory nobody has a place for the moment. */
static void
look(struct queue *q)
{
	const struct plan_rules rules = {q, cost_on, may_start};
	struct plan_line lines[PLAN_LINES] = {0};
	int count = 1;

	if (!q->order_stale)
		return;
	q->order_count = 0;
	q->looked_us = clock_now_us();
	if (q->world != NULL)
		count = q->world->lines(q->world->arg, lines);
	if (make_room(q))
		q->order_stale =
		    !plan_play(&q->fair, lines, count, q->world != NULL ? &rules : NULL, note_spot, q);
}

/* For those who ask of any queue that is longer. */
static bool
look_is_too_dear(const struct queue *q, int longer)
{
	return q->order_count > longer && clock_now_us() - q->looked_us < q->order_count * LONG_LOOK_US;
}

static const struct plan_spot *
spot_before(const struct fair_item *item, const struct fair_item **before)
{
	*before = TAILQ_PREV(item, fair_line, link);
	return *before != NULL && job_of(*before)->spot.runs ? &job_of(*before)->spot : NULL;
}

/* One that came since the last look is as far behind the one before it in its client's line as that is behind
 * its own. false: there are no two such. */
static bool
guess_spot(const struct queue *q, struct job *job)
{
	const struct fair_item *item;
	const struct plan_spot *last = spot_before(&job->turn, &item);
	const struct plan_spot *but_one = last != NULL ? spot_before(item, &item) : NULL;
	int places;

	if (but_one == NULL)
		return false;
	places = last->place > but_one->place ? last->place - but_one->place : 1;
	job->spot = *last;
	job->spot.place = last->place + places < q->fair.count ? last->place + places : q->fair.count;
	job->spot.start_s += fmax(0, last->start_s - but_one->start_s);
	job->spot.done_s += fmax(0, last->done_s - but_one->done_s);
	job->spot.start_variance += fmax(0, last->start_variance - but_one->start_variance);
	job->spot.done_variance += fmax(0, last->done_variance - but_one->done_variance);
	return true;
}

/* It may be a guess, or an old look. */
static bool
is_known_roughly(const struct queue *q, struct job *job)
{
	return is_in_order(q, job) || job->spot.place > 0 || guess_spot(q, job);
}

void
queue_look(struct queue *q)
{
	q->order_stale = true;
	look(q);
}

bool
queue_guesses(const struct queue *q, const struct job *job)
{
	return job->in_queue && !is_in_order(q, job);
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

static struct plan_spot
find_spot(struct queue *q, const struct job *of, int longer)
{
	struct job *job = job_of(&of->turn); /* the look is remembered there */
	struct plan_spot spot = {0};
	double passed_s;

	if (!job->in_queue)
		return spot;
	q->order_stale |= clock_now_us() - q->looked_us > LOOK_US;
	if (!look_is_too_dear(q, longer) || !is_known_roughly(q, job))
		look(q);
	if (job->spot.place == 0)
		return spot;
	spot = job->spot;
	passed_s = (double)(clock_now_us() - q->looked_us) * 1e-6;
	spot.start_s = fmax(0, spot.start_s - passed_s);
	spot.done_s = fmax(0, spot.done_s - passed_s);
	return spot;
}

struct plan_spot
queue_spot(struct queue *q, const struct job *job)
{
	return find_spot(q, job, LONG_QUEUE);
}

struct plan_spot
queue_rough_spot(struct queue *q, const struct job *job)
{
	return find_spot(q, job, 0);
}
