/*
 * Processes that a runner left behind. zitd is their next parent (it is a subreaper), ends them and takes
 * their status.
 */
#ifndef SUPERVISOR_RUNNERS_STRAYS_H
#define SUPERVISOR_RUNNERS_STRAYS_H

#include <stdbool.h>
#include <sys/types.h>

/* From here on orphans of our children become ours. */
void strays_open(void);
/* Kills every child that is not `known`, and reaps those that are dead. Whether any is left: look again soon.
 */
bool strays_sweep(bool (*known)(void *arg, pid_t pid), void *arg);

#endif
