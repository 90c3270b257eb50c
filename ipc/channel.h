/*
 * One end of a supervisor-runner socket: whole messages with their descriptors, non-blocking, no event loop
 * in it.
 *
 * Sending queues what the socket does not take (bounded); descriptors given to channel_send are duplicated,
 * so the caller keeps its own. Received descriptors are CLOEXEC and belong to the caller. A message that
 * carries the wrong number of descriptors, or is not a row of proto.def, ends the channel with -ERR_PROTOCOL
 * and no descriptor leaks.
 */
#ifndef IPC_CHANNEL_H
#define IPC_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>

#include "ipc/proto.h"

struct channel;

/* Takes fd (SOCK_SEQPACKET, made non-blocking here). NULL if memory is short; fd is then still the caller's.
 */
struct channel *channel_new(int fd, enum proto_sender self);
void channel_free(struct channel **c); /* closes the socket and queued descriptors, nulls the pointer */
int channel_fd(const struct channel *c);

/* 0, or -ERR_PROTOCOL (does not pack), -ERR_QUEUE_FULL (the peer has not read for a thousand messages),
 * -ERR_UNREACHABLE (peer gone). fds may be NULL when proto_fds(type) is 0. */
int channel_send(struct channel *c, const struct proto_msg *m, const int *fds);
bool channel_has_output(const struct channel *c); /* wants a writable wake-up */
int channel_flush(struct channel *c);		  /* 0, or -ERR_UNREACHABLE */

/* 1: *m and fds[0 .. proto_fds(type)-1] are filled, strings valid until the next call. 0: there was nothing
 * more when it was looked at last; the next call looks again. Who asks must do so until it hears 0: what came
 * with a message and is not taken wakes nobody. -ERR_UNREACHABLE: the peer has closed. -ERR_PROTOCOL: it
 * broke the rules. */
int channel_receive(struct channel *c, struct proto_msg *m, int fds[PROTO_MAX_FDS]);

/* Both ends of a new SEQPACKET pair, CLOEXEC, send buffers large enough for one largest packet. 0 or
 * -ERR_SYSTEM. */
int channel_pair(int ends[2]);

#endif
