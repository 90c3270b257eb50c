/*
 * Numbers between their stored forms and float, on the host.
 */
#ifndef KERNELS_CONVERT_H
#define KERNELS_CONVERT_H

#include <stdint.h>
#include <string.h>

#include "kernels/ops.h"

static inline float
float_of_bits(uint32_t bits)
{
	float value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

static inline uint32_t
bits_of_float(float value)
{
	uint32_t bits;

	memcpy(&bits, &value, sizeof(bits));
	return bits;
}

static inline float
float_of_bf16(uint16_t half)
{
	return float_of_bits((uint32_t)half << 16);
}

/* Nearest, ties to even; a NaN stays one. */
static inline uint16_t
bf16_of_float(float value)
{
	uint32_t bits = bits_of_float(value);

	if ((bits & 0x7fffffff) > 0x7f800000)
		return (uint16_t)(bits >> 16 | 0x40);
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float float_of_f16(uint16_t half);

/* count numbers of any float type to float and back; `from` and `to` need no alignment. F16 is read only. */
void convert_to_float(float *to, const void *from, enum dtype type, int64_t count);
void convert_from_float(void *to, enum dtype type, const float *from, int64_t count);

#endif
