/*
 * runner/noise against torch's CPU generator (values of model-spec section 7.3, which torch gave). Torch's
 * vectorised log and sine differ from libm by up to 5e-7.
 */
#include "tests/unit/test.h"

#include <math.h>

#include "runner/noise.h"

struct known {
	uint64_t seed;
	size_t count, index;
	double value;
};

static const struct known known[] = {
    {42, 262144, 0, 1.92691529}, {42, 262144, 1, 1.48728406}, {42, 262144, 2, 0.90071720},
    {42, 262144, 3, -2.10552096}, {42, 262144, 7, -1.60466695}, {42, 262144, 262140, -1.30105829},
    {42, 262144, 262143, -2.32941723}, {0, 16, 0, -1.12583983}, {0, 16, 7, -2.11521935},
    {0, 16, 15, -0.24727815}, {0, 20, 0, -1.12583983}, {0, 20, 4, 0.59883946},
    {0, 20, 19, 0.05373690},						   /* the tail is drawn again */
    {0, 3, 0, 1.54099607}, {0, 3, 1, -0.29342890}, {0, 3, 2, -2.17878938}, /* fewer than sixteen: in double */
};

static void
test_known_values(void **state)
{
	float *x = malloc(262144 * sizeof(float));
	double largest = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		noise_fill(x, known[i].count, known[i].seed);
		largest = fmax(largest, fabs((double)x[known[i].index] - known[i].value));
	}
	print_message("noise: largest error %.1e\n", largest);
	assert_true(largest <= 1e-6);
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
	    cmocka_unit_test(test_known_values), cmocka_unit_test(test_it_is_normal)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
