/*
 * kernels/cuda/wgmma.cuh for the emulated device: every function is one call of hopper.cc or products.cc.
 */
#ifndef KERNELS_CUDA_WGMMA_CUH
#define KERNELS_CUDA_WGMMA_CUH

#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/panels.cuh"
#include "tests/emul/hopper.h"

#define HAS_WGMMA 1

static inline void
barrier_init(uint64_t *barrier, uint32_t count)
{
	emul_mbarrier_init(barrier, count);
}

static inline void
barrier_init_done(void)
{
	emul_mbarrier_fence();
}

static inline void
barrier_arrive(uint64_t *barrier)
{
	emul_mbarrier_arrive(barrier, 0);
}

static inline void
barrier_expect(uint64_t *barrier, uint32_t bytes)
{
	emul_mbarrier_arrive(barrier, bytes);
}

static inline void
barrier_wait(uint64_t *barrier, uint32_t parity)
{
	emul_mbarrier_wait(barrier, parity);
}

static inline void
copy_box(void *to_shared, const CUtensorMap *map, int x, int y, int z, uint64_t *barrier)
{
	emul_copy_box(to_shared, map, x, y, z, barrier);
}

static inline void
prefetch(const void *from, uint32_t bytes)
{
	emul_prefetch(from, bytes);
}

static inline void
named_wait(int number, int threads)
{
	emul_named(number, threads, true);
}

static inline void
named_arrive(int number, int threads)
{
	emul_named(number, threads, false);
}

template <int registers>
static inline void
give_registers(void)
{
	emul_registers(registers, true);
}

template <int registers>
static inline void
take_registers(void)
{
	emul_registers(registers, false);
}

template <typename T, int n>
static inline void
keep_registers(T (&)[n][4])
{
}

static inline void
product_fence(void)
{
	emul_product_fence();
}

static inline void
product_group(void)
{
	emul_product_group();
}

template <int left>
static inline void
product_wait(void)
{
	emul_product_wait(left);
}

template <int n>
static inline void
product_begin(float (&d)[n][4], uint64_t a, uint64_t b, bool add)
{
	emul_operands what = {8 * n, d[0], NULL, a, b, add, false};

	emul_product_begin(&what);
}

template <int n>
static inline void
product_begin(float (&d)[n][4], const uint32_t (&a)[4], uint64_t b)
{
	emul_operands what = {8 * n, d[0], a, 0, b, true, true};

	emul_product_begin(&what);
}

#endif
