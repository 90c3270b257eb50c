/*
 * The flood of zit-sim: who comes, what zitd's scheduler makes of it, and how that is counted.
 */
#ifndef SUPERVISOR_SCHEDULING_SIM_FLOOD_H
#define SUPERVISOR_SCHEDULING_SIM_FLOOD_H

#include <stdbool.h>
#include <stdint.h>

enum { SIM_LIGHT = 8, SIM_MAX_WAITS = 1 << 20, SIM_INTERNAL = 70 /* exit status: no memory */ };

enum kind { KIND_FLOODER, KIND_LIGHT, KIND_HIGH, KIND_LOW, KINDS };

enum order { ORDER_FAIR, ORDER_STRICT, ORDER_FIFO, ORDERS };

/* How promises and refusals were borne out. */
struct keeping {
	long promised, kept_p50, kept_p95;
	long refused, truly_late;
};

struct totals {
	long served, lost;
	double *waits; /* of served ones, SIM_MAX_WAITS at most; the caller's */
	double device_s;
	double of_client[SIM_LIGHT];
};

/* How the scheduler is run. */
struct sim_options {
	enum order order;
	bool correct; /* tell the accounts what jobs really took */
	bool model;   /* charge what the cost model predicts, and correct */
	double hours;
};

/* One run of that seed, added to the totals by kind, and to how promises were kept. */
void sim_flood(
    const struct sim_options *options, uint64_t seed, struct totals totals[KINDS], struct keeping *keeping);

#endif
