/*
 * Choices of ways to make a product: that the fastest is found on random numbers before the device settles,
 * that nothing is tried afterwards, and that what was used once is used by every later process. With the
 * emulated cuBLASLt, whose ways and times are the test's.
 */
extern "C" {
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
}

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

extern "C" {
#include "kernels/device.h"
}
#include "tests/emul/ways.h"

enum { K = 64, N = 64, WIDE_N = 96, MAX_ROWS = 1100 };

/* ---- a device with its file of choices, as a process has it */

struct process {
	struct device *d;
	const struct ops *ops;
	struct weight *w, *wide;
	void *memory; /* x, then y */
};

static char directory[64];

static struct weight *
make_weight(struct process *p, int64_t n)
{
	std::vector<float> numbers((size_t)(n * K), 0.25f);
	struct stored stored = {numbers.data(), DT_F32, 2, {n, K, 1, 1}};

	return p->ops->weight_load(p->d, WEIGHT_LINEAR, &stored, 1);
}

/* To which that way is the fastest, and whose file lies in `cache`, if there is one. */
static struct process
start_with(enum emul_way fastest, const char *cache)
{
	struct device_options options = {};
	struct process p;
	char why[200], number[16];

	snprintf(number, sizeof(number), "%d", (int)fastest);
	setenv("EMUL_FASTEST", number, 1);
	options.precision = PRECISION_F32;
	options.cache_dir = cache;
	assert_int_equal(device_open(&p.d, "cuda", &options, why, sizeof(why)), 0);
	p.ops = device_ops(p.d);
	p.w = make_weight(&p, N);
	p.wide = make_weight(&p, WIDE_N);
	p.memory = p.ops->reserve(p.d, MAX_ROWS * (K + WIDE_N + 64) * sizeof(float));
	return p;
}

static struct process
start(enum emul_way fastest)
{
	return start_with(fastest, directory);
}

static void
end(struct process *p)
{
	assert_int_equal(p->ops->sync(p->d), 0);
	p->ops->release(p->d, p->memory);
	device_close(&p->d);
}

static struct tensor
input(struct process *p, int64_t rows, size_t offset)
{
	struct tensor x = {(char *)p->memory + offset, DT_F32, 2, {rows, K, 1, 1}};

	return x;
}

/* The products that one linear needed, by their ways, and how often the library was asked for candidates. */
struct used {
	unsigned long products[EMUL_WAYS], all, askings;
};

static struct used
multiply_at(struct process *p, const struct weight *w, int64_t n, int64_t rows, size_t offset)
{
	struct tensor x = input(p, rows, offset);
	struct tensor y = {
	    (char *)p->memory + MAX_ROWS * (K + 32) * sizeof(float), DT_F32, 2, {rows, n, 1, 1}};
	std::vector<float> ones((size_t)(rows * K), 1.0f), got((size_t)(rows * n));
	struct used before = {{0}, 0, emul_askings}, u = {};

	memcpy(before.products, emul_products, sizeof(before.products));
	p->ops->copy_in(p->d, &x, ones.data(), DT_F32);
	p->ops->linear(p->d, &y, &x, w, NULL);
	p->ops->copy_out(p->d, got.data(), DT_F32, &y);
	if (!device_searches(p->d)) {
		for (float value : got)
			assert_true(value == 16.0f);
	}
	for (int i = 0; i < EMUL_WAYS; i++) {
		u.products[i] = emul_products[i] - before.products[i];
		u.all += u.products[i];
	}
	u.askings = emul_askings - before.askings;
	return u;
}

static struct used
multiply(struct process *p, int64_t rows)
{
	return multiply_at(p, p->w, N, rows, 0);
}

/* One product by that way, and no more: nothing was tried. */
static void
expect(struct used u, enum emul_way way, unsigned long askings)
{
	if (u.all != 1 || u.products[way] != 1 || u.askings != askings)
		fail_msg("%lu %lu %lu %lu products, %lu askings", u.products[0], u.products[1], u.products[2],
		    u.products[3], u.askings);
}

static std::string
path(void)
{
	return std::string(directory) + "/gemm-130000-emulated-device";
}

static std::string
content(void)
{
	FILE *file = fopen(path().c_str(), "rb");
	std::string all;
	int c;

	assert_non_null(file);
	while ((c = fgetc(file)) != EOF)
		all += (char)c;
	fclose(file);
	return all;
}

