/*
 * Every operation of ops.h on a list of shapes: ref against numbers worked out here or by identities, cpu in
 * both precisions against ref. The largest error of each operation is printed, relative to the largest value
 * of the result.
 *
 * Tolerances: f32 2e-6 where a result is one rounding of a short formula, 2e-5 for sums of up to 2304
 * products and for what exp goes into; bf16 1.2e-2: inputs of products keep 8 bits, so each product errs by
 * up to 2^-8, and sums of random signs stay near that.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/ops.h"

struct shape {
	int64_t n[6]; /* meaning: the operation's */
};

/* A run of one operation on one device: random inputs made the same way each time, and the result. */
struct bench {
	struct device *d;
	const struct ops *ops;
	uint32_t seed;
	struct tensor made[16];
	int made_count;
};

static struct tensor
empty(struct bench *b, int rank, const int64_t *dim)
{
	struct tensor t = {.type = DT_F32, .rank = rank, .dim = {1, 1, 1, 1}};

	for (int i = 0; i < rank; i++)
		t.dim[i] = dim[i];
	t.data = b->ops->reserve(b->d, tensor_bytes(&t) + 64);
	assert_non_null(t.data);
	memset(t.data, 0xff, tensor_bytes(&t)); /* NaN: what is not written shows */
	b->made[b->made_count++] = t;
	return t;
}

/* Uniform in [-1, 1), from a generator of our own so that every device gets the same. */
static float
uniform(struct bench *b)
{
	b->seed = b->seed * 1664525u + 1013904223u;
	return (float)(b->seed >> 8) * 0x1p-23f - 1.0f;
}

static struct tensor
random_tensor(struct bench *b, int rank, const int64_t *dim)
{
	struct tensor t = empty(b, rank, dim);

	for (int64_t i = 0; i < tensor_count(&t); i++)
		((float *)t.data)[i] = uniform(b);
	return t;
}

static struct tensor
random_vector(struct bench *b, int64_t n)
{
	return random_tensor(b, 1, &n);
}

static struct weight *
random_weight(struct bench *b, enum weight_use use, int rank, const int64_t *dim)
{
	struct tensor t = random_tensor(b, rank, dim);
	struct stored s = {t.data, DT_F32, rank, {t.dim[0], t.dim[1], t.dim[2], t.dim[3]}};

	return b->ops->weight_load(b->d, use, &s, 1);
}

#define DIM(...) ((int64_t[]){__VA_ARGS__})

/* ---- the operations; each returns its result */

static struct tensor
run_linear(struct bench *b, const struct shape *s) /* rows, n, k, bias */
{
	struct tensor x = random_tensor(b, 2, DIM(s->n[0], s->n[2])), y = empty(b, 2, DIM(s->n[0], s->n[1]));
	struct weight *w = random_weight(b, WEIGHT_LINEAR, 2, DIM(s->n[1], s->n[2]));
	struct tensor bias = random_vector(b, s->n[1]);

	b->ops->linear(b->d, &y, &x, w, s->n[3] ? &bias : NULL);
	return y;
}

static struct tensor
run_embed(struct bench *b, const struct shape *s) /* tokens, vocabulary, width */
{
	struct weight *table = random_weight(b, WEIGHT_TABLE, 2, DIM(s->n[1], s->n[2]));
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
	struct tensor x = random_tensor(b, 2, DIM(s->n[0], s->n[1])), y = empty(b, 2, DIM(s->n[0], s->n[1]));
	struct tensor w = random_vector(b, s->n[1]), scale = random_vector(b, s->n[1]);

	b->ops->rms_norm(b->d, &y, &x, &w, s->n[2] ? &scale : NULL, 1e-5f);
	return y;
}

static struct tensor
run_layer_norm(struct bench *b, const struct shape *s) /* rows, width */
{
	struct tensor x = random_tensor(b, 2, DIM(s->n[0], s->n[1])), y = empty(b, 2, DIM(s->n[0], s->n[1]));
	struct tensor scale = random_vector(b, s->n[1]);

	b->ops->layer_norm(b->d, &y, &x, &scale, 1e-6f);
	return y;
}

