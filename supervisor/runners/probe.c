/*
 * Asking the runner's program which devices there are. Its end is what is waited for, not the end of its
 * output, which a process that it started may keep open.
 */
#include "supervisor/runners/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "supervisor/runners/devices.h"
#include "supervisor/runners/environment.h"
#include "supervisor/runners/spawn.h"
#include "supervisor/timer.h"

bool
probe_is_under_way(const struct probe *p)
{
	return p->pid > 0;
}

/* ---- the end */

static void
close_all(struct probe *p)
{
	struct ev_loop *loop = p->loop;

	ev_io_stop(loop, &p->end_io);
	ev_io_stop(loop, &p->output_io);
	timer_arm(p->loop, &p->clock, 0);
	close(p->pidfd);
	close(p->output);
	free(p->text);
	p->text = NULL;
	p->pid = 0;
}

void
probe_stop(struct probe *p)
{
	if (!probe_is_under_way(p))
		return;
	kill(-p->pid, SIGKILL);
	kill(p->pid, SIGKILL); /* its group may not be there yet */
	close_all(p);
	p->died(p->arg); /* it is buried as those are that runners leave behind, however late */
}

static void
fail(struct probe *p, const char *why)
{
	probe_stop(p);
	p->done(p->arg, NULL, why);
}

/* ---- what it prints */

/* false: it is too much. */
static bool
read_output(struct probe *p)
{
	ssize_t n = 1;

	while (n > 0 && p->used < PROBE_BYTES - 1) {
		n = read(p->output, p->text + p->used, PROBE_BYTES - 1 - p->used);
		p->used += n > 0 ? (size_t)n : 0;
	}
	p->text[p->used] = '\0';
	if (n == 0)
		ev_io_stop(p->loop, &p->output_io);
	return p->used < PROBE_BYTES - 1;
}

static void
on_output(struct ev_loop *loop, struct ev_io *w, int events)
{
	(void)loop;
	(void)events;
	if (!read_output(w->data))
		fail(w->data, "it does not stop printing");
}

/* ---- its end */

static void
judge(struct probe *p, int status)
{
	char why[DEVICES_REASON] = "";
	struct devices *found = NULL;

	if (!read_output(p))
		snprintf(why, sizeof(why), "it does not stop printing");
	else if (WIFSIGNALED(status))
		snprintf(why, sizeof(why), "it was killed by signal %d (%s)", WTERMSIG(status),
		    strsignal(WTERMSIG(status)));
	else
		found = devices_parse(p->text, WEXITSTATUS(status), why);
	kill(-p->pid, SIGKILL); /* whatever it left in its group */
	close_all(p);
	p->died(p->arg); /* or beside it */
	p->done(p->arg, found, why);
}

static void
on_end(struct ev_loop *loop, struct ev_io *w, int events)
{
	struct probe *p = w->data;
	int status;

	(void)loop;
	(void)events;
	if (waitpid(p->pid, &status, WNOHANG) == p->pid)
		judge(p, status);
	else
		fail(p, "its end cannot be told");
}

static void
on_clock(struct ev_loop *loop, struct ev_timer *w, int events)
{
	struct probe *p = w->data;
	char why[DEVICES_REASON];

	(void)loop;
	(void)events;
	snprintf(why, sizeof(why),
	    "it gave no answer within %.3g s, and was killed; the driver hangs, perhaps",
	    (double)p->clock_us * 1e-6);
	fail(p, why);
}

/* ---- the beginning */

void
probe_init(struct probe *p, struct ev_loop *loop, void *arg,
    void (*done)(void *arg, struct devices *found, const char *why), void (*died)(void *arg))
{
	*p = (struct probe){.loop = loop, .arg = arg, .done = done, .died = died, .pidfd = -1, .output = -1};
	ev_init(&p->end_io, on_end);
	ev_init(&p->output_io, on_output);
	ev_init(&p->clock, on_clock);
	p->end_io.data = p->output_io.data = p->clock.data = p;
}

static int
start_process(struct probe *p, const char *program, const char *environment, int output)
{
	struct environment e;
	const char *const argv[] = {program, "--probe", NULL};
	struct spawn s = {(char *const *)argv, e.variables, .output = output, .cgroup = -1};

	environment_make(&e, environment, NULL);
	p->pid = spawn_process(&s, &p->pidfd);
	if (p->pid > 0)
		return 0;
	p->pid = 0;
	return errno;
}

int
probe_start(struct probe *p, const char *program, const char *environment, int64_t clock_us)
{
	int ends[2], error = pipe2(ends, O_CLOEXEC) == 0 ? 0 : errno;

	if (error != 0)
		return error;
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	p->text = malloc(PROBE_BYTES);
	error = p->text != NULL ? start_process(p, program, environment, ends[1]) : ENOMEM;
	close(ends[1]);
	if (error != 0) {
		close(ends[0]);
		free(p->text);
		p->text = NULL;
		return error;
	}
	p->output = ends[0];
	p->used = 0;
	p->clock_us = clock_us;
	ev_io_set(&p->end_io, p->pidfd, EV_READ);
	ev_io_set(&p->output_io, p->output, EV_READ);
	ev_io_start(p->loop, &p->end_io);
	ev_io_start(p->loop, &p->output_io);
	timer_arm(p->loop, &p->clock, clock_us);
	return 0;
}
