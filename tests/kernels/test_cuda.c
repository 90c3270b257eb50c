/*
 * The cuda backend against ref, every operation on its list of shapes, in both precisions, and the same bits
 * twice. Runs on the emulated device (make check-kernels) and on a card (make check-gpu). Tolerances:
 * operations.h.
 */
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
	operation_compare(*state, "cuda", PRECISION_F32);
}

static void
test_bf16(void **state)
{
	operation_compare(*state, "cuda", PRECISION_BF16);
}

/* A resumed picture has the bits of an undisturbed one only if operations have. */
static void
test_is_repeatable(void **state)
{
	const struct operation *o = *state;

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

	if (skip_all() != 0)
		return 77;
	for (size_t i = 0; i < operation_count; i++) {
		void *o = (void *)&operations[i];
		tests[count++] = (struct CMUnitTest){operations[i].name, test_f32, NULL, NULL, o};
		tests[count++] = (struct CMUnitTest){operations[i].name, test_bf16, NULL, NULL, o};
		tests[count++] = (struct CMUnitTest){operations[i].name, test_is_repeatable, NULL, NULL, o};
	}
	/* cmocka's macro takes the length from the array's type */
	return _cmocka_run_group_tests("cuda operations", tests, count, NULL, NULL);
}
