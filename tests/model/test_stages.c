/*
 * Each stage inside one forward of the transformer against the numpy model (tests/golden/golden-tiny.py):
 * time, patches, refiners, every block, the output. Without tokenizer, sampler or VAE: latents and captions
 * are those of golden-tiny's formula. Tolerances: golden.h.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runner/dit.h"
#include "runner/fault.h"
#include "tests/model/golden.h"

/* Golden-tiny's cases; their captions are its formula's, or (c) that of the golden prompt. */
struct stage_case {
	char tag;
	int h, w, tokens; /* sides of the latent, caption rows */
	float t;	  /* model time */
	int stages;	  /* that have golden arrays */
};

static const struct stage_case cases[] = {
    {'a', 8, 8, 32, 0.0f, 7},	 /* caption not padded, image rows are: 16 */
    {'b', 6, 10, 45, 0.3f, 7},	 /* both padded */
    {'c', 12, 20, 19, 0.999f, 1} /* the last moment */
};

enum { CASES = sizeof(cases) / sizeof(cases[0]), CHANNELS = 16, MAX_RUNS = 16 };

static const char *const checkpoints[] = {"golden", "golden-a"};

struct run {
	const struct golden_setting *setting;
	const char *checkpoint;
	char name[64];
};

/* A transformer alone on a device, with its memory. */
struct stand {
	const struct golden_setting *setting;
	const char *dir;
	struct device *device;
	const struct ops *ops;
	struct model_config config;
	struct checkpoint *checkpoint;
	struct loader loader;
	struct dit *dit;
	struct arena arena;
	void *memory;
};

enum { STAND_BYTES = 16 << 20 };

static void
stand_open(struct stand *s, const struct run *run)
{
	static struct err e;
	char path[256];

	*s = (struct stand){.setting = run->setting, .dir = golden_dir(run->checkpoint)};
	s->device = golden_device(run->setting);
	s->ops = device_ops(s->device);
	assert_int_equal(model_config_read(&s->config, s->dir, &e), 0);
	snprintf(path, sizeof(path), "%s/transformer", s->dir);
	assert_int_equal(checkpoint_open(&s->checkpoint, path, "diffusion_pytorch_model", &e), 0);
	s->loader = (struct loader){.device = s->device, .ops = s->ops, .checkpoint = s->checkpoint, .e = &e};
	s->dit = dit_load(&s->loader, &s->config.transformer);
	assert_non_null(s->dit);
	s->memory = s->ops->reserve(s->device, STAND_BYTES);
	assert_non_null(s->memory);
	arena_use(&s->arena, s->memory, STAND_BYTES);
}

static void
stand_close(struct stand *s)
{
	dit_free(&s->dit);
	for (int i = 0; i < s->loader.chunk_count; i++)
		s->ops->release(s->device, s->loader.chunks[i]);
	s->ops->release(s->device, s->memory);
	checkpoint_close(&s->checkpoint);
	device_close(&s->device);
}

/* A tensor in the stand's memory, with numbers from the host, which are freed. */
static struct tensor
put(struct stand *s, enum dtype type, int rank, const int64_t *dim, float *host)
{
	struct tensor t = arena_tensor(&s->arena, type, rank, dim);

	s->ops->copy_in(s->device, &t, host, DT_F32);
	free(host);
	return t;
}

/* ---- what the transformer shows is compared as it comes */

struct watch {
	struct stand *stand;
	const struct stage_case *c;
	int compared;
};

/* The golden output is the network's own, minus the velocity. */
static void
check_output(struct watch *watch, const char *name, const struct tensor *velocity)
{
	size_t count = (size_t)tensor_count(velocity);
	float *host = malloc(count * sizeof(float));

	assert_non_null(host);
	watch->stand->ops->copy_out(watch->stand->device, host, DT_F32, velocity);
	for (size_t i = 0; i < count; i++)
		host[i] = -host[i];
	golden_check(
	    watch->stand->setting, watch->stand->dir, name, host, count, watch->stand->setting->stage);
	free(host);
}

static void
see(void *arg, const char *stage, const struct tensor *t)
{
	struct watch *watch = arg;
	bool is_output = strcmp(stage, "velocity") == 0;
	char name[64];

	if (!is_output && watch->c->stages == 1)
		return;
	snprintf(name, sizeof(name), "%c.%s", watch->c->tag, is_output ? "dit_out" : stage);
	if (is_output)
		check_output(watch, name, t);
	else
		golden_check_tensor(watch->stand->setting, watch->stand->device, watch->stand->dir, name, t,
		    watch->stand->setting->stage);
	watch->compared++;
}

