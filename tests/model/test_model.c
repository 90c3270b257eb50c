/*
 * What a loaded model promises besides right numbers: bits that do not depend on what else is drawn, pictures
 * given up at any step, no device memory after opening, limits that say what they are, schedules equal to the
 * public pipeline's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/device.h"
#include "runner/caption_cache.h"
#include "runner/generation.h"
#include "runner/sampler.h"
#include "runner/step_table.h"
#include "ipc/sha256.h"
#include "tests/model/golden.h"

enum { SIDE = 32, MAX_LATENT = 16 * SIDE / 2 * SIDE / 2, MAX_RGB = SIDE * SIDE * 3, TESTS = 64 };

/* ---- a device that counts, and fails on demand: its table of operations is a copy with some rows replaced
 */

static struct {
	const struct ops *real;
	struct ops counted;
	int reserved, live; /* calls of reserve; pieces not yet released */
	int fail_at;	    /* this call of reserve finds no memory; -1: none does */
	size_t largest;	    /* no piece is found that is larger */
	int fault;	    /* what sync says when it is not DEVICE_OK */
	int encoded;	    /* prompts whose ids were looked up */
} meter;

static void *
metered_reserve(struct device *d, size_t bytes)
{
	bool fails = meter.reserved == meter.fail_at || bytes > meter.largest;
	void *memory = fails ? NULL : meter.real->reserve(d, bytes);

	meter.reserved++;
	meter.live += memory != NULL;
	return memory;
}

static void
metered_release(struct device *d, void *memory)
{
	meter.live -= memory != NULL;
	meter.real->release(d, memory);
}

static int
metered_sync(struct device *d)
{
	int fault = meter.real->sync(d);

	return fault != DEVICE_OK ? fault : meter.fault;
}

static void
metered_embed(struct device *d, struct tensor *y, const struct weight *table, const int32_t *ids)
{
	meter.encoded++;
	meter.real->embed(d, y, table, ids);
}

static struct device *
open_metered(const struct golden_setting *s)
{
	struct device *d = golden_device(s);

	meter.real = d->ops;
	meter.counted = *d->ops;
	meter.counted.reserve = metered_reserve;
	meter.counted.release = metered_release;
	meter.counted.sync = metered_sync;
	meter.counted.embed = metered_embed;
	meter.reserved = meter.live = 0;
	meter.fail_at = -1;
	meter.largest = SIZE_MAX;
	meter.fault = DEVICE_OK;
	d->ops = &meter.counted;
	return d;
}

/* ---- models and pictures */

struct stand {
	struct device *device;
	struct model *model;
	int reserved; /* when the model had been opened */
};

static void
stand_open(struct stand *s, const struct golden_setting *setting, const char *checkpoint)
{
	struct err e;

	s->device = open_metered(setting);
	if (model_open(&s->model, golden_dir(checkpoint), s->device,
		&(struct model_options){.max_pixels = SIDE * SIDE}, &e) != 0)
		fail_msg("%s", e.text);
	s->reserved = meter.reserved;
}

/* Looks at what every test should leave behind. */
static void
stand_close(struct stand *s)
{
	assert_int_equal(meter.reserved, s->reserved); /* nothing was reserved after opening */
	model_close(&s->model);
	assert_null(s->model);
	assert_int_equal(meter.live, 0);
	device_close(&s->device);
}

struct picture {
	float latent[MAX_LATENT];
	uint8_t rgb[MAX_RGB];
};

static struct generation *
start(struct model *m, const struct generation_request *r)
{
	struct generation *g = NULL;
	struct err e;

	if (generation_start(&g, m, r, &e) != 0)
		fail_msg("%s", e.text);
	return g;
}

static void
step(struct generation *g)
{
	struct err e;

	if (generation_step(g, &e) != 0)
		fail_msg("%s", e.text);
}

/* Decodes a picture that has all its steps, and frees it. */
static struct picture *
finish(struct generation *g)
{
	struct picture *p = calloc(1, sizeof(*p));
	struct err e;

	assert_non_null(p);
	assert_int_equal(generation_left(g), 0);
	assert_int_equal(generation_latent(g, p->latent, &e), 0);
	assert_int_equal(generation_decode(g, p->rgb, &e), 0);
	generation_free(&g);
	assert_null(g);
	return p;
}

