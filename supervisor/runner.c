/*
 * A runner's life: states, clocks, kill escalation, and the policy of respawning. What it says is read in
 * runner_messages.c; what its death means for a job is in runner_death.c.
 */
#include "supervisor/runner.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/log.h"
#include "supervisor/daemon.h"
#include "supervisor/job.h"
#include "supervisor/runner_inside.h"
#include "supervisor/spawn.h"

#define SECOND INT64_C(1000000)

enum { MAX_ARGUMENTS = 32, MAX_ENVIRONMENT = 256 };

/* ---- clocks of states, design.md section 6 */

static int64_t
backoff_clock_us(const void *object)
{
	const struct runner *r = object;

	return r->delay_us > 0 ? r->delay_us : 1;
}

static int64_t
spawning_clock_us(const void *object)
{
	(void)object;
	return 5 * SECOND;
}

/* 60 s without progress, 600 s in all. */
static int64_t
loading_clock_us(const void *object)
{
	const struct runner *r = object;
	int64_t left_us = r->spawned_us + 600 * SECOND - clock_now_us();

	return left_us < 1 ? 1 : left_us < 60 * SECOND ? left_us : 60 * SECOND;
}

static int64_t
warming_clock_us(const void *object)
{
	(void)object;
	return 60 * SECOND;
}

/* No progress for max(hang_timeout, 8 x the slowest step). */
static int64_t
busy_clock_us(const void *object)
{
	const struct runner *r = object;

	int64_t least_us = (int64_t)(r->conf.hang_timeout * 1e6);

	return 8 * r->slowest_step_us > least_us ? 8 * r->slowest_step_us : least_us;
}

static int64_t
cancelling_clock_us(const void *object)
{
	const struct runner *r = object;
	int64_t pace_us = 3 * r->slowest_step_us + SECOND / 2;

	return pace_us < 3 * SECOND ? pace_us : 3 * SECOND;
}

static int64_t
stopping_clock_us(const void *object)
{
	const struct runner *r = object;

	return r->stop_wait_us > 0 ? r->stop_wait_us : 1;
}

static int64_t
reaping_clock_us(const void *object)
{
	(void)object;
	return 10 * SECOND;
}

/* The half-open probe; a permanent reason waits for an administrator. */
static int64_t
failed_clock_us(const void *object)
{
	const struct runner *r = object;

	return r->permanent ? 0 : r->probe_us;
}

static int64_t
wedged_clock_us(const void *object)
{
	(void)object;
	return 60 * SECOND;
}

static const struct fsm_state states[RUNNER_STATE_COUNT] = {
    [RUNNER_BACKOFF] = {"backoff", RUNNER_EVENT_START, backoff_clock_us},
    [RUNNER_SPAWNING] = {"spawning", RUNNER_EVENT_START_CLOCK, spawning_clock_us},
    [RUNNER_LOADING] = {"loading", RUNNER_EVENT_START_CLOCK, loading_clock_us},
    [RUNNER_WARMING] = {"warming", RUNNER_EVENT_START_CLOCK, warming_clock_us},
    [RUNNER_IDLE] = {"idle", -1, NULL},
    [RUNNER_BUSY] = {"busy", RUNNER_EVENT_HANG_CLOCK, busy_clock_us},
    [RUNNER_CANCELLING] = {"cancelling", RUNNER_EVENT_CANCEL_CLOCK, cancelling_clock_us},
    [RUNNER_STOPPING] = {"stopping", RUNNER_EVENT_STOP_CLOCK, stopping_clock_us},
    [RUNNER_REAPING] = {"reaping", RUNNER_EVENT_REAP_CLOCK, reaping_clock_us},
    [RUNNER_FAILED] = {"failed", RUNNER_EVENT_START, failed_clock_us},
    [RUNNER_WEDGED] = {"wedged", RUNNER_EVENT_ALARM_CLOCK, wedged_clock_us},
    [RUNNER_STOPPED] = {"stopped", -1, NULL},
};

static const char *const event_names[RUNNER_EVENT_COUNT] = {
#define RUNNER_EVENT(name) #name,
    RUNNER_EVENTS(RUNNER_EVENT)
#undef RUNNER_EVENT
};

/* ---- starting a process */

