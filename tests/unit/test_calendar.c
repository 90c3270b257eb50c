/*
 * supervisor/calendar: what it says of the days ahead is what the C library says of each moment of them when
 * asked for that alone. The zones are rules, so that no files of zones are needed.
 */
#include "tests/unit/test.h"

#include <math.h>
#include <stdbool.h>
#include <time.h>

#include "supervisor/calendar.h"

enum { HOUR = 3600, DAY = 24 * HOUR };

static const struct zone {
	const char *rule, *what;
} zones[] = {
    {"UTC0", "nothing is ever set"},
    {"CET-1CEST,M3.5.0,M10.5.0/3", "Central Europe"},
    {"EST5EDT,M3.2.0,M11.1.0", "west of Greenwich"},
    {"<-03>3<-02>,M10.3.0/0,M2.3.0/0", "midnight is skipped, or an hour before it comes twice"},
    {"CST5CDT,M3.2.0/0,M11.1.0/1", "midnight is skipped, or comes twice"},
    {"<+1030>-10:30<+11>-11,M10.1.0,M4.1.0", "by half an hour"},
};

enum { ZONES = sizeof(zones) / sizeof(zones[0]) };

static void
live_in(const struct zone *zone)
{
	setenv("TZ", zone->rule, 1);
	tzset();
}

static struct tm
local(double at_s)
{
	time_t at = (time_t)at_s;
	struct tm tm;

	localtime_r(&at, &tm);
	return tm;
}

static bool
same_day(struct tm a, struct tm b)
{
	return a.tm_year == b.tm_year && a.tm_yday == b.tm_yday;
}

static bool
same_month(struct tm a, struct tm b)
{
	return a.tm_year == b.tm_year && a.tm_mon == b.tm_mon;
}

/* Moments of a year, off the hour. */
#define EACH_MOMENT(at) \
	for (double at = 1767225600 + 17; at < 1767225600 + 366.0 * DAY; \
	     at += 5 * HOUR / 2) /* from 2026 on */

static void
test_days_and_months_end_where_they_do(void **state)
{
	(void)state;
	for (int i = 0; i < ZONES; i++) {
		live_in(&zones[i]);
		EACH_MOMENT(at)
		{
			const struct calendar *c = calendar_at(at);

			if (!same_day(local(c->day_end_s - 1), local(at)) ||
			    same_day(local(c->day_end_s), local(at)))
				fail_msg(
				    "%s: at %.0f: the day ends at %.0f?", zones[i].what, at, c->day_end_s);
			if (!same_month(local(c->month_end_s - 1), local(at)) ||
			    same_month(local(c->month_end_s), local(at)))
				fail_msg("%s: at %.0f: the month ends at %.0f?", zones[i].what, at,
				    c->month_end_s);
		}
	}
}

static void
test_days_and_months_are_counted(void **state)
{
	(void)state;
	for (int i = 0; i < ZONES; i++) {
		struct calendar now;

		live_in(&zones[i]);
		EACH_MOMENT(at)
		{
			now = *calendar_at(at);
			assert_int_equal(calendar_at(now.day_end_s)->day, now.day + 1);
			assert_int_equal(calendar_at(now.month_end_s)->month, now.month + 1);
		}
	}
}

/* What the clock shows so long after the calendar was looked at, by what that said. */
static double
shown_s(const struct calendar *c, double at)
{
	double s = c->day_s + at - c->from_s + (at >= c->change_s ? c->shift_s : 0);

	return fmod(s + DAY, DAY);
}

static void
test_the_clock_is_foretold(void **state)
{
	(void)state;
	for (int i = 0; i < ZONES; i++) {
		live_in(&zones[i]);
		EACH_MOMENT(now)
		{
			const struct calendar c = *calendar_at(now);

			for (double at = now; at < now + 2 * DAY; at += 3599) {
				struct tm tm = local(at);
				double is_s = tm.tm_hour * HOUR + tm.tm_min * 60 + tm.tm_sec;

				if (shown_s(&c, at) != is_s)
					fail_msg("%s: at %.0f: %.0f s later it is %g, not %g", zones[i].what,
					    now, at - now, is_s, shown_s(&c, at));
			}
		}
	}
}

/* A clock that is set back by hand, and a machine that is taken elsewhere. */
static void
test_it_is_looked_up_again(void **state)
{
	const double at = 1767225600 + 10 * DAY + 10 * HOUR;

	(void)state;
	live_in(&zones[0]);
	assert_true(shown_s(calendar_at(at), at) == 10 * HOUR);
	assert_true(shown_s(calendar_at(at - 60), at - 60) == 10 * HOUR - 60);
	setenv("TZ", zones[1].rule, 1);
	assert_true(shown_s(calendar_at(at + HOUR), at + HOUR) == 12 * HOUR);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_days_and_months_end_where_they_do),
	    cmocka_unit_test(test_days_and_months_are_counted),
	    cmocka_unit_test(test_the_clock_is_foretold),
	    cmocka_unit_test(test_it_is_looked_up_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
