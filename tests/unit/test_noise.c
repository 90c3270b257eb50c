/*
 * runner/noise against torch's CPU generator: values of scripts/noise-vectors. Torch's vectorised logarithm
 * and sine differ from libm's by up to 5e-7 (model-spec section 7.3), which is the tolerance.
 */
#include "tests/unit/test.h"

#include <math.h>

#include "runner/noise.h"

enum { WIDTH = 8, LONGEST = 300000 };

static const struct known {
	uint64_t seed;
	size_t count, first; /* normals drawn; index of value[0] */
	double value[WIDTH]; /* those past the end are 0 */
} known[] = {
#include "tests/unit/data/noise.inc"
};

static void
test_values_of_torch(void **state)
{
	float *x = malloc(LONGEST * sizeof(float));
	double largest = 0;

	(void)state;
	assert_non_null(x);
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		const struct known *k = &known[i];
		noise_fill(x, k->count, k->seed);
		for (size_t j = 0; j < WIDTH && k->first + j < k->count; j++)
			largest = fmax(largest, fabs((double)x[k->first + j] - k->value[j]));
	}
	print_message("noise: largest error %.1e of %.1e\n", largest, 5e-7);
	assert_true(largest <= 5e-7);
	free(x);
}

static void
test_it_is_normal(void **state)
{
	enum { COUNT = 100000 };
	float *x = malloc(COUNT * sizeof(float));
	double mean = 0, variance = 0;

	(void)state;
	noise_fill(x, COUNT, 12345678901234u);
	for (int i = 0; i < COUNT; i++)
		mean += x[i] / (double)COUNT;
	for (int i = 0; i < COUNT; i++)
		variance += (x[i] - mean) * (x[i] - mean) / COUNT;
	assert_true(fabs(mean) < 0.02 && fabs(variance - 1) < 0.03); /* about five standard errors */
	free(x);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_values_of_torch), cmocka_unit_test(test_it_is_normal)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
