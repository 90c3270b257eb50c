/*
 * Fixed buckets, each twice as wide as the one before.
 */
#include "supervisor/histogram.h"

#include <math.h>

double
histogram_bound(int i)
{
	return ldexp(1, i) / 1000;
}

/* By the exponent; the neighbours are looked at, for a bound is seldom a whole binary number. */
static int
bucket_of(double seconds)
{
	int i;

	frexp(seconds * 1000, &i);
	if (i < 0)
		i = 0;
	else if (i > HISTOGRAM_BOUNDS)
		i = HISTOGRAM_BOUNDS;
	while (i > 0 && seconds <= histogram_bound(i - 1))
		i--;
	while (i < HISTOGRAM_BOUNDS && seconds > histogram_bound(i))
		i++;
	return i;
}

void
histogram_observe(struct histogram *h, double seconds)
{
	if (!isfinite(seconds) || seconds < 0)
		return;
	h->counts[bucket_of(seconds)]++;
	h->sum_s += seconds;
}

uint64_t
histogram_at_most(const struct histogram *h, int i)
{
	uint64_t count = 0;

	for (int k = 0; k <= i; k++)
		count += h->counts[k];
	return count;
}
