/*
 * A picture that is decoded in bands, because there is no memory for all of it, is the picture decoded at
 * once: every number of up blocks in bands, in the least memory and in some more.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runner/fault.h"
#include "runner/generation.h"
#include "runner/vae.h"
#include "tests/model/golden.h"

/* Latents so high that there are bands, the last one lower than the others, and so narrow that a strip of
 * sums is several rows. */
static const struct decode_case {
	const char *checkpoint;
	int h, w, thrift;
	const char *only; /* backend that is fast enough, or NULL */
} cases[] = {{"golden-a", 41, 3, 1, NULL}, {"golden", 65, 3, 2, "cpu"}};

enum { CASES = sizeof(cases) / sizeof(cases[0]), MAX_RUNS = 16 };

struct run {
	const struct golden_setting *setting;
	const struct decode_case *c;
	char name[64];
};

/* A decoder alone on a device, and what it decodes. */
struct stand {
	const struct golden_setting *setting;
	struct device *device;
	const struct ops *ops;
	struct model_config config;
	struct checkpoint *checkpoint;
	struct loader loader;
	struct vae *vae;
	struct tensor latent;
	size_t count; /* bytes of pixels */
	uint8_t *want;
};

static void
stand_open(struct stand *s, const struct run *run)
{
	static struct err e;
	const char *dir = golden_dir(run->c->checkpoint);
	size_t numbers;
	float *host;
	char path[256];

	*s = (struct stand){.setting = run->setting};
	s->device = golden_device(run->setting);
	s->ops = device_ops(s->device);
	assert_int_equal(model_config_read(&s->config, dir, &e), 0);
	snprintf(path, sizeof(path), "%s/vae", dir);
	assert_int_equal(checkpoint_open(&s->checkpoint, path, "diffusion_pytorch_model", &e), 0);
	s->loader = (struct loader){.device = s->device, .ops = s->ops, .checkpoint = s->checkpoint, .e = &e};
	s->vae = vae_load(&s->loader, &s->config.vae);
	assert_non_null(s->vae);
	s->latent = (struct tensor){
	    .type = DT_F32, .rank = 3, .dim = {s->config.vae.latent_channels, run->c->h, run->c->w, 1}};
	numbers = (size_t)tensor_count(&s->latent);
	s->latent.data = s->ops->reserve(s->device, tensor_bytes(&s->latent));
	assert_non_null(s->latent.data);
	host = golden_unit("latent", 2, numbers);
	s->ops->copy_in(s->device, &s->latent, host, DT_F32);
	free(host);
	s->count = (size_t)(run->c->h * run->c->w * s->config.vae.scale * s->config.vae.scale * 3);
}

static void
stand_close(struct stand *s)
{
	vae_free(&s->vae);
	for (int i = 0; i < s->loader.chunk_count; i++)
		s->ops->release(s->device, s->loader.chunks[i]);
	s->ops->release(s->device, s->latent.data);
	checkpoint_close(&s->checkpoint);
	device_close(&s->device);
	free(s->want);
}

/* The pixels, in an arena of so many bytes; the caller's to free. */
static uint8_t *
decode(struct stand *s, size_t bytes)
{
	struct arena arena;
	struct tensor pixels;
	uint8_t *host = malloc(s->count);
	struct err e;

	assert_non_null(host);
	arena_use(&arena, s->ops->reserve(s->device, bytes), bytes);
	assert_non_null(arena.memory);
	pixels = vae_decode(s->vae, &arena, &s->latent, NULL);
	assert_int_equal(tensor_bytes(&pixels), s->count);
	s->ops->copy_out(s->device, host, DT_U8, &pixels);
	if (fault_check(s->device, &e) != 0)
		fail_msg("%s", e.text);
	s->ops->release(s->device, arena.memory);
	return host;
}

/* On a card a product may be made in another way for fewer rows, and be rounded otherwise. */
static void
check(struct stand *s, size_t bytes, const char *what)
{
	uint8_t *got = decode(s, bytes);
	int worst = 0;

	for (size_t i = 0; i < s->count; i++)
		worst = abs(got[i] - s->want[i]) > worst ? abs(got[i] - s->want[i]) : worst;
	print_message(
	    "    %s, %zu KiB: at most %d of 255 from the picture made at once\n", what, bytes >> 10, worst);
	assert_true(worst <= (strcmp(s->setting->backend, "cuda") == 0 ? s->setting->pixel : 0));
	free(got);
}

/* Whether most bytes are such that a mistake would show in them: neither black nor white. */
static bool
is_varied(const struct stand *s)
{
	size_t inside = 0;

	for (size_t i = 0; i < s->count; i++)
		inside += s->want[i] > 0 && s->want[i] < 255;
	return inside > s->count / 2;
}

