/*
 * What a healthy program does not do to a card, for tests/gpu/test_faults.c. Never part of the runner.
 *
 *   faulty assert | address
 *     a kernel that fails; says what the backend makes of it, exit 71 if that is "sticky"
 *   faulty hang
 *     a kernel without an end
 *   faulty hog MIB
 *     takes all memory of the device but that much, says so, and waits for its standard input to end
 *   faulty race MIB
 *     likewise, and takes what becomes free meanwhile
 *   faulty memory
 *     prints how many MiB are free
 */
#undef NDEBUG
#include <assert.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cuda/cuda.cuh"

enum { EXIT_STICKY = 71, EXIT_NO_DEVICE = 77, MIB = 1 << 20 };

__global__ static void
assert_kernel(const float *x)
{
	assert(x == NULL);
}

__global__ static void
address_kernel(float *x)
{
	x[(int64_t)1 << 40] = 1;
}

/* Volatile, so that the loop is not taken away. */
__global__ static void
hang_kernel(volatile float *x)
{
	while (x[0] == x[0] || x[1] == x[1])
		;
}

static const struct {
	const char *name;
	void (*launch)(struct cuda_device *c);
} kinds[] = {
    {"assert",
	[](struct cuda_device *c) { launch(c, "assert", 1, 1, assert_kernel, (const float *)c->scratch); }},
    {"address",
	[](struct cuda_device *c) { launch(c, "address", 1, 1, address_kernel, (float *)c->scratch); }},
    {"hang",
	[](struct cuda_device *c) {
		cudaMemsetAsync(c->scratch, 0, 2 * sizeof(float), c->stream);
		launch(c, "hang", 1, 1, hang_kernel, (volatile float *)c->scratch);
	}},
};

/* The kernel, then work as if nothing had happened. */
static int
run_kind(void (*launch_kind)(struct cuda_device *c))
{
	struct device_options options = {};
	struct device *d;
	struct tensor t = {NULL, DT_F32, 1, {16, 1, 1, 1}};
	char why[200];

	if (cuda_open(&d, &options, why, sizeof(why)) != 0) {
		fprintf(stderr, "faulty: %s\n", why);
		return EXIT_NO_DEVICE;
	}
	t.data = d->ops->reserve(d, tensor_bytes(&t));
	launch_kind((struct cuda_device *)d);
	puts("launched");
	fflush(stdout);
	d->ops->add(d, &t, &t);
	d->ops->sync(d);
	d->ops->add(d, &t, &t);
	fprintf(stderr, "faulty: %s\n", d->error);
	_exit(d->fault == DEVICE_POISONED ? (int)EXIT_STICKY
					  : (int)d->fault); /* as the runner: no further call */
}

/* The largest piece first, then what is left of it, for memory is in pieces. */
static bool
take_all_but(size_t left)
{
	size_t free_bytes, total;
	void *memory;

	for (size_t piece = (size_t)64 << 30; piece >= 2 * MIB;) {
		if (cudaMemGetInfo(&free_bytes, &total) != cudaSuccess)
			return false;
		if (free_bytes < left + piece || cudaMalloc(&memory, piece) != cudaSuccess)
			piece /= 2;
	}
	return true;
}

/* Whether standard input is still open, after at most that long. */
static bool
is_wanted(int patience_ms)
{
	struct pollfd input = {STDIN_FILENO, POLLIN, 0};
	char byte;

	return poll(&input, 1, patience_ms) == 0 || read(STDIN_FILENO, &byte, 1) > 0;
}

static int
hog(long left_mib, bool races)
{
	size_t left = (size_t)left_mib * MIB;

	if (!take_all_but(left))
		return EXIT_NO_DEVICE;
	puts("hogging");
	fflush(stdout);
	while (is_wanted(races ? 1 : -1)) {
		if (races && !take_all_but(left))
			return EXIT_NO_DEVICE;
	}
	return 0;
}

static int
print_memory(void)
{
	size_t free_bytes, total;

	if (cudaMemGetInfo(&free_bytes, &total) != cudaSuccess)
		return EXIT_NO_DEVICE;
	printf("%zu\n", free_bytes / MIB);
	return 0;
}

int
main(int argc, char **argv)
{
	if (argc == 3 && (strcmp(argv[1], "hog") == 0 || strcmp(argv[1], "race") == 0))
		return hog(atol(argv[2]), strcmp(argv[1], "race") == 0);
	if (argc == 2 && strcmp(argv[1], "memory") == 0)
		return print_memory();
	for (size_t i = 0; argc == 2 && i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strcmp(argv[1], kinds[i].name) == 0)
			return run_kind(kinds[i].launch);
	}
	fprintf(stderr, "usage: faulty assert | address | hang | hog MIB | race MIB | memory\n");
	return 64;
}
