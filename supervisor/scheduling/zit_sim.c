/*
 * zit-sim: a load run through zitd's own scheduler in virtual time, to see who waits how long: whose turn it
 * is (fair.c), what jobs will cost (cost.c), when they will be done (plan.c, forecast.c).
 *
 *   zit-sim [--scenario flood] [--seeds FIRST-LAST] [--order fair|strict|fifo] [--costs mean|model]
 *           [--correct] [--hours H] [-o table|json]
 *
 * flood: two devices; one client that keeps the queue as full as it may, eight light ones (a job each two
 * minutes), a stream of the highest class at a quarter of capacity, a trickle of the lowest. Jobs take
 * log-normal times, median 5 s, at least 2 s. The queue has 50 places, a client at most a quarter of them;
 * who finds it full displaces the newest of the client furthest over its share; who waits 300 s is lost. fifo
 * and strict (classes strictly in order, then first come) have neither caps nor displacement: they show what
 * those are for.
 *
 * costs mean: all jobs look alike, and their mean is charged; with --correct the accounts are told what each
 * really took. costs model: a job's time lies in its size but for 5 %, the model learns it, and the accounts
 * are told the truth, as in zitd.
 *
 * Every job that comes is promised when it will be done, and in thought given a deadline, log-uniform from 5
 * to 120 s, that would have been refused or not. It is let in either way, so that both can be held against
 * what happened: eta_p95_coverage, and refused_truly_late of those refused.
 */
#include <getopt.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/scheduling/sim_flood.h"

enum { USAGE = 64, MAX_SEED = 1000000000, MAX_HOURS = 10000 };

static const char *const kind_names[KINDS] = {"flooder", "light", "high", "low"};
static const char *const order_names[ORDERS] = {"fair", "strict", "fifo"};

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
	long count = t->served < SIM_MAX_WAITS ? t->served : SIM_MAX_WAITS, at = (long)((double)count * p);

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

	for (int i = 0; i < SIM_LIGHT; i++) {
		sum += light->of_client[i];
		squares += light->of_client[i] * light->of_client[i];
	}
	return squares > 0 ? sum * sum / (SIM_LIGHT * squares) : NAN;
}

/* JSON has no word for a percentile of nothing but null. */
static json_t *
number(double x)
{
	return isnan(x) ? json_null() : json_real(x);
}

static double
share_of(long part, long whole)
{
	return whole > 0 ? (double)part / (double)whole : NAN;
}

static void
show_kind(enum kind kind, struct totals *t, json_t *result)
{
	long all = t->served + t->lost;
	double p50 = percentile(t, 0.5), p95 = percentile(t, 0.95);

	json_object_set_new(result, kind_names[kind],
	    json_pack("{s:I, s:I, s:o, s:o, s:f}", "served", (json_int_t)t->served, "lost",
		(json_int_t)t->lost, "wait_p50", number(p50), "wait_p95", number(p95), "device_s",
		t->device_s));
	json_object_set_new(result, "text",
	    json_sprintf("%s%-8s %8ld %8ld %8.1f %10.2f %10.2f\n",
		json_string_value(json_object_get(result, "text")), kind_names[kind], t->served, t->lost,
		100.0 * fmax(0, share_of(t->lost, all)), p50, p95));
}

