/*
 * The operations of ops.h on a list of shapes, on any device: inputs go in with copy_in, the result comes out
 * with copy_out, so the memory may be a card's.
 */
#include "tests/kernels/operations.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/convert.h"

enum { MAX_OPENED = 8 };

struct tensor
bench_empty(struct bench *b, enum dtype type, int rank, const int64_t *dim)
{
	struct tensor t = {.type = type, .rank = rank, .dim = {1, 1, 1, 1}};
	void *host;

	for (int i = 0; i < rank; i++)
		t.dim[i] = dim[i];
	t.data = b->ops->reserve(b->d, tensor_bytes(&t));
	host = malloc(tensor_bytes(&t));
	assert_non_null(t.data);
	assert_non_null(host);
	memset(host, 0xff, tensor_bytes(&t)); /* NaN: what is not written shows */
	b->ops->copy_in(b->d, &t, host, type);
	free(host);
	assert_true(b->made_count < BENCH_TENSORS);
	b->made[b->made_count++] = t;
	return t;
}

/* Uniform in [-1, 1), from a generator of our own so that every device gets the same. */
static float
uniform(struct bench *b)
{
	float value;

	b->seed = b->seed * 1664525u + 1013904223u;
	value = (float)(b->seed >> 8) * 0x1p-23f - 1.0f;
	return b->rounded ? float_of_bf16(bf16_of_float(value)) : value;
}

static float *
random_numbers(struct bench *b, int64_t count)
{
	float *host = malloc((size_t)count * sizeof(float));

	assert_non_null(host);
	for (int64_t i = 0; i < count; i++)
		host[i] = uniform(b);
	return host;
}

/* factor u + offset of uniform numbers u. */
static struct tensor
scaled_tensor(struct bench *b, enum dtype type, int rank, const int64_t *dim, float factor, float offset)
{
	struct tensor t = bench_empty(b, type, rank, dim);
	float *host = random_numbers(b, tensor_count(&t));

	for (int64_t i = 0; i < tensor_count(&t); i++) {
		host[i] = factor * host[i] + offset;
		if (b->rounded)
			host[i] = float_of_bf16(bf16_of_float(host[i]));
	}
	b->ops->copy_in(b->d, &t, host, DT_F32);
	free(host);
	return t;
}

struct tensor
bench_random(struct bench *b, int rank, const int64_t *dim)
{
	return scaled_tensor(b, device_act_type(b->d), rank, dim, 1, 0);
}

/* Statistics and tables are F32 on every device. */
static struct tensor
random_table(struct bench *b, int rank, const int64_t *dim)
{
	return scaled_tensor(b, DT_F32, rank, dim, 1, 0);
}

struct tensor
bench_vector(struct bench *b, int64_t n)
{
	return random_table(b, 1, &n);
}

static struct tensor
empty(struct bench *b, int rank, const int64_t *dim)
{
	return bench_empty(b, device_act_type(b->d), rank, dim);
}

struct weight *
bench_weight(struct bench *b, enum weight_use use, int rank, const int64_t *dim)
{
	struct stored s = {NULL, DT_F32, rank, {1, 1, 1, 1}};
	struct weight *w;
	int64_t count = 1;
	float *host;

	for (int i = 0; i < rank; i++) {
		s.dim[i] = dim[i];
		count *= dim[i];
	}
	host = random_numbers(b, count);
	s.data = host;
	w = b->ops->weight_load(b->d, use, &s, 1);
	free(host); /* the parts are not needed afterwards */
	return w;
}

/* ---- the operations; each returns its result */

static struct tensor
run_linear(struct bench *b, const struct shape *s) /* rows, n, k, bias */
{
	struct tensor x = bench_random(b, 2, DIM(s->n[0], s->n[2])), y = empty(b, 2, DIM(s->n[0], s->n[1]));
	struct weight *w = bench_weight(b, WEIGHT_LINEAR, 2, DIM(s->n[1], s->n[2]));
	struct tensor bias = bench_vector(b, s->n[1]);

	b->ops->linear(b->d, &y, &x, w, s->n[3] ? &bias : NULL);
	return y;
}

static struct tensor
run_embed(struct bench *b, const struct shape *s) /* tokens, vocabulary, width */
{
	struct weight *table = bench_weight(b, WEIGHT_TABLE, 2, DIM(s->n[1], s->n[2]));
	struct tensor y = empty(b, 2, DIM(s->n[0], s->n[2]));
	int32_t ids[64];

	for (int64_t i = 0; i < s->n[0]; i++)
		ids[i] = (int32_t)(i * 7 % s->n[1]);
	b->ops->embed(b->d, &y, table, ids);
	return y;
}

