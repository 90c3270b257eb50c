/*
 * What kernels/cuda/wgmma.cuh is made of on the emulated device. What hardware leaves undefined ends the
 * program here.
 */
#ifndef TESTS_EMUL_HOPPER_H
#define TESTS_EMUL_HOPPER_H

#include <stddef.h>
#include <stdint.h>

#include "tests/emul/cuda.h"

/* mbarriers: a phase ends when its arrivals and its bytes have come. */
void emul_mbarrier_init(uint64_t *barrier, uint32_t count);
void emul_mbarrier_fence(void);
void emul_mbarrier_arrive(uint64_t *barrier, uint32_t bytes);
void emul_mbarrier_wait(uint64_t *barrier, uint32_t parity);

/* Copies of boxes: the destination is NaN from now on; the numbers come, and the barrier hears of them, at
 * any time. */
void emul_copy_box(void *to_shared, const CUtensorMap *map, int x, int y, int z, uint64_t *barrier);

/* What is asked for must be device memory; the count is of bytes so far. */
void emul_prefetch(const void *from, uint32_t bytes);
extern uint64_t emul_prefetched;

void emul_named(int number, int threads, bool wait);
void emul_registers(int registers, bool give);

/* Products: d is a NaN of its own kind until they have been waited for; what they read is read when they
 * begin or when they are waited for. The layout of d and of a in registers is that of the instruction.
 * transposed: b's rows are k. a in registers if a_registers is not NULL. */
struct emul_operands {
	int n;
	float *d;
	const uint32_t *a_registers;
	uint64_t a, b;
	bool add, transposed;
};
void emul_product_fence(void);
void emul_product_begin(const struct emul_operands *what);
void emul_product_group(void);
void emul_product_wait(int left);

#endif
