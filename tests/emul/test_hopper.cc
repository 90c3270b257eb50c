/*
 * What the emulated device has of a 9.0 card: copies of boxes, barriers, products of warpgroups; that they do
 * what the PTX manual says.
 */
#include "tests/emul/small_kernels.h"

/* ---- copies of boxes */

static void
box_kernel(uint16_t *out, CUtensorMap map, int rows, int group, int first)
{
	make_barrier(0, 1);
	if (threadIdx.x == 0) {
		barrier_expect(barrier_at(0), (uint32_t)rows * PANEL_ROW);
		copy_box(panels(), &map, PANEL_NUMBERS, group, first, barrier_at(0));
	}
	barrier_wait(barrier_at(0), 0);
	for (int i = (int)threadIdx.x; i < rows * PANEL_NUMBERS; i += (int)blockDim.x)
		out[i] = ((uint16_t *)panels())[i];
}

static void
test_box_lies_swizzled_and_is_zero_outside(void **)
{
	enum { ROWS = 20, GROUPS = 3, BOX = 16, FIRST = 9, GROUP = 1 };
	static uint16_t from[ROWS * GROUPS * WIDE], out[BOX * PANEL_NUMBERS];

	fill(from, ROWS * GROUPS * WIDE);
	run(32, box_kernel, out, map_of(from, WIDE, GROUPS, ROWS, BOX), (int)BOX, (int)GROUP, (int)FIRST);
	for (int r = 0; r < BOX; r++) {
		for (int c = 0; c < PANEL_NUMBERS; c++) {
			int at = ((FIRST + r) * GROUPS + GROUP) * WIDE + PANEL_NUMBERS + c;
			assert_int_equal(out[place(r, c)], FIRST + r < ROWS ? from[at] : 0);
		}
	}
}

