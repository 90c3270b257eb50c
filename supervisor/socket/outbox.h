/*
 * What a connection still has to send: pieces of text, pieces of files as base64, and descriptors that go
 * with a byte. Files are read and encoded as the socket takes them, so a large answer costs no memory.
 */
#ifndef SUPERVISOR_SOCKET_OUTBOX_H
#define SUPERVISOR_SOCKET_OUTBOX_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>

enum { OUTBOX_SMALL = 24 * 1024 }; /* bytes of a file that can as well be read at once */

struct handover;
struct piece;

struct outbox {
	STAILQ_HEAD(, piece) pieces;
	size_t weight; /* what it keeps: bytes of text, and FD_WEIGHT for each descriptor */
	int passed;    /* descriptors since the other end had taken all, at most MAX_PASSED */
	bool waits;    /* for it to take them: no writable wake-up tells that */
};

void outbox_init(struct outbox *o);
void outbox_clear(struct outbox *o); /* closes what it holds */
bool outbox_is_empty(const struct outbox *o);

/* `text` is copied; fds, if any, FDS_MAX_SENT at most, are sent with its first byte and closed then. 0 or
 * -ERR_SYSTEM (nothing taken). */
int outbox_text(struct outbox *o, const char *text, size_t bytes, const int *fds, int fd_count);
/* Likewise with a newline behind it. */
int outbox_line(struct outbox *o, const char *text, const int *fds, int fd_count);
/* All of the file, as base64; fd is taken. 0 or -ERR_SYSTEM (nothing taken). */
int outbox_base64(struct outbox *o, int fd);
/* Likewise of one of so many bytes, OUTBOX_SMALL at most, that is read before this returns: fd stays the
 * caller's. */
int outbox_base64_now(struct outbox *o, int fd, size_t bytes);

/* From one zitd to the next: what is left to send, a new reference; and back, into an empty one. */
json_t *outbox_hand_over(const struct outbox *o, struct handover *h);
void outbox_take_over(struct outbox *o, const json_t *pieces);

/* Sends what the socket takes, at most about a mebibyte, and no descriptors on top of many that lie unread:
 * the kernel counts those against all that we send, to runners too. Bytes sent, 0 when it takes none,
 * -ERR_UNREACHABLE, or -ERR_SYSTEM (no memory). */
long outbox_send(struct outbox *o, int socket);

#endif
