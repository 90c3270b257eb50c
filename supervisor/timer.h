/*
 * Timers of the loop that end once: armed for a span of time, and asked for their end, by which another
 * process arms them again.
 */
#ifndef SUPERVISOR_TIMER_H
#define SUPERVISOR_TIMER_H

#include <ev.h>
#include <stdint.h>

/* (Re)arms a timer to fire once after clock_us; <= 0 stops it. */
void timer_arm(struct ev_loop *loop, struct ev_timer *timer, int64_t clock_us);
/* When an armed timer ends, of CLOCK_MONOTONIC; 0: it is not armed. And so armed again in another process. */
int64_t timer_end_us(struct ev_loop *loop, const struct ev_timer *timer);
void timer_resume(struct ev_loop *loop, struct ev_timer *timer, int64_t end_us);

#endif