static int
make_directory(void **)
{
	snprintf(directory, sizeof(directory), "/tmp/zit-gemm-XXXXXX");
	return mkdtemp(directory) == NULL;
}

static int
remove_directory(void **)
{
	unlink(path().c_str());
	return rmdir(directory);
}

/* ---- tests */

static void
test_the_fastest_is_found_and_remembered(void **)
{
	for (int way = EMUL_ALIGNED; way >= EMUL_GUESS; way--) {
		struct process p = start((enum emul_way)way);
		struct used u = multiply(&p, 128);
		assert_true(u.products[way] > 5 && u.products[(way + 1) % EMUL_BROKEN] > 5);
		assert_int_equal(u.products[(way + 2) % EMUL_BROKEN], 2); /* it was far behind */
		assert_int_equal(u.products[EMUL_BROKEN], 0);
		expect(multiply(&p, 128), (enum emul_way)way, 0);
		device_settle(p.d);
		expect(multiply(&p, 128), (enum emul_way)way, 0);
		end(&p);
		p = start(EMUL_LIGHT); /* whatever is the fastest by now */
		expect(multiply(&p, 128), (enum emul_way)way, 0);
		expect(multiply(&p, 100), (enum emul_way)way, 0); /* of the same kind */
		end(&p);
		unlink(path().c_str());
	}
}

static void
test_trials_have_random_normal_numbers(void **)
{
	struct process p = start(EMUL_LIGHT);
	struct tensor x = input(&p, 256, 0);
	std::vector<float> got(256 * K);
	const double count = 256 * K;
	double sum = 0, squares = 0, neighbours = 0, largest = 0;

	multiply(&p, 256);
	p.ops->copy_out(p.d, got.data(), DT_F32, &x);
	for (size_t i = 0; i < got.size(); i++) {
		sum += got[i];
		squares += (double)got[i] * got[i];
		neighbours += (double)got[i] * got[(i + 1) % got.size()];
		largest = fmax(largest, fabs((double)got[i]));
	}
	/* of 16384 numbers: 5 standard deviations, 0.008 of a mean and 0.011 of a variance */
	assert_true(fabs(sum) < 0.04 * count);
	assert_true(fabs(squares - count) < 0.055 * count);
	assert_true(fabs(neighbours) < 0.04 * count);
	assert_true(largest > 3 && largest < 6);
	device_settle(p.d);
	multiply(&p, 512); /* of new size, and its input stays */
	p.ops->copy_out(p.d, got.data(), DT_F32, &x);
	assert_true(got[0] == 1 && got[256 * K - 1] == 1);
	end(&p);
}

static void
test_a_new_size_takes_its_neighbours_way(void **)
{
	struct process p = start(EMUL_LIGHT);

	multiply(&p, 128);
	setenv("EMUL_FASTEST", "2", 1);
	multiply(&p, 1024);
	device_settle(p.d);
	expect(multiply(&p, 200), EMUL_LIGHT, 0);
	expect(multiply(&p, 300), EMUL_ALIGNED, 0); /* 384 is less of 1024 than 128 is of it */
	expect(multiply_at(&p, p.wide, WIDE_N, 200, 0), EMUL_GUESS, 1); /* no neighbour: the first guess */
	expect(multiply(&p, 200), EMUL_LIGHT, 0);
	end(&p);
	p = start(EMUL_GUESS); /* what was used stays, though it was never the fastest */
	expect(multiply(&p, 200), EMUL_LIGHT, 0);
	expect(multiply(&p, 300), EMUL_ALIGNED, 0);
	expect(multiply_at(&p, p.wide, WIDE_N, 200, 0), EMUL_GUESS, 0);
	end(&p);
}

/* Two processes at once: the second one finds what the first has written meanwhile. */
static void
test_the_first_line_counts(void **)
{
	struct process first = start(EMUL_ALIGNED), second = start(EMUL_LIGHT);

	multiply(&second, 256);
	device_settle(first.d);
	expect(multiply(&first, 256), EMUL_LIGHT, 0);
	end(&first);
	end(&second);
}

