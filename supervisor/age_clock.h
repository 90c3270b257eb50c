/*
 * The wall clock by which pictures and idempotency keys grow old: what goes by it is gone for good, so it is
 * slow to believe that time has leapt. A wall clock that was set ahead counts once it has stayed so for an
 * hour; one that was set back counts at once.
 *
 * Pure: the clocks are given.
 */
#ifndef SUPERVISOR_AGE_CLOCK_H
#define SUPERVISOR_AGE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#define AGE_CLOCK_STEP_US (60 * INT64_C(1000000))	/* what is less is no leap */
#define AGE_CLOCK_PATIENCE_US (3600 * INT64_C(1000000)) /* that one must have lasted */

/* All zero: not asked yet. */
struct age_clock {
	bool known;
	int64_t offset_us;	/* of the wall clock that is believed, over CLOCK_MONOTONIC */
	int64_t ahead_since_us; /* CLOCK_MONOTONIC; 0: the wall clock is not ahead of it */
};

/* The time by it, in microseconds since the epoch; to be asked now and then. */
int64_t age_clock_us(struct age_clock *c, int64_t now_us, int64_t wall_us);

#endif
