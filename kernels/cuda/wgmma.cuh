/*
 * What sm_90a has and mma.cuh has not: copies of tiles that a barrier in shared memory counts, products by
 * warpgroups, barriers with names, registers that move between warpgroups.
 *
 * One inline function per instruction; the PTX manual's section is named at each, and the facts that bite
 * have been looked up in two kernels that run (CUTLASS: include/cute/arch and atom, *sm90*; ThunderKittens:
 * include/types/shared/descriptor.cuh and ops/group/mma). tests/emul has a host version of this file.
 *
 * Only code for sm_90a can have these instructions: what uses them stands inside #if HAS_WGMMA.
 */
#ifndef KERNELS_CUDA_WGMMA_CUH
#define KERNELS_CUDA_WGMMA_CUH

#include <cuda.h>
#include <cuda_runtime.h>
#include <stdint.h>

#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/panels.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HAS_WGMMA 1
#else
#define HAS_WGMMA 0
#endif

#if HAS_WGMMA

/* ---- mbarrier: a phase ends when `count` arrivals and all bytes that were announced have come; then the
 * next one begins. */

__device__ static inline void
barrier_init(uint64_t *barrier, uint32_t count)
{
	asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(count)
		     : "memory");
}

/* After the barriers' making, by who made them, before others (and the copies' hardware) use them. */
__device__ static inline void
barrier_init_done(void)
{
	asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
	asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ static inline void
barrier_arrive(uint64_t *barrier)
{
	asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}

/* Arrives, and announces bytes that copies will bring in this phase. */
__device__ static inline void
barrier_expect(uint64_t *barrier, uint32_t bytes)
{
	asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
		     "r"(bytes)
		     : "memory");
}

/* Waits for the end of the phase of that parity: phases are 0, 1, 0, ... A new barrier is in phase 0, so the
 * one before it, of parity 1, counts as ended. */
__device__ static inline void
barrier_wait(uint64_t *barrier, uint32_t parity)
{
	uint32_t ended;

	do {
		asm volatile("{\n"
			     ".reg .pred p;\n"
			     "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
			     "selp.b32 %0, 1, 0, p;\n"
			     "}"
			     : "=r"(ended)
			     : "r"(shared_address(barrier)), "r"(parity)
			     : "memory");
	} while (!ended);
}

/* ---- cp.async.bulk.tensor: one thread begins to bring the map's box whose first element is (x, y, z), x
 * innermost. What lies outside the tensor is zero, and counts: the barrier always sees the whole box. */
__device__ static inline void
copy_box(void *to_shared, const CUtensorMap *map, int x, int y, int z, uint64_t *barrier)
{
	asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes "
		     "[%0], [%1, {%3, %4, %5}], [%2];" ::"r"(shared_address(to_shared)),
		     "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z)
		     : "memory");
}

/* ---- cp.async.bulk.prefetch: a hint that so many bytes from there on will be read, to the second-level
 * cache; multiples of 16, both. */
__device__ static inline void
prefetch(const void *from, uint32_t bytes)
{
	asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
}

/* ---- bar with a number (1 .. 15; 0 is __syncthreads) and a count of threads, those who wait and those who
 * only arrive together */

