/*
 * One runner for each CUDA device: which there are is asked at the start and with each reload, beside all
 * else, and what the answer means for the runners.
 *
 * A section [runner:NAME] is one runner, whatever there is. Without any, the runner 0 has the first device,
 * and each further one gets a runner of its own, 1 and so on, which goes when its device does; what is made
 * once stays in the lists, stopped. No answer is no news: who has a device keeps it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/daemon_inside.h"
#include "supervisor/journal.h"
#include "supervisor/runners/runner_program.h"

/* ---- asking */

/* A further runner whose section does not want such any more. */
static bool
is_one_too_many(const struct runner *r)
{
	const struct conf_runner *c = runner_conf(r);

	return c->like[0] != '\0' && (!c->each_device || !device_is_any(c->device));
}

static void
retire_surplus(struct daemon *d)
{
	for (int i = 0; i < d->runner_count; i++) {
		if (is_one_too_many(d->runners[i]))
			runner_give_device(d->runners[i], CHOICE_NOBODY, NULL, true);
	}
}

/* The first runner that needs to know; NULL: none does. */
static const struct conf_runner *
who_asks(const struct daemon *d)
{
	for (int i = 0; i < d->runner_count; i++) {
		const struct conf_runner *c = runner_conf(d->runners[i]);
		if (!device_is_host(c->device))
			return c;
	}
	return NULL;
}

static const char *
probed_program(const struct daemon *d, const struct conf_runner *c)
{
	return runner_program(c->command, c->device, d->paths.runner);
}

void
daemon_find_devices(struct daemon *d)
{
	const struct conf_runner *c = who_asks(d);
	int64_t clock_us = (int64_t)(d->conf.zitd.probe_timeout * 1e6);
	char why[DEVICES_REASON];
	int error;

	retire_surplus(d);
	probe_stop(&d->probe); /* it may have looked before what was cured since */
	if (c == NULL || d->phase != SERVING)
		return;
	error = probe_start(&d->probe, probed_program(d, c), c->environment, clock_us);
	if (error == 0)
		return;
	snprintf(why, sizeof(why), "it cannot be started: %s", strerror(error));
	daemon_devices_found(d, NULL, why);
}

void
daemon_find_awaited_devices(struct daemon *d)
{
	for (int i = 0; i < d->runner_count; i++) {
		if (runner_awaits_device(d->runners[i])) {
			daemon_find_devices(d);
			return;
		}
	}
}

/* ---- saying what was found */

static void
tell_devices(const struct daemon *d, const struct devices *found)
{
	char text[DEVICES_REASON * 4] = "";
	size_t used = 0;
	int usable = 0;

	for (int i = 0; i < found->count; i++) {
		const struct gpu *g = &found->list[i];
		if (g->unusable[0] != '\0') {
			journal(EVENT_DEVICE_UNUSABLE, .gpu_uuid = g->uuid, .detail = g->unusable);
			continue;
		}
		usable++;
		if (used < sizeof(text) - 1)
			used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s (%s, %lld MiB)",
			    used > 0 ? ", " : "", g->name, g->uuid, (long long)(g->memory_bytes >> 20));
	}
	if (usable > 0)
		journal(EVENT_DEVICES_FOUND, .count = usable, .total = found->told, .detail = text);
	else
		journal(EVENT_NO_DEVICE, .path = probed_program(d, who_asks(d)), .detail = found->reason);
}

/* ---- further runners */

static bool
is_taken(const struct daemon *d, const char *name)
{
	for (int i = 0; i < d->runner_count; i++) {
		if (strcmp(runner_conf(d->runners[i])->section_name, name) == 0)
			return true;
	}
	return false;
}

struct runner *
daemon_add_runner(struct daemon *d, const struct conf_runner *section, const char *name)
{
	struct conf_runner *c;
	struct runner *r = NULL;

	if (d->runner_count == CONF_MAX_RUNNERS)
		return NULL;
	c = malloc(sizeof(*c));
	if (c != NULL) {
		*c = *section;
		if (name != NULL) {
			snprintf(c->like, sizeof(c->like), "%s", section->section_name);
			snprintf(c->section_name, sizeof(c->section_name), "%s", name);
		}
		r = runner_new(&d->runner_world, c);
	}
	free(c);
	if (r == NULL)
		return NULL;
	d->runners[d->runner_count] = r;
	cost_init(
	    &d->costs[d->runner_count++], section->cost_base, section->cost_step, section->cost_picture);
	return r;
}

