/*
 * Numbers in kernels: stored as float or bf16, computed in float; vectors of them; sums over warps and
 * blocks.
 */
#ifndef KERNELS_CUDA_NUMBERS_CUH
#define KERNELS_CUDA_NUMBERS_CUH

#include "kernels/cuda/mma.cuh"

enum { WARP = 32 };

struct bf16 {
	uint16_t bits;
};

__device__ static inline float
to_float(float x)
{
	return x;
}

__device__ static inline float
to_float(bf16 x)
{
	return __uint_as_float((uint32_t)x.bits << 16);
}

template <typename T> __device__ inline T from_float(float x);

template <>
__device__ inline float
from_float<float>(float x)
{
	return x;
}

template <>
__device__ inline bf16
from_float<bf16>(float x)
{
	return bf16{(uint16_t)pack_bf16(x, 0.0f)};
}

/* W numbers that are loaded and stored as one piece of up to 16 bytes. */
template <typename T, int W> struct alignas(sizeof(T) * W < 16 ? sizeof(T) * W : 16) numbers {
	T v[W];
};

/* The widest that a row of `width` numbers can be cut into. */
template <typename T>
__host__ __device__ constexpr int
full_width(void)
{
	return 16 / (int)sizeof(T);
}

template <typename T, int W>
__device__ static inline void
load_numbers(float out[W], const T *from)
{
	numbers<T, W> in = *(const numbers<T, W> *)from;

#pragma unroll
	for (int i = 0; i < W; i++)
		out[i] = to_float(in.v[i]);
}

template <typename T, int W>
__device__ static inline void
store_numbers(T *to, const float in[W])
{
	numbers<T, W> out;

#pragma unroll
	for (int i = 0; i < W; i++)
		out.v[i] = from_float<T>(in[i]);
	*(numbers<T, W> *)to = out;
}

/* x / (1 + e^-x) in five instructions, within 2e-6 of itself; the division that IEEE asks for is ten more and
 * a branch, and they are not hidden behind memory where a thread has 8 of them. Below -88 it is -0. */
__device__ static inline float
silu(float x)
{
	return x * fast_reciprocal(1.0f + fast_exp2(-1.44269504f * x));
}

/* ---- over threads: every lane, or every thread of the block, gets the result; the order is fixed */

__device__ static inline float
warp_sum(float x)
{
#pragma unroll
	for (int distance = WARP / 2; distance > 0; distance /= 2)
		x += __shfl_xor_sync(0xffffffffu, x, distance);
	return x;
}

__device__ static inline float
warp_max(float x)
{
#pragma unroll
	for (int distance = WARP / 2; distance > 0; distance /= 2)
		x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, distance));
	return x;
}

template <int threads>
__device__ static inline float
block_sum(float x)
{
	__shared__ float partial[threads / WARP];
	float sum = 0;

	x = warp_sum(x);
	__syncthreads(); /* an earlier sum has been read by all */
	if (threadIdx.x % WARP == 0)
		partial[threadIdx.x / WARP] = x;
	__syncthreads();
#pragma unroll
	for (int i = 0; i < threads / WARP; i++)
		sum += partial[i];
	return sum;
}

template <int threads>
__device__ static inline float
block_max(float x)
{
	__shared__ float partial[threads / WARP];
	float largest;

	x = warp_max(x);
	__syncthreads();
	if (threadIdx.x % WARP == 0)
		partial[threadIdx.x / WARP] = x;
	__syncthreads();
	largest = partial[0];
#pragma unroll
	for (int i = 1; i < threads / WARP; i++)
		largest = fmaxf(largest, partial[i]);
	return largest;
}

#endif
