/*
 * From the plan of the queue to what is promised: when a job will be done, likely and almost surely. The plan
 * does not know who will come meanwhile; what that adds is learned, by class, from how earlier promises were
 * kept.
 *
 * Pure: no clock, no I/O. Seconds are from now.
 */
#ifndef SUPERVISOR_SCHEDULING_FORECAST_H
#define SUPERVISOR_SCHEDULING_FORECAST_H

#include <jansson.h>
#include <stdbool.h>

#include "supervisor/scheduling/plan.h"

/* The quantiles that are told. */
enum forecast_level { FORECAST_EARLY, FORECAST_LIKELY, FORECAST_SURE, FORECAST_LEVELS }; /* 5, 50, 95 % */

struct forecast {
	/* What is added to the logarithm of a plan's time, by class and whether the job had to wait. */
	double shift[FAIR_CLASSES][2][FORECAST_LEVELS];
};

/* What was promised: 5, 50 and 95 %. */
struct forecast_promise {
	double done_s[FORECAST_LEVELS], start_s[FORECAST_LEVELS];
	bool waits; /* it did not start at once */
};

void forecast_init(struct forecast *f);
struct forecast_promise forecast_make(const struct forecast *f, int class, const struct plan_spot *spot);
/* The job of that promise was done so long after it was made. */
void forecast_learn(struct forecast *f, int class, const struct forecast_promise *promise, double done_s);

enum forecast_verdict { FORECAST_GOOD, FORECAST_LATE, FORECAST_EXPIRES };
/* Whether a job with that deadline (0: none) and that long to wait is almost surely lost. */
enum forecast_verdict forecast_judge(
    const struct forecast_promise *p, double deadline_s, double queue_timeout_s);

/* Over a restart: what has been learned as JSON, a new reference; and back, false when it is no such thing.
 */
json_t *forecast_dump(const struct forecast *f);
bool forecast_restore(struct forecast *f, const json_t *dump);

/* ---- how fast places become free */

struct drain_rate {
	double last_s;	   /* when the last one did, by the owner's clock; 0: never */
	double interval_s; /* mean time between two; 0: not known */
	bool backlogged;   /* jobs were left waiting then */
};

/* A job left the queue for a runner, and so many are left. */
void drain_rate_note(struct drain_rate *d, double now_s, int left);
/* Seconds until so many have left, at least 1. */
double drain_rate_wait(const struct drain_rate *d, int jobs);

#endif