__device__ static inline void
named_wait(int number, int threads)
{
	asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

__device__ static inline void
named_arrive(int number, int threads)
{
	asm volatile("bar.arrive %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

/* ---- setmaxnreg: registers a thread, by whole warpgroups; a multiple of 8 from 24 to 256 */

template <int registers>
__device__ static inline void
give_registers(void)
{
	asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
}

template <int registers>
__device__ static inline void
take_registers(void)
{
	asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
}

/* ---- wgmma */

/* Where the compiler must have these in their registers: it does not know that products under way use them.
 */
template <int n>
__device__ static inline void
keep_registers(float (&d)[n][4])
{
#pragma unroll
	for (int i = 0; i < n; i++)
		asm volatile("" : "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])::"memory");
}

template <int n>
__device__ static inline void
keep_registers(uint32_t (&a)[n][4])
{
#pragma unroll
	for (int i = 0; i < n; i++)
		asm volatile("" : "+r"(a[i][0]), "+r"(a[i][1]), "+r"(a[i][2]), "+r"(a[i][3])::"memory");
}

/* Between any use of registers by other instructions and by the products that follow. */
__device__ static inline void
product_fence(void)
{
	asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

/* The products begun since the last call are one group; there may be none. */
__device__ static inline void
product_group(void)
{
	asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/* Waits until at most `left` of the youngest groups are under way. */
template <int left>
__device__ static inline void
product_wait(void)
{
	asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(left) : "memory");
}

/* d (64, n) := [d +] a (64, 16) b (16, n), bf16 into float, by a warpgroup. Warp w has rows 16 w and on; with
 * g = lane / 4, t = 2 (lane % 4): d[i][0], d[i][1] row g, columns 8 i + t and the next; d[i][2], d[i][3] row
 * g + 8, the same. a in registers as of multiply_tiles. The predicate before the signs (1, 1) is whether d is
 * added to; then, for each operand in memory, whether its rows are k ("transposed") rather than m or n. */

#define D4(i) "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])
#define D16(i) D4(i), D4(i + 1), D4(i + 2), D4(i + 3)
#define D04 D4(0)
#define D32 D16(0), D16(4)
#define D40 D32, D4(8), D4(9)
#define D64 D32, D16(8), D16(12)
#define TEXT_04 "%0, %1, %2, %3"
#define TEXT_16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define TEXT_32 TEXT_16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define TEXT_40 TEXT_32 ", %32, %33, %34, %35, %36, %37, %38, %39"
#define TEXT_64 \
	TEXT_40 ", %40, %41, %42, %43, %44, %45, %46, %47" \
		", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"

/* a and b in shared memory, rows m and n; p: the operand that follows d's. */
#define PRODUCT_OF_MEMORY(n, count, a_at, b_at, add_at) \
	asm volatile("{\n" \
		     ".reg .pred p;\n" \
		     "setp.ne.b32 p, %" #add_at ", 0;\n" \
		     "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" TEXT_##count \
		     "}, %" #a_at ", %" #b_at ", p, 1, 1, 0, 0;\n" \
		     "}" \
		     : D##count \
		     : "l"(a), "l"(b), "r"((int)add))

/* a in registers, b in shared memory, rows k; always added. */
#define PRODUCT_OF_REGISTERS(n, count, a0, a1, a2, a3, b_at) \
	asm volatile("{\n" \
		     ".reg .pred p;\n" \
		     "setp.eq.b32 p, 0, 0;\n" \
		     "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" TEXT_##count \
		     "}, {%" #a0 ", %" #a1 ", %" #a2 ", %" #a3 "}, %" #b_at ", p, 1, 1, 1;\n" \
		     "}" \
		     : D##count \
		     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))

__device__ static inline void
product_begin(float (&d)[10][4], uint64_t a, uint64_t b, bool add)
{
	PRODUCT_OF_MEMORY(80, 40, 40, 41, 42);
}

__device__ static inline void
product_begin(float (&d)[1][4], uint64_t a, uint64_t b, bool add)
{
	PRODUCT_OF_MEMORY(8, 04, 4, 5, 6);
}

__device__ static inline void
product_begin(float (&d)[16][4], uint64_t a, uint64_t b, bool add)
{
	PRODUCT_OF_MEMORY(128, 64, 64, 65, 66);
}

__device__ static inline void
product_begin(float (&d)[8][4], const uint32_t (&a)[4], uint64_t b)
{
	PRODUCT_OF_REGISTERS(64, 32, 32, 33, 34, 35, 36);
}

__device__ static inline void
product_begin(float (&d)[16][4], const uint32_t (&a)[4], uint64_t b)
{
	PRODUCT_OF_REGISTERS(128, 64, 64, 65, 66, 67, 68);
}

#endif

#endif
