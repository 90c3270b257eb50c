/*
 * Token buckets, quotas, usage.
 */
#include "supervisor/scheduling/limits.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEAST_S 1e-6 /* what is less is left of sums that do not cancel out */
#define DAY_S 86400.0
#define LEAST_MONTH_S (28 * DAY_S)

static const char *const span_names[LIMITS_SPANS] = {"today", "month", "ever"};

/* ---- clients */

void
limits_init(struct limits *l)
{
	TAILQ_INIT(&l->clients);
	l->count = 0;
}

static void
forget(struct limits *l, struct limits_client *c)
{
	TAILQ_REMOVE(&l->clients, c, link);
	l->count--;
	free(c);
}

void
limits_clear(struct limits *l)
{
	while (!TAILQ_EMPTY(&l->clients))
		forget(l, TAILQ_FIRST(&l->clients));
}

/* Of those who have no jobs the one that was not seen for longest; NULL: all have some. */
static struct limits_client *
idlest(const struct limits *l)
{
	struct limits_client *c;

	TAILQ_FOREACH_REVERSE(c, &l->clients, limits_line, link)
	{
		if (c->pending_s <= 0)
			return c;
	}
	return NULL;
}

static void
make_room(struct limits *l)
{
	struct limits_client *c;

	while (l->count >= LIMITS_CLIENTS && (c = idlest(l)) != NULL)
		forget(l, c);
}

static struct limits_client *
find(const struct limits *l, const char *key)
{
	struct limits_client *c;

	TAILQ_FOREACH(c, &l->clients, link)
	{
		if (strcmp(c->key, key) == 0)
			return c;
	}
	return NULL;
}

/* In front of all others from now on, made when it is new; NULL: no memory, and it is not counted. */
static struct limits_client *
need(struct limits *l, const char *key)
{
	struct limits_client *c = find(l, key);

	if (c != NULL)
		TAILQ_REMOVE(&l->clients, c, link);
	else {
		make_room(l);
		c = calloc(1, sizeof(*c));
		if (c == NULL)
			return NULL;
		snprintf(c->key, sizeof(c->key), "%s", key);
		c->fresh = true;
		l->count++;
	}
	TAILQ_INSERT_HEAD(&l->clients, c, link);
	return c;
}

/* A new day and a new month begin with nothing. Afterwards the client's day is that of the time, or the one
 * after it. */
static void
turn_calendar(struct limits_client *c, const struct limits_time *t)
{
	if (c->day == t->day + 1)
		return; /* the clock was set back over midnight */
	if (c->day < t->day)
		c->sums[LIMITS_DAY] = (struct limits_sums){0};
	if (c->day < t->day && c->month < t->month)
		c->sums[LIMITS_MONTH] = (struct limits_sums){0};
	c->day = t->day;
	c->month = t->month;
}

static struct limits_client *
need_today(struct limits *l, const char *key, const struct limits_time *t)
{
	struct limits_client *c = need(l, key);

	if (c != NULL)
		turn_calendar(c, t);
	return c;
}

static void
add(struct limits_client *c, const struct limits_sums *more)
{
	for (int i = 0; i < LIMITS_SPANS; i++) {
		c->sums[i].jobs += more->jobs;
		c->sums[i].pixels += more->pixels;
		c->sums[i].device_s += more->device_s;
		c->sums[i].refused += more->refused;
	}
}

/* ---- whether a job may come */

static void
refill(struct limits_client *c, const struct limits_rule *rule, double now_s)
{
	double passed_s = fmax(0, now_s - c->filled_s);

	c->jobs = fmin(rule->burst_jobs, c->jobs + passed_s * rule->jobs_per_s);
	c->device = fmin(rule->burst_device, c->device + passed_s * rule->device_per_s);
	if (c->fresh || rule->jobs_per_s == 0)
		c->jobs = rule->burst_jobs;
	if (c->fresh || rule->device_per_s == 0)
		c->device = rule->burst_device;
	c->fresh = false;
	c->filled_s = now_s;
}

