/*
 * Matrices in shared memory as copies of boxes leave them and products by warpgroups take them: panels of 64
 * columns of 16-bit numbers. A row of a panel is 128 bytes; its 16-byte pieces lie in the order of piece ^
 * (row % 8), which the hardware does by addresses: bits 4..6 ^= bits 7..9, for copies and products alike (the
 * swizzle of 128 bytes; CUTLASS: Swizzle<3, 4, 3>).
 */
#ifndef KERNELS_CUDA_PANELS_CUH
#define KERNELS_CUDA_PANELS_CUH

#include <cuda_runtime.h>
#include <stdint.h>

enum {
	WARPGROUP = 128, /* threads: four warps, the first one's number divisible by four */
	PANEL_ROW = 128, /* bytes */
	PANEL_NUMBERS = 64,
	PANEL_REPEAT = 8 * PANEL_ROW /* the order repeats, so panels begin at multiples of this */
};

/* The descriptor of an operand in shared memory, swizzled by 128 bytes ("Matrix descriptor" of wgmma):
 *   bits  0..13  address / 16 of its first element; the swizzle is of addresses, so an operand may begin
 *		  inside a row of a panel
 *   bits 16..29  / 16: from one panel to the next, where rows are k and an operand spans panels (64 columns
 *		  each); of no meaning where rows are m or n
 *   bits 32..45  / 16: from 8 rows to the next 8
 *   bits 49..51  0: panels begin at multiples of 1024 bytes
 *   bits 62..63  1: swizzle of 128 bytes */
__device__ static inline uint64_t
panel_operand(uint32_t address, uint32_t next_panel)
{
	return (uint64_t)(address >> 4) | (uint64_t)(next_panel >> 4) << 16 |
	       (uint64_t)(PANEL_REPEAT >> 4) << 32 | (uint64_t)1 << 62;
}

#endif
