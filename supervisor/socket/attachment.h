/*
 * What comes with an answer besides its text: descriptors, passed with it, or read and encoded into it.
 */
#ifndef SUPERVISOR_SOCKET_ATTACHMENT_H
#define SUPERVISOR_SOCKET_ATTACHMENT_H

#include <stdbool.h>

#include "ipc/fds.h"

struct outbox;

struct attachment {
	int fds[FDS_MAX_SENT];	    /* taken over */
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

#endif
