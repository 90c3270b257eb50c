/*
 * The flood: sources, devices, and the queue between them in virtual time.
 */
#include "supervisor/scheduling/sim_flood.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/scheduling/cost.h"
#include "supervisor/scheduling/fair.h"
#include "supervisor/scheduling/forecast.h"
#include "supervisor/scheduling/plan.h"

#define MEAN_S 5.9 /* of a job */
#define QUEUE_TIMEOUT_S 300.0
#define HIGH_SHARE 0.25 /* of capacity */
#define NOISE 0.05	/* of a job's time that its size does not tell */
#define LEAST_DEADLINE_S 5.0
#define MOST_DEADLINE_S 120.0

enum { DEVICES = 2, LIGHT = SIM_LIGHT, PLACES = 50, CAP = 12, SOURCES = LIGHT + 2 };

/* A waiting or running job. */
struct job {
	struct fair_item item; /* first, so that an item is its job */
	TAILQ_ENTRY(job) link; /* of those that wait */
	enum kind kind;
	char key[8];
	int class;
	double at_s, takes_s, began_s;
	struct cost_work work;
	struct plan_spot spot;
	struct forecast_promise promise;
	double deadline_s; /* in thought */
	bool refused;	   /* it would have been */
};

struct source {
	enum kind kind;
	char key[8];
	int class;
	double rate, next_s;
	uint64_t random[4]; /* its own, so that all orders have the same jobs to serve */
};

struct sim {
	struct sim_options options;
	struct fair fair;
	struct cost costs[DEVICES];
	struct forecast forecast;
	TAILQ_HEAD(, job) waiting;
	struct source sources[SOURCES], flooder;
	struct job *running[DEVICES];
	double free_s[DEVICES], now_s;
	uint64_t thought[4];   /* chance of what does not happen, so that it changes nothing */
	struct totals *totals; /* by kind */
	struct keeping *keeping;
};

/* ---- chance: xoshiro256**, seeded by splitmix64 */

static uint64_t
next_random(uint64_t x[4])
{
	uint64_t result = x[1] * 5, t = x[1] << 17;

	result = ((result << 7) | (result >> 57)) * 9;
	x[2] ^= x[0];
	x[3] ^= x[1];
	x[1] ^= x[2];
	x[0] ^= x[3];
	x[2] ^= t;
	x[3] = (x[3] << 45) | (x[3] >> 19);
	return result;
}

static void
seed_random(uint64_t x[4], uint64_t seed)
{
	for (int i = 0; i < 4; i++) {
		uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);
		z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
		z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
		x[i] = z ^ (z >> 31);
	}
}

/* In (0, 1). */
static double
uniform(uint64_t x[4])
{
	return ((double)(next_random(x) >> 11) + 0.5) * 0x1p-53;
}

static double
exponential(struct source *from)
{
	return -log(uniform(from->random)) / from->rate;
}

static double
normal(uint64_t x[4])
{
	double radius = sqrt(-2 * log(uniform(x)));

	return radius * cos(6.283185307179586 * uniform(x));
}

static double
service_s(struct source *from)
{
	return fmin(100, fmax(2, exp(1.6 + 0.6 * normal(from->random))));
}

/* The size that tells how long it takes, but for the noise: 0.3 s, 0.5 s a step and megapixel, 0.4 s a
 * megapixel. */
static struct cost_work
work_for(struct sim *s, double takes_s)
{
	struct cost_work work = {1, 8, 1};

	if (s->options.model)
		work.megapixels =
		    fmax(0.01, (takes_s * exp(NOISE * normal(s->thought)) - 0.3) / (0.5 * 8 + 0.4));
	return work;
}

/* ---- the queue, in each order */

static struct job *
first_of(struct sim *s, bool by_class)
{
	struct fair_item *best = NULL, *item;
	struct fair_client *c;

	TAILQ_FOREACH(c, &s->fair.clients, link)
	{
		for (int k = 0; k < FAIR_CLASSES; k++) {
			item = TAILQ_FIRST(&c->accounts[k].items);
			if (item != NULL &&
			    (best == NULL || (by_class && item->class < best->class) ||
				((!by_class || item->class == best->class) && item->order < best->order)))
				best = item;
		}
	}
	if (best != NULL)
		fair_remove(&s->fair, best);
	return (struct job *)best;
}

static struct job *
pick(struct sim *s)
{
	struct job *job = s->options.order == ORDER_FAIR ? (struct job *)fair_pick(&s->fair, NULL, NULL)
							 : first_of(s, s->options.order == ORDER_STRICT);

	if (job != NULL)
		TAILQ_REMOVE(&s->waiting, job, link);
	return job;
}

static void
lose(struct sim *s, struct job *job)
{
	s->totals[job->kind].lost++;
	free(job);
}

