/*
 * How much a client may use, and how much it has used: jobs and device seconds a minute (token buckets),
 * device seconds a day and a month, and the sums that `usage` shows.
 *
 * Pure: the clock is given. Of those who have no jobs the one that was not seen for longest is forgotten
 * when there are too many.
 *
 * A day's and a month's sums begin anew when the calendar goes forward, and never when it goes back. Where
 * the clock was set back over midnight, the day that had begun goes on until it is over by that clock too:
 * nobody has its quota twice. Where it was set back by more than a day, it had been wrong before: what was
 * counted under the wrong date counts for today, and nobody is kept waiting for that date. What a clock that
 * runs ahead wiped out is lost.
 */
#ifndef SUPERVISOR_SCHEDULING_LIMITS_H
#define SUPERVISOR_SCHEDULING_LIMITS_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/queue.h>

#include "supervisor/scheduling/fair.h"

enum { LIMITS_CLIENTS = 1000 };

/* 0: without limit. */
struct limits_rule {
	double jobs_per_s, burst_jobs;	   /* burst: at once, after a rest */
	double device_per_s, burst_device; /* device seconds */
	double quota_day_s, quota_month_s; /* device seconds */
	bool refuse;			   /* over a quota: refuse, else demote */
};

struct limits_time {
	double now_s;			 /* CLOCK_MONOTONIC, say */
	int day, month;			 /* counted from anywhere, each one more than the last */
	double day_left_s, month_left_s; /* until the next ones begin */
};

struct limits_sums {
	double jobs, pixels, device_s, refused;
};

enum limits_span { LIMITS_DAY, LIMITS_MONTH, LIMITS_EVER, LIMITS_SPANS };

struct limits_client {
	TAILQ_ENTRY(limits_client) link; /* used last first */
	char key[FAIR_KEY];
	double jobs, device, filled_s; /* tokens, and when they were counted */
	bool fresh;		       /* no tokens were counted yet: it has all */
	double pending_s;	       /* predicted for jobs that have not ended */
	int day, month;		       /* of the sums */
	struct limits_sums sums[LIMITS_SPANS];
};

struct limits {
	TAILQ_HEAD(limits_line, limits_client) clients;
	int count;
};

enum limits_verdict {
	LIMITS_GOOD,
	LIMITS_DEMOTE, /* over a quota: into the lowest class */
	LIMITS_RATE_JOBS,
	LIMITS_RATE_DEVICE,
	LIMITS_QUOTA_DAY,
	LIMITS_QUOTA_MONTH
};

void limits_init(struct limits *l);
void limits_clear(struct limits *l);

/* Whether a job that will cost so much may come; if not, *wait_s: after how long it may. Takes nothing. */
enum limits_verdict limits_check(struct limits *l, const char *key, const struct limits_rule *rule,
    const struct limits_time *t, double cost_s, double *wait_s);
/* Whether a job of the lowest class, which counts already, may be put into a higher one: LIMITS_GOOD, or the
 * quota that its client is over, and *wait_s. Where jobs over a quota are refused, none is there for it. */
enum limits_verdict limits_check_raise(struct limits *l, const char *key, const struct limits_rule *rule,
    const struct limits_time *t, double *wait_s);
/* It was let in. */
void limits_admit(struct limits *l, const char *key, const struct limits_time *t, double cost_s);
void limits_refuse(struct limits *l, const char *key, const struct limits_time *t);
/* A job that was let in before a restart is still open. */
void limits_pend(struct limits *l, const char *key, double cost_s);
/* An attempt took so long. */
void limits_used(struct limits *l, const char *key, const struct limits_time *t, double device_s);
/* It has ended with so many pixels drawn; in all it took so long, where cost_s was predicted. */
void limits_ended(struct limits *l, const char *key, const struct limits_time *t, double cost_s,
    double device_s, double pixels);

/* [{client, today{…}, month{…}, ever{…}}], that of `key` or all of them for NULL; a new reference. */
json_t *limits_usage(struct limits *l, const char *key, const struct limits_time *t);

/* Over a restart: all of it as JSON, a new reference; and back into an empty one, false when it is no such
 * thing. Tokens are as they were at `t`. */
json_t *limits_dump(const struct limits *l, const struct limits_time *t);
bool limits_restore(struct limits *l, const json_t *dump, const struct limits_time *t);

#endif
