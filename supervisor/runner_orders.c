/*
 * What a runner is told: jobs, cancels, and an administrator's orders.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/log.h"
#include "supervisor/daemon.h"
#include "supervisor/runner_inside.h"

#define ACK_CLOCK_US (2 * RUNNER_SECOND)

/* ---- saying it */

void
runner_send(struct runner *r, struct proto_msg *m, const int *fds)
{
	struct ev_loop *loop = daemon_loop(r->daemon);
	int status = channel_send(r->channel, m, fds);

	if (status != 0 && status != -ERR_UNREACHABLE) { /* gone is gone: its death comes by the pidfd */
		log_err("runner %s: %s cannot be sent: %s", r->conf.section_name, proto_name(m->head.type),
		    err_row(status)->name);
		fsm_event(&r->fsm, RUNNER_EVENT_LIE, NULL);
		return;
	}
	if (channel_has_output(r->channel)) {
		ev_io_stop(loop, &r->channel_io);
		ev_io_set(&r->channel_io, channel_fd(r->channel), EV_READ | EV_WRITE);
		ev_io_start(loop, &r->channel_io);
	}
}

/* ---- the jobs it holds */

int
runner_held_count(const struct runner *r)
{
	int count = 0;

	for (int i = 0; i < RUNNER_MAX_HELD; i++)
		count += r->held[i].head.job != 0;
	return count;
}

bool
runner_has_jobs(const struct runner *r)
{
	return runner_held_count(r) > 0;
}

struct held *
runner_find_held(struct runner *r, const struct proto_header *head)
{
	for (int i = 0; i < RUNNER_MAX_HELD; i++) {
		const struct proto_header *own = &r->held[i].head;
		if (own->job == head->job && own->job != 0 && own->attempt == head->attempt &&
		    own->generation == head->generation)
			return &r->held[i];
	}
	return NULL;
}

static struct held *
held_of_job(struct runner *r, const struct job *job)
{
	for (int i = 0; i < RUNNER_MAX_HELD; i++) {
		if (r->held[i].job == job)
			return &r->held[i];
	}
	return NULL;
}

void
runner_release(struct held *held, enum job_event event, const struct err *e)
{
	struct job *job = held->job;

	if (job == NULL)
		return;
	held->job = NULL;
	job->runner = NULL;
	job_event_error(job, event, e);
}

void
runner_let_go(struct runner *r, struct held *held)
{
	bool others = false, cancelling = false;

	*held = (struct held){0};
	for (int i = 0; i < RUNNER_MAX_HELD; i++) {
		others |= r->held[i].head.job != 0;
		cancelling |= r->held[i].head.job != 0 && r->held[i].job == NULL;
	}
	if (r->fsm.state == RUNNER_BUSY || r->fsm.state == RUNNER_CANCELLING) {
		if (!others)
			fsm_event(&r->fsm, RUNNER_EVENT_ALL_OVER, NULL);
		else if (!cancelling && r->fsm.state == RUNNER_CANCELLING)
			fsm_event(&r->fsm, RUNNER_EVENT_LET_GO, NULL);
	}
	daemon_changed(r->daemon);
}

/* ---- jobs in */

/* Those that need the device: one whose PNG is being written does not count. */
static int
device_jobs(const struct runner *r)
{
	int count = 0;

	for (int i = 0; i < RUNNER_MAX_HELD; i++)
		count += r->held[i].head.job != 0 && !r->held[i].device_over;
	return count;
}

static bool
holds_loner(const struct runner *r)
{
	for (int i = 0; i < RUNNER_MAX_HELD; i++) {
		if (r->held[i].job != NULL && r->held[i].job->alone)
			return true;
	}
	return false;
}

bool
runner_can_take(const struct runner *r, const struct job *job)
{
	if ((r->fsm.state != RUNNER_IDLE && r->fsm.state != RUNNER_BUSY) || r->draining || r->recycling)
		return false;
	if (job->fresh && r->jobs_taken > 0)
		return false;
	if (job->alone)
		return runner_held_count(r) == 0;
	return device_jobs(r) < r->conf.concurrency && runner_held_count(r) < RUNNER_MAX_HELD &&
	       !holds_loner(r);
}

static struct proto_msg
job_message(const struct held *held)
{
	const struct job *job = held->job;
	struct proto_msg m = {.head = held->head};

	m.head.type = PROTO_JOB;
	m.JOB = (struct proto_JOB){(uint32_t)job->width, (uint32_t)job->height, (uint32_t)job->steps,
	    (uint32_t)job->count, (uint32_t)job->picture_count, job->truncate, job->seed, job->id,
	    job->prompt, job->negative_prompt};
	return m;
}

/* There is one: runner_can_take has seen it. */
static struct held *
free_place(struct runner *r)
{
	struct held *held = r->held;

	while (held->head.job != 0)
		held++;
	return held;
}

