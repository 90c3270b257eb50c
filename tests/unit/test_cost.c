/*
 * supervisor/scheduling/cost, plan, forecast: what a job costs, when it will be done, and whether that holds.
 */
#include "tests/unit/test.h"

#include <math.h>

#include "supervisor/scheduling/cost.h"
#include "supervisor/scheduling/forecast.h"
#include "supervisor/scheduling/plan.h"

static uint64_t random_state = 1;

static double
uniform(void)
{
	random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return ((double)(random_state >> 11) + 0.5) * 0x1p-53;
}

static double
normal(void)
{
	double radius = sqrt(-2 * log(uniform()));

	return radius * cos(6.283185307179586 * uniform());
}

/* ---- cost */

static double
truth(const struct cost_work *w, double noise)
{
	return (0.4 + w->count * (0.25 * w->steps + 0.6) * w->megapixels) * exp(noise * normal());
}

static struct cost_work
some_work(void)
{
	static const double sizes[] = {0.065, 0.26, 0.59, 1.05, 2.1, 4.2};

	return (struct cost_work){
	    sizes[(int)(uniform() * 6)], 1 + floor(uniform() * 20), 1 + floor(uniform() * 4)};
}

static double
worst_error(const struct cost *c, double noise)
{
	double worst = 0, variance;

	for (int i = 0; i < 200; i++) {
		const struct cost_work work = some_work();
		worst = fmax(worst, fabs(cost_predict(c, &work, &variance) / truth(&work, noise) - 1));
	}
	return worst;
}

static void
test_constants_come_first(void **state)
{
	const struct cost_work work = {1, 8, 2};
	struct cost c;
	double variance;

	(void)state;
	cost_init(&c, 1, 0.5, 0.25);
	assert_true(fabs(cost_predict(&c, &work, &variance) - 9.5) < 1e-9);
	assert_true(variance > 0);
	/* Before there are enough samples the constants are scaled. */
	cost_learn(&c, &work, 19);
	assert_true(fabs(cost_predict(&c, &work, &variance) - 19) < 1e-9);
	cost_set_constants(&c, 2, 1, 0.5);
	assert_int_equal(c.samples, 1);
}

static void
test_learns_the_three_terms(void **state)
{
	struct cost c;
	double worst;

	(void)state;
	cost_init(&c, 0.05, 0.3, 0.1);
	for (int i = 0; i < 60; i++) {
		const struct cost_work work = some_work();
		cost_learn(&c, &work, truth(&work, 0));
	}
	worst = worst_error(&c, 0);
	print_message("worst error after 60 exact samples: %.4f\n", worst);
	assert_true(worst < 0.01);
}

/* The scatter that it reports is the one that there is, to a factor of two; 95 % of jobs are within it. */
static void
test_knows_how_wrong_it_is(void **state)
{
	int within = 0;
	struct cost c;

	(void)state;
	cost_init(&c, 0.05, 0.3, 0.1);
	for (int i = 0; i < 300; i++) {
		const struct cost_work work = some_work();
		cost_learn(&c, &work, truth(&work, 0.1));
	}
	print_message("scatter 0.1 is said to be %.3f\n", sqrt(c.error));
	assert_true(sqrt(c.error) > 0.05 && sqrt(c.error) < 0.2);
	for (int i = 0; i < 2000; i++) {
		const struct cost_work work = some_work();
		double variance, predicted = cost_predict(&c, &work, &variance);
		within += fabs(truth(&work, 0.1) - predicted) < 1.96 * sqrt(variance);
	}
	print_message("%d of 2000 within two deviations\n", within);
	assert_in_range(within, 1800, 1999);
}

/* A device that has become twice as slow is known to be so a few dozen jobs later. */
static void
test_forgets(void **state)
{
	struct cost c;

	(void)state;
	cost_init(&c, 0.05, 0.3, 0.1);
	for (int i = 0; i < 400; i++) {
		const struct cost_work work = some_work();
		cost_learn(&c, &work, truth(&work, 0.02) * (i < 200 ? 0.5 : 1));
	}
	print_message("worst error after the change: %.3f\n", worst_error(&c, 0));
	assert_true(worst_error(&c, 0) < 0.15);
}

