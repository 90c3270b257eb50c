/*
 * zitd as a whole: it owns the loop, the queue, all jobs and all runners, and ties the parts together. Once a
 * turn, before the loop sleeps, it hands out work and sees whether it may end.
 */
#include "supervisor/daemon.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "build_id.h"
#include "ipc/clock.h"
#include "supervisor/daemon_inside.h"
#include "supervisor/runners/cgroup.h"
#include "supervisor/daemon_handover.h"
#include "supervisor/journal.h"
#include "supervisor/notify.h"
#include "supervisor/sched.h"
#include "supervisor/runners/strays.h"
#include "supervisor/timer.h"

enum { HOUSEKEEPING_S = 10 };

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

struct disk *
daemon_disk(const struct daemon *d)
{
	return d->disk;
}

int64_t
daemon_last_event(const struct daemon *d)
{
	return d->last_event;
}

void
daemon_changed(struct daemon *d)
{
	d->changed = true;
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
	return group->gr_gid == gid || (user != NULL && user->pw_gid == group->gr_gid);
}

/* ---- the loop's turns */

static void
schedule(struct daemon *d)
{
	timer_resume(
	    d->loop, &d->sched_again, sched_run(&d->queue, d->runners, d->runner_count, d->store_error == 0));
}

static void
on_sched_again(struct ev_loop *loop, struct ev_timer *w, int events)
{
	(void)loop;
	(void)events;
	daemon_changed(w->data);
}

static void
on_load_clock(struct ev_loop *loop, struct ev_timer *w, int events)
{
	(void)loop;
	(void)events;
	daemon_watch_load(w->data);
}

static void
before_sleep(struct ev_loop *loop, struct ev_prepare *w, int events)
{
	struct daemon *d = w->data;

	(void)loop;
	(void)events;
	if (d->phase != SERVING)
		daemon_advance_end(d);
	while (d->changed) { /* what is handed out, or cannot be written, may leave more to do */
		d->changed = false;
		if (d->phase == SERVING && !upgrade_is_quiet(d))
			schedule(d);
		if (d->phase == SERVING && !ev_is_active(&d->load_clock))
			daemon_watch_load(d);
		daemon_commit(d);
		if (d->unsaved_count + d->loose_count == 0 || d->store_error != 0)
			d->options.public->lookups_send(
			    d); /* what they ask for was handed over before them */
		d->options.public->acks_send(d);
		daemon_tell_status(d);
	}
	for (int i = 0; i < d->runner_count; i++)
		runner_rest(d->runners[i]);
	upgrade_turn(d);
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
	struct daemon *d = w->data;

	(void)loop;
	(void)events;
	daemon_retain(d);
	d->note_is_due |= d->note_is_owed;
	daemon_changed(d); /* a window of the day may have opened */
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
		daemon_begin_drain(d);
	else
		daemon_begin_stop(d);
}

/* ---- start and end */

static void
start_watchers(struct daemon *d)
{
	static const int numbers[SIGNALS] = {SIGTERM, SIGINT, SIGHUP};
	sigset_t ours;

	sigemptyset(&ours);
	ev_prepare_init(&d->before_sleep, before_sleep);
	ev_check_init(&d->after_sleep, after_sleep);
	ev_timer_init(&d->housekeeping, on_housekeeping, HOUSEKEEPING_S, HOUSEKEEPING_S);
	ev_init(&d->drain_clock, daemon_on_drain_clock);
	ev_init(&d->sched_again, on_sched_again);
	ev_init(&d->leisure, daemon_on_leisure);
	ev_init(&d->group.rest, daemon_on_rested);
	ev_init(&d->store_retry, daemon_on_store_retry);
	ev_init(&d->load_clock, on_load_clock);
	upgrade_init(d);
	d->before_sleep.data = d->after_sleep.data = d->housekeeping.data = d->drain_clock.data =
	    d->sched_again.data = d->leisure.data = d->group.rest.data = d->store_retry.data =
		d->load_clock.data = d;
	ev_prepare_start(d->loop, &d->before_sleep);
	ev_check_start(d->loop, &d->after_sleep);
	ev_timer_start(d->loop, &d->housekeeping);
	daemon_start_watchdog(d);
	for (int i = 0; i < SIGNALS; i++) {
		ev_signal_init(&d->signals[i], on_signal, numbers[i]);
		d->signals[i].data = d;
		ev_signal_start(d->loop, &d->signals[i]);
		sigaddset(&ours, numbers[i]);
	}
	sigprocmask(SIG_UNBLOCK, &ours, NULL); /* those that came during an upgrade have waited for this */
	signal(SIGPIPE, SIG_IGN);
}

