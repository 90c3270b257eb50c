/*
 * A runner's process: what it is started with, and what is closed when it has ended.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "supervisor/runners/cgroup.h"
#include "supervisor/runners/device_lock.h"
#include "supervisor/runners/environment.h"
#include "supervisor/journal.h"
#include "supervisor/runners/runner_inside.h"
#include "supervisor/runners/runner_program.h"
#include "supervisor/runners/spawn.h"
#include "supervisor/timer.h"

enum { MAX_ARGUMENTS = 32 };

/* The descriptors that a process is started with; its own order is that of the protocol's options. */
enum { FD_CHANNEL, FD_STATUS, FD_LOCK, FDS };

_Static_assert((int)FDS <= (int)SPAWN_MAX_FDS, "a child must take them all");

static pid_t
start_process(struct runner *r, const int fds[FDS], int output)
{
	const struct conf_runner *c = &r->conf;
	const char *device = runner_device(r), *gpu = runner_gpu_uuid(r);
	char generation[24], threads[24], max_pixels[24];
	struct environment environment;
	const char *command = runner_program(c->command, device, r->world->program);
	const char *const argv[MAX_ARGUMENTS] = {command, "--channel", "3", "--status", "4", "--name",
	    c->section_name, "--generation", generation, "--device", gpu != NULL ? "cuda:0" : device,
	    "--model", c->model, "--precision", c->precision, "--kernels", c->kernels, "--text-encoder",
	    c->text_encoder, "--threads", threads, "--max-pixels", max_pixels, NULL};
	struct spawn s = {
	    (char *const *)argv, environment.variables, output, {0}, FDS, cgroup_enter_fd(c->section_name)};
	pid_t pid;

	snprintf(generation, sizeof(generation), "%u", r->generation);
	snprintf(threads, sizeof(threads), "%lld", (long long)c->threads);
	snprintf(max_pixels, sizeof(max_pixels), "%lld", (long long)c->max_pixels);
	environment_make(&environment, c->environment, gpu);
	memcpy(s.fds, fds, FDS * sizeof(fds[0]));
	pid = spawn_process(&s, &r->pidfd);
	if (s.cgroup >= 0)
		close(s.cgroup);
	return pid;
}

/* ---- the device's lock */

/* A CUDA device is known by its uuid, or by its index where nobody has told that; CPUs are shared, so there
 * the runner itself is what must not be twice. */
static const char *
lock_name(const struct runner *r)
{
	const char *gpu = runner_gpu_uuid(r);

	if (gpu != NULL)
		return gpu;
	return strncmp(r->conf.device, "cuda:", 5) == 0 ? r->conf.device : r->conf.section_name;
}

/* The lock, or -1 after saying who holds it, with errno EWOULDBLOCK when waiting may help. A runner that
 * outlived its zitd is ended only if we are told to, another runner of ours never. */
static int
take_lock(struct runner *r)
{
	pid_t holder;
	int fd = device_lock_take(r->world->runtime_dir, lock_name(r), &holder), error = errno;
	const char *sibling;

	if (fd >= 0)
		return fd;
	sibling = error == EWOULDBLOCK ? r->world->name_of(r->world->arg, holder) : NULL;
	if (sibling != NULL) {
		error = EBUSY;
		snprintf(r->last_error, sizeof(r->last_error),
		    "runner %s has its device already; give one of them another device in zitd.conf",
		    sibling);
	} else if (error != EWOULDBLOCK) {
		snprintf(r->last_error, sizeof(r->last_error), "the lock of its device cannot be taken: %s",
		    strerror(error));
	} else if (strcmp(r->world->conf->orphans, "kill") == 0 &&
		   device_lock_kill(r->world->runtime_dir, lock_name(r), holder) == 0) {
		snprintf(r->last_error, sizeof(r->last_error), "process %d outlived its zitd and was killed",
		    (int)holder);
	} else {
		snprintf(r->last_error, sizeof(r->last_error),
		    "its device is held by process %d, which outlived its zitd; end that process, or set "
		    "orphans = kill",
		    (int)holder);
	}
	journal(EVENT_RUNNER_NOT_STARTED, .runner = r, .detail = r->last_error, .system_error = error);
	errno = error;
	return -1;
}

/* ---- one start */

