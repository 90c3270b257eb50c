/*
 * All that a running zitd is, from one program to the next: its counts, what scheduling has learned, its
 * runners, jobs, clients and those who wait.
 */
#include "supervisor/daemon_handover.h"

#include <string.h>

#include "ipc/clock.h"
#include "supervisor/daemon_inside.h"
#include "supervisor/fields.h"
#include "supervisor/jobs/job_handover.h"
#include "supervisor/journal.h"
#include "supervisor/notify.h"
#include "supervisor/timer.h"

static const struct field fields[] = {
    FIELD(struct daemon, last_number),
    FIELD(struct daemon, last_event),
    FIELD(struct daemon, noted_us),
    FIELD(struct daemon, age_clock.known),
    FIELD(struct daemon, age_clock.offset_us),
    FIELD(struct daemon, age_clock.ahead_since_us),
    FIELD(struct daemon, started_us),
    FIELD(struct daemon, was_ready),
    FIELD(struct daemon, admitted),
    FIELD(struct daemon, ended),
    FIELD(struct daemon, done),
    FIELD(struct daemon, sweep_us),
    FIELD(struct daemon, load.on),
    FIELD(struct daemon, load.since_s),
    FIELD(struct daemon, queue.drain.last_s),
    FIELD(struct daemon, queue.drain.interval_s),
    FIELD(struct daemon, queue.drain.backlogged),
};

/* ---- there */

static json_t *
hand_over_quarantine(const struct quarantine *q)
{
	json_t *list = json_array();

	for (int i = 0; i < QUARANTINE_ENTRIES; i++) {
		if (q->entries[i].until_us != 0)
			json_array_append_new(
			    list, json_pack("[I, I, b]", (json_int_t)q->entries[i].fingerprint,
				      (json_int_t)q->entries[i].until_us, q->entries[i].probing));
	}
	return list;
}

static json_t *
hand_over_self(struct daemon *d, struct handover *h)
{
	json_t *o =
	    json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:I}", "state_dir", d->paths.state_dir, "runtime_dir",
		d->paths.runtime_dir, "lock", handover_fd(h, d->paths.lock_fd), "memory", daemon_remember(d),
		"metrics", metrics_dump(&d->metrics), "quarantine", hand_over_quarantine(&d->quarantine),
		"sweep_clock_us", (json_int_t)timer_end_us(d->loop, &d->sweep));

	fields_put(d, fields, FIELD_COUNT(fields), o);
	return o;
}

static json_t *
hand_over_runners(const struct daemon *d, struct handover *h)
{
	json_t *list = json_array();

	for (int i = 0; i < d->runner_count; i++)
		json_array_append_new(list, runner_hand_over(d->runners[i], h));
	return list;
}

static json_t *
hand_over_jobs(const struct daemon *d, struct handover *h)
{
	json_t *list = json_array();
	const struct job *job;

	TAILQ_FOREACH(job, &d->jobs, all_link)
	{
		if (json_array_append_new(list, job_hand_over(job, h)) != 0)
			h->short_of_memory = true;
	}
	return list;
}

void
daemon_hand_over(struct daemon *d, struct handover *h)
{
	handover_init(h);
	ev_now_update(d->loop); /* what is left of timers is counted from the loop's own time */
	if (json_object_set_new(h->root, "daemon", hand_over_self(d, h)) != 0 ||
	    json_object_set_new(h->root, "runners", hand_over_runners(d, h)) != 0 ||
	    json_object_set_new(h->root, "jobs", hand_over_jobs(d, h)) != 0 ||
	    json_object_set_new(h->root, "clients", clients_hand_over(d->clients, h)) != 0 ||
	    !d->options.public->hand_over(h->root))
		h->short_of_memory = true;
}

/* ---- whether it can be taken over */

