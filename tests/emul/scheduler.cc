/*
 * Threads of a block as coroutines, each with a stack of its own.
 */
#include "tests/emul/emul.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <deque>
#include <vector>

#include "cuda_runtime.h"
#include "tests/emul/block.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
enum { STACK_BYTES = 256 << 10 };
#else
enum { STACK_BYTES = 64 << 10 };
#endif

enum {
	MAX_THREADS = EMUL_MAX_THREADS,
	LANES = EMUL_WARP,
	WINDOW = 1024 /* where shared memory begins, and at what multiples */
};

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;
unsigned long emul_conflict_count;

enum state { READY, AT_BARRIER, AT_WARP, ASLEEP, DONE };

struct copy {
	void *to;
	const void *from;
	bool there;
};

struct fiber {
	void *stack_pointer;
	char *stack;
	enum state state;
	const char *what; /* it sleeps in */
	unsigned number;
	std::deque<std::vector<copy>> groups; /* begun copies, oldest first */
	std::vector<copy> open;		      /* not yet a group */
};

struct warp {
	uint32_t arrived;
	const char *what;
	void *brought[LANES];
	fiber *ready[LANES]; /* in no order */
	unsigned ready_count;
	uint32_t rank; /* when one warp runs ahead */
};

static fiber fibers[MAX_THREADS];
static warp warps[MAX_THREADS / LANES];
static fiber *running;
static void *scheduler_pointer;
static const std::function<void()> *body;
static const emul_grid *launched;
static unsigned char *shared_window, *shared_memory; /* the second inside the first */
static unsigned ready_count;			     /* of all warps */
static uint32_t chance;				     /* 0: not begun */
static bool one_warp_ahead, woken_first;
static fiber *woken;	   /* the last one, until it has run */
static uint32_t others_in; /* work that goes on by itself: a piece of it in so many turns; 0: in none */

void
emul_fault(const char *format, ...)
{
	va_list arguments;

	fprintf(stderr,
	    "emulated kernel '%s', block (%u, %u), thread %u: ", launched != NULL ? launched->what : "",
	    blockIdx.x, blockIdx.y, threadIdx.x);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fprintf(stderr, "\n");
	abort();
}

/* ---- switching: saves the registers that a call keeps, and the stack pointer */

extern "C" void emul_switch(void **save, void *load);
asm(".text\n"
    ".globl emul_switch\n"
    "emul_switch:\n"
    "	pushq %rbp\n	pushq %rbx\n	pushq %r12\n	pushq %r13\n	pushq %r14\n	pushq %r15\n"
    "	movq %rsp, (%rdi)\n"
    "	movq %rsi, %rsp\n"
    "	popq %r15\n	popq %r14\n	popq %r13\n	popq %r12\n	popq %rbx\n	popq %rbp\n"
    "	ret\n");

#ifdef __SANITIZE_ADDRESS__
static void *host_fake;
static const void *host_stack;
static size_t host_stack_bytes;
#endif

static void
to_scheduler(void)
{
#ifdef __SANITIZE_ADDRESS__
	void *fake;
	__sanitizer_start_switch_fiber(&fake, host_stack, host_stack_bytes);
#endif
	emul_switch(&running->stack_pointer, scheduler_pointer);
#ifdef __SANITIZE_ADDRESS__
	__sanitizer_finish_switch_fiber(fake, NULL, NULL);
#endif
}

static void
resume(fiber *f)
{
	running = f;
	threadIdx.x = f->number;
#ifdef __SANITIZE_ADDRESS__
	__sanitizer_start_switch_fiber(&host_fake, f->stack, STACK_BYTES);
#endif
	emul_switch(&scheduler_pointer, f->stack_pointer);
#ifdef __SANITIZE_ADDRESS__
	__sanitizer_finish_switch_fiber(host_fake, NULL, NULL);
#endif
}

static void
forget_copies(fiber *f)
{
	for (const std::vector<copy> &group : f->groups) {
		if (!group.empty())
			emul_fault("ends with copies that nobody waited for");
	}
	f->groups.clear();
}

/* Where a thread begins; it does not return, its stack is simply used again. */
static void
thread_main(void)
{
#ifdef __SANITIZE_ADDRESS__
	__sanitizer_finish_switch_fiber(NULL, &host_stack, &host_stack_bytes);
#endif
	(*body)();
	forget_copies(running);
	running->state = DONE;
	to_scheduler();
	abort();
}

