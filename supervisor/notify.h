/*
 * What systemd hears of us (sd_notify), each message in its place. Does nothing when nobody listens.
 *
 * Descriptors for systemd to keep are those of listening sockets; a CPU's weights are a mapping of the
 * model's file, of which there is none.
 */
#ifndef SUPERVISOR_NOTIFY_H
#define SUPERVISOR_NOTIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ev_loop;

enum { NOTIFY_STATUS = 400 }; /* bytes of a status */

/* Before the others. `describe` writes the status, of NOTIFY_STATUS bytes at most, when it is wanted. */
void notify_open(
    struct ev_loop *loop, void (*describe)(const void *arg, char *text, size_t size), const void *arg);
void notify_ready(void); /* once; later it is notify_status */
/* It may be another: sent when it differs from the last one, and a second after that at the earliest. */
void notify_status(void);
void notify_extend(int64_t timeout_us); /* before notify_ready: starting takes that much longer */
void notify_reloading(void);		/* these two only once we are ready */
void notify_reloaded(void);
void notify_upgraded(bool was_ready);	  /* the new program's notify_reloaded */
void notify_stopping(int64_t timeout_us); /* and may take so long; again when it takes longer */
/* The start has failed: why, in a line, and an errno. */
void notify_failed(const char *why, int error);
void notify_end(void); /* returns when systemd has read all, or after a second */

void notify_watchdog(void);
void notify_trigger(void); /* what must hold does not: we are to be ended at once */
/* How often to ping: half of what systemd allows; 0: it does not watch. */
int64_t notify_watchdog_period_us(void);

/* systemd keeps the descriptor under that name, and passes it to the next zitd, however this one ends.
 * Whether there is somebody to do so. */
bool notify_store(int fd, const char *name);
void notify_forget(const char *name);

#endif