/* ---- what it is told when it comes */

static double
cost_on(void *arg, const struct fair_item *item, int device, double *variance)
{
	struct sim *s = arg;

	return cost_predict(&s->costs[device], &((const struct job *)item)->work, variance);
}

static void
note_spot(void *arg, struct fair_item *item, const struct plan_spot *spot)
{
	(void)arg;
	((struct job *)item)->spot = *spot;
}

static void
make_promise(struct sim *s, struct job *job)
{
	const struct plan_rules rules = {s, cost_on, NULL};
	struct plan_line lines[DEVICES] = {0};
	double variance, predicted_s;

	for (int i = 0; i < DEVICES; i++) {
		lines[i].number = i;
		if (s->running[i] == NULL)
			continue;
		predicted_s = cost_on(s, &s->running[i]->item, i, &variance);
		lines[i].free_s =
		    cost_left(predicted_s, variance, s->now_s - s->running[i]->began_s, &lines[i].variance);
		lines[i].running[0] = s->running[i]->key;
	}
	if (!plan_play(&s->fair, lines, DEVICES, &rules, note_spot, NULL))
		exit(SIM_INTERNAL);
	job->promise = forecast_make(&s->forecast, job->class, &job->spot);
	job->refused = forecast_judge(&job->promise, job->deadline_s, QUEUE_TIMEOUT_S) == FORECAST_LATE;
}

/* What such a job is predicted to cost: the mean of what the devices say, as zitd has it. */
static double
charge_for(struct sim *s, const struct job *job)
{
	double sum = 0, variance;

	for (int i = 0; i < DEVICES; i++)
		sum += cost_predict(&s->costs[i], &job->work, &variance);
	return s->options.model ? sum / DEVICES : MEAN_S;
}

static struct job *
new_job(struct sim *s, struct source *from)
{
	struct job *job = calloc(1, sizeof(*job));

	if (job == NULL)
		exit(SIM_INTERNAL);
	job->kind = from->kind;
	job->class = from->class;
	memcpy(job->key, from->key, sizeof(job->key));
	job->at_s = s->now_s;
	job->takes_s = service_s(from);
	job->work = work_for(s, job->takes_s);
	job->deadline_s =
	    LEAST_DEADLINE_S * exp(uniform(s->thought) * log(MOST_DEADLINE_S / LEAST_DEADLINE_S));
	return job;
}

/* Who would only expire is refused at once, as in zitd. */
static bool
enter(struct sim *s, struct job *job)
{
	if (!fair_push(&s->fair, &job->item, job->key, job->class, charge_for(s, job)))
		exit(SIM_INTERNAL);
	if (s->options.order == ORDER_FAIR)
		make_promise(s, job);
	if (s->options.order != ORDER_FAIR ||
	    forecast_judge(&job->promise, 0, QUEUE_TIMEOUT_S) != FORECAST_EXPIRES) {
		TAILQ_INSERT_TAIL(&s->waiting, job, link);
		return true;
	}
	fair_remove(&s->fair, &job->item);
	return false;
}

static void
arrive(struct sim *s, struct source *from)
{
	static const struct fair_limits guarded = {PLACES, CAP, 0, 0}, open = {PLACES, PLACES, 0, 0};
	struct fair_item *victim;
	enum fair_verdict verdict = fair_admit(
	    &s->fair, s->options.order == ORDER_FAIR ? &guarded : &open, from->key, from->class, &victim);
	struct job *job = new_job(s, from);

	if (verdict == FAIR_DISPLACE && s->options.order == ORDER_FAIR) {
		fair_remove(&s->fair, victim);
		TAILQ_REMOVE(&s->waiting, (struct job *)victim, link);
		lose(s, (struct job *)victim);
		verdict = FAIR_ADMIT;
	}
	if (verdict != FAIR_ADMIT || !enter(s, job))
		lose(s, job);
}

/* The flooder sends whenever there is a place that it may have. */
static void
flood(struct sim *s)
{
	struct fair_limits limits = {PLACES, s->options.order == ORDER_FAIR ? CAP : PLACES, 0, 0};
	struct fair_item *victim;

	while (fair_admit(&s->fair, &limits, s->flooder.key, s->flooder.class, &victim) == FAIR_ADMIT)
		arrive(s, &s->flooder);
}

static void
expire(struct sim *s)
{
	struct job *job, *next;

	for (job = TAILQ_FIRST(&s->waiting); job != NULL; job = next) {
		next = TAILQ_NEXT(job, link);
		if (s->now_s - job->at_s <= QUEUE_TIMEOUT_S)
			continue;
		TAILQ_REMOVE(&s->waiting, job, link);
		fair_remove(&s->fair, &job->item);
		lose(s, job);
	}
}

