/*
 * The cuda backend against ref, every operation on its list of shapes, in both precisions, and the same bits
 * twice. Runs on the emulated device (make check-kernels) and on a card (make check-gpu). Tolerances:
 * operations.h.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cuda/attention.h"
#include "tests/kernels/conv_forms.h"
#include "tests/kernels/operations.h"

enum { MAX_TESTS = 128 };

static void
test_f32(void **state)
{
	operation_compare(*state, "cuda", PRECISION_F32);
}

static void
test_bf16(void **state)
{
	operation_compare(*state, "cuda", PRECISION_BF16);
}

/* The second time there is nothing new for sanitizers to see. */
#ifdef __SANITIZE_ADDRESS__
enum { ONCE_IS_ENOUGH = 1 };
#else
enum { ONCE_IS_ENOUGH = 0 };
#endif

/* A resumed picture has the bits of an undisturbed one only if operations have. */
static void
test_is_repeatable(void **state)
{
	const struct operation *o = *state;

	if (ONCE_IS_ENOUGH)
		skip();
	for (int i = 0; i < OPERATION_SHAPES && o->shapes[i].n[0] > 0; i++) {
		int64_t count;
		float *first = operation_result(o, &o->shapes[i], "cuda", PRECISION_BF16, true, &count);
		float *again = operation_result(o, &o->shapes[i], "cuda", PRECISION_BF16, true, &count);
		assert_non_null(first);
		assert_non_null(again);
		assert_memory_equal(first, again, (size_t)count * sizeof(float));
		free(first);
		free(again);
	}
}

/* ---- attention by each of its forms for tensor cores, whichever of them the operation takes here */

static int
form_of(const char *name)
{
	int i = 0;

	while (strcmp(cuda_attention_form(i), name) != 0)
		i++;
	return i;
}

/* queries, keys, heads, kv heads, head width, causal; by ref as ever */
static struct tensor
attend_by(const char *form, struct bench *b, const struct shape *s)
{
	struct attention_shape shape = {
	    (int)s->n[2], (int)s->n[3], (int)s->n[4], s->n[5] != 0, (float)(4 / sqrt((double)s->n[4]))};
	struct tensor q = bench_random(b, 3, DIM(s->n[0], s->n[2], s->n[4])),
		      k = bench_random(b, 3, DIM(s->n[1], s->n[3], s->n[4])),
		      v = bench_random(b, 3, DIM(s->n[1], s->n[3], s->n[4])),
		      o = bench_empty(b, device_act_type(b->d), 3, DIM(s->n[0], s->n[2], s->n[4]));

	if (strcmp(b->ops->name, "cuda") == 0)
		cuda_attention_by(b->d, form_of(form), &o, &q, &k, &v, &shape);
	else
		b->ops->attention(b->d, &o, &q, &k, &v, &shape);
	return o;
}

static struct tensor
run_wgmma(struct bench *b, const struct shape *s)
{
	return attend_by("wgmma", b, s);
}

static struct tensor
run_mma(struct bench *b, const struct shape *s)
{
	return attend_by("mma", b, s);
}

/* Tiles of 64 and of 80 keys, blocks of 128 and of 192 rows: one less, one more, a ring of tiles that goes
 * round three times, few rows of many keys and the reverse. Tolerances: as the operation's. */
#define FORM_SHAPES \
	{{1, 1, 1, 1, 128, 0}}, {{193, 79, 2, 2, 128, 0}}, {{65, 81, 4, 2, 64, 0}}, \
	    {{20, 970, 1, 1, 128, 0}}, {{400, 400, 1, 1, 128, 1}}, {{192, 160, 1, 1, 128, 0}}, \
	    {{250, 250, 2, 2, 64, 1}}, \
	{ \
		{ \
			33, 650, 1, 1, 64, 0 \
		} \
	}

static const struct operation forms[] = {
    {"attention, wgmma", run_wgmma, 2e-5, 1.2e-2, 8e-3, {FORM_SHAPES}},
    {"attention, mma", run_mma, 2e-5, 1.2e-2, 8e-3, {FORM_SHAPES}},
};

static bool
attention_form_is_here(const struct device *d, const struct operation *o)
{
	struct attention_shape shape = {1, 1, 128, false, 1};

	return cuda_attention_takes(d, form_of(strchr(o->name, ' ') + 1), &shape);
}

/* Skipped on a device that has no such form; a 9.0 one has all. */
static void
skip_without_form(const struct operation *o)
{
	bool (*is_here)(const struct device *d, const struct operation *o) =
	    strncmp(o->name, "conv2d", 6) == 0 ? conv_form_is_here : attention_form_is_here;
	struct device_options options = {.precision = PRECISION_BF16};
	struct device_info info;
	struct device *d;
	char why[200];
	bool here;

	assert_true(device_list("cuda", &info, 1, why, sizeof(why)) > 0);
	assert_int_equal(device_open(&d, "cuda", &options, why, sizeof(why)), 0);
	here = is_here(d, o);
	device_close(&d);
	if (here)
		return;
	assert_false(info.major == 9 && info.minor == 0);
	print_message("%s: not on this device\n", o->name);
	skip();
}

