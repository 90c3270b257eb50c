/*
 * A wall clock that is slow to believe that time has leapt.
 */
#include "supervisor/age_clock.h"

static void
believe(struct age_clock *c, int64_t offset_us)
{
	*c = (struct age_clock){.known = true, .offset_us = offset_us};
}

int64_t
age_clock_us(struct age_clock *c, int64_t now_us, int64_t wall_us)
{
	const int64_t offset_us = wall_us - now_us;

	if (!c->known || offset_us <= c->offset_us + AGE_CLOCK_STEP_US)
		believe(c, offset_us);
	else if (c->ahead_since_us == 0)
		c->ahead_since_us = now_us;
	else if (now_us - c->ahead_since_us >= AGE_CLOCK_PATIENCE_US)
		believe(c, offset_us);
	return now_us + c->offset_us;
}
