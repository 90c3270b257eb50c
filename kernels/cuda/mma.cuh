/*
 * What the language has no words for: tensor cores, asynchronous copies, and a few instructions by name.
 *
 * One inline function per instruction, each with the layout that it is documented to have. tests/emul has a
 * host version of this file, so every kernel can be run without a device.
 */
#ifndef KERNELS_CUDA_MMA_CUH
#define KERNELS_CUDA_MMA_CUH

#include <cuda_runtime.h>
#include <stdint.h>

/* The memory that the launch asked for, in one piece. */
__device__ static inline unsigned char *
dynamic_shared(void)
{
	extern __shared__ __align__(128) unsigned char dynamic_memory[];

	return dynamic_memory;
}

__device__ static inline uint32_t
shared_address(const void *p)
{
	return (uint32_t)__cvta_generic_to_shared(p);
}

/* Two floats as bf16, nearest even: `low` in the lower half. */
__device__ static inline uint32_t
pack_bf16(float low, float high)
{
	uint32_t packed;

	asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
	return packed;
}

/* IEEE half precision. */
__device__ static inline float
float_of_half(uint16_t half)
{
	float y;

	asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(half));
	return y;
}

/* 2^x within 2 ulp; 2^-inf is 0. */
__device__ static inline float
fast_exp2(float x)
{
	float y;

	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
	return y;
}

/* 1 / x within 1 ulp; of an infinity 0. */
__device__ static inline float
fast_reciprocal(float x)
{
	float y;

	asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
	return y;
}

/* Four 8x8 tiles of 16-bit numbers, by a whole warp. Lanes 8i .. 8i + 7 say where the rows (16 bytes, 16-byte
 * aligned) of tile i lie; from tile i, lane l gets row l / 4, columns 2 (l % 4) and the next, in r[i]. */
__device__ static inline void
load_tiles(uint32_t r[4], const void *row)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
		     : "r"(shared_address(row))
		     : "memory");
}

/* The same of each tile's transpose: rows 2 (l % 4) and the next of column l / 4. */
__device__ static inline void
load_tiles_transposed(uint32_t r[4], const void *row)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
		     : "r"(shared_address(row))
		     : "memory");
}

/* d (16, 8) += a (16, 16) b (16, 8), bf16 into float, by a whole warp. With g = lane / 4 and t = 2 (lane %
 * 4): a[0] row g, columns t, t+1   a[1] row g+8, the same   a[2] row g, columns t+8, t+9   a[3] row g+8, the
 * same b0   rows t, t+1 of column g    b1 rows t+8, t+9 of column g d[0], d[1] row g, columns t, t+1    d[2],
 * d[3] row g+8, the same */
__device__ static inline void
multiply_tiles(float d[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
	asm volatile(
	    "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
	    "{%8, %9}, {%0, %1, %2, %3};"
	    : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
	    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* Begins to copy 16 bytes from global to shared memory, or to clear them there where `there` is false; both
 * addresses are 16-byte aligned, and `from` must be valid in either case. */
__device__ static inline void
copy_begin(void *to_shared, const void *from, bool there)
{
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to_shared)),
		     "l"(from), "r"(there ? 16 : 0)
		     : "memory");
}

/* What was begun since the last call is one group. */
__device__ static inline void
copy_group(void)
{
	asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Waits until at most `left` of this thread's youngest groups are still under way. Others see the copies
 * after the next barrier. */
template <int left>
__device__ static inline void
copy_wait(void)
{
	asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory");
}

#endif