static struct picture *
draw(struct model *m, const struct generation_request *r)
{
	struct generation *g = start(m, r);

	while (generation_left(g) > 0)
		step(g);
	return finish(g);
}

/* Same bits; frees both. */
static void
assert_same(struct picture *a, struct picture *b)
{
	assert_memory_equal(a->latent, b->latent, sizeof(a->latent));
	assert_memory_equal(a->rgb, b->rgb, sizeof(a->rgb));
	free(a);
	free(b);
}

/* For configuration A, whose sides are multiples of 4. */
static const struct generation_request requests[MAX_GENERATIONS] = {
    {"A cat sitting on a mat.", 42, 40, 20, 4, false, false},
    {"1234567890123456789012345678901234567890", 7, 32, 32, 2, false, false},
    {"", 1, 4, 4, 3, false, false},
    {"A cat sitting on a mat.", 43, 40, 20, 1, false, false},
    {"A dog.", 42, 12, 24, 5, false, false},
};

/* ---- pictures beside each other */

static void
test_interleaved(void **state)
{
	struct picture *alone[MAX_GENERATIONS];
	struct generation *g[MAX_GENERATIONS];
	struct stand s;
	bool busy = true;

	stand_open(&s, *state, "golden-a");
	for (int i = 0; i < MAX_GENERATIONS; i++)
		alone[i] = draw(s.model, &requests[i]);
	for (int i = 0; i < MAX_GENERATIONS; i++)
		g[i] = start(s.model, &requests[i]);
	while (busy) {
		busy = false;
		for (int i = 0; i < MAX_GENERATIONS; i++) {
			if (generation_left(g[i]) == 0)
				continue;
			step(g[i]);
			busy = true;
		}
	}
	for (int i = 0; i < MAX_GENERATIONS; i++)
		assert_same(alone[i], finish(g[i]));
	stand_close(&s);
}

/* A picture that another goes on with, from any step, has the same bits. */
static void
test_restored(void **state)
{
	const struct generation_request *r = &requests[0];
	struct stand s;
	struct err e;

	stand_open(&s, *state, "golden-a");
	for (int done = 0; done <= r->steps; done++) {
		struct picture *plain = draw(s.model, r);
		struct generation *g = start(s.model, r), *next;
		size_t count = generation_latent_count(g);
		float *latent = malloc(count * sizeof(float));
		for (int i = 0; i < done; i++)
			step(g);
		assert_int_equal(generation_latent(g, latent, &e), 0);
		generation_free(&g);
		next = start(s.model, r);
		assert_int_equal(generation_restore(next, done, latent, &e), 0);
		assert_int_equal(generation_left(next), r->steps - done);
		while (generation_left(next) > 0)
			step(next);
		assert_same(plain, finish(next));
		free(latent);
	}
	stand_close(&s);
}

/* A look at the unfinished picture changes nothing. */
static void
test_decoding_midway(void **state)
{
	const struct generation_request *r = &requests[0];
	uint8_t *rgb = malloc(MAX_RGB);
	struct picture *plain;
	struct generation *g;
	struct stand s;
	struct err e;

	stand_open(&s, *state, "golden-a");
	plain = draw(s.model, r);
	g = start(s.model, r);
	while (generation_left(g) > 0) {
		assert_int_equal(generation_decode(g, rgb, &e), 0);
		step(g);
	}
	assert_same(plain, finish(g));
	free(rgb);
	stand_close(&s);
}

static void
test_given_up_at_any_step(void **state)
{
	const struct generation_request *r = &requests[0];
	struct picture *before;
	struct stand s;

	stand_open(&s, *state, "golden-a");
	before = draw(s.model, r);
	for (int done = 0; done <= r->steps; done++) {
		struct generation *g = start(s.model, r);
		for (int i = 0; i < done; i++)
			step(g);
		generation_free(&g);
		assert_null(g);
	}
	assert_same(before, draw(s.model, r));
	stand_close(&s);
}

