/*
 * When a transaction begins. Clients that are told of the last one mostly have something new at once, and one
 * transaction with all of it takes hardly longer than one with half.
 *
 * On a quick disk they are not waited for: what came during the last transaction begins before they are told,
 * and the disk works while the loop does. On a slow one the loop would only wait twice: the disk rests until
 * as many have come as were told, at most half as long as the last transaction took.
 */
#include "ipc/clock.h"
#include "supervisor/daemon_inside.h"
#include "supervisor/timer.h"

enum {
	SLOW_US = 2000, /* about what the loop takes to tell 64 clients and to hear from them again */
	MAX_REST_US = 10000,
};

static int
waiting(const struct daemon *d)
{
	return d->unsaved_count + d->loose_count;
}

void
daemon_group_begin(struct daemon *d, int rows, int64_t took_us)
{
	const int64_t rest_us = took_us / 2 < MAX_REST_US ? took_us / 2 : MAX_REST_US;

	d->group.full = waiting(d) + rows;
	d->group.rest_until_us = took_us < SLOW_US ? 0 : clock_now_us() + rest_us;
}

bool
daemon_group_is_ready(struct daemon *d)
{
	const int64_t rest_us = d->group.rest_until_us - clock_now_us();

	if (rest_us <= 0 || waiting(d) >= d->group.full)
		return true;
	if (!ev_is_active(&d->group.rest))
		timer_arm(d->loop, &d->group.rest, rest_us);
	return false;
}

void
daemon_on_rested(struct ev_loop *loop, struct ev_timer *w, int events)
{
	struct daemon *d = w->data;

	(void)loop;
	(void)events;
	d->changed = true;
}