/* The check does not see how operands are aligned. */
static void
test_no_way_for_better_aligned_operands(void **)
{
	struct process p = start(EMUL_ALIGNED);

	multiply(&p, 128);
	device_settle(p.d);
	expect(multiply_at(&p, p.w, N, 128, sizeof(float)), EMUL_GUESS, 1);
	expect(multiply_at(&p, p.w, N, 256, 0), EMUL_ALIGNED, 0);
	end(&p);
}

static void
test_damaged_files(void **)
{
	struct process p = start(EMUL_LIGHT);
	std::string line, broken;

	multiply(&p, 128);
	end(&p);
	line = content();
	broken = line;
	broken[broken.size() - 1 - 128 + 17] =
	    '3'; /* the first byte of the second number: BROKEN, not LIGHT */
	for (const std::string &text : {std::string("no line of ours\n"), std::string(3000, 'x'),
		 std::string("1 2\0\n", 5), broken, line.substr(0, 20), std::string(5, '\0')}) {
		FILE *file = fopen(path().c_str(), "wb");
		fwrite(text.data(), 1, text.size(), file);
		fclose(file);
		p = start(EMUL_ALIGNED);
		assert_true(multiply(&p, 128).all > 1); /* it has been searched for again */
		end(&p);
		p = start(EMUL_LIGHT);
		expect(multiply(&p, 128), EMUL_ALIGNED, 0);
		end(&p);
		assert_int_equal(content().compare(0, text.size(), text), 0);
	}
}

/* On a full disk: a search would have another result next time, the first guess has the same. */
static void
test_what_cannot_be_kept_is_not_used(void **)
{
	struct process p = start(EMUL_LIGHT);
	struct rlimit limit, none;

	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &limit);
	none = limit;
	none.rlim_cur = 0;
	setrlimit(RLIMIT_FSIZE, &none);
	multiply(&p, 128);
	expect(multiply(&p, 128), EMUL_GUESS, 0);
	device_settle(p.d);
	expect(multiply(&p, 128), EMUL_GUESS, 1);
	setrlimit(RLIMIT_FSIZE, &limit);
	assert_int_equal(content().size(), 0);
	end(&p);
}

/* Without a directory there is nothing to be found out, and results count from the first. */
static void
test_without_a_file(void **)
{
	struct process p = start_with(EMUL_LIGHT, NULL),
		       other = start(EMUL_LIGHT); /* makes the file to be removed */

	assert_false(device_searches(p.d));
	assert_true(device_searches(other.d));
	expect(multiply(&p, 128), EMUL_GUESS, 1);
	end(&p);
	end(&other);
}

/* The driver looks there when it is first asked for devices. */
static void
test_what_the_driver_compiles_is_kept(void **)
{
	struct process p;

	unsetenv("CUDA_CACHE_PATH");
	p = start(EMUL_GUESS);
	assert_string_equal(getenv("CUDA_CACHE_PATH"), directory);
	end(&p);
	setenv("CUDA_CACHE_PATH", "/elsewhere", 1);
	p = start(EMUL_GUESS);
	assert_string_equal(getenv("CUDA_CACHE_PATH"), "/elsewhere");
	end(&p);
}

/* What the library says where a card's memory is full. In a process of its own: a device that failed frees
 * nothing. */
static void
test_no_memory_for_the_library(void **)
{
	struct device_options options = {};
	struct device *d;
	char why[200] = "";
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		setenv("EMUL_LT_CREATE", "1", 1); /* CUBLAS_STATUS_NOT_INITIALIZED */
		status = device_open(&d, "cuda", &options, why, sizeof(why));
		_exit(strstr(why, "cuBLASLt") != NULL ? status : 100);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), DEVICE_OUT_OF_MEMORY);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_directory, remove_directory)
	const struct CMUnitTest tests[] = {
	    TEST(test_the_fastest_is_found_and_remembered),
	    TEST(test_trials_have_random_normal_numbers),
	    TEST(test_a_new_size_takes_its_neighbours_way),
	    TEST(test_the_first_line_counts),
	    TEST(test_no_way_for_better_aligned_operands),
	    TEST(test_damaged_files),
	    TEST(test_what_cannot_be_kept_is_not_used),
	    TEST(test_without_a_file),
	    TEST(test_what_the_driver_compiles_is_kept),
	    TEST(test_no_memory_for_the_library),
	};
#undef TEST

	return cmocka_run_group_tests_name("choices of ways to multiply", tests, NULL, NULL);
}