/* ---- devices */

static void
start(struct sim *s, int device, struct job *job)
{
	struct totals *t = &s->totals[job->kind];

	s->running[device] = job;
	job->began_s = s->now_s;
	s->free_s[device] = s->now_s + job->takes_s;
	if (t->served < SIM_MAX_WAITS)
		t->waits[t->served] = s->now_s - job->at_s;
	t->served++;
	t->device_s += job->takes_s;
	if (job->kind == KIND_LIGHT)
		t->of_client[job->key[1] - '0'] += job->takes_s;
}

/* Holds what it was told against what came. */
static void
hold_against(struct sim *s, const struct job *job)
{
	struct keeping *k = s->keeping;
	double done_s = s->now_s - job->at_s;

	k->promised++;
	k->kept_p50 += done_s <= job->promise.done_s[FORECAST_LIKELY];
	k->kept_p95 += done_s <= job->promise.done_s[FORECAST_SURE];
	k->refused += job->refused;
	k->truly_late += job->refused && done_s > job->deadline_s;
	forecast_learn(&s->forecast, job->class, &job->promise, done_s);
}

static void
finish(struct sim *s, int device)
{
	struct job *job = s->running[device];
	bool truth = s->options.correct || s->options.model;

	if (s->options.order == ORDER_FAIR) {
		fair_done(
		    &s->fair, job->key, job->class, job->item.cost, truth ? job->takes_s : job->item.cost);
		hold_against(s, job);
	}
	cost_learn(&s->costs[device], &job->work, job->takes_s);
	s->running[device] = NULL;
	s->free_s[device] = INFINITY;
	free(job);
}

static void
serve(struct sim *s)
{
	flood(s);
	for (int i = 0; i < DEVICES; i++) {
		struct job *job;
		if (s->running[i] != NULL)
			continue;
		expire(s);
		job = pick(s);
		if (job != NULL)
			start(s, i, job);
	}
}

/* ---- a run */

static void
set_source(struct source *from, uint64_t seed, enum kind kind, const char *key, int class, double rate)
{
	from->kind = kind;
	snprintf(from->key, sizeof(from->key), "%s", key);
	from->class = class;
	from->rate = rate;
	seed_random(from->random, seed);
	from->next_s = rate > 0 ? exponential(from) : 0;
}

static void
open_sim(struct sim *s, uint64_t seed)
{
	char key[8];

	TAILQ_INIT(&s->waiting);
	fair_init(&s->fair);
	forecast_init(&s->forecast);
	for (int i = 0; i < DEVICES; i++)
		cost_init(&s->costs[i], 0.5, 0.3, 0.2);
	seed_random(s->thought, ~seed);
	seed <<= 10; /* a stream for each source of each run */
	set_source(&s->flooder, seed + SOURCES, KIND_FLOODER, "A", 1, 0);
	for (int i = 0; i < LIGHT; i++) {
		snprintf(key, sizeof(key), "L%d", i);
		set_source(&s->sources[i], seed + (uint64_t)i, KIND_LIGHT, key, 1, 1.0 / 120);
	}
	set_source(&s->sources[LIGHT], seed + LIGHT, KIND_HIGH, "H", 0, HIGH_SHARE * DEVICES / MEAN_S);
	set_source(&s->sources[LIGHT + 1], seed + LIGHT + 1, KIND_LOW, "LOW", 2, 1.0 / 90);
	for (int i = 0; i < DEVICES; i++)
		s->free_s[i] = INFINITY;
}

static void
run(struct sim *s, double until_s)
{
	while (true) {
		struct source *from = &s->sources[0];
		int device = 0;
		for (int i = 1; i < SOURCES; i++)
			from = s->sources[i].next_s < from->next_s ? &s->sources[i] : from;
		for (int i = 1; i < DEVICES; i++)
			device = s->free_s[i] < s->free_s[device] ? i : device;
		s->now_s = fmin(from->next_s, s->free_s[device]);
		if (s->now_s >= until_s)
			return;
		if (s->free_s[device] <= from->next_s)
			finish(s, device);
		else {
			arrive(s, from);
			from->next_s = s->now_s + exponential(from);
		}
		serve(s);
	}
}

static void
close_sim(struct sim *s)
{
	struct job *job;

	while ((job = pick(s)) != NULL)
		free(job);
	for (int i = 0; i < DEVICES; i++)
		free(s->running[i]);
	fair_clear(&s->fair);
}

void
sim_flood(
    const struct sim_options *options, uint64_t seed, struct totals totals[KINDS], struct keeping *keeping)
{
	struct sim s = {.options = *options, .totals = totals, .keeping = keeping};

	open_sim(&s, seed);
	run(&s, options->hours * 3600);
	close_sim(&s);
}