/* A job that costs more than the bucket holds needs a full one, and leaves a debt. */
static enum limits_verdict
check_rates(const struct limits_client *c, const struct limits_rule *rule, double cost_s, double *wait_s)
{
	double needed = fmin(cost_s, rule->burst_device);

	if (rule->jobs_per_s > 0 && c->jobs < 1) {
		*wait_s = (1 - c->jobs) / rule->jobs_per_s;
		return LIMITS_RATE_JOBS;
	}
	if (rule->device_per_s > 0 && c->device < needed) {
		*wait_s = (needed - c->device) / rule->device_per_s;
		return LIMITS_RATE_DEVICE;
	}
	return LIMITS_GOOD;
}

static bool
is_over(double quota_s, const struct limits_client *c, enum limits_span span, double cost_s)
{
	return quota_s > 0 && c->sums[span].device_s + c->pending_s + cost_s > quota_s;
}

static enum limits_verdict
check_quotas(const struct limits_client *c, const struct limits_rule *rule, const struct limits_time *t,
    double cost_s, double *wait_s)
{
	if (is_over(rule->quota_month_s, c, LIMITS_MONTH, cost_s)) {
		*wait_s = t->month_left_s + (c->month > t->month ? LEAST_MONTH_S : 0);
		return LIMITS_QUOTA_MONTH;
	}
	if (is_over(rule->quota_day_s, c, LIMITS_DAY, cost_s)) {
		*wait_s = t->day_left_s + (c->day > t->day ? DAY_S : 0);
		return LIMITS_QUOTA_DAY;
	}
	return LIMITS_GOOD;
}

enum limits_verdict
limits_check(struct limits *l, const char *key, const struct limits_rule *rule, const struct limits_time *t,
    double cost_s, double *wait_s)
{
	struct limits_client *c = need_today(l, key, t);
	enum limits_verdict verdict;

	*wait_s = 0;
	if (c == NULL)
		return LIMITS_GOOD;
	refill(c, rule, t->now_s);
	verdict = check_rates(c, rule, cost_s, wait_s);
	if (verdict != LIMITS_GOOD)
		return verdict;
	verdict = check_quotas(c, rule, t, cost_s, wait_s);
	return verdict == LIMITS_GOOD || rule->refuse ? verdict : LIMITS_DEMOTE;
}

enum limits_verdict
limits_check_raise(struct limits *l, const char *key, const struct limits_rule *rule,
    const struct limits_time *t, double *wait_s)
{
	struct limits_client *c = need_today(l, key, t);

	*wait_s = 0;
	return c != NULL && !rule->refuse ? check_quotas(c, rule, t, 0, wait_s) : LIMITS_GOOD;
}

/* ---- what becomes of it */

void
limits_admit(struct limits *l, const char *key, const struct limits_time *t, double cost_s)
{
	struct limits_client *c = need_today(l, key, t);

	if (c == NULL)
		return;
	c->jobs -= 1;
	c->device -= cost_s;
	c->pending_s += cost_s;
	add(c, &(struct limits_sums){.jobs = 1});
}

void
limits_refuse(struct limits *l, const char *key, const struct limits_time *t)
{
	struct limits_client *c = need_today(l, key, t);

	if (c != NULL)
		add(c, &(struct limits_sums){.refused = 1});
}

void
limits_pend(struct limits *l, const char *key, double cost_s)
{
	struct limits_client *c = need(l, key);

	if (c != NULL)
		c->pending_s += cost_s;
}

void
limits_used(struct limits *l, const char *key, const struct limits_time *t, double device_s)
{
	struct limits_client *c = need_today(l, key, t);

	if (c != NULL)
		add(c, &(struct limits_sums){.device_s = device_s});
}

void
limits_ended(struct limits *l, const char *key, const struct limits_time *t, double cost_s, double device_s,
    double pixels)
{
	struct limits_client *c = need_today(l, key, t);

	if (c == NULL)
		return;
	c->pending_s -= cost_s;
	if (c->pending_s < LEAST_S)
		c->pending_s = 0;
	c->device += cost_s - device_s;
	add(c, &(struct limits_sums){.pixels = pixels});
}

/* ---- usage */

