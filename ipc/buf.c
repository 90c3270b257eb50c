/*
 * A growing byte buffer with a hard limit.
 */
#include "ipc/buf.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/err.h"

enum { SMALLEST = 512 };

void
buf_init(struct buf *b, size_t limit)
{
	*b = (struct buf){.limit = limit};
}

void
buf_clear(struct buf *b)
{
	free(b->data);
	buf_init(b, b->limit);
}

size_t
buf_length(const struct buf *b)
{
	return b->end - b->start;
}

const char *
buf_bytes(const struct buf *b)
{
	return b->data + b->start;
}

/* Moves the content to the front of `size` bytes. */
static int
resize(struct buf *b, size_t size)
{
	size_t length = buf_length(b);
	char *data;

	if (b->start > 0)
		memmove(b->data, b->data + b->start, length);
	b->start = 0;
	b->end = length;
	if (size <= b->size)
		return 0;
	data = realloc(b->data, size);
	if (data == NULL)
		return -ERR_SYSTEM;
	b->data = data;
	b->size = size;
	return 0;
}

int
buf_reserve(struct buf *b, size_t count, char **room)
{
	size_t length = buf_length(b), size = b->size > 0 ? b->size : SMALLEST;

	if (count > b->limit - length)
		return -ERR_FRAME_TOO_LARGE;
	if (count > b->size - b->end) {
		while (size < length + count)
			size = size <= b->limit / 2 ? size * 2 : b->limit;
		if (resize(b, size) != 0)
			return -ERR_SYSTEM;
	}
	*room = b->data + b->end;
	return 0;
}

void
buf_commit(struct buf *b, size_t count)
{
	assert(count <= b->size - b->end);
	b->end += count;
}

int
buf_add(struct buf *b, const void *bytes, size_t count)
{
	char *room;
	int status;

	if (count == 0)
		return 0;
	status = buf_reserve(b, count, &room);
	if (status != 0)
		return status;
	memcpy(room, bytes, count);
	buf_commit(b, count);
	return 0;
}

void
buf_drain(struct buf *b, size_t count)
{
	assert(count <= buf_length(b));
	b->start += count;
	if (b->start == b->end)
		buf_clear(b);
}
