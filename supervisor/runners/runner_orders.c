/*
 * What administrators order of a runner, when it is due for a fresh process, and its record.
 */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "supervisor/journal.h"
#include "supervisor/runners/runner_inside.h"

/* ---- orders */

/* Ends its process as planned, with what it holds; does nothing when it has none. */
static void
end_process(struct runner *r)
{
	if (!runner_has_process(r))
		return;
	if (r->end == END_ITSELF)
		r->end = END_PLANNED;
	r->stop_wait_us = (int64_t)(r->conf.stopwaitsecs * 1e6);
	fsm_event(&r->fsm, RUNNER_EVENT_STOP, NULL);
}

static void
forgive(struct runner *r)
{
	r->unwanted = r->permanent = r->retired = false;
	r->start_failures = 0;
	r->delay_us = 0;
	memset(r->unplanned, 0, sizeof(r->unplanned));
}

void
runner_start(struct runner *r)
{
	forgive(r);
	if (!runner_has_process(r))
		fsm_event(&r->fsm, RUNNER_EVENT_REVIVE, NULL);
	runner_changed(r);
}

void
runner_restart(struct runner *r)
{
	bool had = runner_has_process(r);

	runner_start(r);
	if (had)
		end_process(r);
}

void
runner_drain(struct runner *r)
{
	r->draining = true;
	runner_changed(r);
}

void
runner_resume(struct runner *r)
{
	r->draining = false;
	runner_changed(r);
}

void
runner_stop(struct runner *r, bool finish)
{
	if (finish && runner_has_jobs(r))
		return;
	r->unwanted = true;
	if (runner_has_process(r))
		end_process(r);
	else
		fsm_event(&r->fsm, RUNNER_EVENT_STOP, NULL);
}

/* ---- a fresh process between jobs */

/* Resident bytes of its process alone, by the kernel's account: pages of mapped files, which it may have
 * weights in, are the page cache's. */
static int64_t
resident_bytes(const struct runner *r)
{
	char path[40];
	long long size, resident = 0, shared = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/statm", (int)r->pid);
	file = fopen(path, "re");
	if (file != NULL && fscanf(file, "%lld %lld %lld", &size, &resident, &shared) != 3)
		resident = shared = 0;
	if (file != NULL)
		fclose(file);
	return (resident - shared) * sysconf(_SC_PAGESIZE);
}

/* Looks whether it has done enough; if so it takes no more jobs, and ends when it holds none. */
static void
look_at_age(struct runner *r)
{
	const struct conf_runner *c = &r->conf;
	double age_s = (double)(clock_now_us() - r->spawned_us) * 1e-6;

	if (r->recycling[0] != '\0')
		return;
	if (c->max_jobs > 0 && r->jobs_taken >= c->max_jobs)
		snprintf(r->recycling, sizeof(r->recycling), "it has had %d jobs", r->jobs_taken);
	else if (c->max_age > 0 && age_s >= c->max_age)
		snprintf(r->recycling, sizeof(r->recycling), "it is %.0f s old", age_s);
	else if (c->max_memory > 0 && resident_bytes(r) >= c->max_memory * 1024 * 1024)
		snprintf(r->recycling, sizeof(r->recycling), "it holds %lld MiB",
		    (long long)(resident_bytes(r) >> 20));
}

void
runner_recycle_if_due(struct runner *r)
{
	look_at_age(r);
	if (r->recycling[0] == '\0' || runner_has_jobs(r))
		return;
	if (!r->retired)
		journal(EVENT_RUNNER_RECYCLED, .runner = r, .detail = r->recycling);
	end_process(r);
}

void
runner_recycle(struct runner *r, const char *why)
{
	snprintf(r->recycling, sizeof(r->recycling), "%s", why);
	runner_recycle_if_due(r);
}

/* ---- its record */

/* Those that are suspended come last. */
static json_t *
held_jobs(const struct runner *r)
{
	json_t *ids = json_array();
	size_t at_work = 0;

	for (int i = 0; i < RUNNER_MAX_HELD; i++) {
		const struct job *job = r->held[i].job;
		if (job != NULL && job_state(job) == JOB_SUSPENDED)
			json_array_append_new(ids, json_string(job->id));
		else if (job != NULL)
			json_array_insert_new(ids, at_work++, json_string(job->id));
	}
	return ids;
}

const struct job *
runner_next_job(const struct runner *r, int *at)
{
	while (*at < RUNNER_MAX_HELD) {
		const struct held *held = &r->held[(*at)++];
		if (held->job != NULL)
			return held->job;
	}
	return NULL;
}

/* The one job that it holds; NULL: none, or several. */
static const struct job *
only_job(const struct runner *r)
{
	int at = 0;
	const struct job *first = runner_next_job(r, &at);

	return first != NULL && runner_next_job(r, &at) == NULL ? first : NULL;
}

void
runner_facts(const struct runner *r, struct journal_facts *f)
{
	f->runner_name = r->conf.section_name;
	f->device = r->device[0] != '\0' ? r->device : r->conf.device;
	f->gpu_uuid = runner_gpu_uuid(r);
	f->pid = r->pid > 0 ? r->pid : -1;
	f->generation = r->generation;
	if (f->job != NULL)
		return;
	f->state = fsm_state_name(&r->fsm);
	f->job_id = only_job(r) != NULL ? only_job(r)->id : NULL;
}

json_t *
runner_record(const struct runner *r)
{
	json_t *jobs = held_jobs(r);
	json_t *record = json_pack("{s:s, s:s, s:i, s:i, s:i, s:i, s:s}", "name", r->conf.section_name,
	    "state", fsm_state_name(&r->fsm), "pid", (int)r->pid, "generation", (int)r->generation, "deaths",
	    r->deaths, "restarts", r->generation > 0 ? (int)r->generation - 1 : 0, "device",
	    r->device[0] != '\0' ? r->device : r->conf.device);

	if (r->gpu.uuid[0] != '\0')
		json_object_set_new(record, "gpu", devices_describe(&r->gpu));
	if (r->draining)
		json_object_set_new(record, "draining", json_true());
	if (r->model[0] != '\0') {
		json_object_set_new(record, "model", json_string(r->model));
		json_object_set_new(record, "default_side", json_integer(r->limits.default_side));
		json_object_set_new(record, "max_side", json_integer(r->limits.max_side));
		json_object_set_new(record, "multiple", json_integer(r->limits.granule));
		json_object_set_new(record, "max_pixels", json_integer(r->limits.max_pixels));
	}
	if (r->text_encoder[0] != '\0')
		json_object_set_new(record, "text_encoder", json_string(r->text_encoder));
	if (json_array_size(jobs) > 0)
		json_object_set(record, "job", json_array_get(jobs, 0));
	json_object_set_new(record, "jobs", jobs);
	json_object_set_new(record, "state_s", json_real((double)(clock_now_us() - r->since_us) * 1e-6));
	json_object_set_new(record, "model_dir", json_string(r->conf.model));
	if (r->last_status != 0 && WIFSIGNALED(r->last_status))
		json_object_set_new(record, "signal", json_integer(WTERMSIG(r->last_status)));
	else if (r->last_status != 0)
		json_object_set_new(record, "exit_status", json_integer(WEXITSTATUS(r->last_status)));
	if (r->last_error[0] != '\0')
		json_object_set_new(record, "last_error", json_string(r->last_error));
	return record;
}
