/*
 * Where zitd keeps its things: directories made, the state directory locked.
 */
#ifndef SUPERVISOR_PATHS_H
#define SUPERVISOR_PATHS_H

#include <limits.h>

#include "ipc/err.h"
#include "supervisor/conf.h"

struct paths {
	char runtime_dir[PATH_MAX - 64], state_dir[PATH_MAX - 64];
	char socket[PATH_MAX], results[PATH_MAX];
	char program[PATH_MAX], runner[PATH_MAX]; /* ours, and the runner's beside it */
	int lock_fd;
};

/* By the configuration, or what is usual. Touches nothing. */
void paths_find(struct paths *p, const struct conf_zitd *conf);
/* Likewise, makes what is missing and takes the lock, which p->lock_fd may have already (-1: it has not);
 * 0, or -ERR_SYSTEM / -ERR_NOT_PERMITTED with the reason (another zitd's pid, for one). */
int paths_open(struct paths *p, const struct conf_zitd *conf, struct err *e);
void paths_close(struct paths *p);

#endif
