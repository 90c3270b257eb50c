/*
 * What comes with an answer besides its text: descriptors, passed with it, or read and encoded into it.
 */
#ifndef SUPERVISOR_SOCKET_ATTACHMENT_H
#define SUPERVISOR_SOCKET_ATTACHMENT_H

#include <stdbool.h>
#include <stddef.h>

#include "ipc/fds.h"

struct outbox;

struct attachment {
	int fds[FDS_MAX_SENT]; /* taken over, unless lent */
	size_t
	    lent[FDS_MAX_SENT]; /* such a one's bytes, OUTBOX_SMALL at most, for inline_base64 alone: it is
				   read when the answer is queued, and stays whose it is; 0: it is not lent */
	int pictures[FDS_MAX_SENT]; /* which of its job each one is */
	int count;
	bool inline_base64; /* each fd's bytes stand in the text where attachment_placeholder(i) is; else they
			       are passed */
};

/* The text that stands for attachment `i` until its bytes take its place. */
void attachment_placeholder(int i, char out[48]);

/* Queues a line, given without its newline, and its attachment (NULL: none), which is taken either way.
 * false: no memory, now or when the line (NULL) was made; part of it may be queued. */
bool attachment_queue(struct outbox *o, const char *text, struct attachment *a);

/* One that is kept, longer than who lent it lends: it gets descriptors of its own. false: there are none, and
 * the rest is still lent. */
bool attachment_own(struct attachment *a);
/* One that is not wanted (NULL: none): closes what it took over, and empties it. */
void attachment_drop(struct attachment *a);

#endif
