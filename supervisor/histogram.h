/*
 * How long things take, counted in fixed buckets: 1 ms, 2 ms, 4 ms and so on to 35 minutes, and one for all
 * that is longer. Of constant size, and counted in constant time.
 *
 * Pure: no clock, no I/O.
 */
#ifndef SUPERVISOR_HISTOGRAM_H
#define SUPERVISOR_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_BOUNDS = 22 };

struct histogram {
	uint64_t counts[HISTOGRAM_BOUNDS + 1]; /* of each bucket by itself; the last has no bound */
	double sum_s;
};

/* Seconds; what is below 0 or no number is not counted. */
void histogram_observe(struct histogram *h, double seconds);
/* Upper bound of bucket i < HISTOGRAM_BOUNDS in seconds; it belongs to the bucket. */
double histogram_bound(int i);
/* How many were at most that; i = HISTOGRAM_BOUNDS: how many there were. */
uint64_t histogram_at_most(const struct histogram *h, int i);

#endif
