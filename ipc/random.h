/*
 * Random bytes of the kernel, fetched some at a time: for ids and seeds, not for secrets.
 */
#ifndef IPC_RANDOM_H
#define IPC_RANDOM_H

#include <stddef.h>

/* Fills `count` bytes, at most 64. */
void random_bytes(void *out, size_t count);

#endif