static struct tensor
run_rms_norm(struct bench *b, const struct shape *s) /* rows, width, scale */
{
	struct tensor x = bench_random(b, 2, DIM(s->n[0], s->n[1])), y = empty(b, 2, DIM(s->n[0], s->n[1]));
	struct tensor w = bench_vector(b, s->n[1]), scale = bench_vector(b, s->n[1]);

	b->ops->rms_norm(b->d, &y, &x, &w, s->n[2] ? &scale : NULL, 1e-5f);
	return y;
}

static struct tensor
run_layer_norm(struct bench *b, const struct shape *s) /* rows, width */
{
	struct tensor x = bench_random(b, 2, DIM(s->n[0], s->n[1])), y = empty(b, 2, DIM(s->n[0], s->n[1]));
	struct tensor scale = bench_vector(b, s->n[1]);

	b->ops->layer_norm(b->d, &y, &x, &scale, 1e-6f);
	return y;
}

static struct tensor
run_norm_gate_add(struct bench *b, const struct shape *s) /* rows, width, gate */
{
	struct tensor x = bench_random(b, 2, DIM(s->n[0], s->n[1])),
		      branch = bench_random(b, 2, DIM(s->n[0], s->n[1]));
	struct tensor w = bench_vector(b, s->n[1]), gate = bench_vector(b, s->n[1]);

	b->ops->norm_gate_add(b->d, &x, &branch, &w, s->n[2] ? &gate : NULL, 1e-5f);
	return x;
}

static struct tensor
run_tail(struct bench *b, const struct shape *s) /* rows, width, gate and scale, which result, in place */
{
	struct tensor x = bench_random(b, 2, DIM(s->n[0], s->n[1])),
		      branch = bench_random(b, 2, DIM(s->n[0], s->n[1]));
	struct tensor u = s->n[4] ? branch : empty(b, 2, DIM(s->n[0], s->n[1]));
	struct tensor w = bench_vector(b, s->n[1]), gate = bench_vector(b, s->n[1]),
		      next = bench_vector(b, s->n[1]), scale = bench_vector(b, s->n[1]);

	b->ops->tail(
	    b->d, &x, &u, &branch, &w, s->n[2] ? &gate : NULL, &next, s->n[2] ? &scale : NULL, 1e-5f);
	return s->n[3] ? u : x;
}

static struct tensor
run_add(struct bench *b, const struct shape *s) /* rows, width */
{
	struct tensor x = bench_random(b, 2, DIM(s->n[0], s->n[1])),
		      y = bench_random(b, 2, DIM(s->n[0], s->n[1]));

	b->ops->add(b->d, &x, &y);
	return x;
}

static struct tensor
run_qkv(struct bench *b, const struct shape *s) /* rows, heads, kv heads, head width, pairs, which result */
{
	struct attention_shape shape = {(int)s->n[1], (int)s->n[2], (int)s->n[3], false, 1};
	struct tensor qkv = bench_random(b, 2, DIM(s->n[0], (s->n[1] + 2 * s->n[2]) * s->n[3]));
	struct tensor norm_q = bench_vector(b, s->n[3]), norm_k = bench_vector(b, s->n[3]);
	struct tensor cos = random_table(b, 2, DIM(s->n[0], s->n[3] / 2)),
		      sin = random_table(b, 2, DIM(s->n[0], s->n[3] / 2));
	struct tensor out[] = {empty(b, 3, DIM(s->n[0], s->n[1], s->n[3])),
	    empty(b, 3, DIM(s->n[0], s->n[2], s->n[3])), empty(b, 3, DIM(s->n[0], s->n[2], s->n[3]))};

	b->ops->qkv_norm_rope(b->d, &out[0], &out[1], &out[2], &qkv, &norm_q, &norm_k, &cos, &sin, &shape,
	    s->n[4] ? ROPE_ADJACENT : ROPE_HALVES, 1e-5f);
	return out[s->n[5]];
}

static struct tensor
run_attention(struct bench *b, const struct shape *s) /* queries, keys, heads, kv heads, head width, causal */
{
	struct attention_shape shape = {
	    (int)s->n[2], (int)s->n[3], (int)s->n[4], s->n[5] != 0, (float)(4 / sqrt((double)s->n[4]))};
	struct tensor q = bench_random(b, 3, DIM(s->n[0], s->n[2], s->n[4])),
		      k = bench_random(b, 3, DIM(s->n[1], s->n[3], s->n[4]));
	struct tensor v = bench_random(b, 3, DIM(s->n[1], s->n[3], s->n[4])),
		      o = empty(b, 3, DIM(s->n[0], s->n[2], s->n[4]));

	b->ops->attention(b->d, &o, &q, &k, &v, &shape);
	return o;
}

