/*
 * What monitoring is told: a function for each row of metrics.def, which puts all values of it.
 */
#include <dirent.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "build_id.h"
#include "supervisor/daemon_inside.h"
#include "supervisor/exposition.h"

struct metrics *
daemon_metrics(struct daemon *d)
{
	return &d->metrics;
}

/* ---- jobs and their queue */

static void
put_zit_build_info(FILE *out, const char *name, const struct daemon *d)
{
	(void)d;
	expose(out, name, 1, "version", ZIT_VERSION, "build", ZIT_BUILD, NULL);
}

static void
put_zit_jobs_submitted_total(FILE *out, const char *name, const struct daemon *d)
{
	for (int k = 0; k < CLASS_COUNT; k++) {
		for (int i = 0; i < METRICS_SOURCE_COUNT; i++)
			expose(out, name, (double)d->metrics.submitted[k][i], "priority",
			    daemon_class_names()[k], "source", metrics_source_name(i), NULL);
	}
}

static void
put_zit_jobs_completed_total(FILE *out, const char *name, const struct daemon *d)
{
	for (int k = 0; k < CLASS_COUNT; k++) {
		for (int i = 0; i < METRICS_OUTCOME_COUNT; i++)
			expose(out, name, (double)d->metrics.completed[k][i], "priority",
			    daemon_class_names()[k], "outcome", job_kind.states[JOB_FIRST_FINAL + i].name,
			    NULL);
	}
}

static void
put_zit_jobs_rejected_total(FILE *out, const char *name, const struct daemon *d)
{
	for (int i = 0; i < METRICS_REASON_COUNT; i++)
		expose(out, name, (double)d->metrics.rejected[i], "reason", metrics_reason_name(i), NULL);
}

static void
put_zit_queue_jobs(FILE *out, const char *name, const struct daemon *d)
{
	for (int k = 0; k < CLASS_COUNT; k++)
		expose(
		    out, name, queue_class_length(&d->queue, k), "priority", daemon_class_names()[k], NULL);
}

static void
put_zit_queue_capacity_jobs(FILE *out, const char *name, const struct daemon *d)
{
	const struct fair_limits limits = daemon_queue_limits(d);

	for (int k = 0; k < CLASS_COUNT; k++)
		expose(out, name, fair_places(&limits, k), "priority", daemon_class_names()[k], NULL);
}

static void
put_zit_job_queue_wait_seconds(FILE *out, const char *name, const struct daemon *d)
{
	expose_histogram(out, name, &d->metrics.queue_wait, NULL, NULL);
}

static void
put_zit_job_stage_duration_seconds(FILE *out, const char *name, const struct daemon *d)
{
	for (uint32_t i = STAGE_NONE + 1; i < STAGE_COUNT; i++)
		expose_histogram(out, name, &d->metrics.stages[i], "stage", stage_name(i));
}

static void
put_zit_timeouts_total(FILE *out, const char *name, const struct daemon *d)
{
	for (int i = 0; i < METRICS_TIMEOUT_COUNT; i++)
		expose(out, name, (double)d->metrics.timeouts[i], "kind", metrics_timeout_name(i), NULL);
}

static void
put_zit_job_last_success_timestamp_seconds(FILE *out, const char *name, const struct daemon *d)
{
	expose(out, name, (double)d->metrics.success_us * 1e-6, NULL);
}

/* ---- runners */

static void
put_zit_runner_state(FILE *out, const char *name, const struct daemon *d)
{
	for (int r = 0; r < d->runner_count; r++) {
		for (int i = 0; i < RUNNER_STATE_COUNT; i++)
			expose(out, name, (int)runner_state(d->runners[r]) == i, "runner",
			    runner_conf(d->runners[r])->section_name, "state", runner_kind.states[i].name,
			    NULL);
	}
}

static void
put_zit_runner_restarts_total(FILE *out, const char *name, const struct daemon *d)
{
	for (int r = 0; r < d->runner_count; r++) {
		for (int i = 0; i < RUNNER_CAUSE_COUNT; i++)
			expose(out, name, runner_restarts(d->runners[r], i), "runner",
			    runner_conf(d->runners[r])->section_name, "reason", runner_cause_name(i), NULL);
	}
}

/* ---- their devices, by what runners read from them */

/* The uuid; or what the configuration calls a device whose uuid nobody has told. */
static const char *
gpu_label(const struct runner *r)
{
	const char *uuid = runner_gpu_uuid(r);

	return uuid != NULL ? uuid : runner_conf(r)->device;
}

/* Of runners that share a device the first one tells of it. */
static bool
is_told_of(const struct daemon *d, int at)
{
	struct shm_readings readings;

	for (int i = 0; i < at; i++) {
		if (strcmp(gpu_label(d->runners[i]), gpu_label(d->runners[at])) == 0 &&
		    runner_readings(d->runners[i], &readings))
			return true;
	}
	return false;
}