static void
make_ready(fiber *f)
{
	warp *w = &warps[f->number / LANES];

	f->state = READY;
	w->ready[w->ready_count++] = f;
	ready_count++;
}

static void
start_fiber(unsigned number)
{
	fiber *f = &fibers[number];
	void **top;

	if (f->stack == NULL) {
		f->stack = (char *)mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (f->stack == MAP_FAILED)
			emul_fault("no memory for a stack");
	}
#ifdef __SANITIZE_ADDRESS__
	__asan_unpoison_memory_region(
	    f->stack + STACK_BYTES - 1024, 1024); /* thread_main never left its frame */
#endif
	f->number = number;
	top = (void **)(f->stack + STACK_BYTES - 64);
	*--top = NULL; /* thread_main begins as if it had been called from here */
	*--top = (void *)thread_main;
	for (int i = 0; i < 6; i++)
		*--top = NULL;
	f->stack_pointer = top;
	make_ready(f);
}

/* ---- meeting */

void
emul_barrier(void)
{
	running->state = AT_BARRIER;
	to_scheduler();
}

unsigned char *
emul_shared(void)
{
	return shared_memory;
}

uint32_t
emul_shared_address(const void *p)
{
	return (uint32_t)((const unsigned char *)p - shared_window) + WINDOW;
}

void *
emul_shared_pointer(uint32_t address, size_t bytes, const char *what)
{
	unsigned char *p = shared_window + address - WINDOW;

	if (p < shared_memory || bytes > launched->shared || p > shared_memory + (launched->shared - bytes))
		emul_fault("%s at %#x is not in shared memory", what, address);
	return p;
}

unsigned
emul_thread(void)
{
	return running->number;
}

unsigned
emul_threads(void)
{
	return launched->threads;
}

size_t
emul_stack_above(const void *low)
{
	return (size_t)(running->stack + STACK_BYTES - (const char *)low);
}

void
emul_sleep(const char *what)
{
	running->state = ASLEEP;
	running->what = what;
	to_scheduler();
}

void
emul_wake(unsigned thread)
{
	make_ready(&fibers[thread]);
	woken = &fibers[thread];
}

void
emul_let_woken_run(void)
{
	if (!woken_first || woken == NULL)
		return;
	make_ready(running);
	to_scheduler();
}

void
emul_warp(const char *what, uint32_t mask, void *mine, void (*combine)(void *lanes[32]))
{
	unsigned lane = running->number % LANES;
	warp *w = &warps[running->number / LANES];

	if (w->arrived != 0 && w->what != what && strcmp(w->what, what) != 0)
		emul_fault("lanes of one warp meet in %s and %s", w->what, what);
	w->what = what;
	w->brought[lane] = mine;
	w->arrived |= 1u << lane;
	if (w->arrived != mask) {
		running->state = AT_WARP;
		to_scheduler();
		return;
	}
	w->arrived = 0;
	combine(w->brought);
	for (unsigned i = 0; i < LANES; i++) {
		fiber *f = &fibers[running->number / LANES * LANES + i];
		if (i != lane && mask >> i & 1)
			make_ready(f);
	}
}

uint32_t
emul_draw(uint32_t below)
{
	if (chance == 0) {
		const char *seed = getenv("EMUL_SEED");
		chance = seed != NULL ? (uint32_t)atoi(seed) * 2654435761u + 1 : 1;
	}
	chance = chance * 1664525u + 1013904223u;
	return (uint32_t)(((uint64_t)chance * below) >> 32);
}

/* ---- copies that take until they are waited for */

static void
do_copy(const copy &c)
{
	if (c.there)
		memcpy(c.to, c.from, 16);
	else
		memset(c.to, 0, 16);
}

/* Half of them are done at once, half when they are waited for: both may happen. */
void
emul_copy_begin(void *to, const void *from, bool there)
{
	copy c = {to, from, there};

	if ((uintptr_t)to % 16 != 0 || (uintptr_t)from % 16 != 0)
		emul_fault("a copy of 16 bytes is not aligned");
	if (emul_draw(2) == 0)
		do_copy(c);
	else
		running->open.push_back(c);
}

void
emul_copy_group(void)
{
	running->groups.push_back(std::move(running->open));
	running->open.clear();
}