static struct tensor
run_swiglu(struct bench *b, const struct shape *s) /* rows, width, largest input */
{
	struct tensor x =
	    scaled_tensor(b, device_act_type(b->d), 2, DIM(s->n[0], 2 * s->n[1]), (float)s->n[2], 0);
	struct tensor y = empty(b, 2, DIM(s->n[0], s->n[1]));

	b->ops->swiglu(b->d, &y, &x);
	return y;
}

static struct tensor
run_conv2d(struct bench *b, const struct shape *s) /* h, w, inputs, outputs, kind, add */
{
	static const struct {
		int64_t k;
		struct conv_shape shape;
		int numerator, denominator; /* of the output's side */
	} kinds[] = {
	    {3, {1, 1, 1, false, NULL}, 1, 1}, {1, {1, 0, 0, false, NULL}, 1, 1},
	    {3, {1, 1, 1, true, NULL}, 2, 1},
	    {3, {2, 0, 1, false, NULL}, 1, 2}, /* the encoder's: a zero row below and right only */
	};
	int64_t k = kinds[s->n[4]].k, h = s->n[0] * kinds[s->n[4]].numerator / kinds[s->n[4]].denominator;
	int64_t w = s->n[1] * kinds[s->n[4]].numerator / kinds[s->n[4]].denominator;
	struct tensor x = bench_random(b, 3, DIM(s->n[0], s->n[1], s->n[2])),
		      y = empty(b, 3, DIM(h, w, s->n[3]));
	struct weight *weight = bench_weight(b, WEIGHT_CONV, 4, DIM(s->n[3], s->n[2], k, k));
	struct tensor bias = bench_vector(b, s->n[3]), add = bench_random(b, 3, DIM(h, w, s->n[3]));

	b->ops->conv2d(
	    b->d, &y, &x, weight, s->n[5] ? &bias : NULL, s->n[5] ? &add : NULL, &kinds[s->n[4]].shape);
	return y;
}

static struct tensor
run_group_norm(
    struct bench *b, const struct shape *s) /* h, w, channels, groups, silu, offset of the values */
{
	struct tensor x =
	    scaled_tensor(b, device_act_type(b->d), 3, DIM(s->n[0], s->n[1], s->n[2]), 1, (float)s->n[5]);
	struct tensor y = empty(b, 3, DIM(s->n[0], s->n[1], s->n[2]));
	struct tensor w = bench_vector(b, s->n[2]), bias = bench_vector(b, s->n[2]);
	struct group_norm norm = {
	    .w = &w, .b = &bias, .groups = (int)s->n[3], .eps = 1e-6f, .silu = s->n[4] != 0};

	b->ops->group_norm(b->d, &y, &x, &norm);
	return y;
}

static struct tensor
run_group_norm_in_place(struct bench *b, const struct shape *s) /* h, w, channels, groups */
{
	struct tensor x = bench_random(b, 3, DIM(s->n[0], s->n[1], s->n[2]));
	struct tensor w = bench_vector(b, s->n[2]), bias = bench_vector(b, s->n[2]);
	struct group_norm norm = {.w = &w, .b = &bias, .groups = (int)s->n[3], .eps = 1e-6f, .silu = true};

	b->ops->group_norm(b->d, &x, &x, &norm);
	return x;
}

/* A picture normed a band at a time, and 1000 times what that differs from the picture normed at once: its
 * sums are made from the last band to the first, over what another picture has left there. */
static struct tensor
run_group_norm_of_bands(struct bench *b, const struct shape *s) /* h, w, channels, groups, rows, offset */
{
	int64_t h = s->n[0], rows = s->n[4], bands = (h + rows - 1) / rows;
	struct tensor x =
	    scaled_tensor(b, device_act_type(b->d), 3, DIM(h, s->n[1], s->n[2]), 1, (float)s->n[5]);
	struct tensor other = empty(b, 3, DIM(h, s->n[1], s->n[2])),
		      y = empty(b, 3, DIM(h, s->n[1], s->n[2]));
	struct tensor w = bench_vector(b, s->n[2]), bias = bench_vector(b, s->n[2]);
	struct tensor sums = scaled_tensor(b, DT_F32, 3, DIM(GROUP_STRIPS, s->n[3], 4), 1, 1);
	struct group_norm norm = {.w = &w, .b = &bias, .groups = (int)s->n[3], .eps = 1e-6f, .silu = true};

	b->ops->group_norm(b->d, &other, &x, &norm);
	for (int64_t i = bands - 1; i >= 0; i--) {
		struct tensor band = tensor_rows(&x, i * rows, h - i * rows < rows ? h - i * rows : rows);
		b->ops->group_sums(b->d, &sums, &band, i * rows, h);
	}
	norm.sums = &sums;
	norm.height = h;
	for (int64_t i = 0; i < bands; i++) {
		int64_t count = h - i * rows < rows ? h - i * rows : rows;
		struct tensor from = tensor_rows(&x, i * rows, count), to = tensor_rows(&y, i * rows, count);
		b->ops->group_norm(b->d, &to, &from, &norm);
	}
	b->ops->affine(b->d, &x, &other, -1, 0);
	b->ops->add(b->d, &y, &x);
	b->ops->affine(b->d, &y, &y, 1000, 0);
	b->ops->add(b->d, &y, &other);
	return y;
}

