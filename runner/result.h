/*
 * A result as a sealed memfd: written once, then nobody can change, grow or shrink it.
 */
#ifndef RUNNER_RESULT_H
#define RUNNER_RESULT_H

#include <stddef.h>

/* An empty one (CLOEXEC), or -1 with errno. */
int result_create(void);
/* 0, or -1 with errno. */
int result_write(int fd, const void *bytes, size_t count);
/* Seals it against everything. 0, or -1 with errno. */
int result_seal(int fd);

#endif