/* Another directory would be another queue. */
static int
check_directories(const json_t *self, const struct conf *conf, struct err *e)
{
	struct paths paths = {.lock_fd = -1};
	const char *state = json_string_value(json_object_get(self, "state_dir"));
	const char *runtime = json_string_value(json_object_get(self, "runtime_dir"));

	paths_find(&paths, &conf->zitd);
	if (state == NULL || strcmp(state, paths.state_dir) != 0)
		return err_set(e, ERR_UPGRADE_REFUSED,
		    "state_dir is another one now (%s); that takes a restart", paths.state_dir);
	if (runtime == NULL || strcmp(runtime, paths.runtime_dir) != 0)
		return err_set(e, ERR_UPGRADE_REFUSED,
		    "runtime_dir is another one now (%s); that takes a restart", paths.runtime_dir);
	return 0;
}

/* A further runner of a section, or the section's own. */
static const char *
section_of(const json_t *runner)
{
	const char *like = json_string_value(json_object_get(runner, "conf.like"));

	return like != NULL && like[0] != '\0' ? like : json_string_value(json_object_get(runner, "name"));
}

static bool
is_configured(const struct conf *conf, const char *name)
{
	for (int i = 0; i < conf->runner_count; i++) {
		if (strcmp(conf->runners[i].section_name, name) == 0)
			return true;
	}
	return false;
}

static int
check_runners(const json_t *list, const struct conf *conf, struct err *e)
{
	const json_t *each;
	size_t i;

	json_array_foreach(list, i, each)
	{
		const char *name = runner_handed_over(each);
		if (name == NULL)
			return err_set(e, ERR_UPGRADE_REFUSED, "it does not know such a runner");
		if (!is_configured(conf, section_of(each)))
			return err_set(e, ERR_UPGRADE_REFUSED,
			    "runner %.80s is not in the configuration any more; that takes a restart", name);
	}
	return 0;
}

int
daemon_check_handover(const struct handover *h, const struct conf *conf, struct err *e)
{
	const json_t *each, *self = json_object_get(h->root, "daemon");
	int status = check_directories(self, conf, e);
	size_t i;

	if (status == 0)
		status = check_runners(json_object_get(h->root, "runners"), conf, e);
	if (status != 0)
		return status;
	json_array_foreach(json_object_get(h->root, "jobs"), i, each)
	{
		if (!job_is_handed_over(each))
			return err_set(e, ERR_UPGRADE_REFUSED, "it cannot read a job that is open");
	}
	return 0;
}

/* ---- and back */

int
daemon_handed_lock(const struct handover *h)
{
	return handover_take_fd(json_object_get(json_object_get(h->root, "daemon"), "lock"));
}

int
daemon_handed_listener(const struct handover *h)
{
	return clients_listener(json_object_get(h->root, "clients"));
}

static void
take_over_quarantine(struct quarantine *q, const json_t *list)
{
	for (size_t i = 0; i < QUARANTINE_ENTRIES && i < json_array_size(list); i++) {
		const json_t *each = json_array_get(list, i);
		q->entries[i].fingerprint = (uint64_t)json_integer_value(json_array_get(each, 0));
		q->entries[i].until_us = json_integer_value(json_array_get(each, 1));
		q->entries[i].probing = json_is_true(json_array_get(each, 2));
	}
}

static struct runner *
find_runner(const struct daemon *d, const json_t *from)
{
	const char *name = json_string_value(json_object_get(from, "name"));

	for (int i = 0; i < d->runner_count && name != NULL; i++) {
		if (strcmp(runner_conf(d->runners[i])->section_name, name) == 0)
			return d->runners[i];
	}
	return NULL;
}

/* One that there is for a device only; NULL: it is none, or there is no memory. */
static struct runner *
add_further_runner(struct daemon *d, const json_t *from)
{
	const char *name = json_string_value(json_object_get(from, "name")), *section = section_of(from);
	const struct conf_runner *c = section != NULL ? conf_find_runner(&d->conf, section) : NULL;
	struct runner *r = NULL;

	if (c != NULL && name != NULL && strcmp(name, section) != 0)
		r = daemon_add_runner(d, c, name);
	if (r != NULL)
		daemon_recall_cost(d, d->runner_count - 1);
	return r;
}

