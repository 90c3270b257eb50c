/*
 * Time: monotonic for every interval and deadline, wall clock for what people read. Tests replace both.
 */
#include "ipc/clock.h"

#include <stddef.h>
#include <time.h>

static const int64_t *replacement;

void
clock_replace(const int64_t *now_us)
{
	replacement = now_us;
}

static int64_t
read_clock(clockid_t id)
{
	struct timespec t;

	if (replacement != NULL)
		return *replacement;
	clock_gettime(id, &t); /* cannot fail for these two ids */
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t
clock_now_us(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

int64_t
clock_wall_us(void)
{
	return read_clock(CLOCK_REALTIME);
}
