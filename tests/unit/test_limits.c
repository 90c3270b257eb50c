/*
 * supervisor/scheduling/limits, gate, load: how much, when of the day, and under which load.
 */
#include "tests/unit/test.h"

#include <math.h>

#include "supervisor/scheduling/gate.h"
#include "supervisor/scheduling/limits.h"
#include "supervisor/scheduling/load.h"

static struct limits_time
at(double now_s)
{
	return (struct limits_time){now_s, (int)(now_s / 86400), (int)(now_s / 2592000),
	    86400 - fmod(now_s, 86400), 2592000 - fmod(now_s, 2592000)};
}

static enum limits_verdict
submit(struct limits *l, const struct limits_rule *rule, double now_s, double cost_s, double *wait_s)
{
	const struct limits_time t = at(now_s);
	enum limits_verdict verdict = limits_check(l, "a", rule, &t, cost_s, wait_s);

	if (verdict == LIMITS_GOOD || verdict == LIMITS_DEMOTE)
		limits_admit(l, "a", &t, cost_s);
	return verdict;
}

/* ---- rates */

static void
test_jobs_a_minute(void **state)
{
	const struct limits_rule rule = {.jobs_per_s = 0.5, .burst_jobs = 3};
	struct limits l;
	double wait_s;

	(void)state;
	limits_init(&l);
	for (int i = 0; i < 3; i++)
		assert_int_equal(submit(&l, &rule, 100, 1, &wait_s), LIMITS_GOOD);
	assert_int_equal(submit(&l, &rule, 100, 1, &wait_s), LIMITS_RATE_JOBS);
	assert_true(wait_s == 2);
	assert_int_equal(submit(&l, &rule, 101.5, 1, &wait_s), LIMITS_RATE_JOBS);
	assert_int_equal(submit(&l, &rule, 102, 1, &wait_s), LIMITS_GOOD);
	for (int i = 0; i < 3; i++) /* a long rest fills it, and no more than that */
		assert_int_equal(submit(&l, &rule, 9000, 1, &wait_s), LIMITS_GOOD);
	assert_int_equal(submit(&l, &rule, 9000, 1, &wait_s), LIMITS_RATE_JOBS);
	limits_clear(&l);
}

/* Whatever the pattern of arrivals, no more is let in than the burst and what has flowed since. */
static void
test_no_pattern_beats_the_rate(void **state)
{
	uint64_t random = 1;

	(void)state;
	for (int trace = 0; trace < 1000; trace++) {
		const struct limits_rule rule = {
		    .jobs_per_s = 0.1, .burst_jobs = 5, .device_per_s = 0.5, .burst_device = 20};
		double now_s = 10, jobs = 0, device_s = 0, wait_s;
		struct limits l;

		limits_init(&l);
		for (int i = 0; i < 200; i++) {
			double cost_s;
			random = random * UINT64_C(6364136223846793005) + 1442695040888963407U;
			cost_s = 0.1 + (double)(random >> 33 & 127) / 10;
			now_s += (double)(random >> 45 & 255) / 25;
			if (submit(&l, &rule, now_s, cost_s, &wait_s) != LIMITS_GOOD) {
				assert_true(wait_s > 0);
				continue;
			}
			jobs++;
			device_s += cost_s;
			assert_true(jobs <= 5 + (now_s - 10) * 0.1 + 1e-9);
			assert_true(device_s <= 20 + (now_s - 10) * 0.5 + 1e-9);
		}
		assert_true(jobs > 5);
		limits_clear(&l);
	}
}

/* One that costs more than the bucket holds needs a full bucket, and leaves a debt; the truth corrects it. */
static void
test_a_large_job_leaves_a_debt(void **state)
{
	const struct limits_rule rule = {.device_per_s = 1, .burst_device = 10};
	const struct limits_time t = at(100);
	struct limits l;
	double wait_s;

	(void)state;
	limits_init(&l);
	assert_int_equal(submit(&l, &rule, 100, 30, &wait_s), LIMITS_GOOD);
	assert_int_equal(submit(&l, &rule, 100, 5, &wait_s), LIMITS_RATE_DEVICE);
	assert_true(wait_s == 25);
	limits_ended(&l, "a", &t, 30, 4, 0);
	assert_int_equal(submit(&l, &rule, 100, 5, &wait_s), LIMITS_GOOD);
	limits_clear(&l);
}

