/*
 * The emulated device itself: that it sees the mistakes it is there to see. And of the real kernels what only
 * it can tell: that no load of tiles meets another in a bank, and what the cache is asked for.
 */
extern "C" {
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
}

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/cuda/numbers.cuh"
#include "tests/emul/hopper.h"

extern "C" {
#include "kernels/cuda/attention.h"
#include "kernels/cuda/conv.h"
#include "kernels/device.h"
}

enum { THREADS = 64, COPIES = 20 };

static cudaStream_t stream;

template <typename... P, typename... A>
static void
run(size_t shared, void (*kernel)(P...), A... arguments)
{
	cudaLaunchConfig_t config = {};

	config.gridDim = dim3(1);
	config.blockDim = dim3(THREADS);
	config.dynamicSmemBytes = shared;
	config.stream = stream;
	assert_int_equal(cudaLaunchKernelEx(&config, kernel, arguments...), cudaSuccess);
	cudaStreamSynchronize(stream);
}

/* ---- barriers */

/* Every thread gives its number to the one opposite. */
static void
swap_kernel(int *out, bool barrier)
{
	int *board = (int *)dynamic_shared();

	board[threadIdx.x] = (int)threadIdx.x;
	if (barrier)
		__syncthreads();
	out[threadIdx.x] = board[THREADS - 1 - threadIdx.x];
}

static int
wrong_swaps(bool barrier)
{
	int out[THREADS], wrong = 0;

	run(sizeof(out), swap_kernel, out, barrier);
	for (int i = 0; i < THREADS; i++)
		wrong += out[i] != THREADS - 1 - i;
	return wrong;
}

static void
test_missing_barrier_is_seen(void **)
{
	assert_int_equal(wrong_swaps(true), 0);
	assert_true(wrong_swaps(false) > 0);
}

/* Two boards in turn in one memory: what the first warp writes for the second turn, others may not have read.
 */
static void
turns_kernel(int *wrong, bool barrier)
{
	int *board = (int *)dynamic_shared();

	for (int turn = 0; turn < 8; turn++) {
		if (threadIdx.x == 0)
			board[0] = turn;
		__syncthreads();
		wrong[threadIdx.x] += board[0] != turn;
		if (barrier)
			__syncthreads();
	}
}

static int
wrong_turns(bool barrier)
{
	int wrong[THREADS] = {}, all = 0;

	for (int i = 0; i < 8; i++)
		run(sizeof(int), turns_kernel, wrong, barrier);
	for (int i = 0; i < THREADS; i++)
		all += wrong[i];
	return all;
}

static void
test_memory_used_again_is_seen(void **)
{
	assert_int_equal(wrong_turns(true), 0);
	assert_true(wrong_turns(false) > 0);
}

/* ---- copies */

static void
copy_kernel(float *out, const float *from, bool wait)
{
	float *board = (float *)dynamic_shared();

	if (threadIdx.x == 0) {
		for (int i = 0; i < COPIES; i++)
			copy_begin(board + 4 * i, from, i % 2 == 0);
		copy_group();
		copy_group();
		if (wait)
			copy_wait<1>();
		for (int i = 0; i < 4 * COPIES; i++)
			out[i] = board[i];
		copy_wait<0>();
	}
}

static void
test_copy_is_there_when_waited_for(void **)
{
	alignas(16) float from[4] = {1, 2, 3, 4}, out[4 * COPIES];
	int missing = 0;

	run(sizeof(out), copy_kernel, out, (const float *)from, true);
	for (int i = 0; i < 4 * COPIES; i++)
		assert_true(out[i] == (i / 4 % 2 == 0 ? from[i % 4] : 0.0f));
	run(sizeof(out), copy_kernel, out, (const float *)from, false);
	for (int i = 0; i < COPIES; i++)
		missing += isnan(out[4 * i]);
	assert_true(missing > 0 && missing < COPIES); /* some are done at once, some are not */
}

static void
test_stream_works_when_waited_for(void **)
{
	int from = 1, to = 0;

	cudaMemcpyAsync(&to, &from, sizeof(to), cudaMemcpyHostToDevice, stream);
	from = 2; /* the host has not waited: this is what is copied */
	assert_int_equal(to, 0);
	cudaStreamSynchronize(stream);
	assert_int_equal(to, 2);
}

/* ---- what no device allows */

