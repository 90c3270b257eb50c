/*
 * zit-sim: a load run through zitd's own scheduler (fair.c) in virtual time, to see who waits how long.
 *
 *   zit-sim [--scenario flood] [--seeds FIRST-LAST] [--order fair|strict|fifo] [--correct] [--hours H]
 *           [-o table|json]
 *
 * flood: two devices; one client that keeps the queue as full as it may, eight light ones (a job each two
 * minutes), a stream of the highest class at a quarter of capacity, a trickle of the lowest. Jobs take
 * log-normal times, median 5 s, at least 2 s, predicted as their mean; with --correct the accounts are told
 * what each really took, as zitd does (its predictions are better, so it has less to correct). The queue has
 * 50 places, a client at most a quarter of them; who finds it full displaces the newest of the client
 * furthest over its share; who waits 300 s is lost. fifo and strict (classes strictly in order, then first
 * come) have neither caps nor displacement: they show what those are for.
 */
#include <getopt.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/fair.h"

#define MEAN_S 5.9 /* of a job */
#define QUEUE_TIMEOUT_S 300.0
#define HIGH_SHARE 0.25 /* of capacity */

enum {
	DEVICES = 2,
	LIGHT = 8,
	PLACES = 50,
	CAP = 12,
	SOURCES = LIGHT + 2,
	MAX_WAITS = 1 << 20,
	USAGE = 64,
	INTERNAL = 70
};

enum kind { KIND_FLOODER, KIND_LIGHT, KIND_HIGH, KIND_LOW, KINDS };

static const char *const kind_names[KINDS] = {"flooder", "light", "high", "low"};

enum order { ORDER_FAIR, ORDER_STRICT, ORDER_FIFO };

static const char *const order_names[] = {"fair", "strict", "fifo"};

/* A waiting or running job. */
struct job {
	struct fair_item item; /* first, so that an item is its job */
	enum kind kind;
	char key[8];
	int class;
	double at_s, takes_s;
};

struct source {
	enum kind kind;
	char key[8];
	int class;
	double rate, next_s;
};

struct totals {
	long served, lost;
	double *waits; /* of served ones */
	double device_s;
	double of_client[LIGHT];
};

struct sim {
	enum order order;
	bool correct; /* tell the accounts what jobs really took */
	struct fair fair;
	struct source sources[SOURCES];
	struct job *running[DEVICES];
	double free_s[DEVICES], now_s;
	uint64_t random[4];
	struct totals *totals; /* by kind */
};

/* ---- chance: xoshiro256**, seeded by splitmix64 */

static uint64_t
next_random(struct sim *s)
{
	uint64_t *x = s->random, result = x[1] * 5, t = x[1] << 17;

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
seed_random(struct sim *s, uint64_t seed)
{
	for (int i = 0; i < 4; i++) {
		uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);
		z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
		z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
		s->random[i] = z ^ (z >> 31);
	}
}

/* In (0, 1). */
static double
uniform(struct sim *s)
{
	return ((double)(next_random(s) >> 11) + 0.5) * 0x1p-53;
}

static double
exponential(struct sim *s, double rate)
{
	return -log(uniform(s)) / rate;
}

static double
service_s(struct sim *s)
{
	double normal = sqrt(-2 * log(uniform(s))) * cos(6.283185307179586 * uniform(s));

	return fmin(100, fmax(2, exp(1.6 + 0.6 * normal)));
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
	if (s->order == ORDER_FAIR)
		return (struct job *)fair_pick(&s->fair, NULL, NULL);
	return first_of(s, s->order == ORDER_STRICT);
}

static void
lose(struct sim *s, struct job *job)
{
	s->totals[job->kind].lost++;
	free(job);
}

static void
arrive(struct sim *s, const struct source *from)
{
	static const struct fair_limits guarded = {PLACES, CAP, 0}, open = {PLACES, PLACES, 0};
	struct fair_item *victim;
	enum fair_verdict verdict =
	    fair_admit(&s->fair, s->order == ORDER_FAIR ? &guarded : &open, from->key, from->class, &victim);
	struct job *job = calloc(1, sizeof(*job));

	if (job == NULL)
		exit(INTERNAL);
	job->kind = from->kind;
	job->class = from->class;
	memcpy(job->key, from->key, sizeof(job->key));
	job->at_s = s->now_s;
	job->takes_s = service_s(s);
	if (verdict == FAIR_DISPLACE && s->order == ORDER_FAIR) {
		fair_remove(&s->fair, victim);
		lose(s, (struct job *)victim);
		verdict = FAIR_ADMIT;
	}
	if (verdict != FAIR_ADMIT || !fair_push(&s->fair, &job->item, job->key, job->class, MEAN_S))
		lose(s, job);
}