/* A picture, the parameters of its norm, and a convolution behind it. */
struct normed {
	struct tensor x, w, b, bias;
	struct weight *filters;
	struct group_norm norm;
	struct conv_shape shape;
};

static void
make_normed(struct bench *b, struct normed *n, const struct shape *s) /* h, w, inputs, outputs, groups, k */
{
	int pad = (int)s->n[5] / 2;

	n->x = bench_random(b, 3, DIM(s->n[0], s->n[1], s->n[2]));
	n->w = bench_vector(b, s->n[2]);
	n->b = bench_vector(b, s->n[2]);
	n->bias = bench_vector(b, s->n[3]);
	n->filters = bench_weight(b, WEIGHT_CONV, 4, DIM(s->n[3], s->n[2], s->n[5], s->n[5]));
	n->norm =
	    (struct group_norm){.w = &n->w, .b = &n->b, .groups = (int)s->n[4], .eps = 1e-6f, .silu = true};
	n->shape = (struct conv_shape){1, pad, pad, false, &n->norm};
}

/* As a resnet's second half: added to what is there. */
static struct tensor
run_normed_conv2d(struct bench *b, const struct shape *s)
{
	struct normed n;
	struct tensor y;

	make_normed(b, &n, s);
	y = bench_random(b, 3, DIM(s->n[0], s->n[1], s->n[3]));
	b->ops->conv2d(b->d, &y, &n.x, n.filters, &n.bias, &y, &n.shape);
	return y;
}

/* The norm and the convolution one after the other, and 1000 times what the two in one differ from that: a
 * sum in another order shows, and a row that a strip has wrong is far off. */
static struct tensor
run_normed_twice(struct bench *b, const struct shape *s)
{
	struct tensor y = empty(b, 3, DIM(s->n[0], s->n[1], s->n[3])),
		      normed = empty(b, 3, DIM(s->n[0], s->n[1], s->n[2])),
		      other = empty(b, 3, DIM(s->n[0], s->n[1], s->n[3])),
		      minus = empty(b, 3, DIM(s->n[0], s->n[1], s->n[3]));
	struct normed n;

	make_normed(b, &n, s);
	b->ops->conv2d(b->d, &y, &n.x, n.filters, &n.bias, NULL, &n.shape);
	b->ops->group_norm(b->d, &normed, &n.x, &n.norm);
	n.shape.norm = NULL;
	b->ops->conv2d(b->d, &other, &normed, n.filters, &n.bias, NULL, &n.shape);
	b->ops->affine(b->d, &minus, &other, -1, 0);
	b->ops->add(b->d, &y, &minus);
	b->ops->affine(b->d, &y, &y, 1000, 0);
	b->ops->add(b->d, &y, &other);
	return y;
}

/* A shortcut: the result takes the picture's place. */
static struct tensor
run_narrowing_conv2d(struct bench *b, const struct shape *s)
{
	struct tensor y;
	struct normed n;

	make_normed(b, &n, s);
	n.shape.norm = NULL;
	y = n.x;
	y.dim[2] = s->n[3];
	b->ops->conv2d(b->d, &y, &n.x, n.filters, &n.bias, NULL, &n.shape);
	return y;
}

/* Numbers that every type has: -1 to 1 in steps of 1/64. */
static void
fill_part(struct bench *b, void *data, enum dtype type, int64_t count)
{
	float *host = random_numbers(b, count);

	assert_non_null(data);
	for (int64_t i = 0; i < count; i++) {
		host[i] = rintf(host[i] * 64) / 64;
		if (type == DT_F16)
			((_Float16 *)data)[i] = (_Float16)host[i];
	}
	if (type != DT_F16)
		convert_from_float(data, type, host, count);
	free(host);
}

/* Two parts of a packed matrix, to be freed. */
static void
make_parts(struct bench *b, const struct shape *s, struct stored parts[2])
{
	int64_t count = s->n[1] * s->n[2];

	for (int i = 0; i < 2; i++) {
		void *data = malloc((size_t)count * sizeof(float));
		parts[i] = (struct stored){data, (enum dtype)s->n[3 + i], 2, {s->n[1], s->n[2], 1, 1}};
		fill_part(b, data, parts[i].type, count);
	}
}

static void
free_parts(struct stored parts[2])
{
	free((void *)parts[0].data);
	free((void *)parts[1].data);
}

