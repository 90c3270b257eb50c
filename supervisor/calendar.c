/*
 * The local clock and calendar. The C library says what the clock shows at a moment, and nothing of when
 * that will be otherwise: such moments are looked for by halving. mktime would not do: a midnight that the
 * clock skips, or shows twice, is not where a day ends.
 */
#include "supervisor/calendar.h"

#include <math.h>
#include <time.h>

enum {
	HOUR_S = 3600,
	DAY_S = 24 * HOUR_S,
	DAY_AT_MOST_S = 2 * DAY_S, /* whatever the clock is set by in it */
	MONTH_AT_MOST_S = 33 * DAY_S,
	HORIZON_S = 7 * DAY_S, /* of changes: well beyond what a job may wait */
};

static struct tm
local(time_t at)
{
	struct tm tm = {0};

	localtime_r(&at, &tm);
	return tm;
}

static int
offset_at(time_t at)
{
	return (int)local(at).tm_gmtoff;
}

static int
day_at(time_t at)
{
	return (int)((at + offset_at(at)) / DAY_S);
}

static int
month_at(time_t at)
{
	struct tm tm = local(at);

	return tm.tm_year * 12 + tm.tm_mon;
}

/* The first moment after `from` at which that is not what it is then; one at most within_s later when there
 * is none before. */
static time_t
next_change(time_t from, time_t within_s, int (*what)(time_t at))
{
	const int now = what(from);
	time_t same = from, other = from + within_s;

	while (other - same > 1) {
		time_t middle = same + (other - same) / 2;
		if (what(middle) == now)
			same = middle;
		else
			other = middle;
	}
	return other;
}

static struct calendar
look_up(time_t at)
{
	const struct tm now = local(at);
	const time_t change = next_change(at, HORIZON_S, offset_at);
	const int shift_s = offset_at(change) - offset_at(at);
	struct calendar c = {
	    .from_s = (double)at,
	    .day_s = now.tm_hour * HOUR_S + now.tm_min * 60 + now.tm_sec,
	    .change_s = shift_s != 0 ? (double)change : INFINITY,
	    .shift_s = shift_s,
	    .day = day_at(at),
	    .month = month_at(at),
	    .day_end_s = (double)next_change(at, DAY_AT_MOST_S, day_at),
	    .month_end_s = (double)next_change(at, MONTH_AT_MOST_S, month_at),
	};

	c.until_s = fmin(c.from_s + HOUR_S, fmin(c.change_s, c.day_end_s));
	return c;
}

/* It is looked up seldom: many a call of the C library, and a system call. */
const struct calendar *
calendar_at(double wall_s)
{
	static struct calendar c;

	if (wall_s < c.from_s || wall_s >= c.until_s) {
		tzset(); /* the machine's time zone may be another one now */
		c = look_up((time_t)floor(wall_s));
	}
	return &c;
}
