/*
 * What scheduler.cc gives to the parts of the device that work on their own while threads run: hopper.cc
 * (copies of boxes, barriers in shared memory) and products.cc (products of warpgroups).
 */
#ifndef TESTS_EMUL_BLOCK_H
#define TESTS_EMUL_BLOCK_H

#include <stddef.h>
#include <stdint.h>

enum { EMUL_WARP = 32, EMUL_GROUP = 128, EMUL_MAX_THREADS = 1024 };

unsigned emul_thread(void);  /* the number of the one that runs */
unsigned emul_threads(void); /* of the block */
uint32_t emul_draw(uint32_t below);

/* Gives up the processor until somebody wakes the thread; `what` is said if nobody ever does. */
void emul_sleep(const char *what);
void emul_wake(unsigned thread);
/* In some blocks, gives up the processor to the thread that was woken last. */
void emul_let_woken_run(void);

/* Addresses of shared memory as kernels see them: the block's memory does not begin at a multiple of more
 * than 128. */
uint32_t emul_shared_address(const void *p);
void *emul_shared_pointer(uint32_t address, size_t bytes, const char *what);

/* Whether all of it lies in one piece that cudaMalloc gave. */
bool emul_is_device_memory(const void *from, size_t bytes);

/* The stack of the running thread from `low` on. */
size_t emul_stack_above(const void *low);

/* Of hopper.cc and products.cc, for the scheduler: before a block; one piece of work on their own, false if
 * there is none; after a block, where nothing may be left. */
void emul_hopper_begin(void);
bool emul_hopper_step(void);
void emul_hopper_end(void);
void emul_products_begin(void);
void emul_products_end(void);

#endif