/* ---- quotas and usage */

static void
test_quotas_end_with_the_day(void **state)
{
	struct limits_rule rule = {.quota_day_s = 100, .quota_month_s = 150};
	struct limits_time t = at(1000);
	struct limits l;
	double wait_s;

	(void)state;
	limits_init(&l);
	assert_int_equal(submit(&l, &rule, 1000, 60, &wait_s), LIMITS_GOOD);
	assert_int_equal(submit(&l, &rule, 1000, 60, &wait_s), LIMITS_DEMOTE); /* the first one is to come */
	limits_used(&l, "a", &t, 20);
	limits_ended(&l, "a", &t, 60, 20, 0);
	limits_ended(&l, "a", &t, 60, 0, 0); /* cancelled before it ran */
	assert_int_equal(submit(&l, &rule, 1000, 60, &wait_s), LIMITS_GOOD);
	limits_used(&l, "a", &t, 80);
	limits_ended(&l, "a", &t, 60, 80, 0);
	rule.refuse = true;
	assert_int_equal(submit(&l, &rule, 1000, 1, &wait_s), LIMITS_QUOTA_DAY);
	assert_true(wait_s == 86400 - 1000);
	assert_int_equal(submit(&l, &rule, 86400 + 5, 49, &wait_s), LIMITS_GOOD);
	assert_int_equal(submit(&l, &rule, 86400 + 5, 49, &wait_s), LIMITS_QUOTA_MONTH);
	limits_clear(&l);
}

/* Who was let into the lowest class only does not get out of it by another way; another day he does. */
static void
test_over_a_quota_there_is_no_raise(void **state)
{
	struct limits_rule rule = {.quota_day_s = 100};
	struct limits_time t = at(1000);
	struct limits l;
	double wait_s;

	(void)state;
	limits_init(&l);
	assert_int_equal(submit(&l, &rule, 1000, 90, &wait_s), LIMITS_GOOD);
	assert_int_equal(
	    limits_check_raise(&l, "a", &rule, &t, &wait_s), LIMITS_GOOD); /* put there by himself */
	assert_int_equal(submit(&l, &rule, 1000, 20, &wait_s), LIMITS_DEMOTE);
	assert_int_equal(limits_check_raise(&l, "a", &rule, &t, &wait_s), LIMITS_QUOTA_DAY);
	assert_true(wait_s == 86400 - 1000);
	limits_ended(&l, "a", &t, 90, 0, 0);
	assert_int_equal(limits_check_raise(&l, "a", &rule, &t, &wait_s), LIMITS_GOOD);
	limits_used(&l, "a", &t, 101);
	assert_int_equal(limits_check_raise(&l, "a", &rule, &t, &wait_s), LIMITS_QUOTA_DAY);
	rule.refuse = true;
	assert_int_equal(limits_check_raise(&l, "a", &rule, &t, &wait_s), LIMITS_GOOD);
	rule.refuse = false;
	t = at(86400 + 5);
	assert_int_equal(limits_check_raise(&l, "a", &rule, &t, &wait_s), LIMITS_GOOD);
	limits_clear(&l);
}

static double
usage_of(struct limits *l, double now_s, const char *span, const char *what)
{
	const struct limits_time t = at(now_s);
	json_t *list = limits_usage(l, "a", &t);
	double value =
	    json_number_value(json_object_get(json_object_get(json_array_get(list, 0), span), what));

	json_decref(list);
	return value;
}

