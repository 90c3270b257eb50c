/*
 * Time of one picture, from prompt to pixels, on the tiny checkpoint: each backend and precision. No PNG, no
 * loading.
 *
 *   bench_pipeline [options]          interleaved rounds of all contenders; medians, and ratios to the first
 *   bench_pipeline [options] --serve NAME
 *                                     one contender ("cpu-f32"): prints "ready", then draws one picture for
 * each line it reads and prints "text_s denoise_s decode_s"; scripts/bench-diffusers drives it
 *
 * Options: --rounds N (5), --side PIXELS (256), --steps N (8), --threads N (2), --model DIR (build/golden).
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runner/generation.h"

struct contender {
	const char *name, *backend;
	enum precision precision;
	struct device *device;
	struct model *model;
};

static struct contender contenders[] = {
    {.name = "cpu-f32", .backend = "cpu", .precision = PRECISION_F32},
    {.name = "cpu-bf16", .backend = "cpu", .precision = PRECISION_BF16},
    {.name = "ref-f32", .backend = "ref", .precision = PRECISION_F32},
};

enum { CONTENDERS = sizeof(contenders) / sizeof(contenders[0]), MAX_ROUNDS = 101 };

static struct {
	int rounds, side, steps, threads;
	const char *model, *serve;
} options = {5, 256, 8, 2, "build/golden", NULL};

static void
fail(const char *what, const char *why)
{
	fprintf(stderr, "bench_pipeline: %s: %s\n", what, why);
	exit(1);
}

static int
number(const char *name, const char *text, int most)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (*end != '\0' || n < 1 || n > most)
		fail(name, "not a number in its range");
	return (int)n;
}

static void
options_read(int argc, char **argv)
{
	static const struct option known[] = {
	    {"rounds", required_argument, NULL, 'r'},
	    {"side", required_argument, NULL, 'p'},
	    {"steps", required_argument, NULL, 's'},
	    {"threads", required_argument, NULL, 't'},
	    {"model", required_argument, NULL, 'm'},
	    {"serve", required_argument, NULL, 'S'},
	    {NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1)
		switch (c) {
		case 'r':
			options.rounds = number("--rounds", optarg, MAX_ROUNDS);
			break;
		case 'p':
			options.side = number("--side", optarg, 4096);
			break;
		case 's':
			options.steps = number("--steps", optarg, 1000);
			break;
		case 't':
			options.threads = number("--threads", optarg, 1024);
			break;
		case 'm':
			options.model = optarg;
			break;
		case 'S':
			options.serve = optarg;
			break;
		default:
			exit(64);
		}
}

static void
contender_open(struct contender *c)
{
	struct device_options wanted = {.precision = c->precision, .threads = options.threads};
	char why[200];
	struct err e;

	if (device_open(&c->device, c->backend, &wanted, why, sizeof(why)) != 0)
		fail(c->name, why);
	if (model_open(&c->model, options.model, c->device,
		&(struct model_options){.max_pixels = (int64_t)options.side * options.side}, &e) != 0)
		fail(options.model, e.text);
	fprintf(stderr, "%s: %s\n", c->name, device_name(c->device));
}

static void
contender_close(struct contender *c)
{
	model_close(&c->model);
	device_close(&c->device);
}

/* One picture; seconds of its three parts. */
static struct generation_times
contender_draw(struct contender *c, uint64_t seed)
{
	struct generation_request request = {
	    "A cat sitting on a mat.", seed, options.side, options.side, options.steps, false, true};
	uint8_t *rgb = malloc((size_t)options.side * (size_t)options.side * 3);
	struct generation_times times;
	struct generation *g;
	struct err e;
	int status;

	if (rgb == NULL || generation_start(&g, c->model, &request, &e) != 0)
		fail(c->name, rgb == NULL ? "no memory" : e.text);
	for (status = 0; status == 0 && generation_left(g) > 0;)
		status = generation_step(g, &e);
	if (status != 0 || generation_decode(g, rgb, &e) != 0)
		fail(c->name, e.text);
	times = *generation_times(g);
	generation_free(&g);
	free(rgb);
	return times;
}

static int
serve(const char *name)
{
	char line[64];
	uint64_t seed = 0;

	for (size_t i = 0; i < CONTENDERS; i++) {
		if (strcmp(contenders[i].name, name) != 0)
			continue;
		contender_open(&contenders[i]);
		printf("ready\n");
		for (fflush(stdout); fgets(line, sizeof(line), stdin) != NULL; fflush(stdout)) {
			struct generation_times t = contender_draw(&contenders[i], seed++);
			printf("%.6f %.6f %.6f\n", t.text_s, t.denoise_s, t.decode_s);
		}
		contender_close(&contenders[i]);
		return 0;
	}
	fail(name, "no such contender");
	return 1;
}

static int
by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double
median(double *x, int count)
{
	qsort(x, (size_t)count, sizeof(*x), by_value);
	return count % 2 != 0 ? x[count / 2] : (x[count / 2 - 1] + x[count / 2]) / 2;
}

/* One picture of each, not timed, then rounds in turn, so that a noisy moment touches all alike. */
static void
compete(void)
{
	static double text[CONTENDERS][MAX_ROUNDS], denoise[CONTENDERS][MAX_ROUNDS],
	    decode[CONTENDERS][MAX_ROUNDS];
	static double whole[CONTENDERS][MAX_ROUNDS];

	for (size_t i = 0; i < CONTENDERS; i++)
		contender_draw(&contenders[i], 0);
	for (int r = 0; r < options.rounds; r++)
		for (size_t i = 0; i < CONTENDERS; i++) {
			struct generation_times t = contender_draw(&contenders[i], (uint64_t)r);
			text[i][r] = t.text_s;
			denoise[i][r] = t.denoise_s;
			decode[i][r] = t.decode_s;
			whole[i][r] = t.text_s + t.denoise_s + t.decode_s;
		}
	printf("%dx%d, %d steps, %d threads, medians of %d, seconds\n", options.side, options.side,
	    options.steps, options.threads, options.rounds);
	printf("%-10s %9s %9s %9s %9s %9s\n", "", "text", "denoise", "decode", "picture", "ratio");
	for (size_t i = 0; i < CONTENDERS; i++)
		printf("%-10s %9.4f %9.4f %9.4f %9.4f %9.2f\n", contenders[i].name,
		    median(text[i], options.rounds), median(denoise[i], options.rounds),
		    median(decode[i], options.rounds), median(whole[i], options.rounds),
		    median(whole[i], options.rounds) / median(whole[0], options.rounds));
}

int
main(int argc, char **argv)
{
	options_read(argc, argv);
	if (options.serve != NULL)
		return serve(options.serve);
	for (size_t i = 0; i < CONTENDERS; i++)
		contender_open(&contenders[i]);
	compete();
	for (size_t i = 0; i < CONTENDERS; i++)
		contender_close(&contenders[i]);
	return 0;
}
