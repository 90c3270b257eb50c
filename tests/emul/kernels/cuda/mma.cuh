/*
 * kernels/cuda/mma.cuh for the emulated device: every function does what the PTX manual (9.0) says of its
 * instruction: ldmatrix, "Matrix Fragments for mma.m16n8k16 with floating point type", cp.async (src-size),
 * cvt (.bf16x2: the first source is the upper half), ex2.approx.ftz (up to 2^-22 off; of -inf +0) and
 * rcp.approx.ftz (1 ulp; of an infinity 0).
 */
#ifndef KERNELS_CUDA_MMA_CUH
#define KERNELS_CUDA_MMA_CUH

#include <cuda_runtime.h>
#include <stdint.h>

#include "tests/emul/block.h"

extern "C" {
#include "kernels/convert.h"
}

static inline unsigned char *
dynamic_shared(void)
{
	return emul_shared();
}

static inline uint32_t
shared_address(const void *p)
{
	return emul_shared_address(p);
}

static inline uint32_t
pack_bf16(float low, float high)
{
	return bf16_of_float(low) | (uint32_t)bf16_of_float(high) << 16;
}

static inline float
float_of_half(uint16_t half)
{
	return float_of_f16(half);
}

/* y as an approximation gives it that may be off by so much of it: some are too large, others too small, the
 * same x always alike; what float has no normal number for is 0. */
static inline float
emul_approximate(float x, float y, float off)
{
	uint32_t bits;

	memcpy(&bits, &x, sizeof(bits));
	y *= 1.0f + ((bits * 2654435761u) >> 31 ? off : -off);
	return fabsf(y) < 0x1p-126f ? copysignf(0.0f, y) : y;
}

static inline float
fast_exp2(float x)
{
	return emul_approximate(x, exp2f(x), 0x1p-22f);
}

static inline float
fast_reciprocal(float x)
{
	return emul_approximate(x, 1.0f / x, 0x1p-23f);
}

/* ---- ldmatrix: lanes 8i .. 8i + 7 bring the rows of tile i */

struct emul_tiles {
	const uint16_t *row;
	uint32_t *r;
};

/* Element (row, column) of tile i. */
static inline uint32_t
emul_element(void *lanes[32], int i, int row, int column)
{
	return ((emul_tiles *)lanes[8 * i + row])->row[column];
}

/* Rows are 16 bytes, a pass of the banks is 128: two of a tile's rows in one place of it cost one more pass.
 */
static inline void
emul_look_at_rows(void *lanes[32])
{
	for (int i = 0; i < 4; i++) {
		unsigned seen = 0;
		for (int row = 0; row < 8; row++) {
			uintptr_t at = (uintptr_t)((emul_tiles *)lanes[8 * i + row])->row;
			if (at % 16 != 0)
				emul_fault("a row of a tile is not aligned");
			emul_conflict_count += seen >> at / 16 % 8 & 1;
			seen |= 1u << at / 16 % 8;
		}
	}
}

static inline void
load_tiles(uint32_t r[4], const void *row)
{
	emul_tiles mine = {(const uint16_t *)row, r};

	emul_warp("ldmatrix", 0xffffffffu, &mine, [](void *lanes[32]) {
		emul_look_at_rows(lanes);
		for (int l = 0; l < 32; l++) {
			for (int i = 0; i < 4; i++)
				((emul_tiles *)lanes[l])->r[i] = emul_element(lanes, i, l / 4, l % 4 * 2) |
								 emul_element(lanes, i, l / 4, l % 4 * 2 + 1)
								     << 16;
		}
	});
}

static inline void
load_tiles_transposed(uint32_t r[4], const void *row)
{
	emul_tiles mine = {(const uint16_t *)row, r};

	emul_warp("ldmatrix.trans", 0xffffffffu, &mine, [](void *lanes[32]) {
		emul_look_at_rows(lanes);
		for (int l = 0; l < 32; l++) {
			for (int i = 0; i < 4; i++)
				((emul_tiles *)lanes[l])->r[i] = emul_element(lanes, i, l % 4 * 2, l / 4) |
								 emul_element(lanes, i, l % 4 * 2 + 1, l / 4)
								     << 16;
		}
	});
}

/* ---- mma.m16n8k16: fragments to matrices, their product, and back */

struct emul_product {
	float *d;
	const uint32_t *a;
	uint32_t b[2];
};

static inline float
emul_half_of(uint32_t pair, int which)
{
	return float_of_bf16((uint16_t)(pair >> 16 * which));
}

static inline void
emul_multiply(void *lanes[32])
{
	float a[16][16], b[16][8];

	for (int l = 0; l < 32; l++) {
		const emul_product *p = (const emul_product *)lanes[l];
		int g = l / 4, t = l % 4 * 2;
		for (int i = 0; i < 2; i++) {
			a[g][t + i] = emul_half_of(p->a[0], i);
			a[g + 8][t + i] = emul_half_of(p->a[1], i);
			a[g][t + 8 + i] = emul_half_of(p->a[2], i);
			a[g + 8][t + 8 + i] = emul_half_of(p->a[3], i);
			b[t + i][g] = emul_half_of(p->b[0], i);
			b[t + 8 + i][g] = emul_half_of(p->b[1], i);
		}
	}
	for (int l = 0; l < 32; l++) {
		float *d = ((emul_product *)lanes[l])->d;
		for (int i = 0; i < 4; i++) {
			int row = l / 4 + i / 2 * 8, column = l % 4 * 2 + i % 2;
			for (int k = 0; k < 16; k++)
				d[i] += a[row][k] * b[k][column];
		}
	}
}

static inline void
multiply_tiles(float d[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
	emul_product mine = {d, a, {b0, b1}};

	emul_warp("mma", 0xffffffffu, &mine, emul_multiply);
}

/* ---- cp.async */

static inline void
copy_begin(void *to_shared, const void *from, bool there)
{
	emul_copy_begin(to_shared, from, there);
}

static inline void
copy_group(void)
{
	emul_copy_group();
}

template <int left>
static inline void
copy_wait(void)
{
	emul_copy_wait(left);
}

#endif