static void
test_usage_is_counted(void **state)
{
	const struct limits_rule rule = {0};
	struct limits_time t = at(1000);
	struct limits l;
	double wait_s;

	(void)state;
	limits_init(&l);
	submit(&l, &rule, 1000, 5, &wait_s);
	submit(&l, &rule, 1000, 5, &wait_s);
	limits_refuse(&l, "a", &t);
	limits_used(&l, "a", &t, 6.5);
	limits_ended(&l, "a", &t, 5, 6.5, 65536);
	assert_true(usage_of(&l, 1000, "today", "jobs") == 2);
	assert_true(usage_of(&l, 1000, "today", "refused") == 1);
	assert_true(usage_of(&l, 1000, "today", "device_s") == 6.5);
	assert_true(usage_of(&l, 1000, "ever", "pixels") == 65536);
	assert_true(usage_of(&l, 90000, "today", "jobs") == 0);
	assert_true(usage_of(&l, 90000, "month", "jobs") == 2);
	limits_clear(&l);
}

/* ---- a clock that is set */

enum { DAY = 86400, MIDNIGHT = 30 * DAY }; /* which is a month's end, too, by at() */

/* Uses so much of its quotas at that moment. */
static void
use(struct limits *l, double now_s, double device_s)
{
	const struct limits_time t = at(now_s);

	limits_used(l, "a", &t, device_s);
}

/* Over midnight and back, as often as you like: two days have two quotas. */
static void
test_a_clock_set_back_over_midnight_gives_nothing(void **state)
{
	const struct limits_rule rule = {.quota_day_s = 100, .quota_month_s = 5000, .refuse = true};
	struct limits l;
	double wait_s;

	(void)state;
	limits_init(&l);
	use(&l, MIDNIGHT - 7200, 100);
	assert_int_equal(submit(&l, &rule, MIDNIGHT - 3600, 1, &wait_s), LIMITS_QUOTA_DAY);
	use(&l, MIDNIGHT + 60, 100);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(submit(&l, &rule, MIDNIGHT - 600, 1, &wait_s), LIMITS_QUOTA_DAY);
		assert_true(wait_s == 600 + DAY); /* the day that has begun goes on to its end */
		assert_true(usage_of(&l, MIDNIGHT - 600, "today", "device_s") == 100);
		assert_int_equal(submit(&l, &rule, MIDNIGHT + 120, 1, &wait_s), LIMITS_QUOTA_DAY);
		assert_true(wait_s == DAY - 120);
	}
	assert_true(usage_of(&l, MIDNIGHT + 120, "month", "device_s") == 100);
	assert_true(usage_of(&l, MIDNIGHT + 120, "ever", "device_s") == 200);
	assert_int_equal(submit(&l, &rule, MIDNIGHT + DAY, 1, &wait_s), LIMITS_GOOD);
	limits_clear(&l);
}

static void
test_a_clock_set_back_over_a_month_gives_nothing(void **state)
{
	const struct limits_rule rule = {.quota_month_s = 100, .refuse = true};
	struct limits l;
	double wait_s;

	(void)state;
	limits_init(&l);
	use(&l, MIDNIGHT + 60, 100);
	assert_int_equal(submit(&l, &rule, MIDNIGHT - 600, 1, &wait_s), LIMITS_QUOTA_MONTH);
	assert_true(wait_s > 600 && wait_s <= 600 + 30 * DAY);
	assert_int_equal(submit(&l, &rule, MIDNIGHT + 120, 1, &wait_s), LIMITS_QUOTA_MONTH);
	assert_int_equal(submit(&l, &rule, 2 * MIDNIGHT, 1, &wait_s), LIMITS_GOOD);
	limits_clear(&l);
}

/* A clock that ran years ahead for a while: what was used then counts for the day that it is, and that ends
 * as days do. */
static void
test_a_clock_that_ran_ahead_blocks_nobody(void **state)
{
	const struct limits_rule rule = {.quota_day_s = 100, .quota_month_s = 250, .refuse = true};
	struct limits l;
	double wait_s;

	(void)state;
	limits_init(&l);
	use(&l, MIDNIGHT + 3600, 10);
	use(&l, MIDNIGHT + 5000.0 * DAY, 95);
	assert_true(usage_of(&l, MIDNIGHT + 7200, "today", "device_s") == 95);
	assert_int_equal(submit(&l, &rule, MIDNIGHT + 7200, 10, &wait_s), LIMITS_QUOTA_DAY);
	assert_true(wait_s == DAY - 7200);
	use(&l, MIDNIGHT + DAY, 95);
	use(&l, MIDNIGHT + 2 * DAY, 60);
	assert_int_equal(submit(&l, &rule, MIDNIGHT + 3 * DAY, 10, &wait_s), LIMITS_QUOTA_MONTH);
	assert_int_equal(submit(&l, &rule, 2 * MIDNIGHT, 10, &wait_s), LIMITS_GOOD);
	limits_clear(&l);
}