/* Parts of a packed matrix as files have them, each in its own type. */
static struct tensor
run_parts(struct bench *b, const struct shape *s) /* rows, n of each part, k, types of the parts */
{
	struct tensor x = bench_random(b, 2, DIM(s->n[0], s->n[2])),
		      y = empty(b, 2, DIM(s->n[0], 2 * s->n[1]));
	struct stored parts[2];

	make_parts(b, s, parts);
	b->ops->linear(b->d, &y, &x, b->ops->weight_load(b->d, WEIGHT_LINEAR, parts, 2), NULL);
	free_parts(parts);
	return y;
}

/* One weight with other numbers each time: each product is of those that were there when it was asked for. */
static struct tensor
run_refilled(struct bench *b, const struct shape *s) /* as run_parts */
{
	enum { TIMES = 4 };
	struct tensor x = bench_random(b, 2, DIM(s->n[0], s->n[2])),
		      y = empty(b, 2, DIM(TIMES * s->n[0], 2 * s->n[1]));
	struct weight *w = NULL;
	struct stored parts[2];

	for (int t = 0; t < TIMES; t++) {
		struct tensor rows = tensor_rows(&y, t * s->n[0], s->n[0]);
		make_parts(b, s, parts);
		if (t == 0)
			w = b->ops->weight_load(b->d, WEIGHT_LINEAR, parts, 2);
		else
			b->ops->weight_refill(b->d, w, parts, 2);
		b->ops->linear(b->d, &rows, &x, w, NULL);
		free_parts(parts);
	}
	return y;
}

static struct tensor
run_repeat_row(struct bench *b, const struct shape *s) /* rows, width */
{
	struct tensor row = bench_vector(b, s->n[1]), to = empty(b, 2, DIM(s->n[0], s->n[1]));

	b->ops->repeat_row(b->d, &to, &row);
	return to;
}

/* rows, width, the row, and the types of table and result: activations or F32 */
static struct tensor
run_pick_row(struct bench *b, const struct shape *s)
{
	enum dtype act = device_act_type(b->d), from = s->n[3] ? act : DT_F32, to = s->n[4] ? act : DT_F32;
	struct tensor table = scaled_tensor(b, from, 2, DIM(s->n[0], s->n[1]), 1, 0),
		      row = bench_empty(b, to, 1, DIM(s->n[1])), index = bench_empty(b, DT_I32, 1, DIM(1));
	int32_t number = (int32_t)s->n[2];

	b->ops->copy_in(b->d, &index, &number, DT_I32);
	b->ops->pick_row(b->d, &row, &table, &index);
	return row;
}

static struct tensor
run_copy(struct bench *b, const struct shape *s) /* rows, width: F32 to the activations' type and back */
{
	struct tensor from = random_table(b, 2, DIM(s->n[0], s->n[1])),
		      act = empty(b, 2, DIM(s->n[0], s->n[1]));
	struct tensor same = empty(b, 2, DIM(s->n[0], s->n[1])),
		      to = bench_empty(b, DT_F32, 2, DIM(s->n[0], s->n[1]));

	b->ops->copy(b->d, &act, &from);
	b->ops->copy(b->d, &same, &act);
	b->ops->copy(b->d, &to, &same);
	return to;
}

static struct tensor
run_activate(struct bench *b, const struct shape *s) /* rows, width, function; in place */
{
	struct tensor x = scaled_tensor(b, device_act_type(b->d), 2, DIM(s->n[0], s->n[1]), 6, 0);

	b->ops->activate(b->d, &x, &x, (enum activation)s->n[2]);
	return x;
}

static struct tensor
run_affine(struct bench *b, const struct shape *s) /* rows, width: F32 to the activations' type */
{
	struct tensor x = random_table(b, 2, DIM(s->n[0], s->n[1])), y = empty(b, 2, DIM(s->n[0], s->n[1]));

	b->ops->affine(b->d, &y, &x, 1.5f, -0.25f);
	return y;
}

static struct tensor
run_axpy(struct bench *b, const struct shape *s) /* rows, width */
{
	struct tensor a = bench_vector(b, 1);
	struct tensor x = random_table(b, 2, DIM(s->n[0], s->n[1])),
		      y = random_table(b, 2, DIM(s->n[0], s->n[1]));

	b->ops->axpy(b->d, &x, &a, &y);
	return x;
}

static struct tensor
run_patchify(struct bench *b, const struct shape *s) /* channels, h, w */
{
	struct tensor latent = random_table(b, 3, DIM(s->n[0], s->n[1], s->n[2]));
	struct tensor rows = empty(b, 2, DIM(s->n[1] / 2 * (s->n[2] / 2), 4 * s->n[0]));

	b->ops->patchify(b->d, &rows, &latent);
	return rows;
}

