/*
 * zitd as a whole: it owns the loop, the queue, all jobs and all runners, and ties the parts together. Once a
 * turn, before the loop sleeps, it hands out work and sees whether it may end.
 */
#include "supervisor/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <math.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "build_id.h"
#include "ipc/clock.h"
#include "ipc/log.h"
#include "supervisor/client.h"
#include "supervisor/disk.h"
#include "supervisor/methods.h"
#include "supervisor/notify.h"
#include "supervisor/paths.h"
#include "supervisor/queue.h"
#include "supervisor/runner.h"
#include "supervisor/sched.h"

enum { SIGNALS = 3, HOUSEKEEPING_S = 10, FLUSH_S = 2 };

#define MAX_LAG_US INT64_C(1000000)

enum phase { SERVING, DRAINING, STOPPING, FLUSHING };

struct daemon {
	struct ev_loop *loop;
	struct conf conf;
	struct daemon_options options;
	struct paths paths;
	struct clients *clients;
	struct disk *disk;
	struct runner *runners[CONF_MAX_RUNNERS];
	int runner_count;
	struct queue queue;
	struct job_line jobs; /* all that are kept, by all_link, oldest first */
	int final_kept;

	enum phase phase;
	bool changed, was_ready;
	int64_t started_us, turn_us;	 /* turn: when the loop woke last */
	double mean_run_s;		 /* of the last jobs, for advice */
	long long admitted, ended, done; /* counts of jobs */

	struct ev_prepare before_sleep;
	struct ev_check after_sleep;
	struct ev_signal signals[SIGNALS];
	struct ev_timer housekeeping, drain_clock, watchdog;
};

/* ---- small answers */

struct ev_loop *
daemon_loop(const struct daemon *d)
{
	return d->loop;
}

const struct conf *
daemon_conf(const struct daemon *d)
{
	return &d->conf;
}

const char *
daemon_results_dir(const struct daemon *d)
{
	return d->paths.results;
}

const char *
daemon_default_command(const struct daemon *d)
{
	return d->paths.runner;
}

void
daemon_arm_timer(struct daemon *d, struct ev_timer *timer, int64_t clock_us)
{
	ev_timer_stop(d->loop, timer);
	if (clock_us <= 0)
		return;
	ev_now_update(d->loop); /* a timer counts from the loop's own time, which may be a turn old */
	ev_timer_set(timer, (double)clock_us * 1e-6, 0.0);
	ev_timer_start(d->loop, timer);
}

void
daemon_changed(struct daemon *d)
{
	d->changed = true;
}

void
daemon_runner_ready(struct daemon *d)
{
	d->was_ready = true;
	d->changed = true;
	notify_ready();
}

void
daemon_loading(struct daemon *d)
{
	(void)d;
	notify_extend(60 * INT64_C(1000000));
}

bool
daemon_is_admin(const struct daemon *d, uid_t uid, gid_t gid)
{
	const struct group *group;
	const struct passwd *user;

	if (uid == 0 || uid == geteuid())
		return true;
	group = d->conf.zitd.admin_group[0] != '\0' ? getgrnam(d->conf.zitd.admin_group) : NULL;
	if (group == NULL)
		return false;
	user = getpwuid(uid);
	for (char **member = group->gr_mem; user != NULL && *member != NULL; member++) {
		if (strcmp(*member, user->pw_name) == 0)
			return true;
	}
	return group->gr_gid == gid;
}

/* ---- jobs that are kept */

struct job *
daemon_next_job(const struct daemon *d, const struct job *job)
{
	return job == NULL ? TAILQ_FIRST(&d->jobs) : TAILQ_NEXT(job, all_link);
}

struct job *
daemon_next_queued(const struct daemon *d, const struct job *job)
{
	return queue_next(&d->queue, job);
}

int
daemon_position(const struct daemon *d, const struct job *job)
{
	return queue_position(&d->queue, job);
}

struct job *
daemon_find_job(const struct daemon *d, const char *id)
{
	struct job *job;

	TAILQ_FOREACH(job, &d->jobs, all_link)
	{
		if (strcmp(job->id, id) == 0)
			return job;
	}
	return NULL;
}