/* The flooder sends whenever there is a place that it may have. */
static void
flood(struct sim *s)
{
	static const struct source flooder = {KIND_FLOODER, "A", 1, 0, 0};
	struct fair_limits limits = {PLACES, s->order == ORDER_FAIR ? CAP : PLACES, 0};
	struct fair_item *victim;

	while (fair_admit(&s->fair, &limits, flooder.key, flooder.class, &victim) == FAIR_ADMIT)
		arrive(s, &flooder);
}

static void
expire(struct sim *s)
{
	struct fair_client *c, *next_client;
	struct fair_item *item, *next;

	for (c = TAILQ_FIRST(&s->fair.clients); c != NULL; c = next_client) {
		next_client = TAILQ_NEXT(c, link);
		c->running++; /* held while we walk */
		for (int k = 0; k < FAIR_CLASSES; k++) {
			for (item = TAILQ_FIRST(&c->accounts[k].items); item != NULL; item = next) {
				next = TAILQ_NEXT(item, link);
				if (s->now_s - ((struct job *)item)->at_s <= QUEUE_TIMEOUT_S)
					continue;
				fair_remove(&s->fair, item);
				lose(s, (struct job *)item);
			}
		}
		c->running--;
	}
}

/* ---- devices */

static void
start(struct sim *s, int device, struct job *job)
{
	struct totals *t = &s->totals[job->kind];

	s->running[device] = job;
	s->free_s[device] = s->now_s + job->takes_s;
	if (t->served < MAX_WAITS)
		t->waits[t->served] = s->now_s - job->at_s;
	t->served++;
	t->device_s += job->takes_s;
	if (job->kind == KIND_LIGHT)
		t->of_client[job->key[1] - '0'] += job->takes_s;
}

static void
finish(struct sim *s, int device)
{
	struct job *job = s->running[device];

	if (s->order == ORDER_FAIR)
		fair_done(&s->fair, job->key, job->class, MEAN_S, s->correct ? job->takes_s : MEAN_S);
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
set_source(struct sim *s, int i, enum kind kind, const char *key, int class, double rate)
{
	struct source *from = &s->sources[i];

	from->kind = kind;
	snprintf(from->key, sizeof(from->key), "%s", key);
	from->class = class;
	from->rate = rate;
	from->next_s = exponential(s, rate);
}

static void
open_sim(struct sim *s, enum order order, bool correct, uint64_t seed, struct totals *totals)
{
	char key[8];

	memset(s, 0, sizeof(*s));
	s->order = order;
	s->correct = correct;
	s->totals = totals;
	fair_init(&s->fair);
	seed_random(s, seed);
	for (int i = 0; i < LIGHT; i++) {
		snprintf(key, sizeof(key), "L%d", i);
		set_source(s, i, KIND_LIGHT, key, 1, 1.0 / 120);
	}
	set_source(s, LIGHT, KIND_HIGH, "H", 0, HIGH_SHARE * DEVICES / MEAN_S);
	set_source(s, LIGHT + 1, KIND_LOW, "LOW", 2, 1.0 / 90);
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
			from->next_s = s->now_s + exponential(s, from->rate);
		}
		serve(s);
	}
}

static void
close_sim(struct sim *s)
{
	struct job *job;

	while ((job = first_of(s, false)) != NULL)
		free(job);
	for (int i = 0; i < DEVICES; i++)
		free(s->running[i]);
	fair_clear(&s->fair);
}

/* ---- what came of it */

static int
by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double
percentile(struct totals *t, double p)
{
	long count = t->served < MAX_WAITS ? t->served : MAX_WAITS, at = (long)((double)count * p);

	if (count == 0)
		return NAN;
	qsort(t->waits, (size_t)count, sizeof(t->waits[0]), by_value);
	return t->waits[at < count ? at : count - 1];
}

