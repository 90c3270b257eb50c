/*
 * What a card does with networks of full size: weights of random normal numbers, no checkpoint. Each line is
 * NAME measured_ms floor_ms share: the median of --rounds samples, each waited for; the time that its
 * operations or bytes take at the rates of a large product and a large copy measured at the beginning of this
 * run; and floor by measured.
 *
 *   bench_gpu [--rounds N] [--small] [--only NAME] [--cache DIR]
 *
 * --small: a model and pictures that the emulated device can do, to see that this program works.
 * --only NAME: the lines that begin with NAME, after the rates. Exit 77: no device.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/device.h"
#include "tests/bench/bench_gpu.h"
#include "tests/bench/full_size.h"

enum { NO_DEVICE = 77 };

static void
open_device(void)
{
	struct device_options how = {.cache_dir = bench()->cache};
	char why[200];

	if (device_open(&bench()->device, "cuda", &how, why, sizeof(why)) != 0) {
		printf("skipped: %s\n", why);
		exit(NO_DEVICE);
	}
	bench()->ops = device_ops(bench()->device);
	printf("# %s\n", device_name(bench()->device));
}

static void
read_options(int argc, char **argv)
{
	static const struct option known[] = {{"rounds", required_argument, NULL, 'r'},
	    {"small", no_argument, NULL, 's'}, {"only", required_argument, NULL, 'o'},
	    {"cache", required_argument, NULL, 'c'}, {0}};
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (c == 'r')
			bench()->rounds = atoi(optarg);
		else if (c == 's')
			bench()->small = true;
		else if (c == 'o')
			bench()->only = optarg;
		else if (c == 'c')
			bench()->cache = optarg;
		else
			exit(64);
	}
	if (bench()->rounds < 1 || bench()->rounds > BENCH_MAX_ROUNDS)
		bench_fail("--rounds", "from 1 to 101");
}

int
main(int argc, char **argv)
{
	const struct transformer_config *c;
	int64_t rows;

	read_options(argc, argv);
	bench()->config = bench()->small ? &small_size : &full_size;
	c = &bench()->config->transformer;
	rows = bench()->small ? 96 : 4096 + 128;
	open_device();
	if (checkpoint_open(&bench()->checkpoint, NULL, NULL, NULL) != 0)
		bench_fail("random weights", "no memory");
	bench_rates();
	bench_linear("gemm-qkv", rows, 3 * (int64_t)c->dim, c->dim);
	bench_linear("gemm-out", rows, c->dim, c->dim);
	bench_linear("gemm-w13", rows, 2 * (int64_t)c->ffn_dim, c->dim);
	bench_linear("gemm-w2", rows, c->dim, c->ffn_dim);
	bench_attention("attention-dit", rows, c->heads, c->heads, c->head_dim, false);
	bench_attention("attention-text", bench()->small ? 64 : 512, bench()->config->text.heads,
	    bench()->config->text.kv_heads, bench()->config->text.head_dim, true);
	bench_attention("attention-vae", bench()->small ? 64 : 16384, 1, 1, 512, false);
	bench_elementwise(rows);
	bench_convolutions();
	bench_group_norm("group-norm-512", bench()->small ? 8 : 256, bench()->small ? 32 : 512);
	bench_group_norm("group-norm-128", bench()->small ? 16 : 1024, bench()->small ? 32 : 128);
	bench_load_networks();
	bench_side(bench()->small ? 64 : 1024, true);
	bench_side(bench()->small ? 32 : 512, false);
	if (!bench()->small)
		bench_side(2048, false);
	bench_free_networks();
	checkpoint_close(&bench()->checkpoint);
	device_close(&bench()->device);
	return 0;
}
