/*
 * Asking the runner's program which devices there are (zit-runner --probe), as a process of its own: a driver
 * that hangs takes that process with it, and nobody else.
 */
#ifndef SUPERVISOR_RUNNERS_PROBE_H
#define SUPERVISOR_RUNNERS_PROBE_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct devices;

enum { PROBE_BYTES = 64 * 1024 }; /* it may print less than that */

struct probe {
	struct ev_loop *loop;
	void *arg;
	/* What it says, which is the callee's now; or NULL, with the reason. The probe is over. */
	void (*done)(void *arg, struct devices *found, const char *why);
	void (*died)(void *arg); /* its process, or it soon will; it may leave others behind */
	pid_t pid;		 /* 0: none is under way */
	int pidfd, output;
	struct ev_io end_io, output_io;
	struct ev_timer clock;
	int64_t clock_us;
	char *text; /* what it has printed */
	size_t used;
};

void probe_init(struct probe *p, struct ev_loop *loop, void *arg,
    void (*done)(void *arg, struct devices *found, const char *why), void (*died)(void *arg));
/* Starts one; none may be under way. `environment` as in zitd.conf. It is over after clock_us at the latest.
 * 0, or errno. */
int probe_start(struct probe *p, const char *program, const char *environment, int64_t clock_us);
/* Ends it, if one is under way, without a word. */
void probe_stop(struct probe *p);
bool probe_is_under_way(const struct probe *p);

#endif
