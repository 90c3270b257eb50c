/*
 * supervisor/histogram, metrics, exposition: buckets and their bounds, counts over an upgrade, the text form.
 */
#include "tests/unit/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "supervisor/exposition.h"
#include "supervisor/metrics.h"

/* ---- histogram */

static int
bucket_of(double seconds)
{
	struct histogram h = {0};

	histogram_observe(&h, seconds);
	for (int i = 0; i <= HISTOGRAM_BOUNDS; i++) {
		if (h.counts[i] == 1)
			return i;
	}
	return -1;
}

/* A bound belongs to its bucket, the next number does not. */
static void
test_bounds(void **state)
{
	(void)state;
	assert_true(histogram_bound(0) == 0.001 && histogram_bound(10) == 1.024);
	for (int i = 0; i < HISTOGRAM_BOUNDS; i++) {
		double bound = histogram_bound(i);
		if (bucket_of(bound) != i || bucket_of(nextafter(bound, 1e9)) != i + 1 ||
		    bucket_of(nextafter(bound, 0)) != i)
			fail_msg("bound %d, %.17g s: %d, above %d, below %d", i, bound, bucket_of(bound),
			    bucket_of(nextafter(bound, 1e9)), bucket_of(nextafter(bound, 0)));
	}
	assert_int_equal(bucket_of(0), 0);
	assert_int_equal(bucket_of(5e-324), 0);
	assert_int_equal(bucket_of(1e300), HISTOGRAM_BOUNDS);
}

static void
test_what_is_no_time_is_not_counted(void **state)
{
	struct histogram h = {0};

	(void)state;
	histogram_observe(&h, NAN);
	histogram_observe(&h, INFINITY);
	histogram_observe(&h, -1e-9);
	assert_int_equal(histogram_at_most(&h, HISTOGRAM_BOUNDS), 0);
	assert_true(h.sum_s == 0);
}

static void
test_sums_and_counts(void **state)
{
	struct histogram h = {0};

	(void)state;
	for (int i = 1; i <= 1000; i++)
		histogram_observe(&h, i * 0.25);
	assert_true(h.sum_s == 0.25 * 1000 * 1001 / 2);
	assert_int_equal(histogram_at_most(&h, HISTOGRAM_BOUNDS), 1000);
	assert_int_equal(histogram_at_most(&h, 10), 4); /* 1.024 s: 0.25 to 1 */
	for (int i = 1; i <= HISTOGRAM_BOUNDS; i++)
		assert_true(histogram_at_most(&h, i) >= histogram_at_most(&h, i - 1));
}

/* ---- counts */

static struct job *
job_in(enum job_state state, enum job_class class)
{
	static struct job job;

	job = (struct job){.class = class, .attempt = 1, .waited_us = 3000000, .fsm.state = (int)state};
	job.sums =
	    (struct proto_DONE){.tokens = 1, .tokenize_s = 0.5, .text_s = 1, .denoise_s = 8, .png_s = 2};
	return &job;
}

static void
test_ends_are_counted(void **state)
{
	struct metrics m;

	(void)state;
	metrics_init(&m);
	metrics_count_ended(&m, job_in(JOB_FAILED, CLASS_LOW));
	assert_int_equal(m.completed[CLASS_LOW][JOB_FAILED - JOB_FIRST_FINAL], 1);
	assert_true(m.success_us == 0 && histogram_at_most(&m.stages[STAGE_DENOISE], HISTOGRAM_BOUNDS) == 0);
	metrics_count_ended(&m, job_in(JOB_DONE, CLASS_HIGH));
	assert_int_equal(m.completed[CLASS_HIGH][JOB_DONE - JOB_FIRST_FINAL], 1);
	assert_true(m.success_us > 0);
	assert_true(m.stages[STAGE_TOKENIZE].sum_s == 0.5 && m.stages[STAGE_TEXT].sum_s == 1 &&
		    m.stages[STAGE_DENOISE].sum_s == 8 && m.stages[STAGE_ENCODE].sum_s == 2);
	assert_int_equal(histogram_at_most(&m.stages[STAGE_DECODE], HISTOGRAM_BOUNDS), 1);
}

static void
test_only_the_first_start_has_a_wait(void **state)
{
	struct job *job = job_in(JOB_RUNNING, CLASS_NORMAL);
	struct metrics m;

	(void)state;
	metrics_init(&m);
	metrics_count_started(&m, job);
	job->attempt = 2;
	metrics_count_started(&m, job);
	assert_int_equal(histogram_at_most(&m.queue_wait, HISTOGRAM_BOUNDS), 1);
	assert_true(m.queue_wait.sum_s == 3);
}

static void
test_other_reasons(void **state)
{
	struct metrics m;

	(void)state;
	metrics_init(&m);
	metrics_count_rejected(&m, ERR_QUEUE_FULL);
	metrics_count_rejected(&m, ERR_SYSTEM);
	metrics_count_rejected(&m, ERR_INTERNAL);
	assert_int_equal(m.rejected[METRICS_REASON_QUEUE_FULL], 1);
	assert_int_equal(m.rejected[METRICS_REASON_OTHER], 2);
	metrics_count_timeout(&m, METRICS_TIMEOUT_NONE);
	for (int i = 0; i < METRICS_TIMEOUT_COUNT; i++)
		assert_int_equal(m.timeouts[i], 0);
}

