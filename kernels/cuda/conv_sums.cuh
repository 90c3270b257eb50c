/*
 * How sums of products become pixels, in the layout that mma.sync and wgmma leave them in: of 8 columns, lane
 * l has 2 (l % 4) and the next, of row l / 4 (elements 0, 1) and of the one 8 below (2, 3). Here a row is a
 * window and a column an output.
 *
 * Four lanes share a row. Where pixels are wide enough they exchange, so that each reads and writes 16 bytes
 * of it: in 4 bytes each, two rows of a picture would be 64 stores of a thread instead of 16, each of eight
 * half sectors.
 */
#ifndef KERNELS_CUDA_CONV_SUMS_CUH
#define KERNELS_CUDA_CONV_SUMS_CUH

#include "kernels/cuda/conv.cuh"

/* Between the four lanes of a row: word i of lane t becomes word t of lane i. */
__device__ static inline void
exchange_words(uint32_t (&v)[4])
{
#pragma unroll
	for (int distance = 1; distance <= 2; distance *= 2) {
		bool upper = threadIdx.x & distance;
#pragma unroll
		for (int i = 0; i < 4; i++) {
			uint32_t got;
			if (i & distance)
				continue;
			got = __shfl_xor_sync(0xffffffffu, upper ? v[i] : v[i + distance], distance);
			v[i] = upper ? got : v[i];
			v[i + distance] = upper ? v[i + distance] : got;
		}
	}
}

__device__ static inline float
half_of(uint32_t pair, int which)
{
	return to_float(bf16{(uint16_t)(pair >> 16 * which)});
}

/* 32 outputs from `first` on of the row that element e and the next are of; at < 0: it is none. All lanes
 * come. */
__device__ static inline void
put_wide(const struct conv_job &j, const float (*sum)[4], int e, int64_t at, int first)
{
	int mine = first + threadIdx.x % 4 * 8, column = first + threadIdx.x % 4 * 2;
	bool there = at >= 0 && mine < j.outputs;
	numbers<uint32_t, 4> v = {};

	if (j.add != NULL) {
		if (there)
			v = *(const numbers<uint32_t, 4> *)((const bf16 *)j.add + at + mine);
		exchange_words(v.v);
	}
#pragma unroll
	for (int i = 0; i < 4; i++, column += 8) {
		bool has_bias = j.bias != NULL && column < j.outputs;
		float low = sum[i][e] + half_of(v.v[i], 0), high = sum[i][e + 1] + half_of(v.v[i], 1);
		v.v[i] = has_bias ? pack_bf16(low + j.bias[column], high + j.bias[column + 1])
				  : pack_bf16(low, high);
	}
	exchange_words(v.v);
	if (there)
		*(numbers<uint32_t, 4> *)((bf16 *)j.y + at + mine) = v;
}

/* One output of a row. */
__device__ static inline void
put_one(const struct conv_job &j, float sum, int64_t at, int output)
{
	if (at < 0 || output >= j.outputs)
		return;
	if (j.add != NULL)
		sum += to_float(((const bf16 *)j.add)[at + output]);
	if (j.bias != NULL)
		sum += j.bias[output];
	((bf16 *)j.y)[at + output] = from_float<bf16>(sum);
}

/* Outputs from `first` on of two rows of this lane, that begin at these numbers of y. */
template <int n>
__device__ static inline void
put_sums(const struct conv_job &j, const float (&sum)[n][4], const int64_t (&at)[2], int first)
{
	if (n % 4 == 0 && j.wide) {
#pragma unroll
		for (int i = 0; i < n; i += 4) {
			put_wide(j, sum + i, 0, at[0], first + i * 8);
			put_wide(j, sum + i, 2, at[1], first + i * 8);
		}
		return;
	}
#pragma unroll
	for (int i = 0; i < n; i++) {
#pragma unroll
		for (int e = 0; e < 4; e++)
			put_one(j, sum[i][e], at[e / 2], first + i * 8 + (int)threadIdx.x % 4 * 2 + e % 2);
	}
}

#endif
