/*
 * The runner's conversation with zitd: jobs in, steps made, pictures out.
 */
#ifndef RUNNER_SESSION_H
#define RUNNER_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "ipc/channel.h"
#include "ipc/shm.h"
#include "runner/generation.h"

struct session;

/* What a session works with; all of it stays the caller's and outlives the session. */
struct session_parts {
	const char *name; /* of the runner, for log lines */
	uint32_t generation;
	struct channel *channel;
	struct status_page *page;
	struct model *model;
	struct device *device;
	uint32_t canary; /* checksum of the first small picture (canary.h) */
};

/* NULL: no memory, no thread, or no descriptor; errno says. */
struct session *session_new(const struct session_parts *parts);
void session_free(struct session **s);

/* Until zitd asks to stop, goes away, or something ends the process: the exit status, its reason in *e when
 * not 0. */
int session_run(struct session *s, struct err *e);

/* From a signal handler: stop at the next step. */
void session_interrupt(void);
bool session_is_interrupted(void);

/* What the process ends with (enum runner_exit) when an error ends it. */
int session_exit_status(enum err_code code);

#endif
