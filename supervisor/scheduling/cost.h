/*
 * What a job costs on one device, in seconds: a + n·(b·steps + d)·megapixels, learned from the jobs that were
 * done there by recursive least squares with forgetting. What is made small are relative errors, so that
 * small pictures count as much as large ones.
 *
 * Pure: no clock, no I/O.
 */
#ifndef SUPERVISOR_SCHEDULING_COST_H
#define SUPERVISOR_SCHEDULING_COST_H

#include <jansson.h>
#include <stdbool.h>

enum { COST_TERMS = 3, COST_ENOUGH = 5 /* samples, before which the configured constants are used */ };

struct cost_work {
	double megapixels; /* of one picture */
	double steps, count;
};

struct cost {
	double constants[COST_TERMS]; /* configured: a, b, d */
	double terms[COST_TERMS];     /* learned */
	double p[COST_TERMS][COST_TERMS];
	double error; /* mean square of relative residuals */
	double scale; /* of the constants, by the first samples */
	int samples;
};

/* Seconds: a job's own, a step's of a megapixel, and a megapixel's own. */
void cost_init(struct cost *c, double base_s, double step_s, double picture_s);
/* Other constants; what has been learned stays. */
void cost_set_constants(struct cost *c, double base_s, double step_s, double picture_s);
void cost_learn(struct cost *c, const struct cost_work *work, double seconds);
/* Predicted seconds, > 0, and their variance in s². */
double cost_predict(const struct cost *c, const struct cost_work *work, double *variance);
/* Seconds that are left of a job that was predicted so and has run for so long, and their variance. */
double cost_left(double predicted_s, double variance, double elapsed_s, double *left_variance);

/* Over a restart: what has been learned as JSON, a new reference; and back, false when it is no such thing.
 */
json_t *cost_dump(const struct cost *c);
bool cost_restore(struct cost *c, const json_t *dump);

#endif
