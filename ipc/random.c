/*
 * Random bytes, fetched some at a time.
 */
#include "ipc/random.h"

#include <assert.h>
#include <string.h>
#include <sys/random.h>

enum { POOL = 256, MOST = 64 };

void
random_bytes(void *out, size_t count)
{
	static unsigned char pool[POOL]; /* POOL bytes are never short once the kernel is ready */
	static size_t left;

	assert(count <= MOST);
	if (left < count)
		left = getrandom(pool, POOL, 0) == POOL ? POOL : 0;
	if (left < count) { /* cannot be */
		memset(out, 0, count);
		return;
	}
	left -= count;
	memcpy(out, pool + left, count);
	memset(pool + left, 0, count);
}
