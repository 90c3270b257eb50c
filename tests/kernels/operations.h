/*
 * The operations of ops.h on a list of shapes, on any device, compared with ref. The largest error of each is
 * printed, relative to the largest value of the result.
 *
 * Tolerances: f32 2e-6 where a result is one rounding of a short formula, 2e-5 for sums of up to 2304
 * products and for what exp goes into. bf16 where only inputs of products are rounded (cpu) 1.2e-2: inputs
 * keep 8 bits, so each product errs by up to 2^-8, and sums of random signs stay near that. bf16 where
 * activations are stored so (cuda), with inputs that bf16 has: 4e-3, two roundings of 2^-9; 8e-3 where
 * weights of a sum are rounded too (softmax, the folded upsample); 0 where nothing is computed. 2e-3 where the
 * last bits of two sums differ, and that a thousandfold.
 */
#ifndef TESTS_KERNELS_OPERATIONS_H
#define TESTS_KERNELS_OPERATIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/ops.h"

enum { OPERATION_SHAPES = 8, BENCH_TENSORS = 16 };

#define DIM(...) ((int64_t[]){__VA_ARGS__})

struct shape {
	int64_t n[6]; /* meaning: the operation's */
};

/* A run of one operation on one device: random inputs made the same way each time, and the result. */
struct bench {
	struct device *d;
	const struct ops *ops;
	uint32_t seed;
	bool rounded; /* inputs are numbers that bf16 has */
	struct tensor made[BENCH_TENSORS];
	int made_count;
};

struct operation {
	const char *name;
	struct tensor (*run)(struct bench *b, const struct shape *s); /* returns its result */
	double f32, bf16, act_bf16;	       /* tolerances, relative to the result's largest value */
	struct shape shapes[OPERATION_SHAPES]; /* until n[0] is 0 */
};

extern const struct operation operations[];
extern const size_t operation_count;

/* A tensor of NaN, or of numbers in [-1, 1) in the activations' type; released by bench_release. */
struct tensor bench_empty(struct bench *b, enum dtype type, int rank, const int64_t *dim);
struct tensor bench_random(struct bench *b, int rank, const int64_t *dim);
void bench_release(struct bench *b);
/* n such numbers in F32, as statistics and tables are; and a weight of them. */
struct tensor bench_vector(struct bench *b, int64_t n);
struct weight *bench_weight(struct bench *b, enum weight_use use, int rank, const int64_t *dim);

/* The result of one operation and shape, as floats of the caller's; NULL: there is no such
 * device. */
float *operation_result(const struct operation *o, const struct shape *shape, const char *backend,
    enum precision precision, bool rounded, int64_t *count);
/* Prints the largest error over all shapes, and fails the test where it is too large. */
void operation_compare(const struct operation *o, const char *backend, enum precision precision);

#endif