static void
test_one_too_many(void **state)
{
	struct generation *g[MAX_GENERATIONS], *more = NULL;
	struct stand s;
	struct err e;

	stand_open(&s, *state, "golden-a");
	for (int i = 0; i < MAX_GENERATIONS; i++)
		g[i] = start(s.model, &requests[i]);
	assert_int_equal(generation_start(&more, s.model, &requests[0], &e), -ERR_INTERNAL);
	assert_null(more);
	generation_free(&g[1]);
	more = start(s.model, &requests[0]);
	generation_free(&more);
	for (int i = 0; i < MAX_GENERATIONS; i++)
		generation_free(&g[i]);
	stand_close(&s);
}

/* Pictures in turn whose steps do not fit into the tables together, and one as long as there can be: rows
 * give way, are made again and are the same. */
static void
test_forgotten_steps(void **state)
{
	static const int counts[] = {MAX_STEPS / 2 + 1, MAX_STEPS / 2, 3, MAX_STEPS};
	enum { COUNTS = sizeof(counts) / sizeof(counts[0]) };
	struct generation_request r = {"", 5, 4, 4, 0, false, false};
	struct picture *alone[COUNTS];
	struct generation *g[COUNTS];
	struct stand s;

	stand_open(&s, *state, "golden-a");
	for (int i = 0; i < COUNTS; i++) {
		r.steps = counts[i];
		alone[i] = draw(s.model, &r);
	}
	for (int i = 0; i < COUNTS; i++) {
		r.steps = counts[i];
		g[i] = start(s.model, &r);
	}
	for (int done = 0; done < MAX_STEPS; done++) {
		for (int i = 0; i < COUNTS; i++) {
			if (generation_left(g[i]) > 0)
				step(g[i]);
		}
	}
	for (int i = 0; i < COUNTS; i++)
		assert_same(alone[i], finish(g[i]));
	stand_close(&s);
}

/* ---- prompts that come again */

/* Draws it with the prompt kept, if it is, and afresh; the same bits. Whether it had been kept. */
static bool
draw_both(struct model *m, const char *prompt, uint64_t seed, int side)
{
	struct generation_request r = {prompt, seed, side, side, 2, false, false};
	int before = meter.encoded;
	struct picture *p = draw(m, &r);
	bool kept = meter.encoded == before;

	r.fresh = true;
	assert_same(p, draw(m, &r));
	assert_int_equal(meter.encoded, before + (kept ? 1 : 2)); /* afresh is afresh */
	return kept;
}

static void
test_prompt_again(void **state)
{
	struct stand s;

	stand_open(&s, *state, "golden-a");
	assert_false(draw_both(s.model, "A dog.", 1, 32));
	assert_true(draw_both(s.model, "A dog.", 2, 16)); /* whatever the seed and the size */
	assert_false(draw_both(s.model, "A dog. A dog.", 1, 16));
	assert_false(draw_both(s.model, "A cat.", 1, 16));
	assert_false(draw_both(s.model, "", 1, 16));
	assert_true(draw_both(s.model, "A dog. A dog.", 3, 20));
	assert_true(draw_both(s.model, "A dog.", 3, 20));
	assert_true(draw_both(s.model, "", 3, 20));
	stand_close(&s);
}

/* The one that was used longest ago gives way, and no other. */
static void
test_forgotten_prompt(void **state)
{
	struct stand s;
	char prompt[2] = "a";

	stand_open(&s, *state, "golden-a");
	for (int i = 0; i < CAPTIONS; i++, prompt[0]++)
		assert_false(draw_both(s.model, prompt, 1, 4));
	assert_true(draw_both(s.model, "a", 1, 4));
	assert_false(draw_both(s.model, prompt, 1, 4)); /* in the place of b */
	assert_true(draw_both(s.model, "a", 1, 4));
	assert_true(draw_both(s.model, "c", 1, 4));
	assert_false(draw_both(s.model, "b", 1, 4));
	stand_close(&s);
}

/* ---- failures */