static struct tensor
run_norm_gate_add(struct bench *b, const struct shape *s) /* rows, width, gate */
{
	struct tensor x = random_tensor(b, 2, DIM(s->n[0], s->n[1])),
		      branch = random_tensor(b, 2, DIM(s->n[0], s->n[1]));
	struct tensor w = random_vector(b, s->n[1]), gate = random_vector(b, s->n[1]);

	b->ops->norm_gate_add(b->d, &x, &branch, &w, s->n[2] ? &gate : NULL, 1e-5f);
	return x;
}

static struct tensor
run_add(struct bench *b, const struct shape *s) /* rows, width */
{
	struct tensor x = random_tensor(b, 2, DIM(s->n[0], s->n[1])),
		      y = random_tensor(b, 2, DIM(s->n[0], s->n[1]));

	b->ops->add(b->d, &x, &y);
	return x;
}

static struct tensor
run_qkv(struct bench *b, const struct shape *s) /* rows, heads, kv heads, head width, pairs, which result */
{
	struct attention_shape shape = {(int)s->n[1], (int)s->n[2], (int)s->n[3], false, 1};
	struct tensor qkv = random_tensor(b, 2, DIM(s->n[0], (s->n[1] + 2 * s->n[2]) * s->n[3]));
	struct tensor norm_q = random_vector(b, s->n[3]), norm_k = random_vector(b, s->n[3]);
	struct tensor cos = random_tensor(b, 2, DIM(s->n[0], s->n[3] / 2)),
		      sin = random_tensor(b, 2, DIM(s->n[0], s->n[3] / 2));
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
	struct tensor q = random_tensor(b, 3, DIM(s->n[0], s->n[2], s->n[4])),
		      k = random_tensor(b, 3, DIM(s->n[1], s->n[3], s->n[4]));
	struct tensor v = random_tensor(b, 3, DIM(s->n[1], s->n[3], s->n[4])),
		      o = empty(b, 3, DIM(s->n[0], s->n[2], s->n[4]));

	b->ops->attention(b->d, &o, &q, &k, &v, &shape);
	return o;
}

static struct tensor
run_swiglu(struct bench *b, const struct shape *s) /* rows, width, largest input */
{
	struct tensor x = random_tensor(b, 2, DIM(s->n[0], 2 * s->n[1])),
		      y = empty(b, 2, DIM(s->n[0], s->n[1]));

	for (int64_t i = 0; i < tensor_count(&x); i++)
		((float *)x.data)[i] *= (float)s->n[2];
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
	    {3, {1, 1, 1, false}, 1, 1}, {1, {1, 0, 0, false}, 1, 1}, {3, {1, 1, 1, true}, 2, 1},
	    {3, {2, 0, 1, false}, 1, 2}, /* the encoder's: a zero row below and right only */
	};
	int64_t k = kinds[s->n[4]].k, h = s->n[0] * kinds[s->n[4]].numerator / kinds[s->n[4]].denominator;
	int64_t w = s->n[1] * kinds[s->n[4]].numerator / kinds[s->n[4]].denominator;
	struct tensor x = random_tensor(b, 3, DIM(s->n[0], s->n[1], s->n[2])),
		      y = empty(b, 3, DIM(h, w, s->n[3]));
	struct weight *weight = random_weight(b, WEIGHT_CONV, 4, DIM(s->n[3], s->n[2], k, k));
	struct tensor bias = random_vector(b, s->n[3]), add = random_tensor(b, 3, DIM(h, w, s->n[3]));

	b->ops->conv2d(
	    b->d, &y, &x, weight, s->n[5] ? &bias : NULL, s->n[5] ? &add : NULL, &kinds[s->n[4]].shape);
	return y;
}

static struct tensor
run_group_norm(
    struct bench *b, const struct shape *s) /* h, w, channels, groups, silu, offset of the values */
{
	struct tensor x = random_tensor(b, 3, DIM(s->n[0], s->n[1], s->n[2])),
		      y = empty(b, 3, DIM(s->n[0], s->n[1], s->n[2]));
	struct tensor w = random_vector(b, s->n[2]), bias = random_vector(b, s->n[2]);

	for (int64_t i = 0; i < tensor_count(&x); i++)
		((float *)x.data)[i] += (float)s->n[5];
	b->ops->group_norm(b->d, &y, &x, &w, &bias, (int)s->n[3], 1e-6f, s->n[4] != 0);
	return y;
}

/* ---- the table */