/* A restart changes nothing of what is let in or shown. */
static void
test_limits_survive_a_restart(void **state)
{
	const struct limits_rule rule = {
	    .jobs_per_s = 0.01, .burst_jobs = 3, .quota_day_s = 1000, .refuse = true};
	enum { NOW = 3 * 2592000 + 1000 }; /* neither the first day nor the first month */
	const struct limits_time t = at(NOW), later = at(NOW + 50);
	struct limits a, b;
	double wait_a, wait_b;
	json_t *dump;

	(void)state;
	limits_init(&a);
	limits_init(&b);
	submit(&a, &rule, NOW, 5, &wait_a);
	submit(&a, &rule, NOW, 5, &wait_a);
	limits_used(&a, "a", &t, 7);
	dump = limits_dump(&a, &t);
	assert_true(limits_restore(&b, dump, &t));
	limits_pend(&b, "a", 10);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(limits_check(&a, "a", &rule, &later, 5, &wait_a),
		    limits_check(&b, "a", &rule, &later, 5, &wait_b));
		assert_true(fabs(wait_a - wait_b) < 1e-6);
		limits_admit(&a, "a", &later, 5);
		limits_admit(&b, "a", &later, 5);
	}
	assert_true(usage_of(&b, NOW + 50, "today", "device_s") == 7);
	assert_true(usage_of(&b, NOW + 50, "month", "device_s") == 7);
	json_decref(dump);
	dump = json_pack("[{s:s, s:s}]", "client", "a", "jobs", "many");
	limits_clear(&b);
	assert_false(limits_restore(&b, dump, &t));
	json_decref(dump);
	limits_clear(&a);
	limits_clear(&b);
}

static void
test_clients_are_bounded(void **state)
{
	const struct limits_time t = at(1000);
	struct limits l;
	char key[16];

	(void)state;
	limits_init(&l);
	limits_admit(&l, "busy", &t, 5);
	for (int i = 0; i < 3 * LIMITS_CLIENTS; i++) {
		snprintf(key, sizeof(key), "c%d", i);
		limits_refuse(&l, key, &t);
	}
	assert_int_equal(l.count, LIMITS_CLIENTS);
	json_t *busy = limits_usage(&l, "busy", &t);
	assert_int_equal(json_array_size(busy), 1); /* whose jobs are still to come is not forgotten */
	json_decref(busy);
	limits_clear(&l);
}

/* What is predicted for several jobs and taken off again leaves nothing, though sums of fractions do. */
static void
test_who_has_no_jobs_can_be_forgotten(void **state)
{
	const struct limits_time t = at(1000);
	struct limits l;
	char key[16];

	(void)state;
	limits_init(&l);
	for (int i = 0; i < 3 * LIMITS_CLIENTS; i++) {
		snprintf(key, sizeof(key), "c%d", i);
		limits_admit(&l, key, &t, 0.1);
		limits_admit(&l, key, &t, 0.2);
		limits_ended(&l, key, &t, 0.1, 0.1, 0);
		limits_ended(&l, key, &t, 0.2, 0.2, 0);
	}
	assert_int_equal(l.count, LIMITS_CLIENTS);
	limits_clear(&l);
}

/* They are more than there is room for when all have jobs: so many come back, and go when they can. */
static void
test_many_clients_survive_a_restart(void **state)
{
	const struct limits_time t = at(1000);
	struct limits l;
	char key[16];
	json_t *dump;

	(void)state;
	limits_init(&l);
	for (int i = 0; i < LIMITS_CLIENTS + 5; i++) {
		snprintf(key, sizeof(key), "c%d", i);
		limits_admit(&l, key, &t, 5);
	}
	dump = limits_dump(&l, &t);
	limits_clear(&l);
	assert_true(limits_restore(&l, dump, &t));
	json_decref(dump);
	assert_int_equal(l.count, LIMITS_CLIENTS + 5);
	limits_refuse(&l, "new", &t); /* nobody has been said to have jobs yet */
	assert_int_equal(l.count, LIMITS_CLIENTS);
	limits_clear(&l);
}