static struct tensor
run_unpatchify(struct bench *b, const struct shape *s) /* channels, h, w */
{
	struct tensor rows = bench_random(b, 2, DIM(s->n[1] / 2 * (s->n[2] / 2), 4 * s->n[0]));
	struct tensor latent = bench_empty(b, DT_F32, 3, DIM(s->n[0], s->n[1], s->n[2]));

	b->ops->unpatchify(b->d, &latent, &rows, -1.0f);
	return latent;
}

static struct tensor
run_to_channels_last(struct bench *b, const struct shape *s) /* channels, h, w */
{
	struct tensor x = random_table(b, 3, DIM(s->n[0], s->n[1], s->n[2]));
	struct tensor y = empty(b, 3, DIM(s->n[1], s->n[2], s->n[0]));

	b->ops->to_channels_last(b->d, &y, &x);
	return y;
}

static struct tensor
run_to_pixels(struct bench *b, const struct shape *s) /* h, w */
{
	struct tensor x = scaled_tensor(b, device_act_type(b->d), 3, DIM(s->n[0], s->n[1], 3), 1.5f, 0);
	struct tensor pixels = bench_empty(b, DT_U8, 3, DIM(s->n[0], s->n[1], 3));

	b->ops->to_pixels(b->d, &pixels, &x);
	return pixels;
}

/* ---- the table */

