/*
 * The whole way, from a prompt to pixels, against the numpy model (tests/golden/golden-tiny.py): text, noise,
 * every latent, the picture before and after rounding. On each backend and precision, and on configurations
 * of other shapes. Tolerances: golden.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runner/generation.h"
#include "tests/model/golden.h"

enum { LATENT_W = 20, LATENT_H = 12, CHANNELS = 16, STEPS = 4, MAX_RUNS = 16 };

#define NOISE_TOLERANCE 1e-6 /* the same generator: only libm's last bits of log, sin and cos */

static const struct {
	const char *name;
	int area; /* pixels of the picture */
} checkpoints[] = {{"golden", 160 * 96}, {"golden-a", 40 * 24}, {"golden-c", 40 * 24}};

struct run {
	const struct golden_setting *setting;
	const char *checkpoint;
	char name[64];
};

/* What the model shows of its stages is compared as it comes. */
struct watch {
	const struct golden_setting *setting;
	const char *dir;
	struct device *device;
	int compared;
};

/* The picture comes as (h, w, 3), the golden one is (3, h, w). */
static void
check_image(const struct watch *watch, const struct tensor *t)
{
	size_t pixels = (size_t)(t->dim[0] * t->dim[1]);
	float *host = malloc(2 * 3 * pixels * sizeof(float)), *planes = host + 3 * pixels;

	assert_non_null(host);
	device_ops(watch->device)->copy_out(watch->device, host, DT_F32, t);
	for (size_t i = 0; i < 3 * pixels; i++)
		planes[i % 3 * pixels + i / 3] = host[i];
	golden_check(watch->setting, watch->dir, "image", planes, 3 * pixels, watch->setting->stage);
	free(host);
}

static void
see(void *arg, const char *stage, const struct tensor *t)
{
	struct watch *watch = arg;

	if (strcmp(stage, "text_hidden") == 0)
		golden_check_tensor(
		    watch->setting, watch->device, watch->dir, stage, t, watch->setting->stage);
	else if (strcmp(stage, "image") == 0)
		check_image(watch, t);
	else
		return;
	watch->compared++;
}

static void
check_latent(const struct watch *watch, struct generation *g, const char *name, double tolerance)
{
	size_t count = CHANNELS * LATENT_H * LATENT_W;
	float *latent = malloc(count * sizeof(float));
	struct err e;

	assert_non_null(latent);
	assert_int_equal(generation_latent(g, latent, &e), 0);
	golden_check(watch->setting, watch->dir, name, latent, count, tolerance);
	free(latent);
}

static void
check_pixels(const struct watch *watch, struct generation *g)
{
	size_t count;
	float *want = golden_read(watch->dir, "pixels", &count);
	uint8_t *rgb = malloc(count);
	int largest = 0;
	struct err e;

	assert_non_null(rgb);
	assert_int_equal(generation_decode(g, rgb, &e), 0);
	for (size_t i = 0; i < count; i++) {
		int difference = abs((int)rgb[i] - (int)want[i]);
		largest = difference > largest ? difference : largest;
	}
	printf("%-8s %-18s pixels             at most %d of 255 apart\n", golden_setting_name(watch->setting),
	    watch->dir, largest);
	assert_true(largest <= watch->setting->pixel); /* f32: a value on the edge may round the other way */
	free(want);
	free(rgb);
}

static void
draw(struct watch *watch, struct model *model)
{
	int scale = model_limits(model)->granule / 2;
	struct generation_request request = {
	    "A cat sitting on a mat.", 42, LATENT_W * scale, LATENT_H * scale, STEPS, false, false};
	struct generation *g;
	struct err e;

	if (generation_start(&g, model, &request, &e) != 0)
		fail_msg("%s", e.text);
	check_latent(watch, g, "noise", NOISE_TOLERANCE);
	for (int i = 0; i < STEPS; i++) {
		char name[16];
		assert_int_equal(generation_step(g, &e), 0);
		snprintf(name, sizeof(name), "step%d", i);
		check_latent(watch, g, name, watch->setting->latent);
	}
	assert_int_equal(generation_left(g), 0);
	check_pixels(watch, g);
	generation_free(&g);
}

/* The golden prompt and seed, four steps. */
static void
test_whole_way(void **state)
{
	const struct run *run = *state;
	struct watch watch = {run->setting, golden_dir(run->checkpoint), golden_device(run->setting), 0};
	struct trace trace = {see, &watch};
	struct model *model;
	struct err e;

	if (model_open(&model, watch.dir, watch.device,
		&(struct model_options){.max_pixels = (int64_t)160 * 96}, &e) != 0)
		fail_msg("%s", e.text);
	model_trace(model, &trace);
	draw(&watch, model);
	assert_int_equal(watch.compared, 2);
	model_close(&model);
	device_close(&watch.device);
}

int
main(void)
{
	static struct CMUnitTest tests[MAX_RUNS];
	static struct run runs[MAX_RUNS];
	size_t count = 0;

	for (size_t i = 0; i < golden_setting_count; i++) {
		for (size_t c = 0; c < sizeof(checkpoints) / sizeof(checkpoints[0]); c++) {
			struct run *run = &runs[count];
			if (checkpoints[c].area > golden_settings[i].max_golden)
				continue;
			run->setting = &golden_settings[i];
			run->checkpoint = checkpoints[c].name;
			snprintf(run->name, sizeof(run->name), "%s %s", golden_setting_name(run->setting),
			    run->checkpoint);
			tests[count++] = (struct CMUnitTest){run->name, test_whole_way, NULL, NULL, run};
		}
	}
	/* cmocka's macro takes the length from the array's type */
	return _cmocka_run_group_tests("golden", tests, count, NULL, NULL);
}
