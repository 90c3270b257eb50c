/*
 * The clocks of a runner's states, design.md section 6.
 */
#include "ipc/clock.h"
#include "supervisor/conf.h"
#include "supervisor/runners/runner_inside.h"
#include "supervisor/timer.h"

#define SECOND RUNNER_SECOND

/* ---- how long they are */

static int64_t
backoff_clock_us(const void *object)
{
	const struct runner *r = object;

	if (r->awaits_device) /* longer than an answer takes, which ends this */
		return (int64_t)(r->world->conf->probe_timeout * 1e6) + 5 * SECOND;
	return r->delay_us > 0 ? r->delay_us : 1;
}

static int64_t
spawning_clock_us(const void *object)
{
	(void)object;
	return 5 * SECOND;
}

/* 60 s without progress, 600 s in all. */
static int64_t
loading_clock_us(const void *object)
{
	const struct runner *r = object;
	int64_t left_us = r->spawned_us + 600 * SECOND - clock_now_us();

	return left_us < 1 ? 1 : left_us < 60 * SECOND ? left_us : 60 * SECOND;
}

static int64_t
warming_clock_us(const void *object)
{
	(void)object;
	return 60 * SECOND;
}

/* Idle for so long it is asked for its test picture; 0: never. */
static int64_t
idle_clock_us(const void *object)
{
	const struct runner *r = object;

	return (int64_t)(r->conf.canary_interval * 1e6);
}

/* No progress for max(hang_timeout, 8 x the slowest step). */
static int64_t
busy_clock_us(const void *object)
{
	const struct runner *r = object;
	int64_t least_us = (int64_t)(r->conf.hang_timeout * 1e6);

	return 8 * r->slowest_step_us > least_us ? 8 * r->slowest_step_us : least_us;
}

static int64_t
cancelling_clock_us(const void *object)
{
	const struct runner *r = object;
	int64_t pace_us = 3 * r->slowest_step_us + SECOND / 2;

	return pace_us < 3 * SECOND ? pace_us : 3 * SECOND;
}

static int64_t
stopping_clock_us(const void *object)
{
	const struct runner *r = object;

	return r->stop_wait_us > 0 ? r->stop_wait_us : 1;
}

static int64_t
reaping_clock_us(const void *object)
{
	(void)object;
	return 10 * SECOND;
}

/* The half-open probe; a permanent reason waits for an administrator. */
static int64_t
failed_clock_us(const void *object)
{
	const struct runner *r = object;

	return r->permanent ? 0 : r->probe_us;
}

static int64_t
wedged_clock_us(const void *object)
{
	(void)object;
	return 60 * SECOND;
}

const struct fsm_state runner_states[RUNNER_STATE_COUNT] = {
#define RUNNER_STATE(name, text, event, clock_us) [RUNNER_##name] = {text, event, clock_us},
#include "ipc/states.def"
};

/* ---- the timer */

void
runner_arm(void *object, int64_t clock_us)
{
	struct runner *r = object;

	timer_arm(r->world->loop, &r->timer, clock_us);
}

int64_t
runner_worked_us(const struct runner *r)
{
	struct status_page page;
	uint64_t now_us = (uint64_t)clock_now_us();

	if (r->page == NULL)
		return 0;
	shm_read(r->page, &page);
	return page.worked_us <= now_us ? (int64_t)page.worked_us : 0;
}

/* One unit may take longer than the clock, if only parts of it get done: it counts from the last of them. */
void
runner_on_timer(struct ev_loop *loop, struct ev_timer *w, int events)
{
	const uint32_t measured = FSM_BIT(RUNNER_WARMING) | FSM_BIT(RUNNER_TESTING) | FSM_BIT(RUNNER_BUSY);
	struct runner *r = w->data;
	int64_t left_us = 0;

	(void)loop;
	(void)events;
	if ((FSM_BIT(r->fsm.state) & measured) != 0)
		left_us = runner_worked_us(r) + runner_states[r->fsm.state].clock_us(r) - clock_now_us();
	if (left_us > 0 && r->fsm.state == RUNNER_WARMING)
		r->world->loading(r->world->arg);
	if (left_us > 0)
		runner_arm(r, left_us);
	else
		fsm_clock(&r->fsm);
}

void
runner_rearm(struct runner *r)
{
	if (r->fsm.state == RUNNER_IDLE)
		runner_arm(r, idle_clock_us(r));
}

bool
runner_is_sound(const struct runner *r)
{
	bool needs_clock =
	    runner_states[r->fsm.state].clock_event >= 0 && runner_states[r->fsm.state].clock_us(r) > 0;

	/* one that has ended in this very turn may not have been told yet */
	return !needs_clock || ev_is_active(&r->timer) || ev_is_pending(&r->timer);
}

const struct ev_timer *
runner_clock(const struct runner *r)
{
	return &r->timer;
}