static CUresult
encode(void *data, cuuint64_t stride, cuuint32_t box_width, cuuint32_t box_rows)
{
	cuuint64_t dims[] = {WIDE, 1, 8}, strides[] = {WIDE * 2, stride};
	cuuint32_t box[] = {box_width, 1, box_rows}, steps[] = {1, 1, 1};
	CUtensorMap map;

	return cuTensorMapEncodeTiled(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, data, dims, strides, box,
	    steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_NONE,
	    CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
}

static void
test_maps_have_conditions(void **)
{
	alignas(16) static uint16_t data[8 * WIDE];

	assert_int_equal(encode(data, WIDE * 2, 64, 8), CUDA_SUCCESS);
	assert_int_equal(encode(data + 1, WIDE * 2, 64, 8), CUDA_ERROR_INVALID_VALUE); /* alignment */
	assert_int_equal(encode(data, WIDE * 2 + 2, 64, 8), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(
	    encode(data, WIDE * 2, 128, 8), CUDA_ERROR_INVALID_VALUE); /* wider than the swizzle */
	assert_int_equal(encode(data, WIDE * 2, 64, 257), CUDA_ERROR_INVALID_VALUE);
}

/* Thread 0 brings rows one by one into two places; the others say when they have read. */
static void
ring_kernel(int *wrong, CUtensorMap map, const uint16_t *from, int rows)
{
	int readers = (int)blockDim.x - 1;

	if (threadIdx.x == 0) {
		for (int i = 0; i < 2; i++) {
			barrier_init(barrier_at(i), 1);
			barrier_init(barrier_at(2 + i), (uint32_t)readers);
		}
		barrier_init_done();
	}
	__syncthreads();
	for (int row = 0; row < rows; row++) {
		int at = row % 2;
		uint32_t parity = row / 2 % 2;
		uint16_t *tile = (uint16_t *)(panels() + at * PANEL_REPEAT);
		if (threadIdx.x == 0) {
			barrier_wait(barrier_at(2 + at), parity ^ 1);
			barrier_expect(barrier_at(at), PANEL_ROW);
			copy_box(tile, &map, 0, 0, row, barrier_at(at));
			continue;
		}
		barrier_wait(barrier_at(at), parity);
		for (int i = 0; i < PANEL_NUMBERS; i++)
			wrong[threadIdx.x] += tile[i] != from[row * PANEL_NUMBERS + i];
		barrier_arrive(barrier_at(2 + at));
	}
}

static void
test_ring_of_barriers(void **)
{
	enum { ROWS = 9 };
	static uint16_t from[ROWS * PANEL_NUMBERS];
	int wrong[64] = {};

	fill(from, ROWS * PANEL_NUMBERS);
	for (int i = 0; i < 8; i++) /* orders drawn by chance */
		run(64, ring_kernel, wrong, map_of(from, PANEL_NUMBERS, 1, ROWS, 1), (const uint16_t *)from,
		    (int)ROWS);
	for (int i = 0; i < 64; i++)
		assert_int_equal(wrong[i], 0);
}

/* ---- products */

/* Writes a warpgroup's sums as the (64, n) matrix that they are. */
template <int n>
static void
take_sums(float *out, const float (&d)[n][4])
{
	int row = (int)threadIdx.x % WARPGROUP / WARP * 16 + (int)threadIdx.x % WARP / 4;

	for (int i = 0; i < n; i++) {
		for (int j = 0; j < 4; j++)
			out[(row + j / 2 * 8) * n * 8 + i * 8 + (int)threadIdx.x % 4 * 2 + j % 2] = d[i][j];
	}
}

static void
memory_kernel(float *out, float *early, bool add)
{
	float d[N / 8][4];

	for (int i = 0; i < N / 2; i++)
		d[i / 4][i % 4] = 5;
	fill_operands();
	product_fence();
	for (int step = 0; step < DEPTH / 16; step++)
		product_begin(d, left_operand(step), right_operand(step), add || step > 0);
	product_group();
	early[threadIdx.x] = d[threadIdx.x % (N / 8)][0];
	product_wait<0>();
	take_sums(out, d);
}

static void
test_product_of_memory(void **)
{
	static float out[M * N], early[WARPGROUP];

	for (int add = 0; add < 2; add++) {
		run(WARPGROUP, memory_kernel, out, early, add == 1);
		for (int i = 0; i < M * N; i++) {
			float want = add == 1 ? 5 : 0;
			for (int k = 0; k < DEPTH; k++)
				want +=
				    number(i / N * PANEL_NUMBERS + k) * number(i % N * PANEL_NUMBERS + k + 7);
			assert_true(out[i] == want); /* multiples of 1/64, all exact */
		}
		for (int i = 0; i < WARPGROUP; i++)
			assert_true(isnan(early[i])); /* nobody has waited */
	}
}

/* a (M, KEYS) in registers, b (KEYS, WIDE) in two panels, rows k. */
static void
registers_kernel(float *out)
{
	float d[WIDE / 8][4] = {};
	uint32_t a[KEYS / 16][4];
	int row = (int)threadIdx.x / WARP * 16 + (int)threadIdx.x % WARP / 4, t = (int)threadIdx.x % 4 * 2;

	if (threadIdx.x == 0) {
		for (int i = 0; i < KEYS * WIDE; i++)
			put(panels(), KEYS, i / WIDE, i % WIDE, number(i));
	}
	__syncthreads();
	for (int i = 0; i < KEYS / 4; i++) {
		int at = (row + i % 2 * 8) * KEYS + i / 4 * 16 + i / 2 % 2 * 8 + t;
		a[i / 4][i % 4] = pack_bf16(number(at), number(at + 1));
	}
	product_fence();
	for (int step = 0; step < KEYS / 16; step++)
		product_begin(d, a[step],
		    panel_operand(
			shared_address(panels()) + (uint32_t)step * 16 * PANEL_ROW, KEYS * PANEL_ROW));
	product_group();
	product_group();
	product_wait<1>();
	take_sums(out, d);
}

static void
test_product_of_registers(void **)
{
	static float out[M * WIDE];

	run(WARPGROUP, registers_kernel, out);
	for (int i = 0; i < M * WIDE; i++) {
		float want = 0;
		for (int k = 0; k < KEYS; k++)
			want += number(i / WIDE * KEYS + k) * number(k * WIDE + i % WIDE);
		assert_true(out[i] == want);
	}
}

/* ---- named barriers */

/* One warp writes, the other waits for it, so often. */
static void
named_kernel(int *wrong, int *board)
{
	for (int turn = 1; turn <= 8; turn++) {
		if (threadIdx.x < WARP) {
			board[threadIdx.x] = turn;
			named_arrive(1, 2 * WARP);
			named_wait(2, 2 * WARP);
		} else {
			named_wait(1, 2 * WARP);
			wrong[threadIdx.x] += board[threadIdx.x - WARP] != turn;
			named_arrive(2, 2 * WARP);
		}
	}
}

static void
test_named_barriers(void **)
{
	int wrong[2 * WARP] = {}, board[WARP] = {};

	for (int i = 0; i < 8; i++)
		run(2 * WARP, named_kernel, wrong, board);
	for (int i = 0; i < 2 * WARP; i++)
		assert_int_equal(wrong[i], 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_box_lies_swizzled_and_is_zero_outside),
	    cmocka_unit_test(test_maps_have_conditions),
	    cmocka_unit_test(test_ring_of_barriers),
	    cmocka_unit_test(test_product_of_memory),
	    cmocka_unit_test(test_product_of_registers),
	    cmocka_unit_test(test_named_barriers),
	};
	int failed;

	cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	cudaStreamDestroy(stream);
	return failed;
}
