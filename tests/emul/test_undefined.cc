/*
 * That every use of a 9.0 card's instructions which the PTX manual leaves undefined ends the program on the
 * emulated device, with what was wrong.
 */
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/emul/small_kernels.h"

static void
product_with(bool fence, bool wait, uint32_t off)
{
	float d[N / 8][4] = {};

	fill_operands();
	if (fence)
		product_fence();
	product_begin(d, left_operand(0), right_operand(0) + off / 16, true);
	product_group();
	if (wait)
		product_wait<0>();
}

static void
fine(void)
{
	product_with(true, true, 0);
}

static void
no_fence(void)
{
	product_with(false, true, 0);
}

static void
no_wait(void)
{
	product_with(true, false, 0);
}

static void
operand_inside_the_pattern(void)
{
	product_with(true, true, PANEL_ROW);
}

static void
operand_outside(void)
{
	product_with(true, true, SHARED);
}

static void
fence_before_the_last_write(void)
{
	float d[N / 8][4] = {};

	fill_operands();
	product_fence();
	d[0][0] = 1;
	product_begin(d, left_operand(0), right_operand(0), true);
	product_group();
	product_wait<0>();
}

static void
sums_written_under_way(void)
{
	float d[N / 8][4] = {};

	fill_operands();
	product_fence();
	product_begin(d, left_operand(0), right_operand(0), true);
	product_group();
	d[0][0] = 1;
	product_wait<0>();
}

static void
left_side_written_under_way(void)
{
	float d[N / 8][4] = {};
	uint32_t a[4] = {};

	fill_operands();
	product_fence();
	product_begin(d, a, right_operand(0));
	product_group();
	a[3] = 1;
	product_wait<0>();
}

static void
warps_differ(void)
{
	float d[N / 8][4] = {};

	fill_operands();
	product_fence();
	product_begin(d, left_operand(0), right_operand(threadIdx.x / WARP), true);
	product_group();
	product_wait<0>();
}

static void
barrier_without_fence(void)
{
	static uint16_t from[8 * PANEL_NUMBERS];
	CUtensorMap map = map_of(from, PANEL_NUMBERS, 1, 8, 8);

	if (threadIdx.x == 0) {
		barrier_init(barrier_at(0), 1);
		barrier_expect(barrier_at(0), PANEL_REPEAT);
		copy_box(panels(), &map, 0, 0, 0, barrier_at(0));
		barrier_wait(barrier_at(0), 0);
	}
}

static void
box_of(uint32_t expected, int off)
{
	static uint16_t from[8 * PANEL_NUMBERS];
	CUtensorMap map = map_of(from, PANEL_NUMBERS, 1, 8, 8);

	make_barrier(0, 1);
	if (threadIdx.x == 0) {
		barrier_expect(barrier_at(0), expected);
		copy_box(panels() + off, &map, 0, 0, 0, barrier_at(0));
	}
	barrier_wait(barrier_at(0), 0);
}

static void
too_few_bytes(void)
{
	box_of(2 * PANEL_REPEAT, 0);
}

static void
too_many_bytes(void)
{
	box_of(PANEL_REPEAT / 2, 0);
}

static void
box_not_aligned(void)
{
	box_of(PANEL_REPEAT, 64);
}

static void
wait_for_the_wrong_phase(void)
{
	make_barrier(0, WARPGROUP);
	barrier_arrive(barrier_at(0));
	barrier_wait(barrier_at(0), 0);
	barrier_wait(barrier_at(0), 1);
}

static void
no_barrier_there(void)
{
	barrier_wait(barrier_at(1), 0);
}

static void
barrier_overwritten(void)
{
	make_barrier(0, WARPGROUP);
	if (threadIdx.x == 5)
		*barrier_at(0) = 0;
	__syncthreads();
	barrier_arrive(barrier_at(0));
}

static void
named_for_half_a_warp(void)
{
	named_wait(1, WARP / 2);
}

static void
named_too_few(void)
{
	named_wait(1, 2 * WARPGROUP);
}

static void
named_arrived_and_left(void)
{
	named_arrive(1, 2 * WARPGROUP);
}

static void
registers_of_one_warp(void)
{
	if (threadIdx.x < WARP)
		give_registers<32>();
}

static void
registers_that_are_not_there(void)
{
	take_registers<32>();
}

