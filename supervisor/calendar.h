/*
 * The local clock and calendar: which day and month it is, when they end, and when the clock is set next
 * because summer time begins or ends. Of the time zone that the C library knows; a change of that is noticed
 * within the hour.
 */
#ifndef SUPERVISOR_CALENDAR_H
#define SUPERVISOR_CALENDAR_H

/* Moments are seconds since the epoch. */
struct calendar {
	double from_s, until_s; /* it holds in between */
	double day_s;		/* what the clock shows at from_s, in seconds since midnight */
	double change_s;	/* when it is set next; INFINITY: not within a week */
	double shift_s;		/* by so much forward then; negative: back */
	int day, month;		/* counted from anywhere, without gaps */
	double day_end_s, month_end_s;
};

/* The one for that moment; good until the next call. */
const struct calendar *calendar_at(double wall_s);

#endif