struct row {
	const char *name;
	struct tensor (*run)(struct bench *b, const struct shape *s);
	double f32, bf16;	/* tolerances, relative to the result's largest value */
	struct shape shapes[8]; /* until n[0] is 0 */
};

static const struct row rows[] = {
    {"linear", run_linear, 2e-5, 1.2e-2,
	{{{1, 1, 1, 0}}, {{1, 384, 256, 1}}, {{33, 85, 32, 0}}, {{45, 1152, 384, 1}}, {{288, 1024, 384, 0}},
	    {{7, 64, 1024, 1}}, {{128, 16, 2304, 0}}}},
    {"embed", run_embed, 0, 0, {{{1, 320, 16}}, {{45, 320, 256}}}},
    {"rms_norm", run_rms_norm, 2e-6, 2e-6, {{{1, 16, 0}}, {{33, 85, 1}}, {{45, 384, 0}}, {{288, 384, 1}}}},
    {"layer_norm", run_layer_norm, 2e-6, 2e-6, {{{1, 16}}, {{33, 85}}, {{288, 384}}}},
    {"norm_gate_add", run_norm_gate_add, 2e-6, 2e-6, {{{1, 16, 0}}, {{33, 85, 1}}, {{288, 384, 1}}}},
    {"add", run_add, 2e-6, 2e-6, {{{1, 1}}, {{45, 385}}}},
    {"qkv_norm_rope q", run_qkv, 2e-6, 2e-6,
	{{{1, 2, 2, 16, 1, 0}}, {{33, 3, 3, 128, 1, 0}}, {{45, 4, 2, 128, 0, 0}}}},
    {"qkv_norm_rope k", run_qkv, 2e-6, 2e-6,
	{{{1, 2, 2, 16, 0, 1}}, {{33, 3, 3, 128, 1, 1}}, {{45, 4, 2, 64, 0, 1}}}},
    {"qkv_norm_rope v", run_qkv, 0, 0, {{{33, 4, 2, 64, 0, 2}}}},
    {"attention", run_attention, 2e-5, 1.2e-2,
	{{{1, 1, 1, 1, 16, 0}}, {{33, 33, 2, 2, 16, 0}}, {{45, 45, 4, 2, 128, 1}}, {{96, 96, 3, 3, 128, 0}},
	    {{32, 77, 4, 1, 64, 0}}, {{64, 64, 1, 1, 512, 0}}, {{160, 160, 8, 2, 32, 1}}}},
    {"swiglu", run_swiglu, 2e-5, 2e-5, {{{1, 1, 1}}, {{33, 85, 3}}, {{288, 1024, 100}}}},
    {"conv2d", run_conv2d, 2e-5, 1.2e-2,
	{{{1, 1, 16, 3, 0, 1}}, {{5, 7, 16, 32, 0, 0}}, {{12, 20, 32, 64, 0, 1}}, {{9, 5, 64, 32, 1, 1}},
	    {{6, 10, 32, 32, 2, 1}}, {{8, 12, 32, 32, 3, 1}}, {{16, 16, 32, 3, 0, 0}}}},
    {"group_norm", run_group_norm, 2e-5, 2e-5,
	{{{1, 1, 32, 32, 0, 0}}, {{5, 7, 32, 32, 1, 0}}, {{12, 20, 64, 32, 1, 0}}, {{64, 64, 32, 4, 1, 0}},
	    {{33, 31, 128, 32, 0, 10}}}},
};

enum { ROWS = sizeof(rows) / sizeof(rows[0]), SHAPES = 8 };

