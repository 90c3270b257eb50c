/*
 * The CPU backend: products through oneDNN, the rest our own loops over OpenMP threads. Activations are
 * float; where the processor multiplies bf16 in hardware (or it is asked for), inputs of products are rounded
 * to bf16 and sums stay float.
 *
 * Same build, threads and shapes give the same bits: work is cut statically and partial sums are added in a
 * fixed order.
 */
#ifndef KERNELS_CPU_CPU_H
#define KERNELS_CPU_CPU_H

#include <dnnl.h>

#include "kernels/device.h"

/* Scratch memory by use; each grows to the largest size seen and stays. */
enum scratch { SCRATCH_A, SCRATCH_B, SCRATCH_C, SCRATCH_SCORES, SCRATCH_SUMS, SCRATCH_FACTORS, SCRATCH_COUNT };

/* A weight in the layout that a primitive asked for; made at first use. */
struct packed {
	dnnl_memory_desc_t desc;
	void *data;
};

struct weight {
	struct weight *next; /* of the device's list */
	enum weight_use use;
	enum dtype type; /* of data: what products take, F32 for tables */
	int rank;
	int64_t dim[TENSOR_MAX_RANK];
	void *data; /* row-major, as the checkpoint has it */

	struct packed packed;

	void *folded; /* (4, Cout, Cin, 2, 2) of a 3x3 kernel behind a doubling, made at first use, or NULL */
	struct packed packed_folded[4];
};

struct product;	    /* a cached matrix product, gemm.c */
struct convolution; /* a cached convolution, convolution.c */

struct cpu_device {
	struct device base;
	int threads;
	dnnl_engine_t engine;
	dnnl_stream_t stream;
	struct weight *weights;
	struct product *products;
	struct convolution *convolutions;
	void *scratch[SCRATCH_COUNT];
	size_t scratch_bytes[SCRATCH_COUNT];
};

/* ---- scratch.c */

/* What products take: BF16 or F32. */
enum dtype cpu_product_type(const struct cpu_device *c);
/* At least `bytes`, 64-byte aligned; NULL after failing the device. */
void *cpu_scratch(struct cpu_device *c, enum scratch use, size_t bytes);
/* x as products take it: itself, or rounded into scratch; NULL after a failure. */
const void *cpu_product_input(struct cpu_device *c, enum scratch use, const float *x, int64_t count);
/* false after failing the device with what oneDNN said. */
bool cpu_check(struct cpu_device *c, dnnl_status_t status, const char *what);
bool cpu_failed(const struct device *d);

/* y (m, n) float, rows ldy apart, := a (m, k), rows lda apart, times b [+ bias (n)]. b is (k, n) with element
 * (i, j) at i * b_row + j * b_column; one of the two strides is 1. a and b are of the product type. */
struct gemm {
	int64_t m, n, k, lda, b_row, b_column, ldy;
	const void *a, *b;
	const float *bias; /* or NULL */
	float *y;
};
void cpu_gemm(struct cpu_device *c, const struct gemm *g);
void cpu_free_products(struct cpu_device *c);

/* A group norm once its statistics are known: of every channel, (x - mean) mul + b. The two first lie in
 * scratch until the next. */
struct group_factors {
	int64_t channels;
	const float *mean, *mul, *b;
	bool silu;
};
/* false after a failure. */
bool cpu_group_factors(
    struct cpu_device *c, struct group_factors *f, const struct tensor *x, const struct group_norm *norm);
/* y := x normed, some pixels of the picture; in place or not, by this thread. */
void cpu_group_apply(const struct group_factors *f, float *y, const float *x, int64_t pixels);
void cpu_free_convolutions(struct cpu_device *c);

/* The operations of ops.h that have a fast form; the others are the reference's, host memory being device
 * memory here. */
struct weight *cpu_weight_load(
    struct device *d, enum weight_use use, const struct stored *parts, int part_count);
void cpu_weight_refill(struct device *d, struct weight *w, const struct stored *parts, int part_count);
void cpu_embed(struct device *d, struct tensor *y, const struct weight *table, const int32_t *ids);
void cpu_linear(struct device *d, struct tensor *y, const struct tensor *x, const struct weight *w,
    const struct tensor *bias);
void cpu_rms_norm(struct device *d, struct tensor *y, const struct tensor *x, const struct tensor *w,
    const struct tensor *scale, float eps);
void cpu_norm_gate_add(struct device *d, struct tensor *x, const struct tensor *branch,
    const struct tensor *w, const struct tensor *gate, float eps);
void cpu_tail(struct device *d, struct tensor *x, struct tensor *u, const struct tensor *branch,
    const struct tensor *w, const struct tensor *gate, const struct tensor *next_w,
    const struct tensor *next_scale, float eps);
void cpu_add(struct device *d, struct tensor *x, const struct tensor *y);
void cpu_qkv_norm_rope(struct device *d, struct tensor *q, struct tensor *k, struct tensor *v,
    const struct tensor *qkv, const struct tensor *norm_q, const struct tensor *norm_k,
    const struct tensor *cos, const struct tensor *sin, const struct attention_shape *shape,
    enum rope_pairs pairs, float eps);
void cpu_attention(struct device *d, struct tensor *o, const struct tensor *q, const struct tensor *k,
    const struct tensor *v, const struct attention_shape *shape);
void cpu_swiglu(struct device *d, struct tensor *y, const struct tensor *x);
void cpu_conv2d(struct device *d, struct tensor *y, const struct tensor *x, const struct weight *w,
    const struct tensor *bias, const struct tensor *add, const struct conv_shape *shape);
void cpu_group_norm(
    struct device *d, struct tensor *y, const struct tensor *x, const struct group_norm *norm);
void cpu_group_sums(
    struct device *d, struct tensor *sums, const struct tensor *x, int64_t first, int64_t height);

#endif