/* Of three warpgroups, launched with 168 each: 504 for one thread of each. */
template <int given, int taken>
static void
registers_of_three(void)
{
	if (threadIdx.x < WARPGROUP)
		give_registers<given>();
	else
		take_registers<taken>();
}

static void
too_many_bytes_at_a_time(void)
{
	make_barrier(0, 2 * WARPGROUP);
	barrier_expect(barrier_at(0), 1 << 14);
}

static void
prefetch_of(bool inside, int off)
{
	static uint64_t host[4];
	void *memory;

	cudaMalloc(&memory, 64);
	prefetch((inside ? (unsigned char *)memory : (unsigned char *)host) + off, 32);
	cudaFree(memory);
}

static void
prefetch_inside(void)
{
	prefetch_of(true, 32);
}

static void
prefetch_not_aligned(void)
{
	prefetch_of(true, 8);
}

static void
prefetch_beyond(void)
{
	prefetch_of(true, 48);
}

static void
prefetch_of_the_hosts(void)
{
	prefetch_of(false, 0);
}

/* Each kernel, and a piece of what is said when it ends the program; NULL: it does not. */
static const struct fault {
	void (*kernel)(void);
	const char *said;
	unsigned threads; /* 0: a warpgroup */
} faults[] = {
    {fine, NULL},
    {no_fence, "without a fence since the last wait"},
    {no_wait, "ends with products that nobody waited for"},
    {operand_inside_the_pattern, "does not begin with the pattern"},
    {operand_outside, "is not in shared memory"},
    {fence_before_the_last_write, "have been written since the fence"},
    {sums_written_under_way, "registers of a product under way were written"},
    {left_side_written_under_way, "the left side of a product under way was written"},
    {warps_differ, "warps of one group begin different products"},
    {barrier_without_fence, "made without a fence"},
    {too_few_bytes, "in barrier_wait for ever"},
    {too_many_bytes, "more than announced"},
    {box_not_aligned, "a copy of a box to"},
    {wait_for_the_wrong_phase, "in barrier_wait for ever"},
    {no_barrier_there, "there is no barrier"},
    {barrier_overwritten, "has been overwritten"},
    {named_for_half_a_warp, "named barrier 1 of 16 threads"},
    {named_too_few, "in named_wait for ever"},
    {named_arrived_and_left, "ends with 128 threads at named barrier 1"},
    {registers_of_one_warp, "threads of one warpgroup have different registers"},
    {registers_that_are_not_there, "32 registers where there are"},
    {registers_of_three<40, 232>, NULL, 3 * WARPGROUP},
    {registers_of_three<32, 240>, "384 threads have 65536 registers of 64512", 3 * WARPGROUP},
    {prefetch_inside, NULL, 1},
    {prefetch_not_aligned, "a prefetch of 32 bytes at", 1},
    {prefetch_beyond, "that are not the device's", 1},
    {prefetch_of_the_hosts, "that are not the device's", 1},
    {too_many_bytes_at_a_time, "1048576 bytes are more than a barrier counts"},
};

/* What the kernel said before it ended the program, or nothing. */
static void
listen(const struct fault &f, char *said, size_t size)
{
	int ends[2], status;
	ssize_t got = 0, part;
	pid_t pid;

	assert_int_equal(pipe(ends), 0);
	pid = fork();
	if (pid == 0) {
		signal(SIGABRT, SIG_DFL);
		dup2(ends[1], STDERR_FILENO);
		run(f.threads != 0 ? f.threads : (unsigned)WARPGROUP, f.kernel);
		_exit(0);
	}
	close(ends[1]);
	while ((part = read(ends[0], said + got, size - 1 - (size_t)got)) > 0)
		got += part;
	close(ends[0]);
	said[got] = 0;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(got == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT));
}

static void
test_what_is_undefined_ends_the_program(void **)
{
	char said[400];

	for (const struct fault &f : faults) {
		listen(f, said, sizeof(said));
		if (f.said == NULL ? said[0] != 0 : strstr(said, f.said) == NULL)
			fail_msg("expected '%s', heard '%s'", f.said != NULL ? f.said : "", said);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_what_is_undefined_ends_the_program),
	};
	int failed;

	cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	cudaStreamDestroy(stream);
	return failed;
}
