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

/* The bias of outputs from `first` on: this lane's two of each 8; zeros where there is none. */
template <int n>
__device__ static inline void
load_bias(numbers<float, 2> (&bias)[n], const struct conv_job &j, int first)
{
#pragma unroll
	for (int i = 0; i < n; i++, first += 8) {
		bias[i] = {};
		if (j.bias != NULL && first < j.outputs)
			bias[i] = *(const numbers<float, 2> *)(j.bias + first + threadIdx.x % 4 * 2);
	}
}

/* 32 outputs of the row that element e and the next are of: v has what is added to this lane's 8 of them, and
 * gets their sums. All lanes come. */
template <bool adds>
__device__ static inline void
finish_wide(numbers<uint32_t, 4> &v, const float (*sum)[4], int e, const numbers<float, 2> *bias)
{
	if (adds)
		exchange_words(v.v);
#pragma unroll
	for (int i = 0; i < 4; i++) {
		float low = sum[i][e], high = sum[i][e + 1];
		if (adds) {
			low += half_of(v.v[i], 0);
			high += half_of(v.v[i], 1);
		}
		v.v[i] = pack_bf16(low + bias[i].v[0], high + bias[i].v[1]);
	}
	exchange_words(v.v);
}

/* As put_sums, 16 bytes at a time. While a tile is put its tensor cores wait, and memory takes long: all that
 * is read is asked for before any of it is used. */
template <bool adds, int n>
__device__ static inline void
put_wide(const struct conv_job &j, const float (&sum)[n][4], const int64_t (&at)[2], int first)
{
	numbers<float, 2> bias[n];
	numbers<uint32_t, 4> v[2][n / 4] = {};
	int mine = first + threadIdx.x % 4 * 8, left[2]; /* left: outputs of a row from this lane's on */

#pragma unroll
	for (int row = 0; row < 2; row++) {
		left[row] = at[row] < 0 ? 0 : j.outputs - mine;
#pragma unroll
		for (int i = 0; adds && i < n / 4; i++) {
			if (i * 32 < left[row])
				v[row][i] = *(const numbers<uint32_t, 4> *)((const bf16 *)j.add + at[row] +
									    mine + i * 32);
		}
	}
	load_bias(bias, j, first);
#pragma unroll
	for (int i = 0; i < n / 4; i++) {
#pragma unroll
		for (int row = 0; row < 2; row++) {
			finish_wide<adds>(v[row][i], sum + i * 4, 2 * row, bias + i * 4);
			if (i * 32 < left[row])
				*(numbers<uint32_t, 4> *)((bf16 *)j.y + at[row] + mine + i * 32) = v[row][i];
		}
	}
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
	if constexpr (n % 4 == 0) {
		if (j.wide && j.add != NULL)
			put_wide<true>(j, sum, at, first);
		else if (j.wide)
			put_wide<false>(j, sum, at, first);
		if (j.wide)
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