static void
test_form(void **state)
{
	skip_without_form(*state);
	test_bf16(state);
}

static void
test_form_is_repeatable(void **state)
{
	skip_without_form(*state);
	test_is_repeatable(state);
}

/* A device that is told so has only the forms that every one has. */
static void
test_portable_device(void **state)
{
	struct device_options options = {.precision = PRECISION_BF16, .portable = true};
	struct attention_shape shape = {1, 1, 128, false, 1};
	struct device *d;
	char why[200];

	(void)state;
	assert_int_equal(device_open(&d, "cuda", &options, why, sizeof(why)), 0);
	assert_false(cuda_attention_takes(d, form_of("wgmma"), &shape));
	assert_true(cuda_attention_takes(d, form_of("mma"), &shape));
	assert_false(conv_form_is_here(d, &conv_forms[0]));
	assert_non_null(strstr(device_name(d), "portable"));
	device_close(&d);
}

/* x += a y eight times, a being another row of a table each time; the sequence is run, recorded and replayed.
 */
static void
test_recorded_sequence(void **state)
{
	enum { COUNT = 300, TIMES = 8 };
	struct device_options options = {.precision = PRECISION_BF16};
	struct bench b = {.seed = 7};
	struct recording_key key = {1, {2, 3, 4}};
	float x[COUNT], y[COUNT], got[COUNT], table[TIMES];
	struct tensor dx, dy, da, rows, index;
	char why[200];
	int replayed = 0;

	(void)state;
	assert_int_equal(device_open(&b.d, "cuda", &options, why, sizeof(why)), 0);
	b.ops = device_ops(b.d);
	dx = bench_empty(&b, DT_F32, 1, DIM(COUNT));
	dy = bench_empty(&b, DT_F32, 1, DIM(COUNT));
	da = bench_empty(&b, DT_F32, 1, DIM(1));
	rows = bench_empty(&b, DT_F32, 2, DIM(TIMES, 1));
	index = bench_empty(&b, DT_I32, 1, DIM(1));
	for (int i = 0; i < COUNT; i++) {
		x[i] = (float)i;
		y[i] = (float)(i % 7);
	}
	b.ops->copy_in(b.d, &dx, x, DT_F32);
	b.ops->copy_in(b.d, &dy, y, DT_F32);
	for (int i = 0; i < TIMES; i++)
		table[i] = (float)i;
	b.ops->copy_in(b.d, &rows, table, DT_F32);
	for (int32_t t = 0; t < TIMES; t++) {
		b.ops->copy_in(b.d, &index, &t, DT_I32);
		if (b.ops->replay(b.d, &key))
			replayed++;
		else {
			b.ops->pick_row(b.d, &da, &rows, &index);
			b.ops->axpy(b.d, &dx, &da, &dy);
			assert_true(b.ops->recorded(b.d));
		}
	}
	b.ops->copy_out(b.d, got, DT_F32, &dx);
	assert_int_equal(b.ops->sync(b.d), 0);
	for (int i = 0; i < COUNT; i++)
		assert_true(got[i] == x[i] + 28 * y[i]); /* 0 + 1 + ... + 7, exact in float */
	assert_int_equal(replayed, TIMES - 2);
	bench_release(&b);
	device_close(&b.d);
}

static size_t
add_forms(struct CMUnitTest *tests, const struct operation *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		void *o = (void *)&rows[i];
		tests[2 * i] = (struct CMUnitTest){rows[i].name, test_form, NULL, NULL, o};
		tests[2 * i + 1] = (struct CMUnitTest){rows[i].name, test_form_is_repeatable, NULL, NULL, o};
	}
	return 2 * count;
}

/* 77, as the runner's: no device, nothing tested. */
static int
skip_all(void)
{
	struct device_info info;
	char why[200];

	if (device_list("cuda", &info, 1, why, sizeof(why)) > 0)
		return 0;
	printf("skipped: %s\n", why);
	return 77;
}

int
main(void)
{
	static struct CMUnitTest tests[MAX_TESTS];
	size_t count = 0;

	setenv("EMUL_CACHE", "262144", 0); /* so that small pictures are normed in several strips */
	if (skip_all() != 0)
		return 77;
	tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_recorded_sequence);
	tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_portable_device);
	for (size_t i = 0; i < operation_count; i++) {
		void *o = (void *)&operations[i];
		tests[count++] = (struct CMUnitTest){operations[i].name, test_f32, NULL, NULL, o};
		tests[count++] = (struct CMUnitTest){operations[i].name, test_bf16, NULL, NULL, o};
		tests[count++] = (struct CMUnitTest){operations[i].name, test_is_repeatable, NULL, NULL, o};
	}
	count += add_forms(tests + count, forms, sizeof(forms) / sizeof(forms[0]));
	count += add_forms(tests + count, conv_forms, conv_form_count);
	/* cmocka's macro takes the length from the array's type */
	return _cmocka_run_group_tests("cuda operations", tests, count, NULL, NULL);
}