const struct operation operations[] = {
    {"linear", run_linear, 2e-5, 1.2e-2, 4e-3,
	{{{1, 1, 1, 0}}, {{1, 384, 256, 1}}, {{33, 85, 32, 0}}, {{45, 1152, 384, 1}}, {{288, 1024, 384, 0}},
	    {{7, 64, 1024, 1}}, {{128, 16, 2304, 0}}}},
    {"linear of parts", run_parts, 2e-5, 1.2e-2, 4e-3,
	{{{9, 24, 32, DT_F32, DT_BF16}}, {{9, 5, 33, DT_BF16, DT_F16}}, {{9, 24, 32, DT_F16, DT_F32}}}},
    {"linear refilled", run_refilled, 2e-5, 1.2e-2, 4e-3,
	{{{9, 24, 32, DT_F32, DT_BF16}}, {{9, 5, 33, DT_BF16, DT_F16}}, {{9, 24, 32, DT_BF16, DT_BF16}}}},
    {"embed", run_embed, 0, 0, 0, {{{1, 320, 16}}, {{45, 320, 256}}}},
    {"rms_norm", run_rms_norm, 2e-6, 2e-6, 4e-3,
	{{{1, 16, 0}}, {{33, 85, 1}}, {{45, 384, 0}}, {{288, 384, 1}}, {{3, 3840, 1}}}},
    {"layer_norm", run_layer_norm, 2e-6, 2e-6, 4e-3, {{{1, 16}}, {{33, 85}}, {{288, 384}}, {{3, 3840}}}},
    {"norm_gate_add", run_norm_gate_add, 2e-6, 2e-6, 4e-3,
	{{{1, 16, 0}}, {{33, 85, 1}}, {{288, 384, 1}}, {{3, 3840, 1}}}},
    {"tail", run_tail, 2e-6, 2e-6, 8e-3,
	{{{1, 16, 0, 0, 0}}, {{33, 85, 1, 1, 0}}, {{45, 384, 1, 1, 1}}, {{45, 384, 0, 0, 1}},
	    {{3, 3840, 1, 1, 1}}}},
    {"add", run_add, 2e-6, 2e-6, 4e-3, {{{1, 1}}, {{45, 385}}, {{45, 384}}}},
    {"qkv_norm_rope q", run_qkv, 2e-6, 2e-6, 4e-3,
	{{{1, 2, 2, 16, 1, 0}}, {{33, 3, 3, 128, 1, 0}}, {{45, 4, 2, 128, 0, 0}}, {{5, 3, 3, 64, 1, 0}}}},
    {"qkv_norm_rope k", run_qkv, 2e-6, 2e-6, 4e-3,
	{{{1, 2, 2, 16, 0, 1}}, {{33, 3, 3, 128, 1, 1}}, {{45, 4, 2, 64, 0, 1}}, {{7, 4, 1, 128, 0, 1}}}},
    {"qkv_norm_rope v", run_qkv, 0, 0, 0,
	{{{33, 4, 2, 64, 0, 2}}, {{5, 3, 3, 16, 1, 2}}, {{33, 3, 3, 128, 1, 2}}}},
    {"attention", run_attention, 2e-5, 1.2e-2, 8e-3,
	{{{1, 1, 1, 1, 16, 0}}, {{33, 33, 2, 2, 16, 0}}, {{45, 45, 4, 2, 128, 1}}, {{96, 96, 3, 3, 128, 0}},
	    {{32, 77, 4, 1, 64, 0}}, {{64, 64, 1, 1, 512, 0}}, {{160, 160, 8, 2, 32, 1}}}},
    {"attention, long", run_attention, 2e-5, 1.2e-2, 8e-3,
	{{{300, 300, 2, 1, 128, 1}}, {{1, 257, 1, 1, 64, 0}}, {{129, 64, 1, 1, 128, 0}},
	    {{200, 130, 2, 2, 64, 0}}, {{129, 129, 4, 4, 64, 1}}, {{70, 70, 2, 1, 256, 1}},
	    {{5, 3, 2, 2, 128, 0}}, {{3, 1, 1, 1, 64, 0}}}},
    /* cuda's rows of scores are in chunks of 16384 */
    {"attention, wide", run_attention, 2e-5, 1.2e-2, 8e-3,
	{{{2, 16384, 1, 1, 256, 0}}, {{1, 16383, 1, 1, 256, 0}}, {{1, 16385, 1, 1, 256, 0}},
	    {{1, 16388, 1, 1, 256, 0}}, {{1, 33000, 1, 1, 256, 0}}, {{5, 2052, 1, 1, 256, 1}},
	    {{72, 72, 2, 1, 256, 1}}}},
    {"swiglu", run_swiglu, 2e-5, 2e-5, 4e-3, {{{1, 1, 1}}, {{33, 85, 3}}, {{288, 1024, 100}}}},
    {"conv2d", run_conv2d, 2e-5, 1.2e-2, 8e-3,
	{{{1, 1, 16, 3, 0, 1}}, {{5, 7, 16, 32, 0, 0}}, {{12, 20, 32, 64, 0, 1}}, {{9, 5, 64, 32, 1, 1}},
	    {{6, 10, 32, 32, 2, 1}}, {{8, 12, 32, 32, 3, 1}}, {{16, 16, 32, 3, 0, 0}}, {{1, 3, 5, 7, 2, 0}}}},
    {"conv2d of a norm", run_normed_conv2d, 2e-5, 1.2e-2, 8e-3,
	{{{1, 1, 16, 3, 4, 3}}, {{5, 7, 32, 32, 32, 3}}, {{12, 20, 64, 32, 4, 3}}, {{9, 5, 64, 32, 8, 1}}}},
    {"conv2d of strips", run_normed_twice, 2e-3, 1.2e-2, 8e-3,
	{{{5, 7, 32, 32, 32, 3}}, {{19, 83, 64, 8, 32, 3}}, {{50, 38, 32, 3, 4, 3}},
	    {{9, 499, 64, 7, 8, 1}}}},
    {"conv2d in place", run_narrowing_conv2d, 2e-5, 1.2e-2, 8e-3,
	{{{5, 7, 32, 32, 32, 1}}, {{12, 20, 64, 7, 4, 1}}, {{31, 257, 64, 8, 4, 1}}}},
    {"group_norm", run_group_norm, 2e-5, 2e-5, 4e-3,
	{{{1, 1, 32, 32, 0, 0}}, {{5, 7, 32, 32, 1, 0}}, {{12, 20, 64, 32, 1, 0}}, {{64, 64, 32, 4, 1, 0}},
	    {{33, 31, 128, 32, 0, 10}}, {{3, 5, 24, 3, 0, 0}}}},
    {"group_norm in place", run_group_norm_in_place, 2e-5, 2e-5, 4e-3,
	{{{9, 11, 64, 32}}, {{40, 40, 16, 4}}}},
    {"group_norm of bands", run_group_norm_of_bands, 2e-5, 2e-5, 4e-3,
	{{{1, 1, 32, 32, 1, 0}}, {{40, 20, 32, 4, 16, 0}}, {{37, 70, 64, 32, 5, 10}},
	    {{39, 33, 128, 32, 4, 10}}, {{2100, 3, 8, 2, 1024, 0}}, {{1030, 65, 6, 3, 2, 0}}}},
    {"repeat_row", run_repeat_row, 0, 0, 0, {{{1, 5}}, {{13, 384}}}},
    {"pick_row", run_pick_row, 0, 0, 0,
	{{{1, 5, 0, 1, 0}}, {{100, 300, 99, 1, 0}}, {{7, 1, 3, 0, 0}}, {{9, 384, 0, 0, 1}},
	    {{5, 257, 2, 1, 1}}}},
    {"copy", run_copy, 0, 0, 0, {{{1, 5}}, {{45, 384}}}},
    {"activate", run_activate, 2e-6, 2e-6, 4e-3,
	{{{1, 5, ACT_SILU}}, {{3, 384, ACT_TANH}}, {{3, 384, ACT_ONE_PLUS}}}},
    {"affine", run_affine, 2e-6, 2e-6, 4e-3, {{{1, 5}}, {{45, 384}}}},
    {"axpy", run_axpy, 2e-6, 2e-6, 2e-6, {{{1, 5}}, {{45, 384}}}},
    {"patchify", run_patchify, 0, 0, 0, {{{4, 6, 8}}, {{16, 2, 10}}}},
    {"unpatchify", run_unpatchify, 0, 0, 0, {{{4, 6, 8}}, {{16, 2, 10}}}},
    {"to_channels_last", run_to_channels_last, 0, 0, 0, {{{4, 6, 8}}, {{16, 2, 10}}}},
    {"to_pixels", run_to_pixels, 0, 0, 0, {{{5, 7}}, {{16, 16}}}},
};