bool
runner_dispatch(struct runner *r, struct job *job)
{
	struct held *held = free_place(r);
	struct proto_msg m;

	if (!job_need_checkpoint(job, r->checkpoint_bytes)) {
		log_err("job %s: no memory for its checkpoint; tried again soon", job->id);
		return false;
	}
	held->head =
	    (struct proto_header){.job = job->number, .attempt = ++job->attempt, .generation = r->generation};
	held->job = job;
	held->device_over = false;
	job->width = job->width > 0 ? job->width : r->default_side;
	job->height = job->height > 0 ? job->height : r->default_side;
	job->runner = r;
	job->generation = r->generation;
	job->stage = STAGE_NONE;
	job->step = 0;
	job->picture = (uint32_t)job->picture_count;
	job->told_start = false;
	r->jobs_taken++;
	r->dispatched_us = clock_now_us();
	if (runner_held_count(r) == 1)
		r->advanced_us = r->dispatched_us;
	m = job_message(held);
	log_info("runner %s: takes job %s, attempt %u", r->conf.section_name, job->id, job->attempt);
	job_event(job, JOB_EVENT_PICKED);
	fsm_event(&r->fsm, RUNNER_EVENT_DISPATCH, NULL);
	runner_send(r, &m, &job->checkpoint);
	return true;
}

/* A runner at work looks at its socket between two units, so it may take as long as a unit may. */
int64_t
runner_ack_clock_us(const struct runner *r)
{
	int64_t hang_us = (int64_t)(r->conf.hang_timeout * 1e6);

	if (runner_held_count(r) <= 1)
		return ACK_CLOCK_US;
	return 8 * r->slowest_step_us > hang_us ? 8 * r->slowest_step_us : hang_us;
}

void
runner_unanswered(struct runner *r)
{
	log_err("runner %s: did not acknowledge a job in time", r->conf.section_name);
	fsm_event(&r->fsm, RUNNER_EVENT_HANG_CLOCK, NULL);
}

void
runner_drop_job(struct runner *r, struct job *job)
{
	struct held *held = held_of_job(r, job);
	struct proto_msg m = {.head = held->head, .CANCEL = {ERR_CANCELLED}};

	held->job = NULL;
	job->runner = NULL;
	if (r->fsm.state != RUNNER_BUSY && r->fsm.state != RUNNER_CANCELLING)
		return; /* it is being ended already */
	m.head.type = PROTO_CANCEL;
	fsm_event(&r->fsm, RUNNER_EVENT_CANCEL, NULL);
	runner_send(r, &m, NULL);
}

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
	r->unwanted = r->permanent = false;
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
	daemon_changed(r->daemon);
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
	daemon_changed(r->daemon);
}

void
runner_resume(struct runner *r)
{
	r->draining = false;
	daemon_changed(r->daemon);
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

void
runner_recycle(struct runner *r, const char *why)
{
	r->recycling = true;
	if (runner_has_jobs(r))
		return; /* when they are over, it is asked again */
	log_notice("runner %s: gets a fresh process: %s", r->conf.section_name, why);
	end_process(r);
}

/* Resident bytes of its process, by the kernel's account. */
static int64_t
resident_bytes(const struct runner *r)
{
	char path[40];
	long long size, resident = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/statm", (int)r->pid);
	file = fopen(path, "re");
	if (file != NULL && fscanf(file, "%lld %lld", &size, &resident) != 2)
		resident = 0;
	if (file != NULL)
		fclose(file);
	return resident * sysconf(_SC_PAGESIZE);
}

void
runner_recycle_if_due(struct runner *r)
{
	const struct conf_runner *c = &r->conf;
	double age_s = (double)(clock_now_us() - r->spawned_us) * 1e-6;
	char why[80];

	if (r->recycling)
		snprintf(why, sizeof(why), "it was asked for");
	else if (c->max_jobs > 0 && r->jobs_taken >= c->max_jobs)
		snprintf(why, sizeof(why), "it has done %d jobs", r->jobs_taken);
	else if (c->max_age > 0 && age_s >= c->max_age)
		snprintf(why, sizeof(why), "it is %.0f s old", age_s);
	else if (c->max_memory > 0 && resident_bytes(r) >= c->max_memory * 1024 * 1024)
		snprintf(why, sizeof(why), "it holds %lld MiB", (long long)(resident_bytes(r) >> 20));
	else
		return;
	runner_recycle(r, why);
}

/* ---- its record */

static json_t *
held_jobs(const struct runner *r)
{
	json_t *ids = json_array();

	for (int i = 0; i < RUNNER_MAX_HELD; i++) {
		if (r->held[i].job != NULL)
			json_array_append_new(ids, json_string(r->held[i].job->id));
	}
	return ids;
}

json_t *
runner_record(const struct runner *r)
{
	json_t *jobs = held_jobs(r);
	json_t *record = json_pack("{s:s, s:s, s:i, s:i, s:i, s:i, s:s}", "name", r->conf.section_name,
	    "state", fsm_state_name(&r->fsm), "pid", (int)r->pid, "generation", (int)r->generation, "deaths",
	    r->deaths, "restarts", r->generation > 0 ? (int)r->generation - 1 : 0, "device",
	    r->device[0] != '\0' ? r->device : r->conf.device);

	if (r->draining)
		json_object_set_new(record, "draining", json_true());
	if (r->model[0] != '\0') {
		json_object_set_new(record, "model", json_string(r->model));
		json_object_set_new(record, "default_side", json_integer(r->default_side));
		json_object_set_new(record, "max_side", json_integer(r->max_side));
		json_object_set_new(record, "max_pixels", json_integer(r->max_pixels));
	}
	if (json_array_size(jobs) > 0)
		json_object_set(record, "job", json_array_get(jobs, 0));
	json_object_set_new(record, "jobs", jobs);
	if (r->last_error[0] != '\0')
		json_object_set_new(record, "last_error", json_string(r->last_error));
	return record;
}