static void
test_bands(void **state)
{
	const struct run *run = *state;
	struct stand s;
	size_t all, bytes;

	stand_open(&s, run);
	all = vae_plan(s.vae, run->c->h, run->c->w, 0);
	s.want = decode(&s, all);
	assert_true(is_varied(&s));
	for (int thrift = 1; thrift <= run->c->thrift; thrift++) {
		size_t before = vae_plan(s.vae, run->c->h, run->c->w, thrift - 1);
		bytes = vae_plan(s.vae, run->c->h, run->c->w, thrift);
		assert_true(bytes < before); /* else this one would never be taken */
		check(&s, bytes, "the least memory");
		check(&s, (bytes + before) / 2, "some more");
	}
	stand_close(&s);
}

/* That there is something to be had: of a large picture the last block in bands takes half the memory. */
static void
test_memory(void **state)
{
	struct run run = {&golden_settings[0], &cases[1], ""};
	struct stand s;
	size_t all, least;

	(void)state;
	stand_open(&s, &run);
	all = vae_plan(s.vae, 128, 128, 0);
	least = vae_plan(s.vae, 128, 128, 1);
	print_message("    %zu KiB, in bands %zu\n", all >> 10, least >> 10);
	assert_true(least * 3 < all * 2);
	for (int thrift = 1; thrift <= vae_max_thrift(s.vae); thrift++)
		assert_true(vae_plan(s.vae, 16, 128, thrift) <= vae_plan(s.vae, 128, 128, thrift));
	stand_close(&s);
}

/* ---- the model as a whole */

enum { SIDE = 128, RGB = SIDE * SIDE * 3 };

/* Draws where so many bytes are free, but on the emulated device, where it would take minutes; returns what
 * the model took, by its plan. */
static uint64_t
draw(const struct golden_setting *s, uint64_t free_bytes, int thrift, uint8_t *rgb)
{
	const struct generation_request r = {"A dog.", 42, SIDE, SIDE, 1, false, true};
	const struct model_options options = {.max_pixels = SIDE * SIDE, .text_weights = TEXT_RESIDENT};
	struct device *d = golden_limited_device(s, free_bytes);
	struct generation *g;
	struct model *m;
	struct err e;
	uint64_t bytes;

	if (model_open(&m, golden_dir("golden-a"), d, &options, &e) != 0)
		fail_msg("%s", e.text);
	bytes = model_limits(m)->weight_bytes + model_limits(m)->memory_bytes;
	assert_int_equal(model_limits(m)->thrift, thrift);
	if (strcmp(s->backend, "cuda") != 0) {
		assert_int_equal(generation_start(&g, m, &r, &e), 0);
		assert_int_equal(generation_step(g, &e), 0);
		assert_int_equal(generation_decode(g, rgb, &e), 0);
		generation_free(&g);
	}
	model_close(&m);
	golden_unlimit(&d);
	return bytes;
}

/* Where memory is a little short, the decoder is thrifty. */
static void
test_little_memory(void **state)
{
	static uint8_t rgb[2][RGB];
	uint64_t all = draw(*state, UINT64_C(1) << 29, 0, rgb[0]), less = draw(*state, all, 1, rgb[1]);

	print_message(
	    "    %llu KiB, in bands %llu\n", (unsigned long long)all >> 10, (unsigned long long)less >> 10);
	assert_true(less < all);
	assert_memory_equal(rgb[0], rgb[1], RGB);
}

int
main(void)
{
	static struct run runs[MAX_RUNS];
	struct CMUnitTest tests[MAX_RUNS + 2];
	size_t count = 0;

	for (size_t i = 0; i < golden_setting_count; i++) {
		for (int c = 0; c < CASES; c++) {
			struct run *r = &runs[count];
			*r = (struct run){&golden_settings[i], &cases[c], ""};
			if (cases[c].only != NULL && strcmp(cases[c].only, r->setting->backend) != 0)
				continue;
			snprintf(r->name, sizeof(r->name), "bands, %s, %s, %d high",
			    golden_setting_name(r->setting), cases[c].checkpoint, cases[c].h);
			tests[count++] = (struct CMUnitTest){r->name, test_bands, NULL, NULL, r};
		}
	}
	tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_memory);
	tests[count++] = (struct CMUnitTest)cmocka_unit_test_prestate(
	    test_little_memory, (void *)&golden_settings[1]); /* the first may be plain loops */
	return _cmocka_run_group_tests("decode", tests, count, NULL, NULL);
}