static int
make_runners(struct daemon *d, struct err *e)
{
	for (int i = 0; i < d->conf.runner_count; i++) {
		if (daemon_add_runner(d, &d->conf.runners[i], NULL) == NULL)
			return err_set(e, ERR_SYSTEM, "out of memory");
	}
	return 0;
}

/* Runners before the store: it has what jobs cost on them. They begin in the loop's first turn. */
static int
open_parts(struct daemon *d, struct err *e)
{
	const struct handover *h = d->options.handover;
	int status;

	d->paths.lock_fd = h != NULL ? daemon_handed_lock(h) : -1;
	status = paths_open(&d->paths, &d->conf.zitd, e);
	if (status != 0)
		return status;
	d->disk = disk_new(d->loop, d->paths.results);
	if (d->disk == NULL)
		return err_set(e, ERR_SYSTEM, "%s cannot be used: %s", d->paths.results, strerror(errno));
	status = make_runners(d, e);
	if (status == 0)
		status = h != NULL ? daemon_follow_store(d, e) : daemon_open_store(d, e);
	if (status == 0)
		status = daemon_open_clients(d, e);
	if (status != 0)
		return status;
	daemon_set_shares(d);
	if (h != NULL)
		return daemon_take_over(d, h, e);
	daemon_find_devices(d);
	return 0;
}

int
daemon_start(
    struct daemon **out, const struct daemon_options *options, const struct conf *conf, struct err *e)
{
	struct daemon *d = calloc(1, sizeof(*d));
	int status, error;

	if (d == NULL)
		return err_set(e, ERR_SYSTEM, "out of memory");
	d->conf = *conf;
	d->options = *options;
	d->paths.lock_fd = -1;
	d->started_us = d->turn_us = clock_now_us();
	age_clock_us(&d->age_clock, clock_now_us(), clock_wall_us());
	queue_init(&d->queue);
	d->queue_world = daemon_queue_world;
	d->queue_world.arg = d;
	d->queue.world = &d->queue_world;
	forecast_init(&d->forecast);
	limits_init(&d->limits);
	metrics_init(&d->metrics);
	TAILQ_INIT(&d->jobs);
	TAILQ_INIT(&d->unsaved);
	journal_set_objects(options->public->job_facts, runner_facts);
	daemon_set_log(d);
	/* Not libev's default loop: that one reaps all children, and ours are waited for by pidfd. */
	d->loop = ev_loop_new(EVFLAG_NOENV);
	if (d->loop == NULL) {
		free(d);
		return err_set(e, ERR_SYSTEM, "no event loop: %s", strerror(errno));
	}
	daemon_set_job_world(d);
	daemon_set_runner_world(d);
	notify_open(d->loop, daemon_describe, d);
	strays_open();
	cgroup_open();
	start_watchers(d);
	status = open_parts(d, e);
	error = errno;
	d->options.handover = NULL;
	if (status != 0)
		daemon_free(&d);
	else
		*out = d;
	errno = error;
	return status;
}

int
daemon_run(struct daemon *d)
{
	journal(EVENT_STARTED, .version = ZIT_BUILD, .path = d->paths.socket);
	daemon_tell_status(d);
	ev_run(d->loop, 0);
	journal(EVENT_STOPPED);
	notify_end();
	return d->exit_status;
}

static void
stop_watchers(struct daemon *d)
{
	ev_prepare_stop(d->loop, &d->before_sleep);
	ev_check_stop(d->loop, &d->after_sleep);
	ev_timer_stop(d->loop, &d->housekeeping);
	ev_timer_stop(d->loop, &d->drain_clock);
	daemon_stop_watchdog(d);
	ev_timer_stop(d->loop, &d->sched_again);
	ev_timer_stop(d->loop, &d->sweep);
	ev_timer_stop(d->loop, &d->leisure);
	ev_timer_stop(d->loop, &d->group.rest);
	ev_timer_stop(d->loop, &d->store_retry);
	ev_timer_stop(d->loop, &d->load_clock);
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
	upgrade_abandon(d, "zitd is stopping");
	probe_stop(&d->probe);
	clients_free(&d->clients);
	for (int i = 0; i < d->runner_count; i++)
		runner_free(&d->runners[i]);
	disk_free(&d->disk);
	store_start_clear(&d->following.start);
	d->options.public->clear();
	daemon_drop_unsaved(d);
	while ((job = TAILQ_FIRST(&d->jobs)) != NULL) {
		TAILQ_REMOVE(&d->jobs, job, all_link);
		job_free(&job);
	}
	queue_clear(&d->queue);
	limits_clear(&d->limits);
	free(d->devices);
	json_decref(d->costs_noted);
	paths_close(&d->paths);
	stop_watchers(d);
	ev_loop_destroy(d->loop);
	free(d);
	*out = NULL;
}