static json_t *
sums_record(const struct limits_sums *s)
{
	return json_pack("{s:I, s:I, s:f, s:I}", "jobs", (json_int_t)s->jobs, "pixels", (json_int_t)s->pixels,
	    "device_s", round(s->device_s * 1e6) / 1e6, "refused", (json_int_t)s->refused);
}

json_t *
limits_usage(struct limits *l, const char *key, const struct limits_time *t)
{
	json_t *list = json_array();
	struct limits_client *c;

	TAILQ_FOREACH(c, &l->clients, link)
	{
		json_t *record;
		if (key != NULL && strcmp(c->key, key) != 0)
			continue;
		turn_calendar(c, t);
		record = json_pack("{s:s, s:f}", "client", c->key, "pending_s", c->pending_s);
		for (int i = 0; i < LIMITS_SPANS; i++)
			json_object_set_new(record, span_names[i], sums_record(&c->sums[i]));
		json_array_append_new(list, record);
	}
	return list;
}

/* ---- over a restart */

static json_t *
dump_client(const struct limits_client *c, const struct limits_time *t)
{
	json_t *dump = json_pack("{s:s, s:f, s:f, s:f, s:b, s:i, s:i}", "client", c->key, "jobs", c->jobs,
	    "device", c->device, "age_s", t->now_s - c->filled_s, "fresh", c->fresh, "of_day", c->day,
	    "of_month", c->month); /* "month" is the sums of one */

	for (int i = 0; i < LIMITS_SPANS; i++) {
		const struct limits_sums *s = &c->sums[i];
		json_object_set_new(dump, span_names[i],
		    json_pack("[f, f, f, f]", s->jobs, s->pixels, s->device_s, s->refused));
	}
	return dump;
}

json_t *
limits_dump(const struct limits *l, const struct limits_time *t)
{
	json_t *list = json_array();
	const struct limits_client *c;

	TAILQ_FOREACH(c, &l->clients, link)
	json_array_append_new(list, dump_client(c, t));
	return list;
}

static bool
read_sums(const json_t *list, struct limits_sums *s)
{
	double *const numbers[] = {&s->jobs, &s->pixels, &s->device_s, &s->refused};

	for (size_t i = 0; i < 4; i++) {
		const json_t *value = json_array_get(list, i);
		if (!json_is_number(value) || !(json_number_value(value) >= 0))
			return false;
		*numbers[i] = json_number_value(value);
	}
	return true;
}

static bool
read_client(const json_t *dump, struct limits_client *c, const struct limits_time *t)
{
	const char *key = json_string_value(json_object_get(dump, "client"));
	const json_t *age_s = json_object_get(dump, "age_s");

	if (key == NULL || strlen(key) >= sizeof(c->key) || !json_is_number(age_s) ||
	    !json_is_number(json_object_get(dump, "jobs")) ||
	    !json_is_number(json_object_get(dump, "device")))
		return false;
	snprintf(c->key, sizeof(c->key), "%s", key);
	c->jobs = json_number_value(json_object_get(dump, "jobs"));
	c->device = json_number_value(json_object_get(dump, "device"));
	c->filled_s = t->now_s - json_number_value(age_s);
	c->fresh = json_is_true(json_object_get(dump, "fresh"));
	c->day = (int)json_integer_value(json_object_get(dump, "of_day"));
	c->month = (int)json_integer_value(json_object_get(dump, "of_month"));
	for (int i = 0; i < LIMITS_SPANS; i++) {
		if (!read_sums(json_object_get(dump, span_names[i]), &c->sums[i]))
			return false;
	}
	return true;
}

bool
limits_restore(struct limits *l, const json_t *dump, const struct limits_time *t)
{
	size_t i;
	json_t *each;

	if (!json_is_array(dump))
		return false;
	json_array_foreach(dump, i, each)
	{
		struct limits_client *c = calloc(1, sizeof(*c));
		if (c == NULL || !read_client(each, c, t)) {
			free(c);
			limits_clear(l);
			return false;
		}
		TAILQ_INSERT_TAIL(&l->clients, c, link);
		l->count++;
	}
	return true;
}
