/*
 * A runner from one zitd to the next: its process goes on and does not notice. Its descriptors keep their
 * numbers, its clocks their ends.
 */
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "ipc/log.h"
#include "supervisor/fields.h"
#include "supervisor/handover.h"
#include "supervisor/runners/runner_inside.h"
#include "supervisor/timer.h"

static const struct field fields[] = {
    FIELD(struct runner, pid),
    FIELD(struct runner, generation),
    FIELD(struct runner, spawned_us),
    FIELD(struct runner, oom_kills),
    FIELD(struct runner, loaded_bytes),
    FIELD(struct runner, proved),
    FIELD(struct runner, end),
    FIELD(struct runner, untold),
    FIELD(struct runner, stop_wait_us),
    FIELD(struct runner, fatal_text),
    FIELD(struct runner, jobs_taken),
    FIELD(struct runner, dispatched_us),
    FIELD(struct runner, advanced_us),
    FIELD(struct runner, slowest_step_us),
    FIELD(struct runner, device),
    FIELD(struct runner, model),
    FIELD(struct runner, text_encoder),
    FIELD(struct runner, limits.default_side),
    FIELD(struct runner, limits.max_side),
    FIELD(struct runner, limits.granule),
    FIELD(struct runner, limits.max_pixels),
    FIELD(struct runner, checkpoint_bytes),
    FIELD(struct runner, deaths),
    FIELD(struct runner, last_cause),
    FIELD(struct runner, restarts[CAUSE_PLANNED]),
    FIELD(struct runner, restarts[CAUSE_OVERDUE]),
    FIELD(struct runner, restarts[CAUSE_DEVICE_MEMORY]),
    FIELD(struct runner, restarts[CAUSE_HOST_MEMORY]),
    FIELD(struct runner, restarts[CAUSE_CRASH]),
    FIELD(struct runner, restarts[CAUSE_START]),
    FIELD(struct runner, restarts[CAUSE_OURS]),
    FIELD(struct runner, restarts[CAUSE_WEIGHTS]),
    FIELD(struct runner, start_failures),
    FIELD(struct runner, unplanned_next),
    FIELD(struct runner, delay_us),
    FIELD(struct runner, probe_us),
    FIELD(struct runner, permanent),
    FIELD(struct runner, unwanted),
    FIELD(struct runner, draining),
    FIELD(struct runner, recycling),
    FIELD(struct runner, last_error),
    FIELD(struct runner, last_status),
    FIELD(struct runner, since_us),
    FIELD(struct runner, elder),
    FIELD(struct runner, conf.like),
    FIELD(struct runner, gpu.uuid),
    FIELD(struct runner, gpu.name),
    FIELD(struct runner, gpu.capability),
    FIELD(struct runner, gpu.memory_bytes),
    FIELD(struct runner, gpu_used),
    FIELD(struct runner, on_host),
    FIELD(struct runner, awaits_device),
    FIELD(struct runner, retired),
    FIELD(struct runner, no_device),
};

static const struct field held_fields[] = {
    FIELD(struct held, head.job),
    FIELD(struct held, head.attempt),
    FIELD(struct held, head.generation),
    FIELD(struct held, device_over),
    FIELD(struct held, undelivered),
    FIELD(struct held, waits),
};

void
runner_set_deaf(struct runner *r, bool deaf)
{
	r->deaf = deaf;
	runner_drop_spares(r); /* the next zitd makes its own */
	if (r->channel != NULL && r->fsm.state != RUNNER_REAPING && r->fsm.state != RUNNER_WEDGED)
		runner_watch_channel(r);
}

bool
runner_has_unsent(const struct runner *r)
{
	return r->channel != NULL && channel_has_output(r->channel);
}

/* ---- there */

/* A job that it was given, by its number; `current`: it still is its. */
static json_t *
hand_over_held(const struct runner *r)
{
	json_t *list = json_array();

	for (int i = 0; i < RUNNER_MAX_HELD; i++) {
		json_t *o;
		if (r->held[i].head.job == 0)
			continue;
		o = json_pack("{s:b}", "current", r->held[i].job != NULL);
		fields_put(&r->held[i], held_fields, FIELD_COUNT(held_fields), o);
		json_array_append_new(list, o);
	}
	return list;
}

