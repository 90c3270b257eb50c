/*
 * Counting for monitoring.
 */
#include "supervisor/metrics.h"

#include <stddef.h>

#include "ipc/clock.h"

/* ---- names */

const char *
metrics_source_name(enum metrics_source source)
{
	static const char *const names[] = {
#define SOURCE(name, text) text,
	    METRICS_SOURCES(SOURCE)
#undef SOURCE
	};

	return names[source];
}

static const enum err_code reasons[] = {
#define REASON(name) ERR_##name,
    METRICS_REASONS(REASON)
#undef REASON
};

const char *
metrics_reason_name(int reason)
{
	return reason < METRICS_REASON_OTHER ? err_row((int)reasons[reason])->name : "other";
}

const char *
metrics_timeout_name(enum metrics_timeout kind)
{
	static const char *const names[] = {
#define TIMEOUT(name, text, help) text,
	    METRICS_TIMEOUTS(TIMEOUT)
#undef TIMEOUT
	};

	return names[kind];
}

/* ---- counting */

void
metrics_init(struct metrics *m)
{
	*m = (struct metrics){.started_us = clock_wall_us(), .reload_us = clock_wall_us()};
}

void
metrics_count_submitted(struct metrics *m, const struct job *job, enum metrics_source source)
{
	m->submitted[job->class][source]++;
}

void
metrics_count_rejected(struct metrics *m, enum err_code code)
{
	int reason = 0;

	while (reason < METRICS_REASON_OTHER && reasons[reason] != code)
		reason++;
	m->rejected[reason]++;
}

void
metrics_count_started(struct metrics *m, const struct job *job)
{
	if (job->attempt == 1)
		histogram_observe(&m->queue_wait, (double)job->waited_us * 1e-6);
}

static void
count_stages(struct metrics *m, const struct proto_DONE *sums)
{
	const double times[STAGE_COUNT] = {[STAGE_TOKENIZE] = sums->tokenize_s,
	    [STAGE_TEXT] = sums->text_s,
	    [STAGE_DENOISE] = sums->denoise_s,
	    [STAGE_DECODE] = sums->decode_s,
	    [STAGE_ENCODE] = sums->png_s};

	for (int i = STAGE_NONE + 1; i < STAGE_COUNT; i++)
		histogram_observe(&m->stages[i], times[i]);
}

void
metrics_count_ended(struct metrics *m, const struct job *job)
{
	m->completed[job->class][job_state(job) - JOB_FIRST_FINAL]++;
	if (job_state(job) != JOB_DONE)
		return;
	m->success_us = clock_wall_us();
	if (job->sums.tokens > 0) /* else its runner ended before it could say */
		count_stages(m, &job->sums);
}

void
metrics_count_timeout(struct metrics *m, enum metrics_timeout kind)
{
	if (kind < METRICS_TIMEOUT_COUNT)
		m->timeouts[kind]++;
}

void
metrics_count_reload(struct metrics *m, bool good)
{
	m->reload_failed = !good;
	if (good)
		m->reload_us = clock_wall_us();
}

/* ---- over an upgrade */

#define COUNTS(member) \
	{ \
#member, offsetof(struct metrics, member), \
		    sizeof(((struct metrics *)0)->member) / sizeof(uint64_t) \
	}
static const struct {
	const char *name;
	size_t at, count;
} counts[] = {COUNTS(submitted), COUNTS(completed), COUNTS(rejected), COUNTS(timeouts)};

static json_t *
dump_counts(const uint64_t *values, size_t count)
{
	json_t *list = json_array();

	for (size_t i = 0; i < count; i++)
		json_array_append_new(list, json_integer((json_int_t)values[i]));
	return list;
}

static void
restore_counts(uint64_t *values, size_t count, const json_t *list)
{
	for (size_t i = 0; i < count && json_array_size(list) == count; i++)
		values[i] = (uint64_t)json_integer_value(json_array_get(list, i));
}

static json_t *
dump_histogram(const struct histogram *h)
{
	return json_pack(
	    "{s:o, s:f}", "counts", dump_counts(h->counts, HISTOGRAM_BOUNDS + 1), "sum_s", h->sum_s);
}

static void
restore_histogram(struct histogram *h, const json_t *dump)
{
	const json_t *list = json_object_get(dump, "counts");

	if (json_array_size(list) != HISTOGRAM_BOUNDS + 1)
		return;
	restore_counts(h->counts, HISTOGRAM_BOUNDS + 1, list);
	h->sum_s = json_number_value(json_object_get(dump, "sum_s"));
}

json_t *
metrics_dump(const struct metrics *m)
{
	json_t *stages = json_object();
	json_t *dump =
	    json_pack("{s:o, s:o, s:I, s:I}", "queue_wait", dump_histogram(&m->queue_wait), "stages", stages,
		"success_us", (json_int_t)m->success_us, "started_us", (json_int_t)m->started_us);

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		json_object_set_new(dump, counts[i].name,
		    dump_counts((const uint64_t *)((const char *)m + counts[i].at), counts[i].count));
	for (uint32_t i = STAGE_NONE + 1; i < STAGE_COUNT; i++)
		json_object_set_new(stages, stage_name(i), dump_histogram(&m->stages[i]));
	return dump;
}

void
metrics_restore(struct metrics *m, const json_t *dump)
{
	const json_t *stages = json_object_get(dump, "stages");

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		restore_counts((uint64_t *)((char *)m + counts[i].at), counts[i].count,
		    json_object_get(dump, counts[i].name));
	restore_histogram(&m->queue_wait, json_object_get(dump, "queue_wait"));
	for (uint32_t i = STAGE_NONE + 1; i < STAGE_COUNT; i++)
		restore_histogram(&m->stages[i], json_object_get(stages, stage_name(i)));
	m->success_us = json_integer_value(json_object_get(dump, "success_us"));
	if (json_is_integer(json_object_get(dump, "started_us")))
		m->started_us = json_integer_value(json_object_get(dump, "started_us"));
}
