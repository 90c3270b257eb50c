/*
 * What one turn and one ETA cost, by the number of waiting jobs and of clients: no daemon, the modules alone.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "supervisor/scheduling/fair.h"
#include "supervisor/scheduling/forecast.h"
#include "supervisor/scheduling/plan.h"

enum { ROUNDS = 7 };

static double
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static int
by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double
median(double values[ROUNDS])
{
	qsort(values, ROUNDS, sizeof(double), by_value);
	return values[ROUNDS / 2];
}

static void
ignore(void *arg, struct fair_item *item, const struct plan_spot *spot)
{
	*(struct plan_spot *)arg = *spot;
	(void)item;
}

/* A pick and the push that keeps the queue as long as it is; an ETA: the queue played through. */
static void
measure(int jobs, int clients)
{
	struct fair_item *items = calloc((size_t)jobs, sizeof(*items));
	double pick_us[ROUNDS], eta_us[ROUNDS], begin;
	const struct plan_line lines[2] = {{.number = 0}, {.number = 1}};
	struct plan_spot spot;
	struct fair f;
	char key[16];

	if (items == NULL)
		exit(1);
	fair_init(&f);
	for (int i = 0; i < jobs; i++) {
		snprintf(key, sizeof(key), "c%d", i % clients);
		fair_push(&f, &items[i], key, i % FAIR_CLASSES, 1 + i % 10);
	}
	for (int r = 0; r < ROUNDS; r++) {
		begin = now_us();
		for (int i = 0; i < 1000; i++) {
			struct fair_item *item = fair_pick(&f, NULL, NULL);
			snprintf(key, sizeof(key), "c%d", (int)(item - items) % clients);
			fair_done(&f, key, item->class, item->cost, item->cost * 1.1);
			fair_push(&f, item, key, item->class, item->cost);
		}
		pick_us[r] = (now_us() - begin) / 1000;
		begin = now_us();
		for (int i = 0; i < 20; i++)
			plan_play(&f, lines, 2, NULL, ignore, &spot);
		eta_us[r] = (now_us() - begin) / 20;
	}
	printf("%5d waiting, %4d clients: pick, done and push %8.3f us; all ETAs %10.1f us, %.3f us each\n",
	    jobs, clients, median(pick_us), median(eta_us), median(eta_us) / jobs);
	fair_clear(&f);
	free(items);
}

int
main(void)
{
	measure(50, 4);
	measure(50, 50);
	measure(5000, 4);
	measure(5000, 50);
	measure(5000, 5000);
	return 0;
}