static void
show(enum order order, struct totals totals[KINDS], const struct keeping *k, bool json)
{
	double p50 = share_of(k->kept_p50, k->promised), p95 = share_of(k->kept_p95, k->promised),
	       late = share_of(k->truly_late, k->refused);
	json_t *result = json_pack("{s:s, s:f, s:o, s:o, s:I, s:I, s:o, s:s}", "order", order_names[order],
	    "jain", jain(&totals[KIND_LIGHT]), "eta_p50_coverage", number(p50), "eta_p95_coverage",
	    number(p95), "promised", (json_int_t)k->promised, "refused", (json_int_t)k->refused,
	    "refused_truly_late", number(late), "text", "");

	for (int i = 0; i < KINDS; i++)
		show_kind((enum kind)i, &totals[i], result);
	if (!json) {
		printf("%-8s jain %.3f", order_names[order], jain(&totals[KIND_LIGHT]));
		if (k->promised > 0)
			printf(", done by the eta %.1f %%, by its p95 %.1f %%", 100 * p50, 100 * p95);
		if (k->refused > 0)
			printf("; of %ld deadlines refused %.1f %% missed", k->refused, 100 * late);
		printf("\n%-8s %8s %8s %8s %10s %10s\n%s", "", "served", "lost", "lost %", "wait p50",
		    "wait p95", json_string_value(json_object_get(result, "text")));
	} else {
		json_object_del(result, "text");
		json_dumpf(result, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
		putchar('\n');
	}
	json_decref(result);
}

/* What is asked for on the command line. */
struct request {
	bool correct, model, json;
	int first_seed, last_seed, order; /* order -1: each */
	double hours;
};

static void
simulate(enum order order, const struct request *r)
{
	struct totals totals[KINDS] = {0};
	struct keeping keeping = {0};

	for (int k = 0; k < KINDS; k++) {
		totals[k].waits = malloc(SIM_MAX_WAITS * sizeof(double));
		if (totals[k].waits == NULL)
			exit(SIM_INTERNAL);
	}
	for (int seed = r->first_seed; seed <= r->last_seed; seed++) {
		const struct sim_options options = {order, r->correct, r->model, r->hours};
		sim_flood(&options, (uint64_t)seed, totals, &keeping);
	}
	show(order, totals, &keeping, r->json);
	for (int k = 0; k < KINDS; k++)
		free(totals[k].waits);
}

/* ---- the command line */

static const char usage_line[] =
    "usage: zit-sim [--scenario flood] [--seeds FIRST-LAST] [--order fair|strict|fifo] [--costs mean|model] "
    "[--correct] [--hours H] [-o table|json]";

static int
usage(const char *why)
{
	fprintf(stderr, "zit-sim: %s\n%s\n", why, usage_line);
	return USAGE;
}

/* FIRST-LAST, or one number. */
static bool
take_seeds(struct request *r, const char *text)
{
	char *end;
	long first = strtol(text, &end, 10), last = first;

	if (end == text || first < 0 || first > MAX_SEED)
		return false;
	if (*end == '-' && end[1] >= '0' && end[1] <= '9')
		last = strtol(end + 1, &end, 10);
	r->first_seed = (int)first;
	r->last_seed = (int)last;
	return *end == '\0' && last >= first && last <= MAX_SEED;
}

static bool
take_hours(struct request *r, const char *text)
{
	char *end;

	r->hours = strtod(text, &end);
	return end != text && *end == '\0' && r->hours > 0 && r->hours <= MAX_HOURS;
}

/* The index of the word that it is; -1: none of them. */
static int
word_of(const char *const words[], int count, const char *text)
{
	for (int i = 0; i < count; i++) {
		if (strcmp(text, words[i]) == 0)
			return i;
	}
	return -1;
}

/* Takes one option; what is wrong with it, or NULL. */
static const char *
take(struct request *r, int letter)
{
	static const char *const costs[] = {"mean", "model"}, *const forms[] = {"table", "json"};
	int word;

	switch (letter) {
	case 's':
		return strcmp(optarg, "flood") == 0 ? NULL : "the only scenario is flood";
	case 'n':
		return take_seeds(r, optarg) ? NULL
					     : "seeds go from a number to one that is not less, as 11-18";
	case 'h':
		return take_hours(r, optarg) ? NULL : "hours are a number, more than 0 and at most 10000";
	case 'c':
		r->correct = true;
		return NULL;
	case 'm':
		word = word_of(costs, 2, optarg);
		r->model = word == 1;
		return word >= 0 ? NULL : "costs are mean or model";
	case 'o':
		word = word_of(forms, 2, optarg);
		r->json = word == 1;
		return word >= 0 ? NULL : "results are written as table or json";
	case 'r':
		r->order = word_of(order_names, ORDERS, optarg);
		return r->order >= 0 ? NULL : "the order is fair, strict or fifo";
	default:
		return "unknown option, or one without its value";
	}
}

int
main(int argc, char **argv)
{
	static const struct option longs[] = {{"scenario", required_argument, NULL, 's'},
	    {"seeds", required_argument, NULL, 'n'}, {"order", required_argument, NULL, 'r'},
	    {"hours", required_argument, NULL, 'h'}, {"costs", required_argument, NULL, 'm'},
	    {"correct", no_argument, NULL, 'c'}, {"output", required_argument, NULL, 'o'},
	    {"help", no_argument, NULL, 'H'}, {NULL, 0, NULL, 0}};
	struct request r = {.first_seed = 11, .last_seed = 18, .order = -1, .hours = 4};
	int letter;

	opterr = 0;
	while ((letter = getopt_long(argc, argv, "o:", longs, NULL)) != -1) {
		const char *wrong;
		if (letter == 'H') {
			printf("%s\n", usage_line);
			return 0;
		}
		wrong = take(&r, letter);
		if (wrong != NULL)
			return usage(wrong);
	}
	if (optind < argc)
		return usage("it takes options only");
	for (int i = 0; i < ORDERS; i++) {
		if (r.order < 0 || r.order == i)
			simulate((enum order)i, &r);
	}
	return 0;
}
