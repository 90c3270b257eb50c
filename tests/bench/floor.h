/* What the two floors share: programs that take lines at a Unix socket and do nothing about them. */
#ifndef ZIT_TESTS_BENCH_FLOOR_H
#define ZIT_TESTS_BENCH_FLOOR_H

#include <stdbool.h>
#include <stddef.h>

enum { FLOOR_LINE = 4096 };

/* Ends the program with errno's text. */
_Noreturn void floor_die(const char *what);

/* Serves for good: accepts at `path`, and calls take(fd) whenever something can be read from a client or from
 * one of the `own` descriptors; then turn(), unless it is NULL, once for all that came together. */
_Noreturn void floor_serve(
    const char *path, const int *own, int own_count, void (*take)(int fd), void (*turn)(void));

/* Reads a client's line, which comes whole, each client having one on its way at most. false: it is gone. */
bool floor_read(int client, char line[FLOOR_LINE + 1]);

/* A line of JSON of `bytes` with `what` in it. */
void floor_answer(int client, const char *what, size_t bytes);

#endif
