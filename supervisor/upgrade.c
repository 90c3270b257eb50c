/*
 * The order of things when zitd gives its process to its successor.
 *
 * The new program is tried while we go on serving, on a document made then: what the real one will say is of
 * the same kind, and only the time from SETTLING on is a pause for others.
 */
#include "supervisor/upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "build_id.h"
#include "ipc/api.h"
#include "ipc/clock.h"
#include "ipc/log.h"
#include "supervisor/daemon_handover.h"
#include "supervisor/daemon_inside.h"
#include "supervisor/handover.h"
#include "supervisor/journal.h"
#include "supervisor/notify.h"
#include "supervisor/runners/spawn.h"
#include "supervisor/timer.h"

enum { MAX_ARGUMENTS = 16, MAX_WHY = 600 };

#define TRIAL_US (10 * INT64_C(1000000)) /* that the new program may take to say whether it can */
#define SETTLE_US INT64_C(1000000)	 /* less than a runner has to acknowledge a job */

/* ---- ending it */

static void
answer(struct upgrade *u, char *line)
{
	struct client *client = u->client;

	if (u->id == NULL || client == NULL) {
		free(line);
		line = NULL;
	}
	json_decref(u->id);
	u->id = NULL;
	u->client = NULL;
	if (client != NULL)
		client_answer(client, 0, 0, line, NULL);
}

static void
set_quiet(struct daemon *d, bool quiet)
{
	clients_pause(d->clients, quiet);
	for (int i = 0; i < d->runner_count; i++)
		runner_set_deaf(d->runners[i], quiet);
	d->changed = true;
}

void
upgrade_abandon(struct daemon *d, const char *why)
{
	struct upgrade *u = &d->upgrade;
	enum upgrade_step step = u->step;
	struct err e;

	if (step == UPGRADE_NONE)
		return;
	journal(EVENT_UPGRADE_FAILED, .detail = why);
	if (upgrade_trial_stop(&u->trial))
		daemon_runner_died(d); /* it is buried as those are that runners leave behind */
	timer_arm(d->loop, &u->clock, 0);
	ev_idle_stop(d->loop, &u->last_turn);
	u->step = UPGRADE_NONE;
	if (step == UPGRADE_LEAVING)
		sigprocmask(SIG_SETMASK, &u->unblocked, NULL);
	if (step >= UPGRADE_SETTLING)
		set_quiet(d, false);
	daemon_find_awaited_devices(d);
	err_set(&e, ERR_UPGRADE_REFUSED, "not upgraded: %s", why);
	answer(u, api_error(u->id, &e, NULL, NULL));
}

__attribute__((format(printf, 2, 3))) static void
abandon_with(struct daemon *d, const char *format, ...)
{
	char why[MAX_WHY];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(why, sizeof(why), format, arguments);
	va_end(arguments);
	upgrade_abandon(d, why);
}

/* ---- the new program's command line: ours */

static char *const *
make_arguments(const struct daemon *d, const char *option, int fd)
{
	static const char *argv[MAX_ARGUMENTS];
	static char number[16];
	const struct daemon_options *o = &d->options;
	const char *const pairs[][2] = {{"--config", o->config}, {"--runtime-dir", o->runtime_dir},
	    {"--state-dir", o->state_dir}, {"--log-level", o->log_level}, {"--log-format", o->log_format},
	    {option, number}};
	int count = 0;

	snprintf(number, sizeof(number), "%d", fd);
	argv[count++] = d->paths.program;
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		if (pairs[i][1] == NULL)
			continue;
		argv[count++] = pairs[i][0];
		argv[count++] = pairs[i][1];
	}
	argv[count] = NULL;
	return (char *const *)argv;
}

/* ---- the trial */

static void
settle(struct daemon *d)
{
	d->upgrade.step = UPGRADE_SETTLING;
	d->upgrade.quiet_us = clock_now_us();
	set_quiet(d, true);
	timer_arm(d->loop, &d->upgrade.clock, SETTLE_US);
}

