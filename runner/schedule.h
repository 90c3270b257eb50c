/*
 * What depends on the step count alone (model-spec section 6.8): sigmas, and the modulation of every block
 * at every step. Made once, shared by the pictures that are drawn with it, kept for the next ones.
 */
#ifndef RUNNER_SCHEDULE_H
#define RUNNER_SCHEDULE_H

#include <stdint.h>

#include "ipc/err.h"

enum {
	MAX_STEPS = 100,
	SCHEDULES = 6,	 /* more than pictures can be held, so one can always be made */
	KEPT_STEPS = 32, /* longer ones go with their last picture: a step is 2 MB in the 6B model */
};

struct model;

struct schedule {
	int steps; /* 0: free */
	int users; /* pictures that hold it */
	uint64_t last_use;
	float sigmas[MAX_STEPS + 1];
	float *modulation; /* (steps, dit_modulation_count) on the host */
};

/* The tables of 1 .. MAX_STEPS steps, made now if they are not at hand; given back by schedule_drop. 0, or
 * -ERR_SYSTEM (no memory) or a device failure. Uses the model's work arena. */
int schedule_take(struct schedule **s, struct model *m, int steps, struct err *e);
void schedule_drop(struct schedule **s);
void schedule_clear(struct schedule *s);

/* The modulation of that step. */
const float *schedule_modulation(const struct schedule *s, const struct model *m, int step);

#endif