/* ---- the gate */

/* By a clock that shows that hour and is not set. */
static enum gate_reason
check_at(const struct gate *g, int class, const char *client, double hour)
{
	const struct gate_clock clock = {hour * 3600, INFINITY, 0};

	return gate_check(g, class, client, &clock, 0);
}

static double
opens_in_h(const struct gate *g, int class, double hour)
{
	const struct gate_clock clock = {hour * 3600, INFINITY, 0};

	return gate_opens_in(g, class, &clock, 0) / 3600;
}

static void
test_windows(void **state)
{
	struct gate g = {0};

	(void)state;
	assert_true(gate_parse_window("22:00-06:00", &g.windows[2]));
	assert_int_equal(check_at(&g, 2, "a", 23), GATE_OPEN);
	assert_int_equal(check_at(&g, 2, "a", 5.99), GATE_OPEN);
	assert_int_equal(check_at(&g, 2, "a", 6), GATE_WINDOW);
	assert_int_equal(check_at(&g, 2, "a", 21.99), GATE_WINDOW);
	assert_int_equal(check_at(&g, 1, "a", 12), GATE_OPEN);
	assert_true(opens_in_h(&g, 2, 12) == 10);
	assert_true(opens_in_h(&g, 2, 36) == 10); /* the day after */
	assert_true(gate_parse_window("09:30-17:00", &g.windows[0]));
	assert_true(opens_in_h(&g, 0, 17) == 16.5);
	for (const char *const *bad =
		 (const char *const[]){"9-17", "25:00-06:00", "22:00-06:60", "22:00-06:00 ", "always", NULL};
	     *bad != NULL; bad++)
		assert_false(gate_parse_window(*bad, &g.windows[0]));
	assert_int_equal(g.windows[0].from_s, 34200); /* untouched */
}

static double
shown_s(const struct gate_clock *c, double at_s)
{
	return fmod(c->day_s + at_s + (at_s >= c->change_s ? c->shift_s : 0) + GATE_DAY_S, GATE_DAY_S);
}

/* Looked at every five minutes, which all the windows' times are at: until the clock shows a time in it. */
static double
seen_opening_s(const struct gate_window *w, const struct gate_clock *c, double at_s)
{
	double wait_s = 0;

	for (; wait_s < 3 * GATE_DAY_S; wait_s += 300) {
		double s = shown_s(c, at_s + wait_s);
		bool in = w->from_s < w->to_s ? s >= w->from_s && s < w->to_s : s >= w->from_s || s < w->to_s;
		if (in)
			break;
	}
	return wait_s;
}

/* On the days on which the clock is set, windows open and close by what it shows, and jobs are told when:
 * those that begin or end in the hour that is skipped or comes twice, or lie in it, too. */
static void
test_windows_when_the_clock_is_set(void **state)
{
	static const char *const windows[] = {"22:00-06:00", "02:30-05:00", "22:00-02:30", "02:15-02:45",
	    "02:00-03:00", "03:00-03:30", "01:00-02:00", "02:00-01:30", "00:30-00:00", "23:30-00:30"};
	static const struct gate_clock sets[] = {{18 * 3600, 8 * 3600, 3600}, {18 * 3600, 9 * 3600, -3600},
	    {18 * 3600, 6 * 3600, 3600}, {18 * 3600, 6 * 3600, -3600}, {18 * 3600, 8 * 3600, 1800},
	    {90 * 60, 1800, 3600}, {90 * 60, 0, -3600}};
	struct gate g = {0};

	(void)state;
	for (size_t w = 0; w < sizeof(windows) / sizeof(windows[0]); w++) {
		assert_true(gate_parse_window(windows[w], &g.windows[2]));
		for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
			for (double at_s = 0; at_s < 2 * GATE_DAY_S; at_s += 300) {
				double wait_s = gate_opens_in(&g, 2, &sets[i], at_s);
				double seen_s = seen_opening_s(&g.windows[2], &sets[i], at_s);

				if (wait_s != seen_s)
					fail_msg(
					    "%s, set by %g s after %g s: at %g s it opens in %g s, told %g s",
					    windows[w], sets[i].shift_s, sets[i].change_s, at_s, seen_s,
					    wait_s);
			}
		}
	}
}

