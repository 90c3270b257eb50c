/*
 * Answers that wait for the disk: nobody hears that something was done before it survives.
 */
#ifndef SUPERVISOR_METHODS_ACKS_H
#define SUPERVISOR_METHODS_ACKS_H

#include "supervisor/methods/call.h"

/* Whether an answer to the call must wait: by its method's row in api.def, and as far as something is not on
 * disk. */
bool acks_must_wait(const struct call *call);
/* Has it wait; the line is taken. The client is held until then (client_hold_in_turn), by the caller. */
void acks_add(struct call *call, char *line);
/* Those leave that have waited long enough, and all when the disk takes nothing. */
void acks_send(struct daemon *d);
void acks_client_gone(const struct client *c);

#endif