void
runner_watch_channel(struct runner *r)
{
	int events = (r->deaf ? 0 : EV_READ) | (channel_has_output(r->channel) ? EV_WRITE : 0);

	ev_io_stop(r->world->loop, &r->channel_io);
	ev_io_set(&r->channel_io, channel_fd(r->channel), events);
	if (events != 0)
		ev_io_start(r->world->loop, &r->channel_io);
}

void
runner_watch(struct runner *r)
{
	ev_io_set(&r->death_io, r->pidfd, EV_READ);
	ev_io_start(r->world->loop, &r->death_io);
	runner_watch_channel(r);
}

static void
forget_last_process(struct runner *r)
{
	if (r->generation > 0)
		r->restarts[r->last_cause]++;
	r->generation++;
	r->started = r->conf;
	snprintf(
	    r->gpu_used, sizeof(r->gpu_used), "%s", runner_gpu_uuid(r) != NULL ? runner_gpu_uuid(r) : "");
	r->elder = false;
	r->proved = false;
	r->recycling[0] = '\0';
	r->end = END_ITSELF;
	r->fatal_text[0] = '\0';
	r->jobs_taken = 0;
	r->untold = false;
	r->dispatched_us = 0;
	r->slowest_step_us = 0;
	r->spawned_us = clock_now_us();
	r->oom_kills = runner_oom_kills();
}

/* All that a process needs but the lock. 0, or -1 with errno and nothing held but what runner_close closes.
 */
static int
start_with(struct runner *r, int lock)
{
	int ends[2] = {-1, -1}, fds[FDS] = {-1, -1, lock}, output = -1, error;

	if (channel_pair(ends) == 0 && (fds[FD_STATUS] = shm_create(&r->page)) >= 0 &&
	    (output = runner_log_open(&r->log)) >= 0 &&
	    (r->channel = channel_new(ends[0], PROTO_FROM_ZITD)) != NULL) {
		ends[0] = -1; /* the channel's now */
		fds[FD_CHANNEL] = ends[1];
		r->pid = start_process(r, fds, output);
	}
	error = errno;
	for (int i = 0; i < 2; i++) {
		if (ends[i] >= 0)
			close(ends[i]);
	}
	r->page_fd = fds[FD_STATUS];
	if (output >= 0)
		close(output);
	errno = error;
	if (r->pid > 0)
		return 0;
	r->pid = 0;
	return -1;
}

/* As its process would have ended. */
static void
refuse_without_device(struct runner *r)
{
	snprintf(r->last_error, sizeof(r->last_error), "%s", r->no_device);
	r->last_status = RUNNER_EXIT_NO_DEVICE << 8;
	r->permanent = true;
	journal(EVENT_RUNNER_NOT_STARTED, .runner = r, .detail = r->last_error);
	runner_not_started(r, true);
}

void
runner_spawn(struct runner *r)
{
	struct err e;
	int lock, error;

	forget_last_process(r);
	if (r->no_device[0] != '\0') {
		refuse_without_device(r);
		return;
	}
	lock = take_lock(r);
	if (lock < 0) {
		runner_not_started(r, errno != EWOULDBLOCK);
		return;
	}
	if (start_with(r, lock) == 0) {
		device_lock_note(lock, r->pid);
		close(lock); /* from here on it is the process's */
		journal(EVENT_RUNNER_STARTED, .runner = r);
		runner_watch(r);
		return;
	}
	error = errno;
	close(lock);
	err_set(&e, ERR_SYSTEM, "%s cannot be started: %s",
	    runner_program(r->conf.command, runner_device(r), r->world->program), strerror(error));
	snprintf(r->last_error, sizeof(r->last_error), "%s", e.text);
	journal(EVENT_RUNNER_NOT_STARTED, .runner = r, .detail = r->last_error, .system_error = error);
	runner_not_started(r, true);
}

void
runner_close(struct runner *r)
{
	struct ev_loop *loop = r->world->loop;

	ev_io_stop(loop, &r->death_io);
	ev_io_stop(loop, &r->channel_io);
	timer_arm(r->world->loop, &r->reap_poll, 0);
	channel_free(&r->channel);
	shm_detach(&r->page);
	if (r->page_fd >= 0)
		close(r->page_fd);
	r->page_fd = -1;
	runner_log_close(&r->log);
	if (r->pidfd >= 0)
		close(r->pidfd);
	r->pidfd = -1;
	runner_drop_spares(r);
	r->pid = 0;
}
