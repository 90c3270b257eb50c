/*
 * The runner's conversation with zitd: jobs in, steps made, pictures out.
 */
#ifndef RUNNER_SESSION_H
#define RUNNER_SESSION_H

#include <stdint.h>

#include "ipc/channel.h"
#include "ipc/shm.h"
#include "runner/generation.h"

struct session;

/* All three stay the caller's and outlive the session. `device` is its name for metadata. NULL: no memory. */
struct session *session_new(struct channel *channel, struct status_page *page, uint32_t generation,
    struct model *model, struct device *device);
void session_free(struct session **s);

/* Until zitd asks to stop, goes away, or something ends the process: the exit status, its reason in *e when
 * not 0. */
int session_run(struct session *s, struct err *e);

/* From a signal handler: stop at the next step. */
void session_interrupt(void);

#endif