/* Jain's index of device seconds over the light clients: 1 when all have the same. */
static double
jain(const struct totals *light)
{
	double sum = 0, squares = 0;

	for (int i = 0; i < LIGHT; i++) {
		sum += light->of_client[i];
		squares += light->of_client[i] * light->of_client[i];
	}
	return squares > 0 ? sum * sum / (LIGHT * squares) : NAN;
}

/* JSON has no word for a percentile of nothing but null. */
static json_t *
number(double x)
{
	return isnan(x) ? json_null() : json_real(x);
}

static void
show(enum order order, struct totals totals[KINDS], bool json)
{
	json_t *result =
	    json_pack("{s:s, s:f}", "order", order_names[order], "jain", jain(&totals[KIND_LIGHT]));

	if (!json)
		printf("%-8s jain %.3f\n%-8s %8s %8s %8s %10s %10s\n", order_names[order],
		    jain(&totals[KIND_LIGHT]), "", "served", "lost", "lost %", "wait p50", "wait p95");
	for (int k = 0; k < KINDS; k++) {
		struct totals *t = &totals[k];
		long all = t->served + t->lost;
		double p50 = percentile(t, 0.5), p95 = percentile(t, 0.95);
		json_object_set_new(result, kind_names[k],
		    json_pack("{s:I, s:I, s:o, s:o, s:f}", "served", (json_int_t)t->served, "lost",
			(json_int_t)t->lost, "wait_p50", number(p50), "wait_p95", number(p95), "device_s",
			t->device_s));
		if (!json)
			printf("%-8s %8ld %8ld %8.1f %10.2f %10.2f\n", kind_names[k], t->served, t->lost,
			    all > 0 ? 100.0 * (double)t->lost / (double)all : 0, p50, p95);
	}
	if (json) {
		json_dumpf(result, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
		putchar('\n');
	}
	json_decref(result);
}

static void
simulate(enum order order, bool correct, int first_seed, int last_seed, double hours, bool json)
{
	struct totals totals[KINDS] = {0};

	for (int k = 0; k < KINDS; k++) {
		totals[k].waits = malloc(MAX_WAITS * sizeof(double));
		if (totals[k].waits == NULL)
			exit(INTERNAL);
	}
	for (int seed = first_seed; seed <= last_seed; seed++) {
		struct sim s;
		open_sim(&s, order, correct, (uint64_t)seed, totals);
		run(&s, hours * 3600);
		close_sim(&s);
	}
	show(order, totals, json);
	for (int k = 0; k < KINDS; k++)
		free(totals[k].waits);
}

/* ---- the command line */

static int
usage(const char *why)
{
	fprintf(stderr,
	    "zit-sim: %s\nusage: zit-sim [--scenario flood] [--seeds FIRST-LAST] [--order fair|strict|fifo] "
	    "[--correct] [--hours H] [-o table|json]\n",
	    why);
	return USAGE;
}

int
main(int argc, char **argv)
{
	static const struct option longs[] = {{"scenario", required_argument, NULL, 's'},
	    {"seeds", required_argument, NULL, 'n'}, {"order", required_argument, NULL, 'r'},
	    {"hours", required_argument, NULL, 'h'}, {"correct", no_argument, NULL, 'c'},
	    {"output", required_argument, NULL, 'o'}, {NULL, 0, NULL, 0}};
	int letter, first = 11, last = 18, order = -1;
	double hours = 4;
	bool json = false, correct = false;

	while ((letter = getopt_long(argc, argv, "o:", longs, NULL)) != -1) {
		if (letter == 's' && strcmp(optarg, "flood") != 0)
			return usage("the only scenario is flood");
		if (letter == 'n' && sscanf(optarg, "%d-%d", &first, &last) < 2)
			last = first = atoi(optarg);
		correct |= letter == 'c';
		if (letter == 'h')
			hours = strtod(optarg, NULL);
		if (letter == 'o')
			json = strcmp(optarg, "json") == 0;
		for (int i = 0; letter == 'r' && i < 3; i++)
			order = strcmp(optarg, order_names[i]) == 0 ? i : order;
		if (letter == 'r' && order < 0)
			return usage("the order is fair, strict or fifo");
		if (letter == '?')
			return usage("unknown option");
	}
	if (first < 0 || last < first || !(hours > 0) || optind < argc)
		return usage("seeds go from a number to one that is not less, hours are more than 0");
	for (int i = 0; i < 3; i++) {
		if (order < 0 || order == i)
			simulate((enum order)i, correct, first, last, hours, json);
	}
	return 0;
}
