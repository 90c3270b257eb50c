/*
 * The event loop: libev's functions, with time that passes when nothing else is to do.
 */
#include "tests/world/world.h"

/* ---- the event loop: libev's functions, with time that passes when nothing else is to do */

struct ev_loop *
ev_loop_new(unsigned)
{
	return calloc(1, sizeof(struct ev_loop));
}

void
ev_loop_destroy(struct ev_loop *loop)
{
	if (loop->timer_count > 0 || loop->io_count > 0)
		violated("%d timers and %d watched descriptors are left", loop->timer_count, loop->io_count);
	free(loop);
}

void
ev_break(struct ev_loop *loop, int)
{
	loop->broken = true;
}

/* `active` is the watcher's place in its list, counted from 1. */
void
ev_timer_start(struct ev_loop *loop, struct ev_timer *w)
{
	if (w->active)
		return;
	if (loop->timer_count == MAX_TIMERS)
		violated("%d timers", MAX_TIMERS);
	loop->timers[loop->timer_count].watcher = w;
	loop->timers[loop->timer_count].at_us = run.now_us + (int64_t)(w->at * 1e6 + 0.5);
	w->active = ++loop->timer_count;
}

void
ev_timer_stop(struct ev_loop *loop, struct ev_timer *w)
{
	int at = w->active - 1;

	if (at < 0)
		return;
	loop->timers[at] = loop->timers[--loop->timer_count];
	loop->timers[at].watcher->active = at + 1;
	w->active = 0;
}

void
ev_timer_again(struct ev_loop *loop, struct ev_timer *w)
{
	ev_timer_stop(loop, w);
	w->at = w->repeat;
	ev_timer_start(loop, w);
}

ev_tstamp
ev_timer_remaining(struct ev_loop *loop, struct ev_timer *w)
{
	return (double)(loop->timers[w->active - 1].at_us - run.now_us) * 1e-6;
}

void
ev_io_start(struct ev_loop *loop, struct ev_io *w)
{
	if (w->active)
		return;
	look_up(w->fd, "ev_io_start");
	if (loop->io_count == MAX_IOS)
		violated("%d watched descriptors", MAX_IOS);
	loop->ios[loop->io_count] = w;
	w->active = ++loop->io_count;
}

void
ev_io_stop(struct ev_loop *loop, struct ev_io *w)
{
	int at = w->active - 1;

	if (at < 0)
		return;
	loop->ios[at] = loop->ios[--loop->io_count];
	loop->ios[at]->active = at + 1;
	w->active = 0;
}

void
ev_prepare_start(struct ev_loop *loop, struct ev_prepare *w)
{
	loop->prepare = w;
}

void
ev_check_start(struct ev_loop *loop, struct ev_check *w)
{
	loop->check = w;
}

void
ev_signal_start(struct ev_loop *loop, struct ev_signal *w)
{
	if (w->signum == SIGTERM)
		loop->term = w;
}

/* What this descriptor is ready for. */
static int
readiness(const struct ev_io *w)
{
	const struct descriptor *d = look_up(w->fd, "a watcher");
	const struct process *p = d->process;
	bool gone = p->dead || p->closed;
	int events = 0;

	if (d->kind == PIDFD)
		return p->dead ? EV_READ : 0;
	if (p->to_zitd.count > 0 || gone)
		events |= EV_READ;
	if (p->arrived < p->room || gone)
		events |= EV_WRITE;
	return events & w->events;
}

/* One of those that are ready, by chance; false: none is. */
bool
serve_io(struct ev_loop *loop)
{
	int first = loop->io_count > 0 ? (int)draw((uint32_t)loop->io_count) : 0;

	for (int i = 0; i < loop->io_count; i++) {
		struct ev_io *w = loop->ios[(first + i) % loop->io_count];
		int events = readiness(w);
		if (events == 0)
			continue;
		w->cb(loop, w, events);
		return true;
	}
	return false;
}

int
first_timer(const struct ev_loop *loop)
{
	int first = 0;

	for (int i = 1; i < loop->timer_count; i++) {
		if (loop->timers[i].at_us < loop->timers[first].at_us)
			first = i;
	}
	return first;
}

void
serve_timer(struct ev_loop *loop, int at)
{
	struct ev_timer *w = loop->timers[at].watcher;
	bool watchdog = w->repeat == (double)WATCHDOG_US * 1e-6;

	ev_timer_stop(loop, w);
	if (w->repeat > 0) {
		w->at = w->repeat;
		ev_timer_start(loop, w);
	}
	loop->check->cb(loop, loop->check, EV_CHECK);
	run.pinged = false;
	w->cb(loop, w, EV_TIMER);
	if (watchdog && !run.pinged)
		violated("the watchdog was not told that all is well");
}