/* The result of one row and shape on a fresh device, as floats of the caller's. */
static float *
result_of(const struct row *row, const struct shape *shape, const char *backend, enum precision precision,
    int64_t *count)
{
	struct device_options options = {.precision = precision, .threads = 2};
	struct bench b = {.seed = 12345};
	struct tensor y;
	char why[200];
	float *copy;

	if (device_open(&b.d, backend, &options, why, sizeof(why)) != 0) {
		print_message("%s\n", why);
		return NULL;
	}
	b.ops = device_ops(b.d);
	y = row->run(&b, shape);
	if (b.ops->sync(b.d) != 0)
		fail_msg("%s: %s", row->name, device_error(b.d));
	*count = tensor_count(&y);
	copy = malloc((size_t)*count * sizeof(float));
	memcpy(copy, y.data, (size_t)*count * sizeof(float));
	for (int i = 0; i < b.made_count; i++)
		b.ops->release(b.d, b.made[i].data);
	device_close(&b.d);
	return copy;
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

static void
compare_row(const struct row *row, enum precision precision)
{
	double tolerance = precision == PRECISION_BF16 ? row->bf16 : row->f32, largest = 0;
	int shapes = 0;

	for (; shapes < SHAPES && row->shapes[shapes].n[0] > 0; shapes++) {
		int64_t count;
		float *want = result_of(row, &row->shapes[shapes], "ref", PRECISION_F32, &count);
		float *got = result_of(row, &row->shapes[shapes], "cpu", precision, &count);
		if (got == NULL) { /* this processor has no such precision */
			free(want);
			skip();
		}
		largest = fmax(largest, relative_error(got, want, count));
		free(want);
		free(got);
	}
	print_message("%-16s cpu %-4s  %d shapes  largest error %.1e of %.1e\n", row->name,
	    precision == PRECISION_BF16 ? "bf16" : "f32", shapes, largest, tolerance);
	assert_true(largest <= tolerance);
}

static void
test_f32(void **state)
{
	compare_row(*state, PRECISION_F32);
}

static void
test_bf16(void **state)
{
	compare_row(*state, PRECISION_BF16);
}

/* ---- ref against numbers worked out by hand */

static struct bench
open_ref(void)
{
	struct device_options options = {.precision = PRECISION_F32};
	struct bench b = {.seed = 1};
	char why[100];

	assert_int_equal(device_open(&b.d, "ref", &options, why, sizeof(why)), 0);
	b.ops = device_ops(b.d);
	return b;
}

static void
close_bench(struct bench *b)
{
	for (int i = 0; i < b->made_count; i++)
		b->ops->release(b->d, b->made[i].data);
	device_close(&b->d);
}

static void
check_values(const struct tensor *t, const float *want, double tolerance)
{
	for (int64_t i = 0; i < tensor_count(t); i++) {
		if (fabs((double)((float *)t->data)[i] - want[i]) > tolerance)
			fail_msg(
			    "value %d is %g, not %g", (int)i, (double)((float *)t->data)[i], (double)want[i]);
	}
}

static void
test_ref_by_hand(void **state)
{
	struct bench b = open_ref();
	struct tensor x = empty(&b, 2, DIM(1, 4)), y = empty(&b, 2, DIM(1, 4)), w = empty(&b, 1, DIM(4));
	struct tensor half = empty(&b, 2, DIM(1, 2));

	(void)state;
	memcpy(x.data, (float[]){3, 4, 0, 0}, 16);
	memcpy(w.data, (float[]){1, 1, 2, 2}, 16);
	b.ops->rms_norm(b.d, &y, &x, &w, NULL, 0); /* rms is sqrt(25/4) = 2.5 */
	check_values(&y, (float[]){1.2f, 1.6f, 0, 0}, 1e-6);
	b.ops->layer_norm(b.d, &y, &x, &w, 0); /* mean 1.75, deviation sqrt(3.1875) = 1.78536 */
	check_values(&y, (float[]){0.70014f, 1.26025f, -1.96039f, -1.96039f}, 1e-4);
	memcpy(x.data, (float[]){0, 1, 5, 7}, 16);
	b.ops->swiglu(b.d, &half, &x); /* silu(1) = 0.731059 */
	check_values(&half, (float[]){0, 0.731059f * 7}, 1e-5);
	close_bench(&b);
}

/* A 2x2 picture convolved with a kernel that picks its upper left neighbour; doubled first, the corner
 * repeats. */
static void
test_ref_convolution_by_hand(void **state)
{
	struct bench b = open_ref();
	struct tensor x = empty(&b, 3, DIM(2, 2, 1)), y = empty(&b, 3, DIM(2, 2, 1)),
		      big = empty(&b, 3, DIM(4, 4, 1));
	float kernel[9] = {1, 0, 0, 0, 0, 0, 0, 0, 0};
	struct stored stored = {kernel, DT_F32, 4, {1, 1, 3, 3}};
	struct weight *w = b.ops->weight_load(b.d, WEIGHT_CONV, &stored, 1);
	struct conv_shape plain = {1, 1, 1, false}, doubled = {1, 1, 1, true};

	(void)state;
	memcpy(x.data, (float[]){1, 2, 3, 4}, 16);
	b.ops->conv2d(b.d, &y, &x, w, NULL, NULL, &plain);
	check_values(&y, (float[]){0, 0, 0, 1}, 0);
	b.ops->conv2d(b.d, &big, &x, w, NULL, NULL, &doubled);
	check_values(&big, (float[]){0, 0, 0, 0, 0, 1, 1, 2, 0, 1, 1, 2, 0, 3, 3, 4}, 0);
	close_bench(&b);
}

static void
test_ref_patches_and_pixels(void **state)
{
	struct bench b = open_ref();
	struct tensor latent = random_tensor(&b, 3, DIM(4, 6, 8)), back = empty(&b, 3, DIM(4, 6, 8));
	struct tensor patches = empty(&b, 2, DIM(12, 16)), x = empty(&b, 3, DIM(1, 2, 3)),
		      pixels = empty(&b, 3, DIM(1, 2, 3));
	const float *in = latent.data, *row;

	(void)state;
	b.ops->patchify(b.d, &patches, &latent);
	row = (const float *)patches.data + 5 * 16; /* row 5 is patch (1, 1); entry (dy 1, dx 0, c 2) */
	assert_true(row[(1 * 2 + 0) * 4 + 2] == in[(2 * 6 + 3) * 8 + 2]);
	b.ops->unpatchify(b.d, &back, &patches, -1.0f);
	for (int64_t i = 0; i < tensor_count(&latent); i++)
		assert_true(((float *)back.data)[i] == -in[i]);
	memcpy(x.data, (float[]){-3, -1, 0, 1, 3, 1.0f / 255}, 24);
	pixels.type = DT_U8;
	b.ops->to_pixels(b.d, &pixels, &x);
	assert_memory_equal(pixels.data, ((uint8_t[]){0, 0, 128, 255, 255, 128}), 6); /* 127.5 and 128 */
	close_bench(&b);
}

/* Softmax over one key is that key's value; uniform scores give the mean. */
static void
test_ref_attention_identities(void **state)
{
	struct attention_shape shape = {1, 1, 4, true, 1};
	struct bench b = open_ref();
	struct tensor q = empty(&b, 3, DIM(2, 1, 4)), k = empty(&b, 3, DIM(2, 1, 4)),
		      v = random_tensor(&b, 3, DIM(2, 1, 4));
	struct tensor o = empty(&b, 3, DIM(2, 1, 4));
	const float *values = v.data;
	float want[8];

	(void)state;
	memset(q.data, 0, tensor_bytes(&q));
	memset(k.data, 0, tensor_bytes(&k));
	b.ops->attention(b.d, &o, &q, &k, &v, &shape);
	for (int i = 0; i < 4; i++) {
		want[i] = values[i];
		want[4 + i] = (values[i] + values[4 + i]) / 2;
	}
	check_values(&o, want, 1e-6);
	close_bench(&b);
}

/* The same work twice gives the same bits: pictures are to be repeatable. */
static void
test_cpu_is_repeatable(void **state)
{
	(void)state;
	for (int r = 0; r < ROWS; r++) {
		int64_t count;
		float *first = result_of(&rows[r], &rows[r].shapes[0], "cpu", PRECISION_AUTO, &count);
		float *again = result_of(&rows[r], &rows[r].shapes[0], "cpu", PRECISION_AUTO, &count);
		assert_non_null(first);
		assert_memory_equal(first, again, (size_t)count * sizeof(float));
		free(first);
		free(again);
	}
}

int
main(void)
{
	struct CMUnitTest tests[2 * ROWS + 5] = {
	    cmocka_unit_test(test_ref_by_hand),
	    cmocka_unit_test(test_ref_convolution_by_hand),
	    cmocka_unit_test(test_ref_patches_and_pixels),
	    cmocka_unit_test(test_ref_attention_identities),
	    cmocka_unit_test(test_cpu_is_repeatable),
	};

	for (int i = 0; i < ROWS; i++) {
		tests[5 + 2 * i] = (struct CMUnitTest){rows[i].name, test_f32, NULL, NULL, (void *)&rows[i]};
		tests[6 + 2 * i] = (struct CMUnitTest){rows[i].name, test_bf16, NULL, NULL, (void *)&rows[i]};
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
