/*
 * The backends of the host: ref against numbers worked out here or by identities, cpu in both precisions
 * against ref on the list of operations.h.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/kernels/operations.h"

enum { MAX_TESTS = 128 };

static void
test_f32(void **state)
{
	operation_compare(*state, "cpu", PRECISION_F32);
}

static void
test_bf16(void **state)
{
	operation_compare(*state, "cpu", PRECISION_BF16);
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
	struct tensor x = bench_empty(&b, DT_F32, 2, DIM(1, 4)), y = bench_empty(&b, DT_F32, 2, DIM(1, 4)),
		      w = bench_empty(&b, DT_F32, 1, DIM(4));
	struct tensor half = bench_empty(&b, DT_F32, 2, DIM(1, 2));

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
	bench_release(&b);
	device_close(&b.d);
}

/* A 2x2 picture convolved with a kernel that picks its upper left neighbour; doubled first, the corner
 * repeats. */
static void
test_ref_convolution_by_hand(void **state)
{
	struct bench b = open_ref();
	struct tensor x = bench_empty(&b, DT_F32, 3, DIM(2, 2, 1)),
		      y = bench_empty(&b, DT_F32, 3, DIM(2, 2, 1)),
		      big = bench_empty(&b, DT_F32, 3, DIM(4, 4, 1));
	float kernel[9] = {1, 0, 0, 0, 0, 0, 0, 0, 0};
	struct stored stored = {kernel, DT_F32, 4, {1, 1, 3, 3}};
	struct weight *w = b.ops->weight_load(b.d, WEIGHT_CONV, &stored, 1);
	struct conv_shape plain = {1, 1, 1, false, NULL}, doubled = {1, 1, 1, true, NULL};

	(void)state;
	memcpy(x.data, (float[]){1, 2, 3, 4}, 16);
	b.ops->conv2d(b.d, &y, &x, w, NULL, NULL, &plain);
	check_values(&y, (float[]){0, 0, 0, 1}, 0);
	b.ops->conv2d(b.d, &big, &x, w, NULL, NULL, &doubled);
	check_values(&big, (float[]){0, 0, 0, 0, 0, 1, 1, 2, 0, 1, 1, 2, 0, 3, 3, 4}, 0);
	bench_release(&b);
	device_close(&b.d);
}

static void
test_ref_patches_and_pixels(void **state)
{
	struct bench b = open_ref();
	struct tensor latent = bench_random(&b, 3, DIM(4, 6, 8)),
		      back = bench_empty(&b, DT_F32, 3, DIM(4, 6, 8));
	struct tensor patches = bench_empty(&b, DT_F32, 2, DIM(12, 16)),
		      x = bench_empty(&b, DT_F32, 3, DIM(1, 2, 3)),
		      pixels = bench_empty(&b, DT_F32, 3, DIM(1, 2, 3));
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
	bench_release(&b);
	device_close(&b.d);
}

/* Softmax over one key is that key's value; uniform scores give the mean. */
static void
test_ref_attention_identities(void **state)
{
	struct attention_shape shape = {1, 1, 4, true, 1};
	struct bench b = open_ref();
	struct tensor q = bench_empty(&b, DT_F32, 3, DIM(2, 1, 4)),
		      k = bench_empty(&b, DT_F32, 3, DIM(2, 1, 4)), v = bench_random(&b, 3, DIM(2, 1, 4));
	struct tensor o = bench_empty(&b, DT_F32, 3, DIM(2, 1, 4));
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
	bench_release(&b);
	device_close(&b.d);
}

/* The same work twice gives the same bits: pictures are to be repeatable. */
static void
test_cpu_is_repeatable(void **state)
{
	(void)state;
	for (size_t i = 0; i < operation_count; i++) {
		const struct operation *o = &operations[i];
		int64_t count;
		float *first = operation_result(o, &o->shapes[0], "cpu", PRECISION_AUTO, false, &count);
		float *again = operation_result(o, &o->shapes[0], "cpu", PRECISION_AUTO, false, &count);
		assert_non_null(first);
		assert_memory_equal(first, again, (size_t)count * sizeof(float));
		free(first);
		free(again);
	}
}

int
main(void)
{
	static struct CMUnitTest tests[MAX_TESTS] = {
	    cmocka_unit_test(test_ref_by_hand),
	    cmocka_unit_test(test_ref_convolution_by_hand),
	    cmocka_unit_test(test_ref_patches_and_pixels),
	    cmocka_unit_test(test_ref_attention_identities),
	    cmocka_unit_test(test_cpu_is_repeatable),
	};
	size_t count = 5;

	for (size_t i = 0; i < operation_count; i++) {
		void *o = (void *)&operations[i];
		tests[count++] = (struct CMUnitTest){operations[i].name, test_f32, NULL, NULL, o};
		tests[count++] = (struct CMUnitTest){operations[i].name, test_bf16, NULL, NULL, o};
	}
	/* cmocka's macro takes the length from the array's type */
	return _cmocka_run_group_tests("operations", tests, count, NULL, NULL);
}
