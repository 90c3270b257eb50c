/*
 * All that a running zitd is, from one program to the next.
 */
#ifndef SUPERVISOR_DAEMON_HANDOVER_H
#define SUPERVISOR_DAEMON_HANDOVER_H

#include "supervisor/daemon.h"
#include "supervisor/handover.h"

/* Makes the document. It is whole only when the disk has nothing to do and runners have all that was
 * sent to them; it can be read at any time. */
void daemon_hand_over(struct daemon *d, struct handover *h);
/* Whether a zitd with that configuration can take it over: 0, or a negative code with *e.
 * Opens nothing. */
int daemon_check_handover(const struct handover *h, const struct conf *conf, struct err *e);
/* Into a new daemon whose parts are there and empty. 0, or a negative code with *e. */
int daemon_take_over(struct daemon *d, const struct handover *h, struct err *e);
/* Opens the store that the zitd before left, whose jobs are in memory: on the disk thread, before all that it
 * is given later. */
int daemon_follow_store(struct daemon *d, struct err *e);
/* The lock of the state directory, the caller's. */
int daemon_handed_lock(const struct handover *h);
int daemon_handed_listener(const struct handover *h);

#endif