static struct tensor
put_caption(struct stand *s, const struct stage_case *c)
{
	int64_t dim[] = {c->tokens, s->config.text.hidden};
	size_t count = (size_t)(dim[0] * dim[1]), read = count;
	char name[16];

	snprintf(name, sizeof(name), "caption.%c", c->tag);
	return put(s, device_act_type(s->device), 2, dim,
	    c->tag == 'c' ? golden_read(s->dir, "text_hidden", &read) : golden_unit(name, 2, count));
}

/* Rotation tables of the case: *cos and *sin (rows, hd / 2). */
static void
put_rope(
    struct stand *s, const struct stage_case *c, int64_t rows, struct tensor *cosines, struct tensor *sines)
{
	int64_t dim[] = {rows, s->config.transformer.head_dim / 2};
	size_t bytes = (size_t)(dim[0] * dim[1]) * sizeof(float);
	float *cos_host = malloc(bytes), *sin_host = malloc(bytes);

	assert_true(cos_host != NULL && sin_host != NULL);
	dit_rope(s->dit, c->h, c->w, c->tokens, cos_host, sin_host);
	*cosines = put(s, DT_F32, 2, dim, cos_host);
	*sines = put(s, DT_F32, 2, dim, sin_host);
}

static void
run_case(struct stand *s, const struct stage_case *c)
{
	struct watch watch = {s, c, 0};
	struct trace trace = {see, &watch};
	int64_t image = dit_padded(c->h / 2 * (c->w / 2)), caption = dit_padded(c->tokens);
	int64_t size[] = {CHANNELS, c->h, c->w};
	struct tensor latent, velocity, hidden, refined, cosines, sines, caption_cos, caption_sin, table;
	struct err e;
	char name[16];

	snprintf(name, sizeof(name), "latent.%c", c->tag);
	arena_reset(&s->arena);
	latent = put(s, DT_F32, 3, size, golden_unit(name, sqrt(3), (size_t)CHANNELS * c->h * c->w));
	velocity = arena_tensor(&s->arena, DT_F32, 3, size);
	hidden = put_caption(s, c);
	refined = arena_matrix(&s->arena, device_act_type(s->device), caption, s->config.transformer.dim);
	put_rope(s, c, image + caption, &cosines, &sines);
	caption_cos = tensor_rows(&cosines, image, caption);
	caption_sin = tensor_rows(&sines, image, caption);

	table = arena_matrix(&s->arena, DT_F32, dit_modulation_count(s->dit) / s->config.transformer.dim,
	    s->config.transformer.dim);
	dit_modulation(s->dit, &s->arena, c->t, &table, &trace);
	dit_caption(s->dit, &s->arena, &refined, &hidden, &caption_cos, &caption_sin, &trace);
	dit_step(s->dit, &s->arena, &velocity, &latent, &refined, &cosines, &sines, &table, &trace);
	assert_int_equal(fault_check(s->device, &e), 0);
	assert_int_equal(watch.compared, c->stages);
}

static void
test_stages(void **state)
{
	struct stand s;

	stand_open(&s, *state);
	for (size_t i = 0; i < CASES; i++)
		run_case(&s, &cases[i]);
	stand_close(&s);
}

int
main(void)
{
	static struct CMUnitTest tests[MAX_RUNS];
	static struct run runs[MAX_RUNS];
	size_t count = 0;

	for (size_t i = 0; i < golden_setting_count; i++) {
		for (size_t c = 0; c < sizeof(checkpoints) / sizeof(checkpoints[0]); c++, count++) {
			struct run *run = &runs[count];
			run->setting = &golden_settings[i];
			run->checkpoint = checkpoints[c];
			snprintf(run->name, sizeof(run->name), "%s %s", golden_setting_name(run->setting),
			    run->checkpoint);
			tests[count] = (struct CMUnitTest){run->name, test_stages, NULL, NULL, run};
		}
	}
	/* cmocka's macro takes the length from the array's type */
	return _cmocka_run_group_tests("stages", tests, count, NULL, NULL);
}
