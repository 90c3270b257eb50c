/*
 * supervisor/jobs/quarantine: what is refused, for how long, and how one is let in to see.
 */
#include "tests/unit/test.h"

#include "supervisor/jobs/quarantine.h"

#define SECOND INT64_C(1000000)

static struct quarantine q;

static void
expect(uint64_t fingerprint, int64_t now_us, bool force, enum verdict wanted, double wanted_left_s)
{
	double left_s;

	assert_int_equal(quarantine_check(&q, fingerprint, now_us, force, &left_s), wanted);
	assert_float_equal(left_s, wanted_left_s, 1e-9);
}

static void
test_refused_for_its_time_then_probed(void **state)
{
	(void)state;
	memset(&q, 0, sizeof(q));
	expect(7, SECOND, false, VERDICT_ADMIT, 0);
	quarantine_add(&q, 7, 10 * SECOND);
	expect(7, SECOND, false, VERDICT_REFUSE, 9);
	expect(8, SECOND, false, VERDICT_ADMIT, 0);
	expect(7, 10 * SECOND, false, VERDICT_PROBE, 0);
	quarantine_probe(&q, 7);
	expect(7, 11 * SECOND, false, VERDICT_REFUSE, 0); /* one at a time */
	quarantine_probed(&q, 7, false);		  /* cancelled, say */
	expect(7, 11 * SECOND, false, VERDICT_PROBE, 0);
	quarantine_probe(&q, 7);
	quarantine_probed(&q, 7, true);
	expect(7, 11 * SECOND, false, VERDICT_ADMIT, 0);
}

static void
test_a_probe_that_dies_begins_anew(void **state)
{
	(void)state;
	memset(&q, 0, sizeof(q));
	quarantine_add(&q, 7, 10 * SECOND);
	quarantine_probe(&q, 7);
	quarantine_probed(&q, 7, false);
	quarantine_add(&q, 7, 30 * SECOND);
	expect(7, 20 * SECOND, false, VERDICT_REFUSE, 10);
	expect(7, 20 * SECOND, true, VERDICT_PROBE, 0); /* an administrator wants to see */
	quarantine_probe(&q, 7);
	expect(7, 20 * SECOND, true, VERDICT_REFUSE, 10);
}

static void
test_the_oldest_gives_way(void **state)
{
	(void)state;
	memset(&q, 0, sizeof(q));
	for (uint64_t i = 0; i <= QUARANTINE_ENTRIES; i++)
		quarantine_add(&q, 100 + i, (int64_t)(i + 1) * SECOND);
	expect(100, 0, false, VERDICT_ADMIT, 0);
	for (uint64_t i = 1; i <= QUARANTINE_ENTRIES; i++)
		expect(100 + i, 0, false, VERDICT_REFUSE, (double)(i + 1));
}

static void
test_fingerprints(void **state)
{
	struct api_submit a = {.prompt = "a cat", .has_prompt = true}, b = a;

	(void)state;
	assert_int_equal(quarantine_fingerprint(&a), quarantine_fingerprint(&b));
	b.seed = 5;
	b.has_seed = b.has_n = true;
	b.n = 3;
	assert_int_equal(quarantine_fingerprint(&a), quarantine_fingerprint(&b)); /* it killed without them */
	b = a, b.width = 64, b.has_width = true;
	assert_int_not_equal(quarantine_fingerprint(&a), quarantine_fingerprint(&b));
	b = a, b.steps = 9, b.has_steps = true;
	assert_int_not_equal(quarantine_fingerprint(&a), quarantine_fingerprint(&b));
	b = a, b.negative_prompt = "", b.has_negative_prompt = true;
	assert_int_not_equal(quarantine_fingerprint(&a), quarantine_fingerprint(&b));
	b = a, b.prompt = "a cat ";
	assert_int_not_equal(quarantine_fingerprint(&a), quarantine_fingerprint(&b));
}

static void
test_over_a_restart(void **state)
{
	struct quarantine before = {0}, after = {0};
	json_t *dump;
	double left_s;

	(void)state;
	quarantine_add(&before, 5, 100 * SECOND);
	quarantine_add(&before, UINT64_MAX, 30 * SECOND);
	dump = quarantine_dump(&before, 40 * SECOND, 1000 * SECOND);
	assert_true(quarantine_restore(&after, dump, 7 * SECOND, 1010 * SECOND,
	    3600 * SECOND)); /* ten seconds later, by another clock */
	assert_int_equal(quarantine_check(&after, 5, 7 * SECOND, false, &left_s), VERDICT_REFUSE);
	assert_true(left_s > 49.9 && left_s < 50.1);
	assert_int_equal(quarantine_check(&after, UINT64_MAX, 7 * SECOND, false, &left_s),
	    VERDICT_PROBE); /* its time is over */
	assert_int_equal(quarantine_check(&after, 6, 7 * SECOND, false, &left_s), VERDICT_ADMIT);
	json_decref(dump);
	dump = json_pack("[{s:s}]", "fingerprint", "none");
	assert_false(quarantine_restore(&after, dump, 7 * SECOND, 1010 * SECOND, 3600 * SECOND));
	json_decref(dump);
}

/* A machine that has lost its time begins years ago. */
static void
test_over_a_restart_with_another_wall_clock(void **state)
{
	struct quarantine before = {0}, after = {0};
	json_t *dump;
	double left_s;

	(void)state;
	quarantine_add(&before, 5, 100 * SECOND);
	dump = quarantine_dump(&before, 40 * SECOND, INT64_C(1000000000) * SECOND);
	assert_true(quarantine_restore(&after, dump, 7 * SECOND, 0, 3600 * SECOND));
	assert_int_equal(quarantine_check(&after, 5, 7 * SECOND, false, &left_s), VERDICT_REFUSE);
	assert_true(left_s == 3600);
	json_decref(dump);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_over_a_restart),
	    cmocka_unit_test(test_over_a_restart_with_another_wall_clock),
	    cmocka_unit_test(test_refused_for_its_time_then_probed),
	    cmocka_unit_test(test_a_probe_that_dies_begins_anew),
	    cmocka_unit_test(test_the_oldest_gives_way),
	    cmocka_unit_test(test_fingerprints),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
