/*
 * Numbers between their stored forms and float, on the host.
 */
#include "kernels/convert.h"

#include <assert.h>

/* 1 sign, 5 exponent (bias 15), 10 mantissa bits; subnormals are normalised by hand. */
float
float_of_f16(uint16_t half)
{
	uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 0x1f,
		 mantissa = half & 0x3ff;

	if (exponent == 0x1f)
		return float_of_bits(sign | 0x7f800000 | mantissa << 13);
	if (exponent != 0)
		return float_of_bits(sign | (exponent + 112) << 23 | mantissa << 13);
	return (sign != 0 ? -1.0f : 1.0f) * (float)mantissa * 0x1p-24f;
}

void
convert_to_float(float *to, const void *from, enum dtype type, int64_t count)
{
	const uint8_t *bytes = from;

	assert(type == DT_F32 || type == DT_BF16 || type == DT_F16);
	if (type == DT_F32) {
		memcpy(to, from, (size_t)count * sizeof(float));
		return;
	}
	for (int64_t i = 0; i < count; i++) {
		uint16_t half;
		memcpy(&half, bytes + 2 * i, sizeof(half));
		to[i] = type == DT_BF16 ? float_of_bf16(half) : float_of_f16(half);
	}
}

void
convert_from_float(void *to, enum dtype type, const float *from, int64_t count)
{
	uint8_t *bytes = to;

	assert(type == DT_F32 || type == DT_BF16);
	if (type == DT_F32) {
		memcpy(to, from, (size_t)count * sizeof(float));
		return;
	}
	for (int64_t i = 0; i < count; i++) {
		uint16_t half = bf16_of_float(from[i]);
		memcpy(bytes + 2 * i, &half, sizeof(half));
	}
}