static json_t *
hand_over_deaths(const struct runner *r)
{
	json_t *list = json_array();

	for (int i = 0; i < DEATHS_KEPT; i++)
		json_array_append_new(
		    list, json_pack("[I, i]", (json_int_t)r->unplanned[i].at_us, r->unplanned[i].weight));
	return list;
}

json_t *
runner_hand_over(const struct runner *r, struct handover *h)
{
	json_t *o = json_pack("{s:s, s:s, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "name",
	    r->conf.section_name, "state", fsm_state_name(&r->fsm), "clock_us",
	    (json_int_t)timer_end_us(r->world->loop, &r->timer), "pidfd", handover_fd(h, r->pidfd), "channel",
	    handover_fd(h, r->channel != NULL ? channel_fd(r->channel) : -1), "page",
	    handover_fd(h, r->page_fd), "log", runner_log_hand_over(&r->log, h), "held", hand_over_held(r),
	    "unplanned", hand_over_deaths(r), "started_with", conf_runner_dump(&r->started));

	fields_put(r, fields, FIELD_COUNT(fields), o);
	return o;
}

/* ---- and back */

/* -1: we have no such state. */
static int
state_of(const json_t *from)
{
	const char *name = json_string_value(json_object_get(from, "state"));

	for (int i = 0; i < RUNNER_STATE_COUNT && name != NULL; i++) {
		if (strcmp(runner_kind.states[i].name, name) == 0)
			return i;
	}
	return -1;
}

const char *
runner_handed_over(const json_t *from)
{
	struct runner *scratch = calloc(1, sizeof(*scratch));
	bool good =
	    scratch != NULL && state_of(from) >= 0 && fields_take(scratch, fields, FIELD_COUNT(fields), from);

	free(scratch);
	return good ? json_string_value(json_object_get(from, "name")) : NULL;
}

static void
take_over_deaths(struct runner *r, const json_t *list)
{
	for (int i = 0; i < DEATHS_KEPT; i++) {
		const json_t *each = json_array_get(list, (size_t)i);
		r->unplanned[i].at_us = json_integer_value(json_array_get(each, 0));
		r->unplanned[i].weight = (int)json_integer_value(json_array_get(each, 1));
	}
}

/* The process's descriptors. 0 or -ERR_SYSTEM: one is missing. */
static int
take_over_process(struct runner *r, const json_t *from)
{
	int channel = handover_take_fd(json_object_get(from, "channel"));

	r->pidfd = handover_take_fd(json_object_get(from, "pidfd"));
	r->page_fd = handover_take_fd(json_object_get(from, "page"));
	r->channel = channel >= 0 ? channel_new(channel, PROTO_FROM_ZITD) : NULL;
	if (r->channel == NULL || r->pidfd < 0 || r->page_fd < 0)
		return -ERR_SYSTEM;
	return shm_watch(r->page_fd, &r->page);
}

int
runner_take_over(struct runner *r, const json_t *from, bool elder)
{
	int64_t end_us = json_integer_value(json_object_get(from, "clock_us"));
	int64_t left_us = end_us - clock_now_us();

	r->awaits_device = false; /* one of a build that did not know of that does not */
	if (!fields_take(r, fields, FIELD_COUNT(fields), from))
		return -ERR_SYSTEM;
	r->elder |= elder;
	r->started = r->conf;
	conf_runner_undump(&r->started, json_object_get(from, "started_with"));
	take_over_deaths(r, json_object_get(from, "unplanned"));
	runner_log_take_over(&r->log, json_object_get(from, "log"));
	fsm_resume(&r->fsm, &runner_kind, r, state_of(from), end_us == 0 ? 0 : left_us > 0 ? left_us : 1);
	if (r->pid == 0)
		return 0;
	if (take_over_process(r, from) != 0)
		return -ERR_SYSTEM;
	runner_watch(r);
	return 0;
}

void
runner_take_over_jobs(struct runner *r, const json_t *from)
{
	const json_t *each;
	size_t i;

	json_array_foreach(json_object_get(from, "held"), i, each)
	{
		struct held *held = &r->held[i];
		if (i >= RUNNER_MAX_HELD || !fields_take(held, held_fields, FIELD_COUNT(held_fields), each))
			break;
		if (!json_is_true(json_object_get(each, "current")))
			continue;
		held->job = r->world->find_job(r->world->arg, held->head.job);
		if (held->job != NULL)
			held->job->runner = r;
	}
	runner_go_on(r); /* the configuration may give it more room now */
}
