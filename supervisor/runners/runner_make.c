/*
 * A runner's beginning and its end as memory, and what it is made with.
 */
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "supervisor/runners/cgroup.h"
#include "supervisor/runners/runner_inside.h"
#include "supervisor/timer.h"

static void
on_death(struct ev_loop *loop, struct ev_io *w, int events)
{
	(void)loop;
	(void)events;
	runner_reap(w->data);
}

static void
on_reap_poll(struct ev_loop *loop, struct ev_timer *w, int events)
{
	(void)loop;
	(void)events;
	runner_reap(w->data);
}

static void
on_channel(struct ev_loop *loop, struct ev_io *w, int events)
{
	(void)loop;
	runner_talk(w->data, events);
}

struct runner *
runner_new(const struct runner_world *world, const struct conf_runner *conf)
{
	struct runner *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return NULL;
	r->world = world;
	r->conf = r->started = *conf;
	r->pidfd = r->page_fd = -1;
	r->probe_us = FIRST_PROBE_US;
	r->unwanted = strcmp(conf->autostart, "false") == 0;
	runner_await_device(r);
	r->since_us = clock_now_us();
	runner_log_init(&r->log, world->loop, r);
	ev_init(&r->timer, runner_on_timer);
	ev_init(&r->death_io, on_death);
	ev_init(&r->channel_io, on_channel);
	ev_init(&r->reap_poll, on_reap_poll);
	r->timer.data = r->death_io.data = r->channel_io.data = r->reap_poll.data = r;
	fsm_init(&r->fsm, &runner_kind, r, r->unwanted ? RUNNER_STOPPED : RUNNER_BACKOFF);
	return r;
}

void
runner_free(struct runner **r)
{
	if (*r == NULL)
		return;
	runner_close(*r);
	runner_log_free(&(*r)->log);
	cgroup_remove((*r)->conf.section_name);
	timer_arm((*r)->world->loop, &(*r)->timer, 0);
	free(*r);
	*r = NULL;
}

void
runner_set_conf(struct runner *r, const struct conf_runner *conf)
{
	bool other_device = strcmp(r->conf.device, conf->device) != 0;
	char name[CONF_NAME], like[CONF_NAME];

	memcpy(name, r->conf.section_name, sizeof(name));
	memcpy(like, r->conf.like, sizeof(like));
	r->conf = *conf;
	memcpy(r->conf.section_name, name, sizeof(name));
	memcpy(r->conf.like, like, sizeof(like));
	if (other_device)
		runner_forget_device(r);
	runner_rearm(r); /* canary_interval may have come or gone */
	runner_go_on(r); /* there may be more room */
}

/* ---- what others ask */

const struct conf_runner *
runner_conf(const struct runner *r)
{
	return &r->conf;
}

const struct conf_runner *
runner_started_with(const struct runner *r)
{
	return r->pid > 0 ? &r->started : NULL;
}

bool
runner_has_process(const struct runner *r)
{
	return r->pid > 0;
}

pid_t
runner_pid(const struct runner *r)
{
	return r->pid;
}

int
runner_restarts(const struct runner *r, enum runner_cause cause)
{
	return r->restarts[cause];
}

const char *
runner_last_error(const struct runner *r)
{
	return r->last_error;
}

const struct runner_limits *
runner_limits(const struct runner *r)
{
	return r->limits.default_side > 0 ? &r->limits : NULL;
}
