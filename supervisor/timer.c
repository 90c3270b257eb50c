/*
 * Timers of the loop that end once.
 */
#include "supervisor/timer.h"

#include "ipc/clock.h"

void
timer_arm(struct ev_loop *loop, struct ev_timer *timer, int64_t clock_us)
{
	ev_timer_stop(loop, timer);
	if (clock_us <= 0)
		return;
	ev_now_update(loop); /* a timer counts from the loop's own time, which may be a turn old */
	ev_timer_set(timer, (double)clock_us * 1e-6, 0.0);
	ev_timer_start(loop, timer);
}

int64_t
timer_end_us(struct ev_loop *loop, const struct ev_timer *timer)
{
	double left_s = ev_is_active(timer) ? ev_timer_remaining(loop, (struct ev_timer *)timer) : 0;

	return ev_is_active(timer) ? clock_now_us() + (int64_t)(left_s * 1e6 + 0.5) : 0;
}

void
timer_resume(struct ev_loop *loop, struct ev_timer *timer, int64_t end_us)
{
	int64_t left_us = end_us - clock_now_us();

	timer_arm(loop, timer, end_us == 0 ? 0 : left_us > 0 ? left_us : 1);
}
