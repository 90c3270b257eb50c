/*
 * What clients may have, by their sections of the configuration, and what they had.
 */
#include <grp.h>
#include <math.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "supervisor/calendar.h"
#include "supervisor/daemon_inside.h"

enum { MAX_GROUPS = 256 };

#define GROUP_PREFIX "group:"
#define MINUTE_S 60.0

/* ---- whose section */

/* Whether the user of "uid:N" is in that group. */
static bool
is_member(const char *key, const char *group_name)
{
	gid_t groups[MAX_GROUPS];
	int count = MAX_GROUPS;
	unsigned uid;
	const struct group *group;
	const struct passwd *user;

	if (sscanf(key, "uid:%u", &uid) != 1 || (group = getgrnam(group_name)) == NULL)
		return false;
	gid_t wanted = group->gr_gid;
	if ((user = getpwuid((uid_t)uid)) == NULL ||
	    getgrouplist(user->pw_name, user->pw_gid, groups, &count) < 0)
		return false;
	for (int i = 0; i < count; i++) {
		if (groups[i] == wanted)
			return true;
	}
	return false;
}

/* The section of that client, of a group that it is in, or [clients]. */
static const struct conf_client *
conf_of(const struct daemon *d, const char *key)
{
	const struct conf_client *own = conf_find_client(&d->conf, key);

	if (own != NULL)
		return own;
	for (int i = 0; i < d->conf.client_count; i++) {
		const struct conf_client *c = &d->conf.clients[i];
		if (strncmp(c->section_name, GROUP_PREFIX, strlen(GROUP_PREFIX)) == 0 &&
		    is_member(key, c->section_name + strlen(GROUP_PREFIX)))
			return c;
	}
	return &d->conf.any_client;
}

void
daemon_introduce(void *arg, struct fair_client *c)
{
	const struct conf_client *conf = conf_of(arg, c->key);

	c->weight = (double)conf->weight;
	c->max_running = (int)conf->max_running;
}

/* ---- the highest class */

static enum job_class
class_of_word(const char *word)
{
	for (int k = 0; k < CLASS_COUNT; k++) {
		if (strcmp(job_class_name((enum job_class)k), word) == 0)
			return (enum job_class)k;
	}
	return CLASS_HIGH;
}

bool
daemon_may_have_class(
    const struct daemon *d, const char *key, enum job_class class, bool is_admin, struct err *e)
{
	const struct conf_client *conf = conf_of(d, key);
	char asked[16];

	if (is_admin && conf == &d->conf.any_client)
		return true;
	if (class >= class_of_word(conf->ceiling))
		return true;
	snprintf(asked, sizeof(asked), "%s", job_class_name(class));
	err_set(e, ERR_NOT_PERMITTED, "priority %s is above the ceiling of %s, which is %s; ask for that",
	    asked, key, conf->ceiling);
	return false;
}

/* ---- rates and quotas */

struct limits_time
daemon_limits_time(void)
{
	double wall_s = (double)clock_wall_us() * 1e-6;
	const struct calendar *c = calendar_at(wall_s);

	return (struct limits_time){
	    (double)clock_now_us() * 1e-6, c->day, c->month, c->day_end_s - wall_s, c->month_end_s - wall_s};
}

static struct limits_rule
rule_of(const struct conf_client *c)
{
	return (struct limits_rule){.jobs_per_s = (double)c->rate_jobs / MINUTE_S,
	    .burst_jobs = (double)c->burst_jobs,
	    .device_per_s = c->rate_device / MINUTE_S,
	    .burst_device = c->burst_device,
	    .quota_day_s = c->quota_day,
	    .quota_month_s = c->quota_month,
	    .refuse = strcmp(c->over_quota, "refuse") == 0};
}

static const char *const limit_words[] = {[LIMITS_RATE_JOBS] = "jobs a minute (rate_jobs)",
    [LIMITS_RATE_DEVICE] = "device seconds a minute (rate_device)",
    [LIMITS_QUOTA_DAY] = "device seconds a day (quota_day)",
    [LIMITS_QUOTA_MONTH] = "device seconds a month (quota_month)"};

bool
daemon_within_limits(struct daemon *d, struct job *job, struct err *e, json_t **data)
{
	const struct limits_rule rule = rule_of(conf_of(d, job->client));
	const struct limits_time t = daemon_limits_time();
	double wait_s;
	enum limits_verdict verdict = limits_check(&d->limits, job->client, &rule, &t, job->cost_s, &wait_s);

	if (verdict == LIMITS_DEMOTE && job->class != CLASS_LOW) {
		job->class = CLASS_LOW;
		job_add_warning(job, "over the quota of device seconds: the job runs in class low");
	}
	if (verdict == LIMITS_GOOD || verdict == LIMITS_DEMOTE)
		return true;
	wait_s = ceil(wait_s);
	err_set(e, ERR_RATE_LIMITED, "%s has used up its %s; try again after %.0f seconds.", job->client,
	    limit_words[verdict], wait_s);
	*data = json_pack("{s:f}", "retry_after_s", wait_s);
	return false;
}

bool
daemon_may_raise(struct daemon *d, const struct job *job, enum job_class class, struct err *e, json_t **data)
{
	const struct limits_rule rule = rule_of(conf_of(d, job->client));
	const struct limits_time t = daemon_limits_time();
	enum limits_verdict verdict;
	double wait_s;

	if (job->class != CLASS_LOW || class == CLASS_LOW)
		return true;
	verdict = limits_check_raise(&d->limits, job->client, &rule, &t, &wait_s);
	if (verdict == LIMITS_GOOD)
		return true;
	wait_s = ceil(wait_s);
	err_set(e, ERR_RATE_LIMITED,
	    "%s has used up its %s, so job %s stays in class low for another %.0f seconds.", job->client,
	    limit_words[verdict], job->id, wait_s);
	*data = json_pack("{s:f}", "retry_after_s", wait_s);
	return false;
}

/* ---- counting */

void
daemon_count_admitted(struct daemon *d, struct job *job)
{
	const struct limits_time t = daemon_limits_time();

	limits_admit(&d->limits, job->client, &t, job->cost_s);
	job->pending_s = job->cost_s;
}

void
daemon_count_refused(struct daemon *d, const char *key)
{
	const struct limits_time t = daemon_limits_time();

	limits_refuse(&d->limits, key, &t);
}

void
daemon_count_attempt(struct daemon *d, struct job *job)
{
	const struct limits_time t = daemon_limits_time();
	double device_s = job_attempt_s(job);

	job->used_s += device_s;
	limits_used(&d->limits, job->client, &t, device_s);
}

void
daemon_count_ended(struct daemon *d, struct job *job)
{
	const struct limits_time t = daemon_limits_time();
	double pixels = job_state(job) == JOB_DONE ? (double)job->width * job->height * job->count : 0;

	limits_ended(&d->limits, job->client, &t, job->pending_s, job->used_s, pixels);
	job->pending_s = 0;
}

json_t *
daemon_usage(struct daemon *d, const char *key)
{
	const struct limits_time t = daemon_limits_time();

	return limits_usage(&d->limits, key, &t);
}
