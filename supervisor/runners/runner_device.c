/*
 * Which CUDA device a runner has: what its next process is started for, and what becomes of the present one
 * when the devices are others.
 */
#include <stdio.h>
#include <string.h>

#include "ipc/clock.h"
#include "supervisor/journal.h"
#include "supervisor/runners/runner_inside.h"

#define READINGS_AGE_US (10 * RUNNER_SECOND)

/* ---- what its next process is started with */

const char *
runner_device(const struct runner *r)
{
	return r->on_host ? "cpu" : r->conf.device;
}

const char *
runner_gpu_uuid(const struct runner *r)
{
	if (device_is_host(runner_device(r)))
		return NULL;
	if (r->gpu.uuid[0] != '\0')
		return r->gpu.uuid;
	return device_is_uuid(r->conf.device) ? r->conf.device : NULL;
}

/* ---- what its sensors say */

/* A number that a page, whose writer may have gone mad, says of a device. */
static double
possible(double value, double most)
{
	return value >= 0 && value <= most ? value : -1; /* neither is true of what is no number */
}

bool
runner_readings(const struct runner *r, struct shm_readings *readings)
{
	struct status_page page;
	uint64_t now_us = (uint64_t)clock_now_us();

	if (r->page == NULL)
		return false;
	shm_read(r->page, &page);
	if (page.sensed_us > now_us || now_us - page.sensed_us > READINGS_AGE_US)
		return false;
	*readings = (struct shm_readings){possible(page.readings.memory_used_bytes, 0x1p50),
	    possible(page.readings.utilization, 1), possible(page.readings.temperature_celsius, 1000),
	    possible(page.readings.energy_joules, 0x1p50)};
	return true;
}

/* ---- before it is known */

bool
runner_awaits_device(const struct runner *r)
{
	return r->awaits_device;
}

void
runner_await_device(struct runner *r)
{
	r->awaits_device = !device_is_host(r->conf.device);
}

void
runner_forget_device(struct runner *r)
{
	memset(&r->gpu, 0, sizeof(r->gpu));
	r->on_host = false;
	r->no_device[0] = '\0';
	runner_await_device(r);
}

/* ---- when it is */

void
runner_wish(const struct runner *r, struct device_wish *w)
{
	*w = (struct device_wish){.device = r->conf.device, .further = r->conf.like[0] != '\0'};
	snprintf(w->present, sizeof(w->present), "%s", r->gpu.uuid[0] != '\0' ? r->gpu.uuid : r->gpu_used);
}

/* It was there for a device that is gone: no more jobs, and an end when it holds none. */
static void
retire(struct runner *r)
{
	if (r->retired)
		return;
	r->retired = r->unwanted = true;
	snprintf(r->last_error, sizeof(r->last_error),
	    r->gpu.uuid[0] != '\0' ? "its device %s is not there any more" : "there is no device for it%s",
	    r->gpu.uuid);
	snprintf(r->recycling, sizeof(r->recycling), "its device is gone");
	journal(EVENT_RUNNER_RETIRED, .runner = r, .detail = r->last_error);
	if (runner_has_process(r))
		runner_recycle_if_due(r);
	else
		runner_stop(r, false);
}

/* Starts what has waited for this. */
static void
go_on(struct runner *r, bool was_refused)
{
	bool waited = r->awaits_device && r->fsm.state == RUNNER_BACKOFF;

	r->awaits_device = false;
	if (r->retired) {
		r->retired = false;
		r->recycling[0] = '\0'; /* if it still has its process, that goes on */
		runner_start(r);
	} else if (was_refused && r->fsm.state == RUNNER_FAILED)
		runner_start(r);
	else if (waited)
		fsm_event(&r->fsm, RUNNER_EVENT_REVIVE, NULL);
}

/* A fresh process, if the present one is where it should not be: that is not so when only the configuration
 * has another device, which says when that is used. */
static void
leave_old_device(struct runner *r, bool was_on_host, bool present_is_there)
{
	if (!runner_has_process(r))
		return;
	if (r->gpu_used[0] != '\0' && !present_is_there)
		runner_recycle(r, "its device is not there any more");
	else if (was_on_host && runner_gpu_uuid(r) != NULL)
		runner_recycle(r, "there is a CUDA device for it now");
}

void
runner_give_device(struct runner *r, enum device_choice choice, const struct gpu *gpu, bool present_is_there)
{
	bool was_on_host = r->on_host, was_refused = r->no_device[0] != '\0';

	if (choice == CHOICE_NOBODY && r->conf.like[0] != '\0') {
		r->awaits_device = false;
		retire(r);
		return;
	}
	memset(&r->gpu, 0, sizeof(r->gpu));
	if (choice == CHOICE_GPU)
		r->gpu = *gpu;
	r->on_host = choice == CHOICE_HOST;
	snprintf(r->no_device, sizeof(r->no_device), "%s",
	    choice == CHOICE_NOBODY ? "each CUDA device that there is has a runner already" : "");
	go_on(r, was_refused);
	leave_old_device(r, was_on_host, present_is_there);
}

void
runner_keep_device(struct runner *r)
{
	if (r->retired)
		return;
	if (r->awaits_device && r->gpu.uuid[0] == '\0' && strcmp(r->conf.device, "auto") == 0)
		r->on_host = true;
	go_on(r, false);
}
