/*
 * A growing byte buffer with a hard limit, for lines in and lines out. Reads move a front offset; memory is
 * given back when it empties, so that an idle connection costs nothing.
 */
#ifndef IPC_BUF_H
#define IPC_BUF_H

#include <stddef.h>
#include <stdint.h>

struct buf {
	char *data;
	size_t start, end, size; /* the content is data[start .. end-1]; start <= end <= size <= limit */
	size_t limit;
};

void buf_init(struct buf *b, size_t limit);
void buf_clear(struct buf *b); /* frees the memory; the buffer is empty and usable again */

size_t buf_length(const struct buf *b);
const char *buf_bytes(const struct buf *b); /* first byte of the content; valid until the next change */

/* 0, or -ERR_FRAME_TOO_LARGE (nothing added) when the content would pass the limit, or -ERR_SYSTEM (no
 * memory). */
int buf_add(struct buf *b, const void *bytes, size_t count);
/* Room for `count` more bytes at *room; buf_commit says how many were written there. Same errors. */
int buf_reserve(struct buf *b, size_t count, char **room);
void buf_commit(struct buf *b, size_t count);
void buf_drain(struct buf *b, size_t count); /* drops that many bytes from the front */

#endif