/* "A=1,B=2" of the configuration, then our own environment. The strings are cut inside `text`. */
static void
make_environment(char *text, char *envp[MAX_ENVIRONMENT])
{
	int count = 0;

	for (char *at = strtok(text, ","); at != NULL && count < MAX_ENVIRONMENT / 2; at = strtok(NULL, ","))
		envp[count++] = at;
	for (char **own = environ; *own != NULL && count < MAX_ENVIRONMENT - 1; own++) {
		if (strncmp(*own, "NOTIFY_SOCKET=", 14) != 0 && strncmp(*own, "WATCHDOG_", 9) != 0 &&
		    strncmp(*own, "LISTEN_", 7) != 0) /* systemd's words to us alone */
			envp[count++] = *own;
	}
	envp[count] = NULL;
}

static pid_t
spawn(struct runner *r, int channel, int status)
{
	const struct conf_runner *c = &r->conf;
	char generation[24], threads[24], max_pixels[24], environment[CONF_TEXT];
	char *envp[MAX_ENVIRONMENT];
	const char *command = c->command[0] != '\0' ? c->command : daemon_default_command(r->daemon);
	const char *const argv[MAX_ARGUMENTS] = {command, "--channel", "3", "--status", "4", "--name",
	    c->section_name, "--generation", generation, "--device", c->device, "--model", c->model,
	    "--precision", c->precision, "--threads", threads, "--max-pixels", max_pixels, NULL};

	snprintf(generation, sizeof(generation), "%u", r->generation);
	snprintf(threads, sizeof(threads), "%lld", (long long)c->threads);
	snprintf(max_pixels, sizeof(max_pixels), "%lld", (long long)c->max_pixels);
	snprintf(environment, sizeof(environment), "%s", c->environment);
	make_environment(environment, envp);
	return spawn_runner((char *const *)argv, envp, channel, status, &r->pidfd);
}

/* The process is there: watch its end and its words. */
static void
watch(struct runner *r)
{
	ev_io_set(&r->death_io, r->pidfd, EV_READ);
	ev_io_set(&r->channel_io, channel_fd(r->channel), EV_READ);
	ev_io_start(daemon_loop(r->daemon), &r->death_io);
	ev_io_start(daemon_loop(r->daemon), &r->channel_io);
}

static void
do_spawn(void *object, void *detail)
{
	struct runner *r = object;
	int ends[2] = {-1, -1}, status = -1, error;

	(void)detail;
	r->generation++;
	r->proved = false;
	r->end = END_ITSELF;
	r->fatal_text[0] = '\0';
	r->spawned_us = clock_now_us();
	if (channel_pair(ends) == 0 && (status = shm_create(&r->page)) >= 0 &&
	    (r->channel = channel_new(ends[0], PROTO_FROM_ZITD)) != NULL) {
		ends[0] = -1; /* the channel's now */
		r->pid = spawn(r, ends[1], status);
	}
	error = errno;
	for (int i = 0; i < 2; i++) {
		if (ends[i] >= 0)
			close(ends[i]);
	}
	if (status >= 0)
		close(status);
	if (r->pid > 0) {
		log_info("runner %s: generation %u is process %d", r->conf.section_name, r->generation,
		    (int)r->pid);
		watch(r);
		return;
	}
	r->pid = 0;
	log_err("runner %s: cannot be started: %s", r->conf.section_name, strerror(error));
	runner_not_started(r, error);
}

/* ---- the escalation: CANCEL, stopsignal, SIGKILL, WEDGED; each rung says so */

static void
log_rung(const struct runner *r, const char *rung)
{
	log_warning("runner %s: process %d: %s, %.3f s after its job was given to it", r->conf.section_name,
	    (int)r->pid, rung,
	    r->dispatched_us != 0 ? (double)(clock_now_us() - r->dispatched_us) * 1e-6 : 0.0);
}

static void
do_send_cancel(void *object, void *detail)
{
	struct runner *r = object;
	struct proto_msg m = {.head = r->current, .CANCEL = {ERR_CANCELLED}};

	(void)detail;
	m.head.type = PROTO_CANCEL;
	runner_send(r, &m);
}

static void
do_stopsignal(void *object, void *detail)
{
	struct runner *r = object;

	(void)detail;
	log_rung(r, "did not stop its job in time, sending stopsignal");
	kill(r->pid, r->conf.stopsignal);
}

/* An administrator's stop, or ours. */
static void
do_stop(void *object, void *detail)
{
	struct runner *r = object;
	struct proto_msg m = {.head.type = PROTO_STOP, .STOP = {0}};

	(void)detail;
	m.head.generation = r->generation;
	runner_send(r, &m);
	kill(r->pid, r->conf.stopsignal);
}

