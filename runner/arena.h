/*
 * A stack of tensors in one piece of device memory, reserved at start and never grown.
 *
 * Planning and using are the same calls: an arena without memory hands out tensors without addresses and
 * counts what a stage needs; the peak of all plans is what is then reserved.
 */
#ifndef RUNNER_ARENA_H
#define RUNNER_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/ops.h"

struct arena {
	char *memory; /* NULL: planning */
	size_t size;  /* bytes of memory; SIZE_MAX when planning */
	size_t used, peak;
};

void arena_plan(struct arena *a);			    /* starts a plan */
void arena_use(struct arena *a, void *memory, size_t size); /* the memory stays the caller's */
void arena_reset(struct arena *a);			    /* forgets all tensors; peak stays */

/* A tensor of that shape. Asking for more than was planned is our bug and asserted. */
struct tensor arena_tensor(struct arena *a, enum dtype type, int rank, const int64_t *dim);
/* Bytes of the largest tensor that there is room for. */
size_t arena_left(const struct arena *a);
struct tensor arena_matrix(struct arena *a, enum dtype type, int64_t rows, int64_t columns);

#endif