static int
take_over_runners(struct daemon *d, const struct handover *h, struct err *e)
{
	const json_t *each;
	size_t i;

	json_array_foreach(json_object_get(h->root, "runners"), i, each)
	{
		struct runner *r = find_runner(d, each);
		if (r == NULL)
			r = add_further_runner(d, each);
		if (r == NULL || runner_take_over(r, each, !handover_same_build(h)) != 0)
			return err_set(e, ERR_SYSTEM, "a runner cannot be taken over");
	}
	return 0;
}

/* Where it was: in its line, or out of it and charged for. */
static bool
put_back(struct daemon *d, struct job *job)
{
	limits_pend(&d->limits, job->client, job->pending_s);
	TAILQ_INSERT_TAIL(&d->jobs, job, all_link);
	if (job_state(job) == JOB_QUEUED)
		return queue_push_again(&d->queue, job);
	if (job_state(job) == JOB_HELD)
		return queue_hold_again(&d->queue, job);
	return fair_out_again(&d->queue.fair, job->client);
}

static int
take_over_jobs(struct daemon *d, const struct handover *h, struct err *e)
{
	const json_t *each;
	size_t i;

	json_array_foreach(json_object_get(h->root, "jobs"), i, each)
	{
		struct job *job = job_take_over(d, each);
		if (job == NULL || !put_back(d, job))
			return err_set(e, ERR_SYSTEM, "a job cannot be taken over");
	}
	json_array_foreach(json_object_get(h->root, "runners"), i, each)
	    runner_take_over_jobs(find_runner(d, each), each);
	return 0;
}

/* They would not understand each other: its jobs go on elsewhere, from their checkpoints. */
static void
replace_strangers(struct daemon *d)
{
	for (int i = 0; i < d->runner_count; i++) {
		if (!runner_has_process(d->runners[i]))
			continue;
		journal(EVENT_RUNNER_REPLACED, .runner = d->runners[i]);
		runner_restart(d->runners[i]);
	}
}

int
daemon_take_over(struct daemon *d, const struct handover *h, struct err *e)
{
	const json_t *self = json_object_get(h->root, "daemon");
	int status;

	if (!fields_take(d, fields, FIELD_COUNT(fields), self))
		return err_set(e, ERR_SYSTEM, "what was handed over is not what was tried");
	daemon_recall(d, json_object_get(self, "memory"));
	metrics_restore(&d->metrics, json_object_get(self, "metrics"));
	take_over_quarantine(&d->quarantine, json_object_get(self, "quarantine"));
	status = take_over_runners(d, h, e);
	if (status == 0)
		status = take_over_jobs(d, h, e);
	if (status != 0)
		return status;
	clients_take_over(d->clients, json_object_get(h->root, "clients"), d->paths.socket);
	d->options.public->take_over(d, d->clients, h->root);
	timer_resume(d->loop, &d->sweep, json_integer_value(json_object_get(self, "sweep_clock_us")));
	if (!handover_same_protocol(h))
		replace_strangers(d);
	notify_upgraded(d->was_ready);
	daemon_find_awaited_devices(d);
	upgrade_finish(d, h);
	d->changed = true;
	return 0;
}

/* ---- the store */

/* All that was acknowledged is in it, so the next start finds it there. */
static void
on_followed(struct disk_task *task)
{
	struct daemon *d = task->arg;

	if (task->opening->status == 0) {
		store_start_clear(&task->opening->start);
		if (task->opening->report.salvaged)
			daemon_store_salvaged(d, &task->opening->report);
		return;
	}
	journal(EVENT_UPGRADE_BROKEN, .error = &task->opening->e);
	d->exit_status = 1;
	ev_break(d->loop, EVBREAK_ALL);
}

int
daemon_follow_store(struct daemon *d, struct err *e)
{
	struct disk_task task = {.kind = DISK_OPEN, .done = on_followed, .arg = d, .opening = &d->following};

	d->opening = d->following = (struct disk_opening){.dir = d->paths.state_dir};
	return disk_put(d->disk, &task) == 0 ? 0 : err_set(e, ERR_SYSTEM, "out of memory");
}
