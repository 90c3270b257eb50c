/*
 * What test_hopper.cc and test_undefined.cc share: small matrices in panels, as kernels of their own see
 * them.
 */
#ifndef TESTS_EMUL_SMALL_KERNELS_H
#define TESTS_EMUL_SMALL_KERNELS_H

extern "C" {
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
}

#include "kernels/cuda/numbers.cuh"
#include "kernels/cuda/wgmma.cuh"

extern "C" {
#include "kernels/convert.h"
}

enum {
	M = 64,
	N = 80,
	WIDE = 128, /* columns: two panels */
	DEPTH = 32, /* two steps of a product */
	KEYS = 48,
	SHARED = 64 << 10
};

static cudaStream_t stream; /* the program's main makes it */

template <typename... P, typename... A>
static inline void
run(unsigned threads, void (*kernel)(P...), A... arguments)
{
	cudaLaunchConfig_t config = {};

	config.gridDim = dim3(1);
	config.blockDim = dim3(threads);
	config.dynamicSmemBytes = SHARED;
	config.stream = stream;
	cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, SHARED);
	assert_int_equal(cudaLaunchKernelEx(&config, kernel, arguments...), cudaSuccess);
	cudaStreamSynchronize(stream);
}

/* The block's memory from a multiple of 1024 on, its last KiB left for barriers. */
static inline unsigned char *
panels(void)
{
	unsigned char *p = dynamic_shared();

	return p + -shared_address(p) % PANEL_REPEAT;
}

static inline uint64_t *
barrier_at(int i)
{
	return (uint64_t *)(panels() + SHARED - 2048) + i;
}

/* Numbers that bf16 has, no two alike nearby. */
static inline float
number(int i)
{
	return (float)(i * 37 % 101 - 50) / 8;
}

static inline void
fill(uint16_t *to, int count)
{
	for (int i = 0; i < count; i++)
		to[i] = bf16_of_float(number(i));
}

/* Of a matrix of `rows` rows in so many groups (heads) of `width`; boxes of 64 columns of one group. */
static inline CUtensorMap
map_of(void *data, uint64_t width, uint64_t groups, uint64_t rows, uint32_t box_rows)
{
	cuuint64_t dims[] = {width, groups, rows}, strides[] = {width * 2, groups * width * 2};
	cuuint32_t box[] = {PANEL_NUMBERS, 1, box_rows}, steps[] = {1, 1, 1};
	CUtensorMap map;

	assert_int_equal(cuTensorMapEncodeTiled(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, data, dims,
			     strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
			     CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
	    CUDA_SUCCESS);
	return map;
}

static inline void
make_barrier(int i, uint32_t count)
{
	if (threadIdx.x == 0) {
		barrier_init(barrier_at(i), count);
		barrier_init_done();
	}
	__syncthreads();
}

/* Piece p (16 bytes) of row r of a panel lies at place p ^ (r % 8): the manual's figure of the 128-byte
 * swizzle. */
static inline int
place(int row, int column)
{
	return row * PANEL_NUMBERS + (column / 8 ^ row % 8) * 8 + column % 8;
}

/* Row r, column c of a matrix of panels with so many rows each. */
static inline void
put(unsigned char *to, int rows, int r, int c, float x)
{
	((uint16_t *)to)[c / PANEL_NUMBERS * rows * PANEL_NUMBERS + place(r, c % PANEL_NUMBERS)] =
	    bf16_of_float(x);
}

/* a (M, 64), b (N, 64), columns innermost, at panels() and behind. */
static inline void
fill_operands(void)
{
	if (threadIdx.x == 0) {
		for (int i = 0; i < M * PANEL_NUMBERS; i++)
			put(panels(), M, i / PANEL_NUMBERS, i % PANEL_NUMBERS, number(i));
		for (int i = 0; i < N * PANEL_NUMBERS; i++)
			put(panels() + M * PANEL_ROW, N, i / PANEL_NUMBERS, i % PANEL_NUMBERS, number(i + 7));
	}
	__syncthreads();
}

static inline uint64_t
left_operand(int step)
{
	return panel_operand(shared_address(panels()) + (uint32_t)step * 32, 16);
}

static inline uint64_t
right_operand(int step)
{
	return panel_operand(shared_address(panels()) + M * PANEL_ROW + (uint32_t)step * 32, 16);
}

#endif