/* Each piece of memory in turn is not there: opening fails, says so, and keeps nothing. */
static void
test_no_memory_when_opening(void **state)
{
	struct device *d = open_metered(*state);
	struct model *m = NULL;
	int status, failures = 0;
	struct err e;

	do {
		meter.reserved = 0;
		meter.fail_at = failures;
		status = model_open(
		    &m, golden_dir("golden-a"), d, &(struct model_options){.max_pixels = SIDE * SIDE}, &e);
		if (status == 0)
			break;
		assert_int_equal(status, -ERR_OUT_OF_MEMORY);
		assert_non_null(strstr(e.text, "memory"));
		assert_null(m);
		assert_int_equal(meter.live, 0);
	} while (failures++ < 100);
	assert_in_range(failures, 2 + MAX_GENERATIONS, 99); /* vectors, work, slots at least */
	model_close(&m);
	device_close(&d);
}

/* Where no piece may be larger than that: a picture of 128x128 is refused, and what is said to fit fits. */
static void
check_what_would_fit(struct device *d, size_t largest)
{
	const char *fitting;
	struct model *m;
	struct err e;

	meter.largest = largest;
	assert_int_equal(
	    model_open(&m, golden_dir("golden-a"), d, &(struct model_options){.max_pixels = 128 * 128}, &e),
	    -ERR_OUT_OF_MEMORY);
	fitting = strstr(e.text, "pixels; ");
	if (fitting == NULL)
		fail_msg("%s", e.text);
	assert_int_equal(model_open(&m, golden_dir("golden-a"), d,
			     &(struct model_options){.max_pixels = atoll(fitting + 8)}, &e),
	    0);
	model_close(&m);
}

/* A picture of 128x128 is 64 channels deep behind the last doubling, and half of that beside it: it is drawn
 * where there is room for two such, and four were needed once. With less, what is said to fit does. */
static void
test_memory_for_the_largest_picture(void **state)
{
	const struct golden_setting *setting = *state;
	struct device *d = open_metered(setting);
	size_t deepest = 128 * 128 * 64 * dtype_size(device_act_type(d));
	struct generation_request r = {"a red fox", 3, 128, 128, 1, false, false};
	struct model *m;
	struct err e;

	meter.largest = 2 * deepest;
	if (model_open(&m, golden_dir("golden-a"), d, &(struct model_options){.max_pixels = 128 * 128}, &e) !=
	    0)
		fail_msg("%s", e.text);
	if (setting->max_area >= 128 * 128) {
		struct generation *g = start(m, &r);
		uint8_t *rgb = malloc(128 * 128 * 3);
		assert_int_equal(generation_step(g, &e), 0);
		assert_int_equal(generation_decode(g, rgb, &e), 0);
		free(rgb);
		generation_free(&g);
	}
	model_close(&m);
	if (device_act_type(d) == DT_F32) /* in bf16 the piece for vectors is larger than a picture's */
		check_what_would_fit(d, deepest * 5 / 4); /* the text encoder alone needs more than one */
	device_close(&d);
}

/* A device that fails ends the picture with its own error; the slot comes back. */
static void
test_device_fails(void **state)
{
	static const struct {
		int fault, status;
	} rows[] = {{DEVICE_POISONED, -ERR_POISONED}, {DEVICE_OUT_OF_MEMORY, -ERR_OUT_OF_MEMORY},
	    {DEVICE_INTERNAL, -ERR_INTERNAL}};
	struct generation *g, *other = NULL;
	uint8_t *rgb = malloc(MAX_RGB);
	struct stand s;
	struct err e;

	stand_open(&s, *state, "golden-a");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		g = start(s.model, &requests[0]);
		meter.fault = rows[i].fault;
		assert_int_equal(generation_step(g, &e), rows[i].status);
		assert_int_equal(generation_decode(g, rgb, &e), rows[i].status);
		for (int k = 0; k <= MAX_GENERATIONS; k++)
			assert_int_equal(generation_start(&other, s.model, &requests[0], &e), rows[i].status);
		assert_null(other);
		generation_free(&g);
		meter.fault = DEVICE_OK;
	}
	free(rgb);
	stand_close(&s);
}

