/*
 * What a step needs besides its picture: how far it goes, and the numbers that modulate every block at its
 * time (model-spec sections 6.8 and 7.1). Both follow from the step count alone, so they lie on the device in
 * tables that all pictures share, a row for each step, made before its picture's first one. A step finds its
 * row by a number on the device, and nothing of it is copied over the bus.
 *
 * The tables have as many rows as the longest picture has steps. Of several pictures that need more together,
 * the rows that were used longest ago give way and are made again when their steps come, with the same bits.
 * So a picture needs no table of its own: a row is 1 MB in the 6B model, and five pictures of 100 steps each
 * would keep 500 MB for what they rarely use.
 */
#ifndef RUNNER_STEP_TABLE_H
#define RUNNER_STEP_TABLE_H

#include <stdint.h>

#include "kernels/ops.h"

enum { MAX_STEPS = 100 };

struct arena;
struct model;

/* What a row was made for. */
struct step_row {
	float time, distance;
	uint64_t last_use; /* 0: it is empty */
};

struct step_table {
	void *memory;		  /* the device's */
	struct tensor modulation; /* (MAX_STEPS, dit_modulation_count), in the activations' type */
	struct tensor distance;	  /* (MAX_STEPS, 1) F32 */
	struct step_row rows[MAX_STEPS];
	uint64_t uses;
};

/* Bytes of device memory for the tables of m, which has its transformer. */
size_t step_table_bytes(const struct model *m);
/* Begins with no rows in that memory, which stays the caller's. */
void step_table_use(struct model *m, void *memory);
/* The row of the step from sigma[0] to sigma[1], made now if it is not there. Uses the model's work arena; a
 * failure is the device's. */
int32_t step_table_row(struct model *m, const float sigma[2]);

#endif