static void
test_pauses(void **state)
{
	static const char *const names[] = {"high", "normal", "low"};
	struct gate g = {0}, again = {0};
	json_t *dump;

	(void)state;
	gate_pause_class(&g, 1, true);
	assert_true(gate_pause_client(&g, "a", true) && gate_pause_client(&g, "a", true));
	assert_true(gate_pause_client(&g, "b", true));
	assert_int_equal(check_at(&g, 1, "c", 0), GATE_CLASS_PAUSED);
	assert_int_equal(check_at(&g, 0, "a", 0), GATE_CLIENT_PAUSED);
	dump = gate_dump(&g, names);
	assert_true(gate_restore(&again, dump, names));
	assert_int_equal(check_at(&again, 1, "c", 0), GATE_CLASS_PAUSED);
	assert_int_equal(check_at(&again, 0, "b", 0), GATE_CLIENT_PAUSED);
	json_decref(dump);
	assert_true(gate_pause_client(&g, "a", false) && gate_pause_client(&g, "a", false));
	assert_int_equal(check_at(&g, 0, "a", 0), GATE_OPEN);
	assert_int_equal(check_at(&g, 0, "b", 0), GATE_CLIENT_PAUSED);
	gate_pause_all(&g, true);
	assert_int_equal(check_at(&g, 0, "a", 0), GATE_ALL_PAUSED);
	for (int i = 1; i < GATE_CLIENTS; i++) {
		char key[16];
		snprintf(key, sizeof(key), "c%d", i);
		assert_true(gate_pause_client(&g, key, true));
	}
	assert_false(gate_pause_client(&g, "one more", true));
}

/* ---- load */

static void
test_load_has_hysteresis(void **state)
{
	static const struct {
		double now_s, wait_s;
		bool on;
	} steps[] = {{100, 70, false}, {109, 70, false}, {109.5, 50, false}, {110, 70, false},
	    {119, 61, false}, {120, 61, true}, {121, 40, true}, {200, 40, true}, {201, 29, true},
	    {230, 29, true}, {230.5, 31, true}, {231, 29, true}, {260, 29, true}, {261, 29, false},
	    {262, 59, false}};
	struct load l = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		if (load_update(&l, steps[i].now_s, steps[i].wait_s) != steps[i].on)
			fail_msg("at %g s, with a wait of %g s: %s", steps[i].now_s, steps[i].wait_s,
			    l.on ? "on" : "off");
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_jobs_a_minute),
	    cmocka_unit_test(test_no_pattern_beats_the_rate),
	    cmocka_unit_test(test_a_large_job_leaves_a_debt),
	    cmocka_unit_test(test_quotas_end_with_the_day),
	    cmocka_unit_test(test_over_a_quota_there_is_no_raise),
	    cmocka_unit_test(test_usage_is_counted),
	    cmocka_unit_test(test_a_clock_set_back_over_midnight_gives_nothing),
	    cmocka_unit_test(test_a_clock_set_back_over_a_month_gives_nothing),
	    cmocka_unit_test(test_a_clock_that_ran_ahead_blocks_nobody),
	    cmocka_unit_test(test_limits_survive_a_restart),
	    cmocka_unit_test(test_clients_are_bounded),
	    cmocka_unit_test(test_who_has_no_jobs_can_be_forgotten),
	    cmocka_unit_test(test_many_clients_survive_a_restart),
	    cmocka_unit_test(test_windows),
	    cmocka_unit_test(test_windows_when_the_clock_is_set),
	    cmocka_unit_test(test_pauses),
	    cmocka_unit_test(test_load_has_hysteresis),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
