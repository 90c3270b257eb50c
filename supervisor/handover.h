/*
 * What one zitd hands to the next over exec: one JSON document in a sealed memfd, and the descriptors that it
 * names, which keep their numbers. What is in it is written and read by the parts: daemon_handover.c,
 * client_handover.c, runner_handover.c, job_handover.c, waiters.c, events.c.
 */
#ifndef SUPERVISOR_HANDOVER_H
#define SUPERVISOR_HANDOVER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "ipc/err.h"

/* Of the document: one that is higher than ours is refused. A member that is new and may be missing does not
 * raise it; one that the next zitd must understand does. */
enum { HANDOVER_VERSION = 1 };

struct handover {
	json_t *root;
	int *fds; /* that go with it; of the writer only */
	int fd_count, fd_room;
	bool short_of_memory; /* it is not whole */
};

/* ---- the writer */

/* Empty but for its head: versions, build. */
void handover_init(struct handover *h);
void handover_clear(struct handover *h);
/* Its number as the document has it, noted to survive exec; below 0 is none. The descriptor stays the
 * caller's. */
json_t *handover_fd(struct handover *h, int fd);
/* Bytes of any kind. */
json_t *handover_bytes(const void *bytes, size_t count);
/* The document as a sealed memfd (CLOEXEC), or -1 with errno. */
int handover_write(const struct handover *h);
/* Whether its descriptors survive exec. */
void handover_keep_over_exec(const struct handover *h, bool keep);

/* ---- the reader */

/* Takes fd. 0, or a negative code with *e: it is no document, or one that this zitd does not know. */
int handover_read(struct handover *h, int fd, struct err *e);
/* The descriptor, CLOEXEC again, the caller's now; -1: there is none. */
int handover_take_fd(const json_t *fd);
/* The caller frees them; *count is their number. NULL: no such thing, or no memory. */
char *handover_take_bytes(const json_t *bytes, size_t *count);
/* Whether the one that wrote it speaks to runners as we do; of the same build even. */
bool handover_same_protocol(const struct handover *h);
bool handover_same_build(const struct handover *h);

#endif