static void
do_kill(void *object, void *detail)
{
	struct runner *r = object;

	(void)detail;
	log_rung(r, "killed");
	kill(-r->pid, SIGKILL); /* its group: it leads one since it began its session */
	kill(r->pid, SIGKILL);	/* in case it had not yet */
}

static void
do_kill_hung(void *object, void *detail)
{
	struct runner *r = object;

	r->end = END_HUNG;
	do_kill(object, detail);
}

static void
do_kill_liar(void *object, void *detail)
{
	struct runner *r = object;

	r->end = END_LIED;
	do_kill(object, detail);
}

static void
do_wedged(void *object, void *detail)
{
	struct runner *r = object;

	(void)detail;
	snprintf(r->last_error, sizeof(r->last_error), "process %d is not gone %d s after SIGKILL",
	    (int)r->pid, 10);
	log_err("runner %s: %s; its device is given up until it goes", r->conf.section_name, r->last_error);
	runner_release_job(r, JOB_EVENT_RETRY, NULL);
	daemon_changed(r->daemon);
}

static void
do_alarm(void *object, void *detail)
{
	struct runner *r = object;

	(void)detail;
	log_err("runner %s: still wedged: %s", r->conf.section_name, r->last_error);
}

/* ---- the rest of the actions */

static void
do_ready(void *object, void *detail)
{
	struct runner *r = object;

	(void)detail;
	r->proved = true;
	r->start_failures = 0;
	r->probe_us = FIRST_PROBE_US;
	log_notice("runner %s: ready on %s, %.3f s after its start", r->conf.section_name, r->device,
	    (double)(clock_now_us() - r->spawned_us) * 1e-6);
	daemon_runner_ready(r->daemon);
}

static void
do_schedule(void *object, void *detail)
{
	struct runner *r = object;

	(void)detail;
	daemon_changed(r->daemon);
}

/* Its job is over, one way or another: a death from here on is its own again. */
static void
do_idle(void *object, void *detail)
{
	struct runner *r = object;

	r->end = END_ITSELF;
	do_schedule(object, detail);
}

static void
do_failed(void *object, void *detail)
{
	struct runner *r = object;

	(void)detail;
	if (r->permanent)
		log_err("runner %s: failed until 'zitctl restart %s' or a reload: %s", r->conf.section_name,
		    r->conf.section_name, r->last_error);
	else
		log_err("runner %s: failed, next try in %g s: %s", r->conf.section_name,
		    (double)r->probe_us * 1e-6, r->last_error);
	r->probe_us = 2 * r->probe_us < LAST_PROBE_US ? 2 * r->probe_us : LAST_PROBE_US;
	daemon_changed(r->daemon);
}

/* ---- the table */

#define IN(state) FSM_BIT(RUNNER_##state)
#define STARTING (IN(SPAWNING) | IN(LOADING) | IN(WARMING))
#define SERVING (IN(IDLE) | IN(BUSY) | IN(CANCELLING))
#define LIVE (STARTING | SERVING | IN(STOPPING) | IN(REAPING) | IN(WEDGED))