void
emul_copy_wait(int left)
{
	while (running->groups.size() > (size_t)left) {
		for (const copy &c : running->groups.front())
			do_copy(c);
		running->groups.pop_front();
	}
}

/* ---- blocks */

/* Every other block its threads run in any order, and in the others one warp runs ahead of the next as far as
 * it gets: the first finds what is read too early, the second what is written again too early. Besides, in
 * every other one who has slept runs next: it finds who was woken too early. */
static void
draw_order(unsigned threads)
{
	one_warp_ahead = emul_draw(2) == 1;
	woken_first = emul_draw(2) == 1;
	woken = NULL;
	others_in = emul_draw(2) == 0 ? 0 : 1u << emul_draw(8);
	for (unsigned w = 0; w * LANES < threads; w++)
		warps[w].rank = emul_draw(1 << 16);
}

static fiber *
take_ready(warp *w, unsigned at)
{
	fiber *f = w->ready[at];

	w->ready[at] = w->ready[--w->ready_count];
	ready_count--;
	return f;
}

/* The first in rank of those that can go on. */
static warp *
warp_ahead(void)
{
	warp *first = NULL;

	for (unsigned i = 0; i * LANES < launched->threads; i++) {
		warp *w = &warps[i];
		if (w->ready_count > 0 && (first == NULL || w->rank < first->rank))
			first = w;
	}
	return first;
}

static fiber *
take_woken(void)
{
	warp *w = &warps[woken->number / LANES];
	unsigned at = 0;

	while (w->ready[at] != woken)
		at++;
	return take_ready(w, at);
}

static fiber *
take_any(void)
{
	unsigned at = emul_draw(ready_count);
	warp *w = warps;

	for (; at >= w->ready_count; w++)
		at -= w->ready_count;
	return take_ready(w, at);
}

static fiber *
draw_ready(void)
{
	fiber *f;

	if (woken_first && woken != NULL)
		f = take_woken();
	else if (one_warp_ahead) {
		warp *w = warp_ahead();
		f = take_ready(w, emul_draw(w->ready_count));
	} else
		f = take_any();
	woken = NULL;
	return f;
}

/* Nobody can go on: either all that are left wait at the barrier, or the kernel hangs. */
static bool
pass_barrier(unsigned threads)
{
	unsigned waiting = 0;

	for (unsigned i = 0; i < threads; i++) {
		if (fibers[i].state == AT_WARP)
			emul_fault(
			    "thread %u waits in %s for lanes that do not come", i, warps[i / LANES].what);
		if (fibers[i].state == ASLEEP)
			emul_fault("thread %u waits in %s for ever", i, fibers[i].what);
		waiting += fibers[i].state == AT_BARRIER;
	}
	for (unsigned i = 0; i < threads && waiting > 0; i++) {
		if (fibers[i].state == AT_BARRIER)
			make_ready(&fibers[i]);
	}
	return waiting > 0;
}

static void
run_block(unsigned threads)
{
	memset(shared_memory, 0xff, launched->shared);
	emul_hopper_begin();
	emul_products_begin();
	draw_order(threads);
	for (unsigned i = 0; i < threads; i++)
		start_fiber(i);
	do {
		while (ready_count > 0 || emul_hopper_step()) {
			if (others_in > 0 && emul_draw(others_in) == 0)
				emul_hopper_step();
			if (ready_count > 0)
				resume(draw_ready());
		}
	} while (pass_barrier(threads));
	emul_hopper_end();
	emul_products_end();
}

/* At a multiple of 128 bytes, as nvcc promises, and of no more. */
static void
make_shared(size_t bytes)
{
	size_t at = 128 * emul_draw(WINDOW / 128);

	if (posix_memalign((void **)&shared_window, WINDOW, at + bytes + 1) != 0)
		emul_fault("no memory for shared memory");
	shared_memory = shared_window + at;
}

void
emul_run(const emul_grid &grid, const std::function<void()> &what)
{
	launched = &grid;
	body = &what;
	blockDim = dim3(grid.threads);
	gridDim = dim3(grid.x, grid.y, grid.z);
	make_shared(grid.shared);
	for (unsigned z = 0; z < grid.z; z++) {
		for (unsigned y = 0; y < grid.y; y++) {
			for (unsigned x = 0; x < grid.x; x++) {
				blockIdx = {x, y, z};
				run_block(grid.threads);
			}
		}
	}
	free(shared_window);
	shared_memory = NULL;
	launched = NULL;
}