static void
remove_pictures(struct daemon *d, struct job *job)
{
	for (int i = 0; i < job->picture_count; i++) {
		struct disk_task task = {.kind = DISK_REMOVE, .fd = -1};
		snprintf(task.name, sizeof(task.name), "%s", job->pictures[i].name);
		if (task.name[0] != '\0')
			disk_put(d->disk, &task);
	}
	job->expired = true;
}

/* Forgets the oldest records over the limit, and their pictures with them. */
static void
trim_history(struct daemon *d)
{
	struct job *job = TAILQ_FIRST(&d->jobs), *next;

	for (; job != NULL && d->final_kept > d->conf.queue.history; job = next) {
		next = TAILQ_NEXT(job, all_link);
		if (!job_is_final(job))
			continue;
		if (!job->expired)
			remove_pictures(d, job);
		TAILQ_REMOVE(&d->jobs, job, all_link);
		d->final_kept--;
		job_free(&job);
	}
}

static void
expire_results(struct daemon *d)
{
	int64_t now_us = clock_now_us();
	struct job *job;

	TAILQ_FOREACH(job, &d->jobs, all_link)
	{
		double kept_s =
		    job->was_waited_for ? d->conf.results.retention_waited : d->conf.results.retention;
		if (job_state(job) == JOB_DONE && !job->expired &&
		    (double)(now_us - job->ended_us) * 1e-6 > kept_s)
			remove_pictures(d, job);
	}
}

/* ---- what jobs tell */

static void
on_ended(struct job *job)
{
	struct daemon *d = job->daemon;

	if (job->in_queue)
		queue_remove(&d->queue, job);
	d->ended++;
	d->done += job_state(job) == JOB_DONE;
	d->final_kept++;
	if (job_state(job) == JOB_DONE) {
		double run_s = (double)(job->ended_us - job->started_us) * 1e-6;
		d->mean_run_s = d->mean_run_s > 0 ? 0.8 * d->mean_run_s + 0.2 * run_s : run_s;
	}
	methods_job_ended(job);
	for (int i = 0; i < job->picture_count; i++) {
		if (job->pictures[i].fd >= 0)
			close(job->pictures[i].fd);
		job->pictures[i].fd = -1;
	}
	d->changed = true;
}

static void
on_requeued(struct job *job)
{
	struct daemon *d = job->daemon;
	struct err e;

	queue_push_front(&d->queue, job);
	d->changed = true;
	if (d->phase == SERVING)
		return;
	err_set(&e, ERR_DRAINING, "%s", err_row(ERR_DRAINING)->text);
	job_event_error(job, JOB_EVENT_FAULT, &e);
}

static void
on_overdue(struct job *job)
{
	if (job->runner != NULL)
		runner_drop_job(job->runner);
}

static const struct job_hooks hooks = {methods_job_advanced, on_ended, on_requeued, on_overdue};

/* ---- results */

static struct job *
find_number(const struct daemon *d, uint64_t number)
{
	struct job *job;

	TAILQ_FOREACH(job, &d->jobs, all_link)
	{
		if (job->number == number)
			return job;
	}
	return NULL;
}

/* One picture's file is there, or not. arg_number is the job's number * JOB_MAX_PICTURES + picture. */
static void
on_written(struct disk_task *task)
{
	struct daemon *d = task->arg;
	struct job *job = find_number(d, task->arg_number / JOB_MAX_PICTURES);
	struct err e;

	if (job == NULL || job_state(job) != JOB_STORED)
		return; /* it failed meanwhile; the sweep of the next start takes the file */
	if (task->error != 0) {
		bool full = task->error == ENOSPC || task->error == EDQUOT || task->error == EROFS;
		err_set(&e, full ? ERR_DISK_FULL : ERR_SYSTEM, "The picture cannot be written to %.120s: %s.",
		    disk_dir(d->disk), strerror(task->error));
		job_event_error(job, JOB_EVENT_FAULT, &e);
		return;
	}
	snprintf(
	    job->pictures[task->arg_number % JOB_MAX_PICTURES].name, sizeof(task->name), "%s", task->name);
	if (--job->unwritten == 0)
		job_event(job, JOB_EVENT_WRITTEN);
}