/* ---- limits */

static void
test_refusals(void **state)
{
	static const struct {
		struct generation_request request;
		int status;
		const char *text; /* part of it */
	} rows[] = {
	    {{"", 0, 36, 32, 1, false, false}, -ERR_TOO_BIG, "1024 pixels"},
	    {{"", 0, 32, 36, 1, false, false}, -ERR_TOO_BIG, "1024 pixels"},
	    {{"", 0, 1 << 30, 1 << 30, 1, false, false}, -ERR_TOO_BIG, "1024 pixels"},
	    {{"", 0, 30, 32, 1, false, false}, -ERR_INVALID_PARAM, "multiples of 4"},
	    {{"", 0, 0, 32, 1, false, false}, -ERR_INVALID_PARAM, "multiples of 4"},
	    {{"", 0, 32, -4, 1, false, false}, -ERR_INVALID_PARAM, "multiples of 4"},
	    {{"", 0, 32, 32, 0, false, false}, -ERR_INVALID_PARAM, "from 1 to 100"},
	    {{"", 0, 32, 32, 101, false, false}, -ERR_INVALID_PARAM, "from 1 to 100"},
	};
	struct generation *g = NULL;
	struct stand s;
	struct err e;

	stand_open(&s, *state, "golden-a");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int status = generation_start(&g, s.model, &rows[i].request, &e);
		if (status != rows[i].status || strstr(e.text, rows[i].text) == NULL || g != NULL)
			fail_msg("row %zu: %d, %s", i, status, e.text);
	}
	stand_close(&s);
}

static void
test_prompt_too_long(void **state)
{
	char prompt[1024] = "";
	struct generation_request r = {prompt, 0, 4, 4, 1, false, false};
	struct generation *g = NULL;
	bool truncated = false;
	struct stand s;
	struct err e;

	memset(prompt, '1', 600); /* a digit is a token */
	stand_open(&s, *state, "golden-a");
	assert_int_equal(generation_start(&g, s.model, &r, &e), -ERR_PROMPT_TOO_LONG);
	assert_null(g);
	r.truncate = true;
	g = start(s.model, &r);
	assert_int_equal(generation_tokens(g, &truncated), model_limits(s.model)->max_tokens);
	assert_true(truncated);
	generation_free(&g);
	stand_close(&s);
}

/* Every shape of the largest area fits the memory that was planned; the arena asserts it. A side has at most
 * 128 pixels in this configuration. */
static void
test_shapes_of_the_largest_area(void **state)
{
	char prompt[600] = "";
	struct stand s;

	memset(prompt, '1', 504); /* and 8 of the frame: the longest */
	stand_open(&s, *state, "golden-a");
	for (int width = SIDE / 4; width <= SIDE * 4; width *= 4) {
		struct generation_request r = {prompt, 0, width, SIDE * SIDE / width, 1, false, false};
		free(draw(s.model, &r));
	}
	stand_close(&s);
}

/* ---- checkpoints */

struct progress {
	uint64_t done, total;
	int calls;
};

static void
see_progress(void *arg, uint64_t done, uint64_t total)
{
	struct progress *p = arg;

	assert_true(done >= p->done && done <= total);
	*p = (struct progress){done, total, p->calls + 1};
}

static void
test_progress_reaches_its_end(void **state)
{
	struct progress p = {0};
	struct device *d = golden_device(*state);
	struct model *m;
	struct err e;

	assert_int_equal(model_open(&m, golden_dir("golden-a"), d,
			     &(struct model_options){.progress = see_progress, .progress_arg = &p}, &e),
	    0);
	assert_true(p.calls > 100);
	assert_int_equal(p.done, p.total);
	model_close(&m);
	device_close(&d);
}

