/*
 * One process per device: a lock that a runner inherits and that ends with it, so that a runner which
 * outlived its zitd still keeps the device for itself.
 */
#ifndef SUPERVISOR_RUNNERS_DEVICE_LOCK_H
#define SUPERVISOR_RUNNERS_DEVICE_LOCK_H

#include <sys/types.h>

/* Takes the lock `name` in `dir`. The fd (CLOEXEC) that holds it together with whoever inherits it; or -1
 * with errno, EWOULDBLOCK when another process holds it: *holder is then the pid that is written there, or 0.
 */
int device_lock_take(const char *dir, const char *name, pid_t *holder);
/* Writes who holds it, for the next one to read. */
void device_lock_note(int fd, pid_t pid);
/* SIGKILL to `holder` if it has the lock's file open: 0; or -1 with errno, ESRCH when it has not. */
int device_lock_kill(const char *dir, const char *name, pid_t holder);

#endif