static void
on_tried(void *arg, const char *why)
{
	if (why != NULL)
		upgrade_abandon(arg, why);
	else
		settle(arg);
}

/* What must be over before this program may go; NULL: all is. */
static const char *
obstacle(const struct daemon *d)
{
	if (d->store_error != 0)
		return "the state directory takes no writes";
	if (!daemon_is_saved(d) || disk_pending(d->disk) > 0 || !d->options.public->lookups_are_done())
		return "the disk did not finish what it was given";
	for (int i = 0; i < d->runner_count; i++) {
		if (runner_has_unsent(d->runners[i]))
			return "a runner did not take its messages";
	}
	return NULL;
}

static void
on_clock(struct ev_loop *loop, struct ev_timer *w, int events)
{
	struct daemon *d = w->data;
	const char *why = obstacle(d);

	(void)loop;
	(void)events;
	if (d->upgrade.step == UPGRADE_TRIAL)
		abandon_with(d, "%s did not say within 10 s whether it can take over", d->paths.program);
	else
		abandon_with(d, "%s within 1 s", why != NULL ? why : "zitd did not come to it");
}

/* 0, or errno. */
static int
try(struct daemon *d)
{
	char *const *argv = make_arguments(d, "--check-handover", SPAWN_FIRST_FD);
	struct handover h;
	int document, error;

	daemon_hand_over(d, &h);
	document = handover_write(&h);
	error = document >= 0 ? upgrade_trial_start(&d->upgrade.trial, argv, document) : errno;
	if (document >= 0)
		close(document);
	handover_clear(&h);
	if (error == 0)
		timer_arm(d->loop, &d->upgrade.clock, TRIAL_US);
	return error;
}

/* Why none can begin; NULL: one can. */
static const char *
reason_not_to_begin(const struct daemon *d)
{
	if (d->upgrade.step != UPGRADE_NONE)
		return "an upgrade is under way already";
	if (d->phase != SERVING)
		return "zitd is stopping";
	if (d->opening.status != 0 || d->store_error != 0)
		return "the state directory takes no writes now, and what is not written would be lost";
	return NULL;
}

int
upgrade_begin(struct daemon *d, struct client *c, json_t *id, struct err *e)
{
	const char *why = reason_not_to_begin(d);
	int error;

	if (why != NULL)
		return err_set(e, ERR_UPGRADE_REFUSED, "not upgraded: %s", why);
	error = try(d);
	if (error != 0) {
		journal(EVENT_UPGRADE_FAILED, .detail = strerror(error));
		return err_set(e, ERR_UPGRADE_REFUSED, "not upgraded: %s cannot be run: %s", d->paths.program,
		    strerror(error));
	}
	d->upgrade.step = UPGRADE_TRIAL;
	d->upgrade.client = c;
	d->upgrade.id = json_incref(id);
	client_hold(c, 0, 0);
	return 0;
}

/* ---- the end of this program */

static json_t *
own_part(const struct upgrade *u)
{
	return json_pack("{s:i, s:O*, s:I, s:I}", "client", u->client != NULL ? client_fd(u->client) : -1,
	    "id", u->id, "quiet_us", (json_int_t)u->quiet_us, "settled_us", (json_int_t)clock_now_us());
}

/* Returns only when it failed, with errno. */
static void
become(struct daemon *d)
{
	struct handover h;
	int document, error;

	daemon_hand_over(d, &h);
	json_object_set_new(h.root, "upgrade", own_part(&d->upgrade));
	document = handover_write(&h);
	error = errno;
	if (document >= 0) {
		if (d->was_ready)
			notify_reloading();
		handover_keep_over_exec(&h, true);
		fcntl(document, F_SETFD, 0);
		execve(d->paths.program, make_arguments(d, "--handover", document), environ);
		error = errno;
		handover_keep_over_exec(&h, false);
		close(document);
		notify_reloaded();
	}
	handover_clear(&h);
	errno = error;
}

