/*
 * A device played on the host, so that kernels/cuda can be tested where there is no card: the same .cu files,
 * compiled by the host's compiler against this directory's cuda_runtime.h and kernels/cuda/mma.cuh.
 *
 * What it checks, and hardware would not: threads of a block run one at a time in an order drawn by chance
 * (EMUL_SEED) between barriers, with now and then one warp far ahead of the others, so a missing barrier
 * shows as a wrong number; shared and device memory begin as NaN, and are ordinary memory, so the address
 * sanitizer sees who leaves them; a copy to shared memory happens at once or when it is waited for; and what
 * is in a stream happens when somebody waits for it. Instructions of whole warps have the layout that the PTX
 * manual gives. What a 9.0 card has besides (hopper.h) works by itself at moments drawn by chance, and ends
 * the program where it is used as the manual does not define. What it cannot show: races inside a warp
 * between two of its instructions, timing, and whether the manual was read rightly.
 *
 * The environment says what device it is: EMUL_DEVICES how many there are (1), EMUL_DRIVER the driver's
 * version (13000; 0: none), EMUL_MAJOR the compute capability (9), EMUL_MEMORY its memory in KiB (1 GiB, and
 * no limit without it), EMUL_CACHE the bytes of its second-level cache (1048576), EMUL_GRAPHS whether it
 * takes graphs (2; 1: captures them only, 0: not even that); call EMUL_FAIL_CALL of the runtime fails with
 * error EMUL_FAIL_ERROR.
 */
#ifndef TESTS_EMUL_EMUL_H
#define TESTS_EMUL_EMUL_H

#include <stddef.h>
#include <stdint.h>

#include <functional>

/* Runs `body` once for every thread of every block. */
struct emul_grid {
	const char *what;
	unsigned x, y, z, threads;
	size_t shared; /* bytes */
};
void emul_run(const emul_grid &grid, const std::function<void()> &body);

/* ---- for the thread that runs */

void emul_barrier(void);
unsigned char *emul_shared(void);
/* Meets the lanes of `mask` at the same instruction; the last one to come runs `combine` on what all brought.
 */
void emul_warp(const char *what, uint32_t mask, void *mine, void (*combine)(void *lanes[32]));
void emul_copy_begin(void *to, const void *from, bool there);
void emul_copy_group(void);
void emul_copy_wait(int left);

/* Ends the program: the kernel did what no device allows. */
[[noreturn]] void emul_fault(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Passes over the banks of shared memory that loads of tiles needed beyond one for each tile, so far. */
extern unsigned long emul_conflict_count;

#endif
