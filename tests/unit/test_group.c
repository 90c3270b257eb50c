/*
 * supervisor/daemon_group: what waits for the disk, and when it need not wait for more.
 */
#include "tests/unit/test.h"

#include "ipc/clock.h"
#include "supervisor/daemon_inside.h"

enum { QUICK_US = 300, SLOW_US = 8000, STALLED_US = 30 * 1000000 };

static struct daemon d;

/* A transaction of four rows is over, and three are waiting. */
static void
end_transaction(int64_t took_us)
{
	d = (struct daemon){.loop = ev_default_loop(0), .unsaved_count = 2, .loose_count = 1};
	ev_init(&d.group.rest, daemon_on_rested);
	d.group.rest.data = &d;
	daemon_group_begin(&d, 4, took_us);
}

static void
test_a_quick_disk_does_not_rest(void **state)
{
	(void)state;
	end_transaction(QUICK_US);
	assert_true(daemon_group_is_ready(&d));
	assert_false(ev_is_active(&d.group.rest));
}

static void
test_a_slow_disk_rests_until_all_are_back(void **state)
{
	(void)state;
	end_transaction(SLOW_US);
	assert_false(daemon_group_is_ready(&d));
	d.unsaved_count += 3;
	assert_false(daemon_group_is_ready(&d));
	d.unsaved_count++;
	assert_true(daemon_group_is_ready(&d));
	ev_timer_stop(d.loop, &d.group.rest);
}

static void
test_it_rests_half_as_long_as_it_took(void **state)
{
	const struct {
		int64_t took_us, rest_us;
	} cases[] = {{SLOW_US, SLOW_US / 2}, {STALLED_US, 10000}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int64_t before_us = clock_now_us();
		end_transaction(cases[i].took_us);
		assert_in_range(
		    d.group.rest_until_us, before_us + cases[i].rest_us, clock_now_us() + cases[i].rest_us);
	}
}

static void
test_the_loop_looks_again_after_the_rest(void **state)
{
	(void)state;
	end_transaction(SLOW_US);
	assert_false(daemon_group_is_ready(&d));
	assert_false(d.changed);
	ev_run(d.loop, 0); /* until no timer is left */
	assert_true(d.changed);
	assert_true(daemon_group_is_ready(&d));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_a_quick_disk_does_not_rest),
	    cmocka_unit_test(test_a_slow_disk_rests_until_all_are_back),
	    cmocka_unit_test(test_it_rests_half_as_long_as_it_took),
	    cmocka_unit_test(test_the_loop_looks_again_after_the_rest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