/* Thousands of jobs of one size leave the others' predictions finite and positive; one mad sample leaves a
 * model that works. */
static void
test_stays_sane(void **state)
{
	const struct cost_work same = {1.05, 8, 1};
	struct cost c;
	double variance;

	(void)state;
	cost_init(&c, 0.05, 0.3, 0.1);
	for (int i = 0; i < 20000; i++)
		cost_learn(&c, &same, truth(&same, 0.05));
	for (int i = 0; i < 100; i++) {
		const struct cost_work work = some_work();
		double s = cost_predict(&c, &work, &variance);
		assert_true(s > 0 && s < 1000 && isfinite(variance) && variance >= 0);
	}
	cost_learn(&c, &same, 1e6);
	cost_learn(&c, &same, NAN);
	cost_learn(&c, &same, -1);
	assert_true(fabs(cost_predict(&c, &same, &variance) / truth(&same, 0) - 1) < 0.25);
}

static void
test_costs_survive_a_restart(void **state)
{
	struct cost a, b;
	json_t *dump;
	double variance_a, variance_b;

	(void)state;
	cost_init(&a, 0.05, 0.3, 0.1);
	cost_init(&b, 0.05, 0.3, 0.1);
	for (int i = 0; i < 50; i++) {
		const struct cost_work work = some_work();
		cost_learn(&a, &work, truth(&work, 0.1));
	}
	dump = cost_dump(&a);
	assert_true(cost_restore(&b, dump));
	for (int i = 0; i < 50; i++) {
		const struct cost_work work = some_work();
		assert_true(cost_predict(&a, &work, &variance_a) == cost_predict(&b, &work, &variance_b));
		assert_true(variance_a == variance_b);
	}
	json_object_set_new(dump, "p", json_array());
	assert_false(cost_restore(&b, dump));
	json_decref(dump);
}

/* What is left of a job: against drawing. */
static void
test_what_is_left(void **state)
{
	double variance, left_s;

	(void)state;
	for (double elapsed_s = 0; elapsed_s < 16; elapsed_s += 5) {
		double sum = 0, squares = 0, n = 0;
		for (int i = 0; i < 200000; i++) {
			double s = 10 + 3 * normal() - elapsed_s;
			if (s <= 0)
				continue;
			sum += s;
			squares += s * s;
			n++;
		}
		left_s = cost_left(10, 9, elapsed_s, &variance);
		print_message("after %g s: %.3f s are left (drawn: %.3f)\n", elapsed_s, left_s, sum / n);
		assert_true(fabs(left_s - sum / n) < 0.05);
		assert_true(fabs(sqrt(variance) - sqrt(squares / n - sum / n * sum / n)) < 0.06);
	}
	assert_true(cost_left(10, 0, 4, &variance) == 6 && cost_left(10, 0, 12, &variance) == 0);
	assert_true(isfinite(cost_left(10, 1e-6, 1e6, &variance)));
}

/* ---- plan */

enum { JOBS = 12 };

struct scene {
	struct fair fair;
	struct fair_item items[JOBS];
	struct plan_spot spots[JOBS];
	double opens_s[JOBS]; /* may not start before; INFINITY: not at all */
};

static double
cost_on(void *arg, const struct fair_item *item, int line, double *variance)
{
	(void)arg;
	*variance = 1;
	return line == 1 ? 2 * item->cost : item->cost; /* the second device is half as fast */
}

static bool
may_start(void *arg, const struct fair_item *item, double at_s, double *again_s)
{
	const struct scene *s = arg;

	*again_s = s->opens_s[item - s->items];
	return at_s >= *again_s;
}

static void
note(void *arg, struct fair_item *item, const struct plan_spot *spot)
{
	struct scene *s = arg;

	s->spots[item - s->items] = *spot;
}

static void
play(struct scene *s, const struct plan_line *lines, int count)
{
	const struct plan_rules rules = {s, cost_on, may_start};

	assert_true(plan_play(&s->fair, lines, count, &rules, note, s));
}

