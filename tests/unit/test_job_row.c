/*
 * supervisor/jobs/job_row: what the store is told of an ended job.
 */
#include "tests/unit/test.h"

#include "ipc/clock.h"
#include "supervisor/jobs/job_row.h"

#define SECOND INT64_C(1000000)

/* The machine's clock was years behind when it came, and was set before it ended: its pictures are kept, and
 * its idempotency key counts, from its end on. */
static void
test_an_end_is_when_the_clock_says_so(void **state)
{
	int64_t now_us = INT64_C(1700000000) * SECOND; /* of both clocks */
	struct picture picture = {.name = "a.png", .bytes = 100};
	struct job job = {.number = 1,
	    .revision = 2,
	    .id = "job_x",
	    .prompt = "",
	    .negative_prompt = "",
	    .fsm = {.kind = &job_kind, .state = JOB_DONE},
	    .submitted_us = now_us - 90 * SECOND,
	    .submitted_wall_us = 5 * SECOND,
	    .ended_us = now_us - 2 * SECOND,
	    .count = 1,
	    .pictures = &picture,
	    .picture_count = 1,
	    .exit_status = -1};
	struct store_row row;

	(void)state;
	clock_replace(&now_us);
	assert_true(job_to_row(&job, 600, &row));
	assert_int_equal(row.ended_us, now_us - 2 * SECOND);
	assert_int_equal(row.keep_until_us, now_us + 598 * SECOND);
	store_row_clear(&row);
	clock_replace(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_an_end_is_when_the_clock_says_so)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