static void
test_over_an_upgrade(void **state)
{
	struct metrics m, back;
	json_t *dump, *again;

	(void)state;
	metrics_init(&m);
	m.started_us = 42;
	metrics_count_submitted(&m, job_in(JOB_QUEUED, CLASS_LOW), METRICS_FROM_RETRY);
	metrics_count_ended(&m, job_in(JOB_DONE, CLASS_HIGH));
	metrics_count_started(&m, job_in(JOB_RUNNING, CLASS_HIGH));
	metrics_count_rejected(&m, ERR_POISONED);
	metrics_count_timeout(&m, METRICS_TIMEOUT_STALL);
	dump = metrics_dump(&m);
	metrics_init(&back);
	metrics_restore(&back, dump);
	again = metrics_dump(&back);
	assert_true(json_equal(dump, again));
	assert_int_equal(back.started_us, 42);
	json_decref(again);
	json_decref(dump);
}

/* A zitd with other labels hands over counts that mean something else: those begin anew, the rest goes on. */
static void
test_counts_of_other_labels(void **state)
{
	struct metrics m, back;
	json_t *dump;

	(void)state;
	metrics_init(&m);
	metrics_count_rejected(&m, ERR_POISONED);
	metrics_count_timeout(&m, METRICS_TIMEOUT_HANG);
	dump = metrics_dump(&m);
	json_array_append_new(json_object_get(dump, "rejected"), json_integer(1));
	json_array_append_new(
	    json_object_get(json_object_get(dump, "queue_wait"), "counts"), json_integer(1));
	metrics_init(&back);
	metrics_restore(&back, dump);
	assert_int_equal(back.rejected[METRICS_REASON_POISONED], 0);
	assert_int_equal(back.timeouts[METRICS_TIMEOUT_HANG], 1);
	assert_int_equal(histogram_at_most(&back.queue_wait, HISTOGRAM_BOUNDS), 0);
	metrics_restore(&back, NULL); /* of one that had none */
	assert_int_equal(back.timeouts[METRICS_TIMEOUT_HANG], 1);
	json_decref(dump);
}

/* ---- text */

static char *text;
static size_t bytes;

static FILE *
begin_text(void)
{
	free(text);
	return open_memstream(&text, &bytes);
}

static void
test_text_is_escaped(void **state)
{
	FILE *out = begin_text();

	(void)state;
	expose_head(out, "a_total", "counter", "a \"line\"\nand \\");
	expose(out, "a_total", 1, "name", "q\"b\\n\nend", "b", "", NULL);
	expose(out, "a_total", 0.1, NULL);
	expose(out, "a_total", 1795658995.900979, NULL);
	expose(out, "a_total", 9007199254740991.0, NULL);
	fclose(out);
	assert_string_equal(text, "# HELP a_total a \"line\"\\nand \\\\\n"
				  "# TYPE a_total counter\n"
				  "a_total{name=\"q\\\"b\\\\n\\nend\",b=\"\"} 1\n"
				  "a_total 0.1\n"
				  "a_total 1795658995.900979\n"
				  "a_total 9007199254740991\n");
}

static void
test_text_of_a_histogram(void **state)
{
	FILE *out = begin_text();
	struct histogram h = {0};

	(void)state;
	histogram_observe(&h, 0.0015);
	histogram_observe(&h, 1e6);
	expose_histogram(out, "x_seconds", &h, "stage", "s");
	expose_histogram(out, "y_seconds", &h, NULL, NULL);
	fclose(out);
	assert_non_null(strstr(text, "x_seconds_bucket{stage=\"s\",le=\"0.001\"} 0\n"
				     "x_seconds_bucket{stage=\"s\",le=\"0.002\"} 1\n"));
	assert_non_null(strstr(text, "le=\"2097.152\"} 1\nx_seconds_bucket{stage=\"s\",le=\"+Inf\"} 2\n"
				     "x_seconds_sum{stage=\"s\"} 1000000.0015\n"
				     "x_seconds_count{stage=\"s\"} 2\n"));
	assert_non_null(strstr(text, "y_seconds_bucket{le=\"+Inf\"} 2\ny_seconds_sum 1000000.0015\n"
				     "y_seconds_count 2\n"));
	free(text);
	text = NULL;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_bounds),
	    cmocka_unit_test(test_what_is_no_time_is_not_counted),
	    cmocka_unit_test(test_sums_and_counts),
	    cmocka_unit_test(test_ends_are_counted),
	    cmocka_unit_test(test_only_the_first_start_has_a_wait),
	    cmocka_unit_test(test_other_reasons),
	    cmocka_unit_test(test_over_an_upgrade),
	    cmocka_unit_test(test_counts_of_other_labels),
	    cmocka_unit_test(test_text_is_escaped),
	    cmocka_unit_test(test_text_of_a_histogram),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