static void
push(struct scene *s, int i, const char *key, int class, double cost)
{
	assert_true(fair_push(&s->fair, &s->items[i], key, class, cost));
}

static void
assert_spot(const struct scene *s, int i, int place, double start_s, double done_s)
{
	const struct plan_spot *spot = &s->spots[i];

	if (spot->place != place || fabs(spot->start_s - start_s) > 1e-4 ||
	    fabs(spot->done_s - done_s) > 1e-4)
		fail_msg("item %d: place %d, from %g to %g s; expected %d, %g, %g", i, spot->place,
		    spot->start_s, spot->done_s, place, start_s, done_s);
}

static void
test_plan_uses_all_lines(void **state)
{
	const struct plan_line lines[2] = {
	    {.free_s = 3, .variance = 2, .number = 0}, {.free_s = 1, .number = 1}};
	struct scene s = {0};

	(void)state;
	fair_init(&s.fair);
	for (int i = 0; i < 4; i++)
		push(&s, i, "a", 1, 2);
	play(&s, lines, 2);
	assert_spot(&s, 0, 1, 1, 5); /* at the slow one, which is free first */
	assert_spot(&s, 1, 2, 3, 5);
	assert_spot(&s, 2, 3, 5, 7);
	assert_spot(&s, 3, 4, 5, 9);
	assert_true(s.spots[1].start_variance == 2 && s.spots[1].done_variance == 3);
	assert_int_equal(s.fair.count, 4); /* it was a copy */
	fair_clear(&s.fair);
}

static void
test_plan_waits_for_what_opens(void **state)
{
	const struct plan_line line = {0};
	struct scene s = {0};

	(void)state;
	fair_init(&s.fair);
	for (int i = 0; i < 4; i++)
		push(&s, i, i == 0 ? "a" : "b", 1, 2);
	s.opens_s[0] = 10;
	s.opens_s[2] = INFINITY;
	play(&s, &line, 1);
	assert_spot(&s, 1, 1, 0, 2);
	assert_spot(&s, 3, 2, 2, 4); /* its neighbour in the line is passed over */
	assert_spot(&s, 0, 3, 10, 12);
	assert_int_equal(s.spots[2].place, 4);
	assert_false(s.spots[2].runs); /* nobody knows when */
	fair_clear(&s.fair);
}

static void
test_plan_keeps_to_max_running(void **state)
{
	const struct plan_line lines[2] = {{.free_s = 4, .running = {"a"}}, {.number = 2}};
	struct scene s = {0};

	(void)state;
	fair_init(&s.fair);
	for (int i = 0; i < 3; i++)
		push(&s, i, "a", 1, 2);
	fair_find_client(&s.fair, "a")->max_running = 1;
	fair_find_client(&s.fair, "a")->running = 1;
	play(&s, lines, 2);
	assert_spot(&s, 0, 1, 4, 6); /* when its other one is done */
	assert_spot(&s, 1, 2, 6, 8);
	fair_clear(&s.fair);
}

static void
test_plan_makes_way(void **state)
{
	const struct plan_line line = {.free_s = 10, .yields_s = 9};
	struct scene s = {0};

	(void)state;
	fair_init(&s.fair);
	push(&s, 0, "a", 1, 2);
	push(&s, 1, "b", 0, 3);
	push(&s, 2, "b", 0, 3);
	play(&s, &line, 1);
	assert_spot(&s, 1, 1, 1, 4); /* before what is put off for it */
	assert_true(s.spots[2].start_s >= 13);
	fair_clear(&s.fair);
}

/* ---- forecast */

