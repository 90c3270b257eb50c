/*
 * exp and what hangs on it, in a form that the compiler makes vectors of.
 */
#ifndef KERNELS_CPU_FAST_MATH_H
#define KERNELS_CPU_FAST_MATH_H

#include "kernels/convert.h"

/* e^x within 2e-7 relative for -87 <= x <= 88; beyond, the value at the bound (e^-87 is 1.6e-38, as good as 0
 * here). x = k ln 2 + r, |r| <= ln 2 / 2; e^r by its series to the seventh power; 2^k put into the exponent.
 * The addition of 1.5 * 2^23 leaves k in the low bits of the sum. */
static inline float
fast_exp(float x)
{
	const float round = 12582912.0f;
	float sum, k, r, p;

	x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
	sum = x * 1.44269504f + round;
	k = sum - round;
	r = x - k * 0.693145752f - k * 1.42860677e-6f; /* ln 2 in two parts: the first product is exact */
	p = 1.0f / 5040.0f;
	p = p * r + 1.0f / 720.0f;
	p = p * r + 1.0f / 120.0f;
	p = p * r + 1.0f / 24.0f;
	p = p * r + 1.0f / 6.0f;
	p = p * r + 0.5f;
	p = p * r + 1.0f;
	p = p * r + 1.0f;
	return float_of_bits(bits_of_float(p) + (bits_of_float(sum) << 23));
}

static inline float
fast_silu(float x)
{
	return x / (1.0f + fast_exp(-x));
}

#endif