static const struct fsm_row rows[] = {
    {IN(BACKOFF) | IN(FAILED), RUNNER_EVENT_START, RUNNER_SPAWNING, do_spawn},
    {IN(BACKOFF) | IN(FAILED) | IN(STOPPED), RUNNER_EVENT_REVIVE, RUNNER_BACKOFF, NULL},
    {IN(BACKOFF) | IN(FAILED) | IN(STOPPED), RUNNER_EVENT_STOP, RUNNER_STOPPED, do_schedule},

    {IN(SPAWNING), RUNNER_EVENT_HELLO, RUNNER_LOADING, NULL},
    {IN(LOADING), RUNNER_EVENT_LOADING, RUNNER_LOADING, NULL},
    {IN(LOADING), RUNNER_EVENT_WARMING, RUNNER_WARMING, NULL},
    {IN(WARMING), RUNNER_EVENT_READY, RUNNER_IDLE, do_ready},
    {STARTING, RUNNER_EVENT_START_CLOCK, RUNNER_REAPING, do_kill_hung},

    {IN(IDLE), RUNNER_EVENT_DISPATCH, RUNNER_BUSY, NULL},
    {IN(BUSY), RUNNER_EVENT_ADVANCED, RUNNER_BUSY, NULL},
    {IN(BUSY) | IN(CANCELLING), RUNNER_EVENT_JOB_OVER, RUNNER_IDLE, do_idle},
    {IN(BUSY), RUNNER_EVENT_HANG_CLOCK, RUNNER_REAPING, do_kill_hung},
    {IN(BUSY), RUNNER_EVENT_CANCEL, RUNNER_CANCELLING, do_send_cancel},
    {IN(CANCELLING), RUNNER_EVENT_CANCEL_CLOCK, RUNNER_STOPPING, do_stopsignal},

    {STARTING | SERVING, RUNNER_EVENT_STOP, RUNNER_STOPPING, do_stop},
    {IN(STOPPING) | IN(REAPING) | IN(WEDGED), RUNNER_EVENT_STOP, FSM_SAME, NULL},
    {IN(STOPPING), RUNNER_EVENT_STOP_CLOCK, RUNNER_REAPING, do_kill},
    {STARTING | SERVING | IN(STOPPING), RUNNER_EVENT_LIE, RUNNER_REAPING, do_kill_liar},
    {IN(REAPING) | IN(WEDGED), RUNNER_EVENT_LIE, FSM_SAME, NULL},
    {IN(REAPING), RUNNER_EVENT_REAP_CLOCK, RUNNER_WEDGED, do_wedged},
    {IN(WEDGED), RUNNER_EVENT_ALARM_CLOCK, RUNNER_WEDGED, do_alarm},

    {LIVE, RUNNER_EVENT_DIED, RUNNER_BACKOFF, do_schedule},
    {LIVE, RUNNER_EVENT_DIED_FOR_GOOD, RUNNER_FAILED, do_failed},
    {LIVE, RUNNER_EVENT_DIED_STOPPED, RUNNER_STOPPED, do_schedule},
};

static void
on_timer(struct ev_loop *loop, struct ev_timer *w, int events)
{
	struct runner *r = w->data;

	(void)loop;
	(void)events;
	fsm_clock(&r->fsm);
}

static void
arm(void *object, int64_t clock_us)
{
	struct runner *r = object;

	daemon_arm_timer(r->daemon, &r->timer, clock_us);
}

static void
moved(void *object, int from, int to, int event)
{
	struct runner *r = object;

	if (from != to)
		log_debug("runner %s: %s -> %s (%s)", r->conf.section_name, states[from].name,
		    states[to].name, event_names[event]);
}

static void
refused(void *object, int state, int event)
{
	struct runner *r = object;

	log_warning("runner %s: %s: %s is not taken here", r->conf.section_name, states[state].name,
	    event_names[event]);
}

const struct fsm_kind runner_kind = {
    .what = "runner",
    .states = states,
    .state_count = RUNNER_STATE_COUNT,
    .event_names = event_names,
    .event_count = RUNNER_EVENT_COUNT,
    .rows = rows,
    .row_count = sizeof(rows) / sizeof(rows[0]),
    .arm = arm,
    .moved = moved,
    .refused = refused,
};

/* ---- making and freeing */

static void
on_death(struct ev_loop *loop, struct ev_io *w, int events)
{
	(void)loop;
	(void)events;
	runner_reap(w->data);
}

static void
on_channel(struct ev_loop *loop, struct ev_io *w, int events)
{
	(void)loop;
	runner_talk(w->data, events);
}

struct runner *
runner_new(struct daemon *d, const struct conf_runner *conf)
{
	struct runner *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return NULL;
	r->daemon = d;
	r->conf = *conf;
	r->pidfd = -1;
	r->probe_us = FIRST_PROBE_US;
	ev_init(&r->timer, on_timer);
	ev_init(&r->death_io, on_death);
	ev_init(&r->channel_io, on_channel);
	r->timer.data = r->death_io.data = r->channel_io.data = r;
	fsm_init(&r->fsm, &runner_kind, r, RUNNER_BACKOFF);
	return r;
}

void
runner_free(struct runner **r)
{
	if (*r == NULL)
		return;
	runner_close(*r);
	daemon_arm_timer((*r)->daemon, &(*r)->timer, 0);
	free(*r);
	*r = NULL;
}

void
runner_set_conf(struct runner *r, const struct conf_runner *conf)
{
	r->conf = *conf;
}

/* ---- what others ask and order */

const struct conf_runner *
runner_conf(const struct runner *r)
{
	return &r->conf;
}

enum runner_state
runner_state(const struct runner *r)
{
	return (enum runner_state)r->fsm.state;
}