/* A signal that comes from now on is for the new program; one that came before is in the loop, which gets a
 * turn to tell. */
static void
leave(struct daemon *d)
{
	sigset_t ours;

	sigemptyset(&ours);
	for (int i = 0; i < SIGNALS; i++)
		sigaddset(&ours, d->signals[i].signum);
	sigprocmask(SIG_BLOCK, &ours, &d->upgrade.unblocked);
	probe_stop(&d->probe); /* who waits for it asks again, there or here */
	d->upgrade.step = UPGRADE_LEAVING;
	ev_idle_start(d->loop, &d->upgrade.last_turn); /* the loop does not sleep in that turn */
}

void
upgrade_turn(struct daemon *d)
{
	if (d->upgrade.step < UPGRADE_SETTLING || obstacle(d) != NULL)
		return;
	if (d->upgrade.step == UPGRADE_SETTLING) {
		leave(d);
		return;
	}
	if (ev_is_active(&d->upgrade.last_turn))
		return;
	become(d);
	abandon_with(d, "%s cannot be run: %s", d->paths.program, strerror(errno));
}

/* ---- others */

/* All else that the turn brought has been heard. */
static void
on_last_turn(struct ev_loop *loop, struct ev_idle *w, int events)
{
	(void)events;
	ev_idle_stop(loop, w);
}

void
upgrade_init(struct daemon *d)
{
	ev_init(&d->upgrade.clock, on_clock);
	ev_idle_init(&d->upgrade.last_turn, on_last_turn);
	upgrade_trial_init(&d->upgrade.trial, d->loop, d, on_tried);
	d->upgrade.clock.data = d;
}

bool
upgrade_is_quiet(const struct daemon *d)
{
	return d->upgrade.step >= UPGRADE_SETTLING;
}

bool
upgrade_is_trial(const struct daemon *d, pid_t pid)
{
	return d->upgrade.trial.pid == pid;
}

void
upgrade_client_gone(struct daemon *d, const struct client *c)
{
	if (d->upgrade.client == c)
		d->upgrade.client = NULL;
}

/* ---- in the new program */

int
upgrade_check(int fd, const struct conf *conf)
{
	struct handover h;
	struct err e;
	int status = handover_read(&h, fd, &e);

	if (status == 0)
		status = daemon_check_handover(&h, conf, &e);
	handover_clear(&h);
	if (status == 0)
		printf(UPGRADE_TRIAL_CAN "%s\n", ZIT_BUILD);
	else
		fprintf(stderr, "zitd: %s\n", e.text);
	return status == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

void
upgrade_finish(struct daemon *d, const struct handover *h)
{
	const json_t *own = json_object_get(h->root, "upgrade");
	const char *before = json_string_value(json_object_get(h->root, "build"));
	int64_t quiet_us = json_integer_value(json_object_get(own, "quiet_us"));
	int64_t settled_us = json_integer_value(json_object_get(own, "settled_us"));
	double pause_ms = (double)(clock_now_us() - quiet_us) * 1e-3;
	struct upgrade *u = &d->upgrade;

	journal(EVENT_UPGRADED, .version = ZIT_BUILD, .detail = before != NULL ? before : "?",
	    .after_us = (int64_t)(pause_ms * 1e3), .limit_us = settled_us - quiet_us);
	u->client = clients_find(d->clients, (int)json_integer_value(json_object_get(own, "client")));
	if (u->client == NULL)
		return;
	u->id = json_incref(json_object_get(own, "id"));
	client_hold(u->client, 0, 0);
	answer(u, api_reply(u->id, api_text(json_pack("{s:s, s:s, s:i, s:f}", "version", ZIT_VERSION, "build",
				       ZIT_BUILD, "pid", (int)getpid(), "pause_ms", pause_ms))));
}