static void
half_warp_kernel(float *out)
{
	if (threadIdx.x % WARP < WARP / 2)
		out[threadIdx.x] = warp_sum(1.0f);
}

static void
unwaited_kernel(const float *from)
{
	for (int i = 0; i < COPIES; i++) /* by chance, some are not done at once */
		copy_begin(dynamic_shared(), from, true);
	copy_group();
}

static void
run_half_warp(void)
{
	float out[THREADS];

	run(0, half_warp_kernel, out);
}

static void
run_unwaited(void)
{
	alignas(16) float from[4] = {};

	run(64, unwaited_kernel, (const float *)from);
}

static void
assert_aborts(void (*what)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		signal(SIGABRT, SIG_DFL);
		what();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void
test_faults_end_the_program(void **)
{
	assert_aborts(run_half_warp);
	assert_aborts(run_unwaited);
}

/* ---- banks */

static void
tiles_kernel(uint32_t *out, int row_bytes)
{
	uint32_t r[4];

	load_tiles(r, dynamic_shared() + threadIdx.x % WARP * row_bytes);
	out[threadIdx.x] = r[0];
}

static unsigned long
conflicts_of_rows(int row_bytes)
{
	uint32_t out[THREADS];

	emul_conflict_count = 0;
	run((size_t)(WARP * row_bytes), tiles_kernel, out, row_bytes);
	return emul_conflict_count;
}

static void
test_conflicts_are_counted(void **)
{
	assert_int_equal(conflicts_of_rows(16), 0);
	assert_int_equal(
	    conflicts_of_rows(128), 2 * 4 * 7); /* two warps, four tiles, seven rows behind the first */
}

/* ---- the real kernels */

static struct device *
open_device(const char *major)
{
	struct device_options options = {};
	struct device *d;
	char why[200];

	setenv("EMUL_MAJOR", major, 1);
	options.precision = PRECISION_BF16;
	assert_int_equal(device_open(&d, "cuda", &options, why, sizeof(why)), 0);
	unsetenv("EMUL_MAJOR");
	return d;
}

/* The form that an older card takes. */
static void
test_attention_has_no_conflicts(void **)
{
	struct attention_shape shape = {2, 1, 128, true, 0.1f};
	struct device *d = open_device("8");
	struct tensor t[4];

	for (int width = 64; width <= 128; width *= 2) {
		shape.head_dim = width;
		for (int i = 0; i < 4; i++) {
			t[i] = {NULL, DT_BF16, 3, {150, i < 2 ? 2 : 1, width, 1}};
			t[i].data = device_ops(d)->reserve(d, tensor_bytes(&t[i]));
		}
		emul_conflict_count = 0;
		device_ops(d)->attention(d, &t[0], &t[1], &t[2], &t[3], &shape);
		assert_int_equal(device_ops(d)->sync(d), 0);
		assert_int_equal(emul_conflict_count, 0);
		for (int i = 0; i < 4; i++)
			device_ops(d)->release(d, t[i].data);
	}
	device_close(&d);
}

static const char *
form_taken(const char *major, int width)
{
	struct attention_shape shape = {2, 1, width, false, 1};
	struct device *d = open_device(major);
	int i = 0;

	while (!cuda_attention_takes(d, i, &shape))
		i++;
	device_close(&d);
	return cuda_attention_form(i);
}

static void
test_card_decides_about_attention(void **)
{
	assert_string_equal(form_taken("9", 128), "wgmma");
	assert_string_equal(form_taken("9", 64), "wgmma");
	assert_string_equal(form_taken("9", 512), "memory");
	assert_string_equal(form_taken("9", 32), "plain");
	assert_string_equal(form_taken("8", 128), "mma");
	assert_string_equal(form_taken("10", 128), "mma"); /* sm_90a is for 9.0 alone */
}

static const char *
conv_form_taken(const char *major, int channels, int stride)
{
	struct device *d = open_device(major);
	int i = 0;

	while (!cuda_conv_takes(d, i, channels, 3, stride))
		i++;
	device_close(&d);
	return cuda_conv_form(i);
}

static void
test_card_decides_about_convolutions(void **)
{
	assert_string_equal(conv_form_taken("9", 128, 1), "wgmma");
	assert_string_equal(conv_form_taken("9", 16, 1), "wgmma");
	assert_string_equal(conv_form_taken("9", 128, 2), "mma");
	assert_string_equal(conv_form_taken("9", 3, 1), "plain");
	assert_string_equal(conv_form_taken("8", 128, 1), "mma");
	assert_string_equal(conv_form_taken("10", 128, 1), "mma");
}

/* Bytes that a convolution of 20 x 37 pixels, which are nine tiles, asks for before it adds. */
static uint64_t
prefetched_by(struct device *d, int outputs, bool doubled, bool adds)
{
	struct conv_shape shape = {1, 1, 1, doubled, NULL};
	int side = doubled ? 2 : 1;
	struct tensor x = {NULL, DT_BF16, 3, {20, 37, 16, 1}},
		      y = {NULL, DT_BF16, 3, {side * 20, side * 37, outputs, 1}};
	static const float filters[264 * 16 * 9] = {};
	struct stored stored = {filters, DT_F32, 4, {outputs, 16, 3, 3}};
	struct weight *w = device_ops(d)->weight_load(d, WEIGHT_CONV, &stored, 1);

	x.data = device_ops(d)->reserve(d, tensor_bytes(&x));
	y.data = device_ops(d)->reserve(d, tensor_bytes(&y));
	emul_prefetched = 0;
	device_ops(d)->conv2d(d, &y, &x, w, NULL, adds ? &y : NULL, &shape);
	assert_int_equal(device_ops(d)->sync(d), 0);
	device_ops(d)->release(d, x.data);
	device_ops(d)->release(d, y.data);
	return emul_prefetched;
}

/* Once, however many tiles of outputs there are. */
static void
test_addend_is_asked_for(void **)
{
	struct device *d = open_device("9");

	assert_int_equal(prefetched_by(d, 128, false, true), 20 * 37 * 128 * 2);
	assert_int_equal(prefetched_by(d, 264, false, true), 20 * 37 * 264 * 2);
	assert_int_equal(prefetched_by(d, 8, false, true), 20 * 37 * 8 * 2);
	assert_int_equal(prefetched_by(d, 128, false, false), 0);
	assert_int_equal(prefetched_by(d, 36, false, true), 0); /* pixels are no multiples of 16 bytes */
	assert_int_equal(prefetched_by(d, 128, true, true), 0); /* a tile's pixels are apart */
	device_close(&d);
}

/* Of many outputs and of few. */
static void
test_convolutions_have_no_conflicts(void **)
{
	struct conv_shape shape = {1, 1, 1, false, NULL};
	struct device *d = open_device("8");

	for (int outputs = 8; outputs <= 128; outputs *= 16) {
		struct tensor x = {NULL, DT_BF16, 3, {9, 15, 72, 1}},
			      y = {NULL, DT_BF16, 3, {9, 15, outputs, 1}};
		static const float filters[128 * 72 * 9] = {};
		struct stored stored = {filters, DT_F32, 4, {outputs, 72, 3, 3}};
		struct weight *w = device_ops(d)->weight_load(d, WEIGHT_CONV, &stored, 1);
		x.data = device_ops(d)->reserve(d, tensor_bytes(&x));
		y.data = device_ops(d)->reserve(d, tensor_bytes(&y));
		emul_conflict_count = 0;
		device_ops(d)->conv2d(d, &y, &x, w, NULL, NULL, &shape);
		assert_int_equal(device_ops(d)->sync(d), 0);
		assert_int_equal(emul_conflict_count, 0);
		device_ops(d)->release(d, x.data);
		device_ops(d)->release(d, y.data);
	}
	device_close(&d);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_missing_barrier_is_seen),
	    cmocka_unit_test(test_memory_used_again_is_seen),
	    cmocka_unit_test(test_copy_is_there_when_waited_for),
	    cmocka_unit_test(test_stream_works_when_waited_for),
	    cmocka_unit_test(test_faults_end_the_program),
	    cmocka_unit_test(test_conflicts_are_counted),
	    cmocka_unit_test(test_attention_has_no_conflicts),
	    cmocka_unit_test(test_card_decides_about_attention),
	    cmocka_unit_test(test_card_decides_about_convolutions),
	    cmocka_unit_test(test_convolutions_have_no_conflicts),
	    cmocka_unit_test(test_addend_is_asked_for),
	};
	int failed;

	cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	cudaStreamDestroy(stream);
	return failed;
}