/* One more like the first of that section, for that device. */
static void
add_for_device(struct daemon *d, const struct conf_runner *section, const struct gpu *gpu)
{
	char name[CONF_NAME];
	struct runner *r;
	int number = 1;

	do
		snprintf(name, sizeof(name), "%d", number++);
	while (is_taken(d, name));
	r = daemon_add_runner(d, section, name);
	if (r == NULL) {
		journal(EVENT_DEVICE_UNUSABLE, .gpu_uuid = gpu->uuid,
		    .detail = d->runner_count == CONF_MAX_RUNNERS ? "there are too many runners already"
								  : "out of memory");
		return;
	}
	daemon_recall_cost(d, d->runner_count - 1);
	runner_give_device(r, CHOICE_GPU, gpu, true);
}

/* Devices that nobody has get runners, where the configuration leaves that to us. */
static void
add_runners(struct daemon *d, const struct devices *found, uint64_t unclaimed)
{
	const struct conf_runner *section = &d->conf.runners[0];

	if (!section->each_device || !device_is_any(section->device))
		return;
	for (int i = 0; i < found->count; i++) {
		if (unclaimed >> i & 1)
			add_for_device(d, section, &found->list[i]);
	}
}

/* ---- what an answer means */

static bool
is_there(const struct devices *found, const char *uuid)
{
	for (int i = 0; i < found->count; i++) {
		if (strcmp(found->list[i].uuid, uuid) == 0)
			return found->list[i].unusable[0] == '\0';
	}
	return false;
}

static void
assign(struct daemon *d, const struct devices *found)
{
	struct device_wish wishes[CONF_MAX_RUNNERS];
	struct runner *who[CONF_MAX_RUNNERS];
	uint64_t unclaimed;
	int count = 0;

	for (int i = 0; i < d->runner_count; i++) {
		struct runner *r = d->runners[i];
		if (is_one_too_many(r) || device_is_host(runner_conf(r)->device))
			continue;
		runner_wish(r, &wishes[count]);
		who[count++] = r;
	}
	devices_assign(found, wishes, count, &unclaimed);
	for (int i = 0; i < count; i++)
		runner_give_device(who[i], wishes[i].choice, &found->list[wishes[i].index],
		    is_there(found, wishes[i].present));
	add_runners(d, found, unclaimed);
}

void
daemon_devices_found(void *arg, struct devices *found, const char *why)
{
	struct daemon *d = arg;

	snprintf(d->probe_failure, sizeof(d->probe_failure), "%s", found == NULL ? why : "");
	if (found != NULL) {
		tell_devices(d, found);
		free(d->devices);
		d->devices = found;
		assign(d, found);
	} else {
		journal(EVENT_PROBE_FAILED, .path = probed_program(d, who_asks(d)), .detail = why);
		for (int i = 0; i < d->runner_count; i++)
			runner_keep_device(d->runners[i]);
	}
	daemon_set_shares(d); /* there may be more who share */
	daemon_changed(d);
}

/* ---- status */

/* Name of the runner that has it; NULL: none. */
static const char *
owner_of(const struct daemon *d, const struct gpu *g)
{
	for (int i = 0; i < d->runner_count; i++) {
		const char *uuid = runner_gpu_uuid(d->runners[i]);
		if (uuid != NULL && strcmp(uuid, g->uuid) == 0)
			return runner_conf(d->runners[i])->section_name;
	}
	return NULL;
}

json_t *
daemon_devices(const struct daemon *d)
{
	const char *state = who_asks(d) == NULL		    ? "not asked"
			    : probe_is_under_way(&d->probe) ? "asking"
			    : d->probe_failure[0] != '\0'   ? "unknown"
							    : "known";
	const char *reason = d->probe_failure[0] != '\0' ? d->probe_failure
			     : d->devices != NULL	 ? d->devices->reason
							 : "";
	json_t *list = json_array(), *o = json_pack("{s:s, s:o}", "state", state, "found", list);

	for (int i = 0; d->devices != NULL && i < d->devices->count; i++) {
		json_t *each = devices_describe(&d->devices->list[i]);
		const char *owner = owner_of(d, &d->devices->list[i]);
		if (owner != NULL)
			json_object_set_new(each, "runner", json_string(owner));
		json_array_append_new(list, each);
	}
	if (reason[0] != '\0')
		json_object_set_new(o, "reason", json_string(reason));
	return o;
}
