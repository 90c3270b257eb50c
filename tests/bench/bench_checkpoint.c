/*
 * What a checkpoint costs a step: the latent from the device, its checksum, two copies into shared memory.
 * For the tiny checkpoint on the CPU beside its own step, and for latents of larger pictures alone.
 *
 *   bench_checkpoint [MODEL]          build/golden unless told; medians of 50
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/shm.h"
#include "runner/generation.h"
#include "runner/resume.h"

enum { ROUNDS = 50, SIDE = 256, CHANNELS = 16, VAE_SCALE = 8 };

static const struct resume_picture picture = {"hash", "device", "a cat", 1, SIDE, SIDE, ROUNDS, false};

static void
fail(const char *what)
{
	fprintf(stderr, "bench_checkpoint: %s\n", what);
	exit(1);
}

static int
by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static int64_t
median(int64_t *x)
{
	qsort(x, ROUNDS, sizeof(*x), by_value);
	return x[ROUNDS / 2];
}

static struct resume *
new_resume(size_t count)
{
	struct resume *r = resume_open(shm_create_checkpoint(resume_bytes(count)));

	if (r == NULL)
		fail("no memory for a checkpoint");
	resume_begin(r, &picture);
	return r;
}

/* The memory alone, for a picture of side x side pixels. */
static void
show_size(int side)
{
	size_t count = (size_t)CHANNELS * (size_t)(side / VAE_SCALE) * (size_t)(side / VAE_SCALE);
	struct resume *r = new_resume(count);
	float *latent = calloc(count, sizeof(float));
	int64_t spent_us[ROUNDS];

	for (size_t i = 0; i < count; i++)
		latent[i] = (float)i * 0.001f;
	for (int i = 0; i < ROUNDS; i++) {
		int64_t begin_us = clock_now_us();
		resume_save(r, i + 1, latent, count);
		spent_us[i] = clock_now_us() - begin_us;
	}
	printf("%4dx%-4d latent %5zu KiB: %6lld us\n", side, side, count * sizeof(float) / 1024,
	    (long long)median(spent_us));
	free(latent);
	resume_close(&r);
}

/* As the runner does it, between the steps of a real picture. */
static void
show_step(const char *dir)
{
	struct generation_request request = {"A cat.", 1, SIDE, SIDE, ROUNDS, false, false};
	int64_t step_us[ROUNDS], save_us[ROUNDS], step, save;
	struct device_options options = {.precision = PRECISION_AUTO, .threads = 2};
	struct device *device;
	struct model *m;
	struct generation *g;
	struct resume *r;
	char why[200];
	struct err e;
	float *latent;

	if (device_open(&device, "cpu", &options, why, sizeof(why)) != 0)
		fail(why);
	if (model_open(&m, dir, device, &(struct model_options){.max_pixels = SIDE * SIDE}, &e) != 0 ||
	    generation_start(&g, m, &request, &e) != 0)
		fail(e.text);
	r = new_resume(generation_latent_count(g));
	latent = malloc(generation_latent_count(g) * sizeof(float));
	for (int i = 0; i < ROUNDS; i++) {
		int64_t begin_us = clock_now_us();
		if (generation_step(g, &e) != 0)
			fail(e.text);
		step_us[i] = clock_now_us() - begin_us;
		if (generation_latent(g, latent, &e) != 0)
			fail(e.text);
		resume_save(r, i + 1, latent, generation_latent_count(g));
		save_us[i] = clock_now_us() - begin_us - step_us[i];
	}
	step = median(step_us);
	save = median(save_us);
	printf("step %lld us, checkpoint %lld us: %.2f %% (%s, %dx%d)\n", (long long)step, (long long)save,
	    100.0 * (double)save / (double)step, device_name(device), SIDE, SIDE);
	free(latent);
	resume_close(&r);
	generation_free(&g);
	model_close(&m);
	device_close(&device);
}

int
main(int argc, char **argv)
{
	show_step(argc > 1 ? argv[1] : "build/golden");
	show_size(512);
	show_size(1024);
	show_size(2048);
	return 0;
}