/* bf16 weights stored as F32 are the same weights; the files have different identities. */
static void
test_stored_types(void **state)
{
	const struct generation_request r = {"A cat sitting on a mat.", 3, 32, 32, 2, false, false};
	static const char *const checkpoints[] = {"golden", "golden-f32"};
	struct picture *pictures[2];
	char hashes[2][33];
	struct stand s;

	for (int i = 0; i < 2; i++) {
		stand_open(&s, *state, checkpoints[i]);
		memcpy(hashes[i], model_limits(s.model)->hash, sizeof(hashes[i]));
		pictures[i] = draw(s.model, &r);
		stand_close(&s);
	}
	assert_same(pictures[0], pictures[1]);
	assert_int_equal(strlen(hashes[0]), 32);
	assert_string_not_equal(hashes[0], hashes[1]);
}

/* The first number of the first tensor of `path`, a safetensors file, gets another last bit. */
static void
change_a_weight(const char *path)
{
	FILE *file = fopen(path, "r+b");
	uint64_t header;
	int byte;

	assert_non_null(file);
	assert_int_equal(fread(&header, sizeof(header), 1, file), 1);
	assert_int_equal(fseek(file, (long)(sizeof(header) + header), SEEK_SET), 0);
	byte = fgetc(file);
	assert_int_equal(fseek(file, -1, SEEK_CUR), 0);
	assert_int_equal(fputc(byte ^ 1, file), byte ^ 1);
	assert_int_equal(fclose(file), 0);
}

/* A fine-tune has the names, types and shapes of the original. */
static void
test_identity_of_a_fine_tune(void **state)
{
	char dir[] = "/tmp/zit-model-XXXXXX", text[512], hash[33];
	struct device *d = golden_device(*state);
	struct model *m;
	struct err e;

	assert_non_null(mkdtemp(dir));
	snprintf(text, sizeof(text), "cp -r %s/* %s", golden_dir("golden-a"), dir);
	assert_int_equal(system(text), 0);
	assert_int_equal(model_open(&m, dir, d, &(struct model_options){.max_pixels = SIDE * SIDE}, &e), 0);
	memcpy(hash, model_limits(m)->hash, sizeof(hash));
	model_close(&m);
	snprintf(text, sizeof(text), "%s/vae/diffusion_pytorch_model.safetensors", dir);
	change_a_weight(text);
	assert_int_equal(model_open(&m, dir, d, &(struct model_options){.max_pixels = SIDE * SIDE}, &e), 0);
	assert_string_not_equal(hash, model_limits(m)->hash);
	model_close(&m);
	device_close(&d);
	snprintf(text, sizeof(text), "rm -r %s", dir);
	assert_int_equal(system(text), 0);
}

/* Another VAE makes another model; the same files are the same one. */
static void
test_identity(void **state)
{
	static const char *const checkpoints[] = {"golden-a", "golden-c", "golden-a"};
	char hashes[3][33];
	struct stand s;

	for (int i = 0; i < 3; i++) {
		stand_open(&s, *state, checkpoints[i]);
		memcpy(hashes[i], model_limits(s.model)->hash, sizeof(hashes[i]));
		stand_close(&s);
	}
	assert_string_not_equal(hashes[0], hashes[1]);
	assert_string_equal(hashes[0], hashes[2]);
}

/* ---- tables */

/* Bits of the sigmas as diffusers 0.42.1 computes them at shift 3. */
static void
test_sigmas(void **state)
{
	static const struct {
		int steps;
		uint32_t bits[10];
	} rows[] = {
	    {1, {0x3f800000}},
	    {4, {0x3f800000, 0x3f666666, 0x3f400000, 0x3f000000}},
	    {8, {0x3f800000, 0x3f745d17, 0x3f666666, 0x3f555555, 0x3f400000, 0x3f249249, 0x3f000000,
		    0x3e99999a}},
	    {9, {0x3f800000, 0x3f75c290, 0x3f69bd39, 0x3f5b6db6, 0x3f4a1af3, 0x3f34b4b5, 0x3f199999,
		    0x3eec4ec6, 0x3e8ba2e9}},
	};
	float sigmas[MAX_STEPS + 1];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		sampler_sigmas(rows[i].steps, 3.0f, sigmas);
		assert_memory_equal(
		    sigmas, rows[i].bits, ((size_t)rows[i].steps + 1) * sizeof(sigmas[0])); /* then 0 */
	}
}