const size_t operation_count = sizeof(operations) / sizeof(operations[0]);

/* ---- running them */

static float *
read_result(struct bench *b, const struct tensor *y)
{
	size_t count = (size_t)tensor_count(y);
	float *host = malloc(count * sizeof(float));
	uint8_t *bytes = malloc(count);

	assert_non_null(host);
	assert_non_null(bytes);
	if (y->type == DT_U8) {
		b->ops->copy_out(b->d, bytes, DT_U8, y);
		for (size_t i = 0; i < count; i++)
			host[i] = bytes[i];
	} else
		b->ops->copy_out(b->d, host, DT_F32, y);
	free(bytes);
	return host;
}

void
bench_release(struct bench *b)
{
	for (int i = 0; i < b->made_count; i++)
		b->ops->release(b->d, b->made[i].data);
	b->made_count = 0;
}

/* Opening a card takes longer than all of an operation's shapes: devices stay open until the program's end.
 */
static struct {
	char backend[16];
	enum precision precision;
	struct device *d;
} opened[MAX_OPENED];

static void
close_opened(void)
{
	for (int i = 0; i < MAX_OPENED; i++)
		device_close(&opened[i].d);
}

static struct device *
open_once(const char *backend, enum precision precision)
{
	struct device_options options = {.precision = precision, .threads = 2};
	char why[200];
	int i = 0;

	for (; opened[i].d != NULL; i++) {
		if (strcmp(opened[i].backend, backend) == 0 && opened[i].precision == precision) {
			if (device_ops(opened[i].d)->sync(opened[i].d) == 0)
				return opened[i].d;
			device_close(&opened[i].d); /* a failure is one operation's */
			break;
		}
	}
	assert_true(i + 1 < MAX_OPENED);
	if (device_open(&opened[i].d, backend, &options, why, sizeof(why)) != 0) {
		print_message("%s\n", why);
		return NULL;
	}
	if (i == 0)
		atexit(close_opened);
	snprintf(opened[i].backend, sizeof(opened[i].backend), "%s", backend);
	opened[i].precision = precision;
	return opened[i].d;
}

float *
operation_result(const struct operation *o, const struct shape *shape, const char *backend,
    enum precision precision, bool rounded, int64_t *count)
{
	struct bench b = {.d = open_once(backend, precision), .seed = 12345, .rounded = rounded};
	struct tensor y;
	float *host;

	if (b.d == NULL)
		return NULL;
	b.ops = device_ops(b.d);
	y = o->run(&b, shape);
	host = read_result(&b, &y);
	if (b.ops->sync(b.d) != 0)
		fail_msg("%s: %s", o->name, device_error(b.d));
	*count = tensor_count(&y);
	bench_release(&b);
	return host;
}

static double
relative_error(const float *got, const float *want, int64_t count)
{
	double largest = 0, scale = 1e-30;

	for (int64_t i = 0; i < count; i++) {
		if (isnan(got[i]) || isnan(want[i]))
			return INFINITY;
		largest = fmax(largest, fabs((double)got[i] - want[i]));
		scale = fmax(scale, fabs((double)want[i]));
	}
	return largest / scale;
}

void
operation_compare(const struct operation *o, const char *backend, enum precision precision)
{
	bool cuda = strcmp(backend, "cuda") == 0, bf16 = precision == PRECISION_BF16;
	double tolerance = !bf16 ? o->f32 : cuda ? o->act_bf16 : o->bf16, largest = 0;
	int shapes = 0;

	for (; shapes < OPERATION_SHAPES && o->shapes[shapes].n[0] > 0; shapes++) {
		const struct shape *shape = &o->shapes[shapes];
		int64_t count;
		float *want = operation_result(o, shape, "ref", PRECISION_F32, cuda && bf16, &count);
		float *got = operation_result(o, shape, backend, precision, cuda && bf16, &count);
		if (got == NULL) { /* this processor has no such precision */
			free(want);
			skip();
		}
		largest = fmax(largest, relative_error(got, want, count));
		free(want);
		free(got);
	}
	print_message("%-20s %s %-4s  %d shapes  largest error %.1e of %.1e\n", o->name, backend,
	    bf16 ? "bf16" : "f32", shapes, largest, tolerance);
	assert_true(largest <= tolerance);
}