/* The reading at that offset of struct shm_readings. */
static void
put_readings(FILE *out, const char *name, const struct daemon *d, size_t offset)
{
	for (int i = 0; i < d->runner_count; i++) {
		struct shm_readings readings;
		double value;
		if (!runner_readings(d->runners[i], &readings) || is_told_of(d, i))
			continue;
		memcpy(&value, (const char *)&readings + offset, sizeof(value));
		if (value >= 0)
			expose(out, name, value, "gpu", gpu_label(d->runners[i]), NULL);
	}
}

static void
put_zit_gpu_memory_used_bytes(FILE *out, const char *name, const struct daemon *d)
{
	put_readings(out, name, d, offsetof(struct shm_readings, memory_used_bytes));
}

static void
put_zit_gpu_utilization_ratio(FILE *out, const char *name, const struct daemon *d)
{
	put_readings(out, name, d, offsetof(struct shm_readings, utilization));
}

static void
put_zit_gpu_temperature_celsius(FILE *out, const char *name, const struct daemon *d)
{
	put_readings(out, name, d, offsetof(struct shm_readings, temperature_celsius));
}

static void
put_zit_gpu_energy_joules_total(FILE *out, const char *name, const struct daemon *d)
{
	put_readings(out, name, d, offsetof(struct shm_readings, energy_joules));
}

/* ---- the configuration */

static void
put_zit_config_last_reload_successful(FILE *out, const char *name, const struct daemon *d)
{
	expose(out, name, !d->metrics.reload_failed, NULL);
}

static void
put_zit_config_last_reload_success_timestamp_seconds(FILE *out, const char *name, const struct daemon *d)
{
	expose(out, name, (double)d->metrics.reload_us * 1e-6, NULL);
}

/* ---- the process, by the kernel's account */

static void
put_process_cpu_seconds_total(FILE *out, const char *name, const struct daemon *d)
{
	struct rusage usage = {0};

	(void)d;
	getrusage(RUSAGE_SELF, &usage);
	expose(out, name,
	    (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
		(double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6,
	    NULL);
}

/* Without the one that looks. */
static void
put_process_open_fds(FILE *out, const char *name, const struct daemon *d)
{
	DIR *dir = opendir("/proc/self/fd");
	const struct dirent *entry;
	int count = 0;

	(void)d;
	if (dir == NULL)
		return;
	while ((entry = readdir(dir)) != NULL)
		count += entry->d_name[0] != '.';
	closedir(dir);
	expose(out, name, count - 1, NULL);
}

static void
put_process_max_fds(FILE *out, const char *name, const struct daemon *d)
{
	struct rlimit limit = {0};

	(void)d;
	getrlimit(RLIMIT_NOFILE, &limit);
	expose(out, name, (double)limit.rlim_cur, NULL);
}

/* Pages, the field of that number in statm. */
static double
memory_bytes(int field)
{
	FILE *file = fopen("/proc/self/statm", "re");
	double pages[2] = {0, 0};

	if (file != NULL && fscanf(file, "%lf %lf", &pages[0], &pages[1]) != 2)
		pages[field] = 0;
	if (file != NULL)
		fclose(file);
	return pages[field] * (double)sysconf(_SC_PAGESIZE);
}

double
daemon_resident_bytes(void)
{
	return memory_bytes(1);
}

static void
put_process_virtual_memory_bytes(FILE *out, const char *name, const struct daemon *d)
{
	(void)d;
	expose(out, name, memory_bytes(0), NULL);
}

static void
put_process_resident_memory_bytes(FILE *out, const char *name, const struct daemon *d)
{
	(void)d;
	expose(out, name, daemon_resident_bytes(), NULL);
}

static void
put_process_start_time_seconds(FILE *out, const char *name, const struct daemon *d)
{
	expose(out, name, (double)d->metrics.started_us * 1e-6, NULL);
}

/* ---- all of them */

char *
daemon_metrics_text(const struct daemon *d)
{
	static const struct {
		const char *name, *type, *help;
		void (*put)(FILE *out, const char *name, const struct daemon *d);
	} rows[] = {
#define COUNTER "counter"
#define GAUGE "gauge"
#define HISTOGRAM "histogram"
#define METRIC(name, type, labels, help) {#name, type, help, put_##name},
#include "supervisor/metrics.def"
	};
	char *text = NULL;
	size_t bytes;
	FILE *out = open_memstream(&text, &bytes);

	if (out == NULL)
		return NULL;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		expose_head(out, rows[i].name, rows[i].type, rows[i].help);
		rows[i].put(out, rows[i].name, d);
	}
	if (fclose(out) == 0)
		return text;
	free(text);
	return NULL;
}