bool
runner_has_process(const struct runner *r)
{
	return r->pid > 0;
}

bool
runner_may_serve(const struct runner *r)
{
	return (FSM_BIT(r->fsm.state) & (IN(FAILED) | IN(WEDGED) | IN(STOPPED))) == 0;
}

bool
runner_is_sound(const struct runner *r)
{
	bool needs_clock = states[r->fsm.state].clock_event >= 0 && states[r->fsm.state].clock_us(r) > 0;

	return !needs_clock || ev_is_active(&r->timer);
}

bool
runner_limits(const struct runner *r, int *default_side, int *max_side, int64_t *max_pixels)
{
	*default_side = r->default_side;
	*max_side = r->max_side;
	*max_pixels = r->max_pixels;
	return r->default_side > 0;
}

void
runner_dispatch(struct runner *r, struct job *job)
{
	struct proto_msg m = {.head = {.type = PROTO_JOB,
				  .job = job->number,
				  .attempt = ++job->attempt,
				  .generation = r->generation}};

	job->width = job->width > 0 ? job->width : r->default_side;
	job->height = job->height > 0 ? job->height : r->default_side;
	job->runner = r;
	job->generation = r->generation;
	job->stage = STAGE_NONE;
	job->step = job->picture = 0;
	r->job = job;
	r->current = m.head;
	r->dispatched_us = r->advanced_us = clock_now_us();
	m.JOB = (struct proto_JOB){(uint32_t)job->width, (uint32_t)job->height, (uint32_t)job->steps,
	    (uint32_t)job->count, job->truncate, job->seed, job->id, job->prompt, job->negative_prompt};
	log_info("runner %s: takes job %s, attempt %u", r->conf.section_name, job->id, job->attempt);
	job_event(job, JOB_EVENT_PICKED);
	fsm_event(&r->fsm, RUNNER_EVENT_DISPATCH, NULL);
	runner_send(r, &m);
}

void
runner_drop_job(struct runner *r)
{
	r->job->runner = NULL;
	r->job = NULL;
	r->end = END_TIMEOUT;
	r->stop_wait_us = (int64_t)(r->conf.stopwaitsecs_timeout * 1e6);
	if (r->fsm.state == RUNNER_BUSY)
		fsm_event(&r->fsm, RUNNER_EVENT_CANCEL, NULL);
}

void
runner_restart(struct runner *r)
{
	r->permanent = false;
	r->start_failures = 0;
	r->delay_us = 0;
	if (!runner_has_process(r)) {
		fsm_event(&r->fsm, RUNNER_EVENT_REVIVE, NULL);
		return;
	}
	r->end = END_PLANNED;
	r->stop_wait_us = (int64_t)(r->conf.stopwaitsecs * 1e6);
	runner_release_job(r, JOB_EVENT_RETRY, NULL);
	fsm_event(&r->fsm, RUNNER_EVENT_STOP, NULL);
}

void
runner_stop(struct runner *r, bool finish)
{
	if (finish && r->job != NULL)
		return; /* the daemon asks again when the job has ended */
	r->end = END_PLANNED;
	r->unwanted = true;
	r->stop_wait_us = (int64_t)(r->conf.stopwaitsecs * 1e6);
	runner_release_job(r, JOB_EVENT_RETRY, NULL);
	fsm_event(&r->fsm, RUNNER_EVENT_STOP, NULL);
}

json_t *
runner_record(const struct runner *r)
{
	json_t *record = json_pack("{s:s, s:s, s:i, s:i, s:i, s:i, s:s}", "name", r->conf.section_name,
	    "state", fsm_state_name(&r->fsm), "pid", (int)r->pid, "generation", (int)r->generation, "deaths",
	    r->deaths, "restarts", r->generation > 0 ? (int)r->generation - 1 : 0, "device",
	    r->device[0] != '\0' ? r->device : r->conf.device);

	if (r->model[0] != '\0') {
		json_object_set_new(record, "model", json_string(r->model));
		json_object_set_new(record, "default_side", json_integer(r->default_side));
		json_object_set_new(record, "max_side", json_integer(r->max_side));
		json_object_set_new(record, "max_pixels", json_integer(r->max_pixels));
	}
	if (r->job != NULL)
		json_object_set_new(record, "job", json_string(r->job->id));
	if (r->last_error[0] != '\0')
		json_object_set_new(record, "last_error", json_string(r->last_error));
	return record;
}
