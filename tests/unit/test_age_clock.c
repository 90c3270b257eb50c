/*
 * supervisor/age_clock: pictures grow old as time passes, not as a wall clock is set.
 */
#include "tests/unit/test.h"

#include "supervisor/age_clock.h"

#define SECOND INT64_C(1000000)
#define HOUR (3600 * SECOND)
#define YEAR (365 * 24 * HOUR)

enum { NOW_S = 1000 };

/* So long after the start, by a wall clock that is that far ahead of where it began. */
static int64_t
age_at(struct age_clock *c, int64_t after_us, int64_t ahead_us)
{
	const int64_t begin_us = 40 * YEAR;

	return age_clock_us(c, NOW_S * SECOND + after_us, begin_us + after_us + ahead_us) - begin_us;
}

static void
test_it_goes_with_the_wall_clock(void **state)
{
	struct age_clock c = {0};

	(void)state;
	for (int64_t at = 0; at < 48 * HOUR; at += 10 * SECOND)
		assert_int_equal(age_at(&c, at, at / 1000), at + at / 1000); /* which is a little fast */
}

static void
test_a_leap_that_is_taken_back_is_none(void **state)
{
	struct age_clock c = {0};
	int64_t at = 0;

	(void)state;
	age_at(&c, at, 0);
	for (; at < HOUR - 10 * SECOND; at += 10 * SECOND)
		assert_int_equal(age_at(&c, at, YEAR), at);
	assert_int_equal(age_at(&c, at, 0), at);
	assert_int_equal(age_at(&c, at + HOUR, YEAR), at + HOUR); /* its hour begins anew */
}

static void
test_a_leap_that_lasts_is_believed(void **state)
{
	struct age_clock c = {0};

	(void)state;
	age_at(&c, 0, 0);
	assert_int_equal(age_at(&c, 10 * SECOND, 20 * YEAR), 10 * SECOND);
	assert_int_equal(age_at(&c, 2 * HOUR, 20 * YEAR), 2 * HOUR + 20 * YEAR);
	assert_int_equal(age_at(&c, 3 * HOUR, 20 * YEAR), 3 * HOUR + 20 * YEAR);
}

static void
test_it_is_set_back_at_once(void **state)
{
	struct age_clock c = {0};

	(void)state;
	age_at(&c, 0, 0);
	assert_int_equal(age_at(&c, 10 * SECOND, -YEAR), 10 * SECOND - YEAR);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_it_goes_with_the_wall_clock),
	    cmocka_unit_test(test_a_leap_that_is_taken_back_is_none),
	    cmocka_unit_test(test_a_leap_that_lasts_is_believed),
	    cmocka_unit_test(test_it_is_set_back_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
