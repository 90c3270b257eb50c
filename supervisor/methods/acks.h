/*
 * Answers that wait for the disk: nobody hears that something was done before it survives.
 */
#ifndef SUPERVISOR_METHODS_ACKS_H
#define SUPERVISOR_METHODS_ACKS_H

#include "supervisor/methods/call.h"

/* Whether an answer to the call must wait: by its method's row in api.def, as far as something is not on
 * disk; or behind another one to the client that does. */
bool acks_must_wait(const struct call *call);
/* Has it wait: *line and the call's attachment are taken. false: there is no memory, or no descriptor,
 * and *line an error that is to be sent instead. */
bool acks_add(struct call *call, char **line);
/* Those leave that have waited long enough, and all when the disk takes nothing. */
void acks_send(struct daemon *d);
void acks_client_gone(const struct client *c);

#endif
