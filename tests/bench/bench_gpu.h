/*
 * What the files of bench_gpu share: bench_gpu.c (which lines there are), bench_measure.c (time, and tensors
 * to spend it on), bench_operations.c (single operations), bench_networks.c (whole networks, and what a
 * picture takes of them).
 */
#ifndef TESTS_BENCH_BENCH_GPU_H
#define TESTS_BENCH_BENCH_GPU_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/ops.h"
#include "runner/checkpoint.h"
#include "runner/model_config.h"

enum { BENCH_MAX_ROUNDS = 101, BENCH_NAME = 32 };

struct bench {
	/* options */
	int rounds;
	bool small;
	const char *only, *cache;

	struct device *device;
	const struct ops *ops;
	const struct model_config *config;
	struct checkpoint *checkpoint;
	double flops_per_ms, bytes_per_ms; /* of this device, measured by bench_rates */
};

/* The one that there is. */
struct bench *bench(void);

/* ---- bench_measure.c */

void bench_fail(const char *what, const char *why) __attribute__((noreturn));
void bench_wait(const char *what); /* for the device */
/* The median of the rounds, after two that warm up. */
double bench_time_ms(const char *name, void (*run)(void *arg), void *arg);
void bench_report(const char *name, double ms, double floor_ms);
bool bench_wants(const char *name);
double bench_floor_ms(double flops, double bytes);

#define DIM(...) ((int64_t[]){__VA_ARGS__})

/* On the device, to be released by the caller; bench_make: of random normal numbers. */
struct tensor bench_reserve(enum dtype type, int rank, const int64_t *dim);
struct tensor bench_make(enum dtype type, int rank, const int64_t *dim);

/* ---- bench_operations.c */

void bench_rates(void);							 /* first: floors are made of them */
void bench_linear(const char *name, int64_t rows, int64_t n, int64_t k); /* x (rows, k) W^T, W (n, k) */
void bench_attention(const char *name, int64_t rows, int heads, int kv_heads, int width, bool causal);
void bench_elementwise(int64_t rows); /* the passes of one block */
void bench_convolutions(void);	      /* the decoder's largest */
void bench_group_norm(const char *name, int64_t side, int64_t channels);

/* ---- bench_networks.c */

void bench_load_networks(void);
void bench_free_networks(void);
/* Forwards and decodes at one size, and at the usual one all that a picture takes. */
void bench_side(int64_t side, bool usual);

#endif
