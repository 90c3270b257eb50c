/*
 * How bench_gpu measures: samples that are waited for, floors from the device's own rates, and tensors of
 * random normal numbers to work on.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "tests/bench/bench_gpu.h"

enum { SAMPLE_MS = 5 };

static struct bench the_one = {.rounds = 7, .only = ""};

struct bench *
bench(void)
{
	return &the_one;
}

void
bench_fail(const char *what, const char *why)
{
	fprintf(stderr, "bench_gpu: %s: %s\n", what, why);
	exit(1);
}

void
bench_wait(const char *what)
{
	if (bench()->ops->sync(bench()->device) != 0)
		bench_fail(what, device_error(bench()->device));
}

/* ---- measuring */

static int
compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Of each of `count` runs in a row, which are waited for together. */
static double
sample_ms(const char *name, void (*run)(void *arg), void *arg, int count)
{
	int64_t begin = clock_now_us();

	for (int i = 0; i < count; i++)
		run(arg);
	bench_wait(name);
	return (double)(clock_now_us() - begin) * 1e-3 / count;
}

/* The median of bench()->rounds samples after two that warm up. A kernel of some 20 us is over before the
 * host has woken up from waiting for it, so a sample has as many runs as take a few milliseconds. */
double
bench_time_ms(const char *name, void (*run)(void *arg), void *arg)
{
	double ms[BENCH_MAX_ROUNDS], one;
	int count;

	sample_ms(name, run, arg, 1);
	one = sample_ms(name, run, arg, 1);
	count = bench()->small || one >= SAMPLE_MS ? 1 : (int)ceil(SAMPLE_MS / fmax(one, 0.01));
	for (int i = 0; i < bench()->rounds; i++)
		ms[i] = sample_ms(name, run, arg, count);
	qsort(ms, (size_t)bench()->rounds, sizeof(ms[0]), compare);
	return ms[bench()->rounds / 2];
}

void
bench_report(const char *name, double ms, double floor_ms)
{
	printf("%-24s %10.3f %10.3f %5.2f\n", name, ms, floor_ms, floor_ms / ms);
	fflush(stdout);
}

bool
bench_wants(const char *name)
{
	return strncmp(name, bench()->only, strlen(bench()->only)) == 0;
}

double
bench_floor_ms(double flops, double bytes)
{
	return fmax(flops / bench()->flops_per_ms, bytes / bench()->bytes_per_ms);
}

/* ---- tensors of random normal numbers */

struct tensor
bench_reserve(enum dtype type, int rank, const int64_t *dim)
{
	struct tensor t = {.type = type, .rank = rank, .dim = {1, 1, 1, 1}};

	for (int i = 0; i < rank; i++)
		t.dim[i] = dim[i];
	t.data = bench()->ops->reserve(bench()->device, tensor_bytes(&t));
	if (t.data == NULL)
		bench_fail("memory", "the device has not enough");
	return t;
}

/* Numbers of the random checkpoint, over and over, times 50: deviation 1. */
static void
fill(struct tensor *t)
{
	int64_t piece[] = {1 << 20}, count = tensor_count(t);
	struct stored stored;
	struct tensor part = *t;

	checkpoint_tensor(bench()->checkpoint, "input", 1, piece, &stored, NULL);
	part.rank = 1;
	for (int64_t at = 0; at < count; at += piece[0]) {
		part.dim[0] = count - at < piece[0] ? count - at : piece[0];
		part.data = (char *)t->data + (size_t)at * dtype_size(t->type);
		bench()->ops->copy_in(bench()->device, &part, stored.data, stored.type);
		bench()->ops->affine(bench()->device, &part, &part, 50.0f, 0.0f);
	}
}

struct tensor
bench_make(enum dtype type, int rank, const int64_t *dim)
{
	struct tensor t = bench_reserve(type, rank, dim);

	fill(&t);
	return t;
}
