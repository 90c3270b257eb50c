/*
 * Golden arrays that tests/golden/golden-tiny.py wrote, and comparing with them.
 */
#ifndef TESTS_MODEL_GOLDEN_H
#define TESTS_MODEL_GOLDEN_H

#include <stddef.h>

#include "kernels/ops.h"

/* The directory of a golden checkpoint, from the environment (GOLDEN_B, GOLDEN_A, ...) or build/. */
const char *golden_dir(const char *which);

/* dir/golden/NAME.f32 as floats, the caller's to free; fails the test when it cannot be read. */
float *golden_read(const char *dir, const char *name, size_t *count);

struct golden_error {
	double relative_rms; /* sqrt(mean (a-b)^2 / mean b^2) */
	double relative_max; /* max |a-b| / max |b| */
};

struct golden_error golden_compare(const float *got, const float *want, size_t count);

#endif