/* Whatever those who come meanwhile do to the plan, in the long run as many promises hold as are said to. */
static void
test_promises_hold(void **state)
{
	static const double shares[FORECAST_LEVELS] = {0.05, 0.5, 0.95};
	static const double later[] = {1, 2.5, 0.7};
	int kept[FORECAST_LEVELS] = {0}, total = 0;
	struct forecast f;

	(void)state;
	forecast_init(&f);
	for (int i = 0; i < 9000; i++) {
		double mean = 1 + 50 * uniform(), done_s;
		const struct plan_spot spot = {1, true, mean / 2, mean * mean / 50, mean, mean * mean / 25};
		struct forecast_promise p = forecast_make(&f, 1, &spot);
		done_s = mean * later[i / 3000] * exp(0.3 * normal());
		for (int k = 0; k < FORECAST_LEVELS && i % 3000 >= 300; k++)
			kept[k] += done_s <= p.done_s[k];
		total += i % 3000 >= 300;
		forecast_learn(&f, 1, &p, done_s);
	}
	for (int k = 0; k < FORECAST_LEVELS; k++) {
		print_message("%.0f %%: %.1f %%\n", 100 * shares[k], 100.0 * kept[k] / total);
		assert_true(fabs((double)kept[k] / total - shares[k]) < 0.02);
	}
}

static void
test_judgement(void **state)
{
	const struct forecast_promise p = {{8, 10, 20}, {4, 6, 9}, true};

	(void)state;
	assert_int_equal(forecast_judge(&p, 0, 300), FORECAST_GOOD);
	assert_int_equal(forecast_judge(&p, 9, 300), FORECAST_GOOD); /* it may be in time */
	assert_int_equal(forecast_judge(&p, 7, 300), FORECAST_LATE);
	assert_int_equal(forecast_judge(&p, 0, 3), FORECAST_EXPIRES);
	assert_int_equal(forecast_judge(&p, 0, 5), FORECAST_GOOD);
}

static void
test_forecasts_survive_a_restart(void **state)
{
	const struct plan_spot spot = {1, true, 5, 2, 10, 3};
	struct forecast a, b;
	struct forecast_promise p;
	json_t *dump;

	(void)state;
	forecast_init(&a);
	forecast_init(&b);
	for (int i = 0; i < 50; i++) {
		p = forecast_make(&a, 2, &spot);
		forecast_learn(&a, 2, &p, 17);
	}
	dump = forecast_dump(&a);
	assert_true(forecast_restore(&b, dump));
	assert_true(forecast_make(&b, 2, &spot).done_s[2] == forecast_make(&a, 2, &spot).done_s[2]);
	json_array_clear(dump);
	assert_false(forecast_restore(&b, dump));
	json_decref(dump);
}

static void
test_drain_rate(void **state)
{
	struct drain_rate d = {0};

	(void)state;
	assert_true(drain_rate_wait(&d, 5) == 1); /* not known yet */
	for (int i = 1; i < 50; i++)
		drain_rate_note(&d, 100 + 4 * i, 10);
	assert_true(drain_rate_wait(&d, 3) == 12);
	drain_rate_note(&d, 300, 0);
	drain_rate_note(&d, 9000, 1); /* nobody waited meanwhile: that says nothing */
	assert_true(drain_rate_wait(&d, 3) == 12);
	drain_rate_note(&d, 9000 + 8 * 3600, 10); /* all were paused, or waited for the night */
	assert_true(drain_rate_wait(&d, 3) < 3 * 10);
	for (int i = 1; i < 30; i++) /* a slower pace is believed all the same */
		drain_rate_note(&d, 9000 + 8 * 3600 + 100 * i, 10);
	assert_true(drain_rate_wait(&d, 1) > 95);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_constants_come_first),
	    cmocka_unit_test(test_learns_the_three_terms),
	    cmocka_unit_test(test_knows_how_wrong_it_is),
	    cmocka_unit_test(test_forgets),
	    cmocka_unit_test(test_stays_sane),
	    cmocka_unit_test(test_costs_survive_a_restart),
	    cmocka_unit_test(test_what_is_left),
	    cmocka_unit_test(test_plan_uses_all_lines),
	    cmocka_unit_test(test_plan_waits_for_what_opens),
	    cmocka_unit_test(test_plan_keeps_to_max_running),
	    cmocka_unit_test(test_plan_makes_way),
	    cmocka_unit_test(test_promises_hold),
	    cmocka_unit_test(test_judgement),
	    cmocka_unit_test(test_forecasts_survive_a_restart),
	    cmocka_unit_test(test_drain_rate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