static void
assert_digest(struct sha256 *s, const char *want)
{
	uint8_t digest[SHA256_BYTES];
	char hex[2 * SHA256_BYTES + 1];

	sha256_end(s, digest);
	for (int i = 0; i < SHA256_BYTES; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	assert_string_equal(hex, want);
}

/* All sigmas of 1 to 100 steps, one after another: the digest of what diffusers 0.42.1 gives. */
static void
test_all_sigmas(void **state)
{
	float sigmas[MAX_STEPS + 1];
	struct sha256 s;

	(void)state;
	sha256_init(&s);
	for (int steps = 1; steps <= MAX_STEPS; steps++) {
		sampler_sigmas(steps, 3.0f, sigmas);
		sha256_feed(&s, sigmas, ((size_t)steps + 1) * sizeof(sigmas[0]));
	}
	assert_digest(&s, "1fc08c5f8a49436b8b817e327738bfb07d51dcb97b6ed8d941656a24531274e6");
}

/* The examples of FIPS 180-4, and one that is fed in unequal parts. */
static void
test_sha256(void **state)
{
	static const char two_blocks[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
	struct sha256 s;

	(void)state;
	sha256_init(&s);
	assert_digest(&s, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	sha256_init(&s);
	sha256_feed(&s, "abc", 3);
	assert_digest(&s, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	sha256_init(&s);
	sha256_feed(&s, two_blocks, 1);
	sha256_feed(&s, two_blocks + 1, sizeof(two_blocks) - 2);
	assert_digest(&s, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

/* ---- the list: those that draw are run on every setting */

struct row {
	const char *name;
	CMUnitTestFunction function;
	bool f32_only; /* what it says holds for float32 */
};

static const struct row drawing[] = {
    {"interleaved", test_interleaved, false},
    {"restored", test_restored, false},
    {"decoding midway", test_decoding_midway, false},
    {"given up at any step", test_given_up_at_any_step, false},
    {"one too many", test_one_too_many, false},
    {"forgotten steps", test_forgotten_steps, false},
    {"a prompt again", test_prompt_again, false},
    {"a forgotten prompt", test_forgotten_prompt, false},
    {"no memory when opening", test_no_memory_when_opening, false},
    {"memory for the largest picture", test_memory_for_the_largest_picture, false},
    {"device fails", test_device_fails, false},
    {"refusals", test_refusals, false},
    {"prompt too long", test_prompt_too_long, false},
    {"shapes of the largest area", test_shapes_of_the_largest_area, false},
    {"progress reaches its end", test_progress_reaches_its_end, false},
    {"stored types", test_stored_types, true},
    {"identity", test_identity, true},
    {"identity of a fine-tune", test_identity_of_a_fine_tune, true},
};

/* In a test's place where the processor cannot run it: at once, with nothing made yet. */
static void
skip_it(void **state)
{
	(void)state;
	skip();
}

int
main(void)
{
	static struct CMUnitTest tests[TESTS] = {
	    cmocka_unit_test(test_sigmas),
	    cmocka_unit_test(test_all_sigmas),
	    cmocka_unit_test(test_sha256),
	};
	static char names[TESTS][64];
	size_t count = 3;

	for (size_t i = 0; i < golden_setting_count; i++) {
		bool absent = golden_must_skip(golden_settings[i].backend, golden_settings[i].precision);
		for (size_t k = 0; k < sizeof(drawing) / sizeof(drawing[0]); k++) {
			if (drawing[k].f32_only && golden_is_bf16(&golden_settings[i]))
				continue;
			snprintf(names[count], sizeof(names[count]), "%s %s",
			    golden_setting_name(&golden_settings[i]), drawing[k].name);
			tests[count] = (struct CMUnitTest){names[count],
			    absent ? skip_it : drawing[k].function, NULL, NULL, (void *)&golden_settings[i]};
			count++;
		}
	}
	/* cmocka's macro takes the length from the array's type */
	return _cmocka_run_group_tests("model", tests, count, NULL, NULL);
}
