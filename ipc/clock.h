/*
 * Time: monotonic for every interval and deadline, wall clock for what people read. Tests replace both.
 */
#ifndef IPC_CLOCK_H
#define IPC_CLOCK_H

#include <stdint.h>

int64_t clock_now_us(void);  /* CLOCK_MONOTONIC, microseconds */
int64_t clock_wall_us(void); /* CLOCK_REALTIME, microseconds since the epoch */

/* Tests: both clocks return *now_us from here on (the wall clock as an epoch time); NULL restores the real
 * ones. */
void clock_replace(const int64_t *now_us);

#endif