void
daemon_store(struct daemon *d, struct job *job)
{
	job->unwritten = job->picture_count;
	for (int i = 0; i < job->picture_count; i++) {
		struct disk_task task = {.kind = DISK_WRITE,
		    .done = on_written,
		    .arg = d,
		    .arg_number = job->number * JOB_MAX_PICTURES + (uint64_t)i};
		task.fd = fcntl(job->pictures[i].fd, F_DUPFD_CLOEXEC, 0);
		snprintf(task.name, sizeof(task.name), "%s-%d.png", job->id, i);
		if (task.fd >= 0 && disk_put(d->disk, &task) == 0)
			continue;
		if (task.fd >= 0)
			close(task.fd);
		log_err("job %s: its result cannot be handed to the disk thread",
		    job->id); /* its clock ends it */
	}
}

int
daemon_open_picture(const struct daemon *d, const struct job *job, int index)
{
	char path[PATH_MAX];

	/* Through /proc, so that the reader gets an offset of its own and no way to write. */
	if (job->pictures[index].fd >= 0)
		snprintf(path, sizeof(path), "/proc/self/fd/%d", job->pictures[index].fd);
	else
		snprintf(path, sizeof(path), "%.3900s/%s", d->paths.results, job->pictures[index].name);
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* ---- admission */

static int
serving_runners(const struct daemon *d)
{
	int count = 0;

	for (int i = 0; i < d->runner_count; i++)
		count += runner_may_serve(d->runners[i]);
	return count;
}

/* How long until a place is free: the time that one of the runners takes for a job, by the last ones. */
static double
retry_after_s(const struct daemon *d)
{
	int runners = serving_runners(d);
	double wait_s = d->mean_run_s > 0 && runners > 0 ? d->mean_run_s / runners : 1.0;

	return wait_s > 1.0 ? ceil(wait_s) : 1.0;
}

/* Whether any runner that has been ready could draw it; true while none has been. */
static bool
size_fits(const struct daemon *d, const struct api_submit *p, struct err *e)
{
	int default_side, max_side, fit = 0, known = 0;
	int64_t max_pixels, largest = 0;

	for (int i = 0; i < d->runner_count; i++) {
		int64_t width, height;
		if (!runner_limits(d->runners[i], &default_side, &max_side, &max_pixels))
			continue;
		known++;
		width = p->has_width ? p->width : default_side;
		height = p->has_height ? p->height : default_side;
		fit += width <= max_side && height <= max_side && width * height <= max_pixels;
		largest = max_pixels > largest ? max_pixels : largest;
	}
	if (known == 0 || fit > 0)
		return true;
	err_set(e, ERR_TOO_BIG, "the picture is too big: at most %lld pixels (%dx%d) can be drawn here",
	    (long long)largest, (int)sqrt((double)largest) / 16 * 16, (int)sqrt((double)largest) / 16 * 16);
	return false;
}

static bool
may_enter(const struct daemon *d, const struct api_submit *p, struct err *e, json_t **data)
{
	if (d->phase != SERVING)
		err_set(e, ERR_DRAINING, "%s", err_row(ERR_DRAINING)->text);
	else if (serving_runners(d) == 0)
		err_set(e, ERR_NO_RUNNER, "%s", err_row(ERR_NO_RUNNER)->text);
	else if (queue_length(&d->queue) >= d->conf.queue.max_size) {
		*data = json_pack(
		    "{s:f, s:i}", "retry_after_s", retry_after_s(d), "max_size", (int)d->conf.queue.max_size);
		err_set(e, ERR_QUEUE_FULL, "The queue is full with %d jobs; try again after %g seconds.",
		    queue_length(&d->queue), retry_after_s(d));
	} else if (p->has_seed && p->has_n && p->seed > INT64_MAX - p->n + 1)
		err_set(e, ERR_INVALID_PARAM, "seed + n must stay below 2^63: picture i of n uses seed + i");
	else
		return size_fits(d, p, e);
	return false;
}

struct job *
daemon_admit(struct daemon *d, const struct api_submit *p, uid_t uid, pid_t pid, struct err *e, json_t **data)
{
	struct job *job;

	if (!may_enter(d, p, e, data))
		return NULL;
	job = job_new(d, p, uid, pid);
	if (job == NULL) {
		err_set(e, ERR_SYSTEM, "out of memory");
		return NULL;
	}
	queue_push(&d->queue, job);
	TAILQ_INSERT_TAIL(&d->jobs, job, all_link);
	d->admitted++;
	d->changed = true;
	log_info("job %s: accepted from uid %d, class %s", job->id, (int)uid, job_class_name(job->class));
	return job;
}

/* ---- status */

static const char *
phase_name(const struct daemon *d)
{
	int ready = 0;

	if (d->phase != SERVING)
		return "draining";
	for (int i = 0; i < d->runner_count; i++) {
		enum runner_state state = runner_state(d->runners[i]);
		ready += state == RUNNER_IDLE || state == RUNNER_BUSY || state == RUNNER_CANCELLING;
	}
	if (ready == d->runner_count)
		return "ready";
	return ready > 0 ? "degraded" : serving_runners(d) > 0 ? "starting" : "failed";
}

static void
tell_status(const struct daemon *d)
{
	char text[160];

	snprintf(text, sizeof(text), "%s, %d of %d runners may serve, %d queued (high %d, normal %d, low %d)",
	    phase_name(d), serving_runners(d), d->runner_count, queue_length(&d->queue),
	    d->queue.counts[CLASS_HIGH], d->queue.counts[CLASS_NORMAL], d->queue.counts[CLASS_LOW]);
	notify_status(text);
}

static long long
resident_bytes(void)
{
	long long size, resident = 0;
	FILE *file = fopen("/proc/self/statm", "re");

	if (file != NULL) {
		if (fscanf(file, "%lld %lld", &size, &resident) != 2)
			resident = 0;
		fclose(file);
	}
	return resident * sysconf(_SC_PAGESIZE);
}

json_t *
daemon_runners(struct daemon *d)
{
	json_t *list = json_array();

	for (int i = 0; i < d->runner_count; i++)
		json_array_append_new(list, runner_record(d->runners[i]));
	return list;
}

json_t *
daemon_status(struct daemon *d)
{
	json_t *queue = json_pack("{s:i, s:i, s:i, s:i}", "high", d->queue.counts[CLASS_HIGH], "normal",
	    d->queue.counts[CLASS_NORMAL], "low", d->queue.counts[CLASS_LOW], "max_size",
	    (int)d->conf.queue.max_size);
	json_t *counters = json_pack("{s:I, s:I, s:I}", "accepted", (json_int_t)d->admitted, "ended",
	    (json_int_t)d->ended, "done", (json_int_t)d->done);

	return json_pack("{s:s, s:s, s:s, s:i, s:f, s:o, s:o, s:o, s:i, s:I}", "version", ZIT_VERSION,
	    "build", ZIT_BUILD, "state", phase_name(d), "pid", (int)getpid(), "uptime_s",
	    (double)(clock_now_us() - d->started_us) * 1e-6, "runners", daemon_runners(d), "queue", queue,
	    "counters", counters, "clients", clients_count(d->clients), "rss_bytes",
	    (json_int_t)resident_bytes());
}

/* ---- orders */

json_t *
daemon_restart(struct daemon *d, const char *name)
{
	json_t *names = json_array();

	for (int i = 0; i < d->runner_count; i++) {
		const char *own = runner_conf(d->runners[i])->section_name;
		if (name != NULL && strcmp(name, own) != 0)
			continue;
		log_notice("runner %s: restart was asked for", own);
		json_array_append_new(names, json_string(own));
		runner_restart(d->runners[i]);
	}
	if (json_array_size(names) > 0)
		return names;
	json_decref(names);
	return NULL;
}

struct changes {
	json_t *all, *respawn, *restart;
};

static void
note_change(void *arg, const char *key, enum conf_when when)
{
	struct changes *changes = arg;

	log_notice("configuration: %s changed%s", key,
	    when == CONF_RESPAWN   ? "; restart the runner to use it"
	    : when == CONF_RESTART ? "; restart zitd to use it"
				   : "");
	json_array_append_new(changes->all, json_string(key));
	if (when == CONF_RESPAWN)
		json_array_append_new(changes->respawn, json_string(key));
	if (when == CONF_RESTART)
		json_array_append_new(changes->restart, json_string(key));
}

static void
set_log_level(const struct daemon *d)
{
	enum log_level level = LOG_LEVEL_INFO;

	log_level_parse(d->options.log_level != NULL ? d->options.log_level : d->conf.zitd.log_level, &level);
	log_set_level(level);
}

/* Each runner goes on with its own section; the set of runners is fixed until zitd is restarted. */
static void
apply_conf(struct daemon *d, const struct conf *fresh)
{
	for (int i = 0; i < d->runner_count; i++) {
		for (int k = 0; k < fresh->runner_count; k++) {
			if (strcmp(runner_conf(d->runners[i])->section_name,
				fresh->runners[k].section_name) == 0)
				runner_set_conf(d->runners[i], &fresh->runners[k]);
		}
		if (runner_state(d->runners[i]) == RUNNER_FAILED)
			runner_restart(d->runners[i]); /* its reason may be gone */
	}
	d->conf = *fresh;
	set_log_level(d);
	d->changed = true;
}

json_t *
daemon_reload(struct daemon *d, struct err *e)
{
	struct changes changes = {json_array(), json_array(), json_array()};
	struct conf *fresh = malloc(sizeof(*fresh));
	int status;

	notify_reloading();
	status =
	    fresh != NULL ? conf_read(fresh, d->options.config, e) : err_set(e, ERR_SYSTEM, "out of memory");
	if (status == 0) {
		conf_compare(&d->conf, fresh, note_change, &changes);
		apply_conf(d, fresh);
		log_notice("configuration reloaded from %s: %zu keys changed", d->options.config,
		    json_array_size(changes.all));
	} else
		log_err("configuration not reloaded, the old one stays: %s", e->text);
	notify_reloaded();
	free(fresh);
	if (status == 0)
		return json_pack("{s:o, s:o, s:o}", "changed", changes.all, "need_runner_restart",
		    changes.respawn, "need_restart", changes.restart);
	json_decref(changes.all);
	json_decref(changes.respawn);
	json_decref(changes.restart);
	return NULL;
}

/* ---- ending: drain, stop the runners, let the answers leave */

static void
refuse_queue(struct daemon *d)
{
	struct job *job;
	struct err e;

	err_set(&e, ERR_DRAINING, "%s", err_row(ERR_DRAINING)->text);
	while ((job = queue_first(&d->queue)) != NULL)
		job_event_error(job, JOB_EVENT_FAULT, &e);
}

static void
begin_drain(struct daemon *d)
{
	log_notice("stopping: running jobs are finished first, for at most %g s", d->conf.zitd.drain_timeout);
	notify_stopping();
	d->phase = DRAINING;
	clients_close_listener(d->clients);
	refuse_queue(d);
	daemon_arm_timer(d, &d->drain_clock, (int64_t)(d->conf.zitd.drain_timeout * 1e6) + 1);
	d->changed = true;
}

static void
stop_runners(struct daemon *d, bool finish)
{
	for (int i = 0; i < d->runner_count; i++) {
		if (runner_state(d->runners[i]) != RUNNER_STOPPED)
			runner_stop(d->runners[i], finish);
	}
}

static void
begin_stop(struct daemon *d)
{
	if (d->phase >= STOPPING)
		return;
	d->phase = STOPPING;
	stop_runners(d, false);
	d->changed = true;
}

static bool
processes_remain(const struct daemon *d)
{
	for (int i = 0; i < d->runner_count; i++) {
		if (runner_has_process(d->runners[i]) && runner_state(d->runners[i]) != RUNNER_WEDGED)
			return true;
	}
	return false;
}

/* One look at the end: runners without a job go first; when all are gone, answers leave; then the loop ends.
 */
static void
advance_end(struct daemon *d)
{
	if (d->phase == SERVING)
		return;
	if (d->phase == DRAINING)
		stop_runners(d, true);
	if (processes_remain(d) || disk_pending(d->disk) > 0)
		return;
	if (d->phase != FLUSHING) {
		d->phase = FLUSHING;
		daemon_arm_timer(d, &d->drain_clock, FLUSH_S * INT64_C(1000000));
	}
	if (clients_are_flushed(d->clients))
		ev_break(d->loop, EVBREAK_ALL);
}

static void
on_drain_clock(struct ev_loop *loop, struct ev_timer *w, int events)
{
	struct daemon *d = w->data;

	(void)events;
	if (d->phase == FLUSHING) {
		ev_break(loop, EVBREAK_ALL); /* somebody does not read; it had its time */
		return;
	}
	log_warning("stopping: running jobs took too long");
	begin_stop(d);
}

/* ---- the loop's turns */

static void
before_sleep(struct ev_loop *loop, struct ev_prepare *w, int events)
{
	struct daemon *d = w->data;

	(void)loop;
	(void)events;
	if (d->phase != SERVING)
		advance_end(d);
	if (!d->changed)
		return;
	d->changed = false;
	if (d->phase == SERVING)
		sched_run(&d->queue, d->runners, d->runner_count);
	trim_history(d);
	tell_status(d);
}

static void
after_sleep(struct ev_loop *loop, struct ev_check *w, int events)
{
	struct daemon *d = w->data;

	(void)loop;
	(void)events;
	d->turn_us = clock_now_us();
}

static void
on_housekeeping(struct ev_loop *loop, struct ev_timer *w, int events)
{
	(void)loop;
	(void)events;
	expire_results(w->data);
}

/* Every job that came is somewhere: what the watchdog is told is true. */
static bool
is_conserved(const struct daemon *d)
{
	long long open = 0;
	const struct job *job;

	TAILQ_FOREACH(job, &d->jobs, all_link)
	open += !job_is_final(job);
	return d->admitted == d->ended + open;
}

static bool
is_healthy(const struct daemon *d)
{
	for (int i = 0; i < d->runner_count; i++) {
		if (!runner_is_sound(d->runners[i]))
			return false;
	}
	return is_conserved(d);
}

/* A sick runner is a legal state; a loop that lags or a count that is wrong is not. A ping that comes late by
 * a second shows the lag by itself. */
static void
on_watchdog(struct ev_loop *loop, struct ev_timer *w, int events)
{
	struct daemon *d = w->data;
	int64_t lag_us = clock_now_us() - d->turn_us;

	(void)loop;
	(void)events;
	if (lag_us < MAX_LAG_US && is_healthy(d))
		notify_watchdog();
	else
		log_err("watchdog: not told that all is well: the loop lags %.3f s, or a count is wrong",
		    (double)lag_us * 1e-6);
}

static void
on_signal(struct ev_loop *loop, struct ev_signal *w, int events)
{
	struct daemon *d = w->data;
	struct err e;

	(void)loop;
	(void)events;
	if (w->signum == SIGHUP)
		json_decref(daemon_reload(d, &e));
	else if (d->phase == SERVING)
		begin_drain(d);
	else
		begin_stop(d);
}

/* ---- start and end */

static void
start_watchers(struct daemon *d)
{
	static const int numbers[SIGNALS] = {SIGTERM, SIGINT, SIGHUP};
	double period_s = (double)notify_watchdog_period_us() * 1e-6;

	ev_prepare_init(&d->before_sleep, before_sleep);
	ev_check_init(&d->after_sleep, after_sleep);
	ev_timer_init(&d->housekeeping, on_housekeeping, HOUSEKEEPING_S, HOUSEKEEPING_S);
	ev_init(&d->drain_clock, on_drain_clock);
	ev_timer_init(&d->watchdog, on_watchdog, period_s, period_s);
	d->before_sleep.data = d->after_sleep.data = d->housekeeping.data = d->drain_clock.data =
	    d->watchdog.data = d;
	ev_prepare_start(d->loop, &d->before_sleep);
	ev_check_start(d->loop, &d->after_sleep);
	ev_timer_start(d->loop, &d->housekeeping);
	if (period_s > 0)
		ev_timer_start(d->loop, &d->watchdog);
	for (int i = 0; i < SIGNALS; i++) {
		ev_signal_init(&d->signals[i], on_signal, numbers[i]);
		d->signals[i].data = d;
		ev_signal_start(d->loop, &d->signals[i]);
	}
	signal(SIGPIPE, SIG_IGN);
}

/* One inherited stream socket is the public one; anything else was not meant for us. */
static int
inherited_socket(void)
{
	return sd_listen_fds(1) == 1 ? SD_LISTEN_FDS_START : -1;
}

static int
open_parts(struct daemon *d, struct err *e)
{
	struct disk_task task = {.kind = DISK_SWEEP, .fd = -1, .max_age_s = d->conf.results.retention};
	int status = paths_open(&d->paths, d->options.runtime_dir, d->options.state_dir, &d->conf.zitd, e);

	if (status != 0)
		return status;
	d->disk = disk_new(d->loop, d->paths.results);
	if (d->disk == NULL)
		return err_set(e, ERR_SYSTEM, "%.150s cannot be used: %s", d->paths.results, strerror(errno));
	disk_put(d->disk, &task);
	d->clients = clients_new(d, d->paths.socket, inherited_socket());
	if (d->clients == NULL)
		return err_set(
		    e, ERR_SYSTEM, "%.150s cannot be listened on: %s", d->paths.socket, strerror(errno));
	for (int i = 0; i < d->conf.runner_count; i++) {
		d->runners[i] = runner_new(d, &d->conf.runners[i]);
		if (d->runners[i] == NULL)
			return err_set(e, ERR_SYSTEM, "out of memory");
		d->runner_count++;
	}
	return 0;
}

int
daemon_start(
    struct daemon **out, const struct daemon_options *options, const struct conf *conf, struct err *e)
{
	struct daemon *d = calloc(1, sizeof(*d));
	int status;

	if (d == NULL)
		return err_set(e, ERR_SYSTEM, "out of memory");
	d->conf = *conf;
	d->options = *options;
	d->paths.lock_fd = -1;
	d->started_us = d->turn_us = clock_now_us();
	queue_init(&d->queue);
	TAILQ_INIT(&d->jobs);
	job_set_hooks(&hooks);
	set_log_level(d);
	/* Not libev's default loop: that one reaps all children, and ours are waited for by pidfd. */
	d->loop = ev_loop_new(EVFLAG_NOENV);
	if (d->loop == NULL) {
		free(d);
		return err_set(e, ERR_SYSTEM, "no event loop: %s", strerror(errno));
	}
	start_watchers(d);
	status = open_parts(d, e);
	if (status != 0)
		daemon_free(&d);
	else
		*out = d;
	return status;
}

int
daemon_run(struct daemon *d)
{
	log_notice("zitd %s listens at %s", ZIT_BUILD, d->paths.socket);
	tell_status(d);
	ev_run(d->loop, 0);
	log_notice("stopped");
	return 0;
}

static void
stop_watchers(struct daemon *d)
{
	ev_prepare_stop(d->loop, &d->before_sleep);
	ev_check_stop(d->loop, &d->after_sleep);
	ev_timer_stop(d->loop, &d->housekeeping);
	ev_timer_stop(d->loop, &d->drain_clock);
	ev_timer_stop(d->loop, &d->watchdog);
	for (int i = 0; i < SIGNALS; i++)
		ev_signal_stop(d->loop, &d->signals[i]);
}

void
daemon_free(struct daemon **out)
{
	struct daemon *d = *out;
	struct job *job;

	if (d == NULL)
		return;
	clients_free(&d->clients);
	for (int i = 0; i < d->runner_count; i++)
		runner_free(&d->runners[i]);
	disk_free(&d->disk);
	while ((job = TAILQ_FIRST(&d->jobs)) != NULL) {
		TAILQ_REMOVE(&d->jobs, job, all_link);
		job_free(&job);
	}
	paths_close(&d->paths);
	stop_watchers(d);
	ev_loop_destroy(d->loop);
	free(d);
	*out = NULL;
}
