/*
 * A text encoder whose matrices are brought for each prompt draws what one draws that has them on the device,
 * bit for bit: with more layers than there is room for, prompts in turn and beside each other, one given up
 * on the way.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/device.h"
#include "runner/generation.h"
#include "tests/model/golden.h"

enum { LAYERS = 5 /* of golden-d, that are run */, SIDE = 4, REQUESTS = 3, MAX_TESTS = 24 };
enum {
	LATENT = 16 * SIDE / 2 * SIDE / 2,
	RGB = SIDE * SIDE * 3,
	MAX_ROWS = 16 * 64 /* H of golden-d, tokens */
};

static const struct generation_request requests[REQUESTS] = {
    {"A cat sitting on a mat.", 42, SIDE, SIDE, 1, false, true},
    {"", 7, SIDE, SIDE, 1, false, true},
    {"A dog.", 42, SIDE, SIDE, 1, false, true},
};

static struct model *
open_model(struct device *d, enum text_weights where)
{
	const struct model_options options = {.max_pixels = SIDE * SIDE, .text_weights = where};
	struct model *m;
	struct err e;

	if (model_open(&m, golden_dir("golden-d"), d, &options, &e) != 0)
		fail_msg("%s", e.text);
	assert_int_equal(model_limits(m)->text_streamed, where == TEXT_STREAMED);
	return m;
}

static struct generation *
begin(struct model *m, const struct generation_request *r)
{
	struct generation *g;
	struct err e;

	if (generation_begin(&g, m, r, &e) != 0)
		fail_msg("%s", e.text);
	return g;
}

static void
encode(struct generation *g)
{
	struct err e;

	if (generation_encode(g, &e) != 0)
		fail_msg("%s", e.text);
}

/* ---- whole pictures */

struct picture {
	float latent[LATENT];
	uint8_t rgb[RGB];
};

static void
draw(struct model *m, const struct generation_request *r, struct picture *p)
{
	struct generation *g = begin(m, r);
	struct err e;

	while (!generation_is_encoded(g))
		encode(g);
	assert_int_equal(generation_latent_count(g), LATENT);
	assert_int_equal(generation_step(g, &e), 0);
	assert_int_equal(generation_latent(g, p->latent, &e), 0);
	assert_int_equal(generation_decode(g, p->rgb, &e), 0);
	generation_free(&g);
}

static void
test_in_turn(void **state)
{
	struct device *d = golden_device(*state);
	struct picture resident[REQUESTS], streamed;
	struct model *m = open_model(d, TEXT_RESIDENT);
	uint64_t allocations;

	for (int i = 0; i < REQUESTS; i++)
		draw(m, &requests[i], &resident[i]);
	model_close(&m);
	device_close(&d); /* steps that it has recorded are that model's */
	d = golden_device(*state);
	m = open_model(d, TEXT_STREAMED);
	draw(m, &requests[0], &streamed); /* as the runner does before READY */
	allocations = device_allocations(d);
	for (int i = 0; i < REQUESTS; i++) {
		draw(m, &requests[i], &streamed);
		assert_memory_equal(&resident[i], &streamed, sizeof(streamed));
	}
	assert_int_equal(device_allocations(d), allocations);
	model_close(&m);
	device_close(&d);
}

/* ---- what the text encoder makes of a prompt */

/* Seen last. */
static struct {
	struct device *device;
	float rows[MAX_ROWS];
	size_t count;
} seen;

static void
see(void *arg, const char *stage, const struct tensor *t)
{
	(void)arg;
	if (strcmp(stage, "text_hidden") != 0)
		return;
	seen.count = (size_t)tensor_count(t);
	assert_in_range(seen.count, 1, MAX_ROWS);
	device_ops(seen.device)->copy_out(seen.device, seen.rows, DT_F32, t);
}

/* Of the two prompts that the next tests have. */
struct rows {
	float at[2][MAX_ROWS];
	size_t count[2];
};

static const struct generation_request *const prompts[2] = {&requests[0], &requests[2]};

/* A streamed model, and what one that has all on the device makes of the prompts. */
static struct model *
open_traced(struct device *d, struct rows *resident)
{
	static const struct trace trace = {see, NULL};
	struct model *m = open_model(d, TEXT_RESIDENT);

	seen.device = d;
	model_trace(m, &trace);
	for (int i = 0; i < 2; i++) {
		struct generation *g = begin(m, prompts[i]);
		encode(g);
		generation_free(&g);
		memcpy(resident->at[i], seen.rows, seen.count * sizeof(seen.rows[0]));
		resident->count[i] = seen.count;
	}
	model_close(&m);
	m = open_model(d, TEXT_STREAMED);
	model_trace(m, &trace);
	return m;
}

/* Prompt i has just been encoded. */
static void
assert_rows(const struct rows *resident, int i)
{
	assert_int_equal(seen.count, resident->count[i]);
	assert_memory_equal(seen.rows, resident->at[i], seen.count * sizeof(seen.rows[0]));
}

/* A layer of each, the second prompt always `behind` layers behind the first: they take the places on the
 * device from each other. */
static void
check_beside(struct model *m, int behind, const struct rows *resident)
{
	struct generation *first = begin(m, prompts[0]), *second = begin(m, prompts[1]);

	for (int i = 0; i < LAYERS + behind; i++) {
		if (i < LAYERS)
			encode(first);
		if (i == LAYERS - 1)
			assert_rows(resident, 0);
		if (i >= behind)
			encode(second);
	}
	assert_rows(resident, 1);
	assert_true(generation_is_encoded(first) && generation_is_encoded(second));
	generation_free(&first);
	generation_free(&second);
}

static void
test_beside_each_other(void **state)
{
	struct device *d = golden_device(*state);
	struct rows resident;
	struct model *m = open_traced(d, &resident);

	for (int behind = 0; behind < 3; behind++) /* in one layer, in each other's places, in one's own */
		check_beside(m, behind, &resident);
	model_close(&m);
	device_close(&d);
}

static void
test_given_up_at_any_layer(void **state)
{
	struct device *d = golden_device(*state);
	struct rows resident;
	struct model *m = open_traced(d, &resident);

	for (int done = 0; done <= LAYERS; done += done < 2 ? 1 : 3) {
		struct generation *given_up = begin(m, prompts[0]), *g;
		for (int i = 0; i < done; i++)
			encode(given_up);
		assert_int_equal(generation_is_encoded(given_up), done == LAYERS);
		generation_free(&given_up);
		g = begin(m, prompts[1]);
		while (!generation_is_encoded(g))
			encode(g);
		assert_rows(&resident, 1);
		generation_free(&g);
	}
	model_close(&m);
	device_close(&d);
}

/* ---- files that change */

/* Streamed from a copy, with a layer done; then the copy is treated so. The prompt is given up, and the text
 * encoder's file is named. */
static void
check_changed(struct device *d, const char *treatment)
{
	const struct model_options options = {.max_pixels = SIDE * SIDE, .text_weights = TEXT_STREAMED};
	char dir[] = "/tmp/zit-streamed-XXXXXX", command[600];
	struct generation *g;
	struct model *m;
	struct err e;

	assert_non_null(mkdtemp(dir));
	snprintf(command, sizeof(command), "cp -r %s/. %s", golden_dir("golden-d"), dir);
	assert_int_equal(system(command), 0);
	assert_int_equal(model_open(&m, dir, d, &options, &e), 0);
	g = begin(m, &requests[0]);
	encode(g);
	snprintf(command, sizeof(command), "cd %s/text_encoder && %s", dir, treatment);
	assert_int_equal(system(command), 0);
	assert_int_equal(generation_encode(g, &e), -ERR_BAD_CHECKPOINT);
	assert_non_null(strstr(e.text, "model-00002-of-00002.safetensors: was changed"));
	generation_free(&g);
	model_close(&m);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	assert_int_equal(system(command), 0);
}

static void
test_files_that_change(void **state)
{
	struct device *d = golden_device(*state);

	check_changed(d, "truncate -s 100 model-00002-of-00002.safetensors");
	check_changed(d, "touch model-00002-of-00002.safetensors");
	device_close(&d);
}

/* ---- the model as a whole */

/* What it needs of its device, by the plan: all, or the weights alone. */
static uint64_t
needed(const void *setting, enum text_weights where, bool all)
{
	struct device *d = golden_device(setting);
	struct model *m = open_model(d, where);
	uint64_t bytes = model_limits(m)->weight_bytes + (all ? model_limits(m)->memory_bytes : 0);

	model_close(&m);
	device_close(&d);
	return bytes;
}

/* Opening is refused, and is said to be for these two reasons. */
static void
check_refused(
    const void *setting, uint64_t bytes, enum text_weights where, const char *first, const char *second)
{
	const struct model_options options = {.max_pixels = SIDE * SIDE, .text_weights = where};
	struct device *d = golden_limited_device(setting, bytes);
	struct model *m = NULL;
	struct err e;

	assert_int_equal(model_open(&m, golden_dir("golden-d"), d, &options, &e), -ERR_OUT_OF_MEMORY);
	assert_null(m);
	if (strstr(e.text, first) == NULL || strstr(e.text, second) == NULL)
		fail_msg("%s", e.text);
	golden_unlimit(&d);
}

/* The latent of a step, drawn by a model that is to find its own way there. */
static void
draw_limited(const void *setting, uint64_t bytes, bool streamed, float *latent)
{
	const struct model_options options = {.max_pixels = SIDE * SIDE};
	struct device *d = golden_limited_device(setting, bytes);
	struct generation *g;
	struct model *m;
	struct err e;

	if (model_open(&m, golden_dir("golden-d"), d, &options, &e) != 0)
		fail_msg("%s", e.text);
	assert_int_equal(model_limits(m)->text_streamed, streamed);
	assert_int_equal(generation_start(&g, m, &requests[0], &e), 0);
	assert_int_equal(generation_step(g, &e), 0);
	assert_int_equal(generation_latent(g, latent, &e), 0);
	generation_free(&g);
	model_close(&m);
	golden_unlimit(&d);
}

/* A little less than all on the device would take: that is refused and the way out named, and left to itself
 * the model goes it. With enough there it stays on the device; with less than its weights take there is no
 * way. */
static void
test_what_a_device_has_room_for(void **state)
{
	uint64_t resident = needed(*state, TEXT_RESIDENT, true),
		 streamed = needed(*state, TEXT_STREAMED, true),
		 weights = needed(*state, TEXT_STREAMED, false);
	float latents[2][LATENT];

	assert_true(streamed < resident);
	check_refused(*state, resident - 2048, TEXT_RESIDENT, "are free", "text_encoder = streamed");
	check_refused(*state, weights - 2048, TEXT_STREAMED, "weights alone", "larger device");
	check_refused(*state, weights - 2048, TEXT_AUTO, "weights alone", "larger device");
	draw_limited(*state, resident - 2048, true, latents[0]);
	draw_limited(*state, resident + resident / 16, false, latents[1]);
	assert_memory_equal(latents[0], latents[1], sizeof(latents[0]));
}

struct progress {
	uint64_t done, total;
};

static void
see_progress(void *arg, uint64_t done, uint64_t total)
{
	struct progress *p = arg;

	assert_true(done >= p->done && done <= total);
	*p = (struct progress){done, total};
}

/* It is the same model: in its identity, and in what is told while it is loaded. */
static void
test_the_same_model(void **state)
{
	struct device *d = golden_device(*state);
	struct progress progress[2] = {{0, 0}, {0, 0}};
	char hash[2][33];

	for (int i = 0; i < 2; i++) {
		const struct model_options options = {.max_pixels = SIDE * SIDE,
		    .text_weights = i == 0 ? TEXT_RESIDENT : TEXT_STREAMED,
		    .progress = see_progress,
		    .progress_arg = &progress[i]};
		struct model *m;
		struct err e;
		assert_int_equal(model_open(&m, golden_dir("golden-d"), d, &options, &e), 0);
		memcpy(hash[i], model_limits(m)->hash, sizeof(hash[i]));
		assert_int_equal(progress[i].done, progress[i].total);
		model_close(&m);
	}
	assert_int_equal(progress[0].total, progress[1].total);
	assert_string_equal(hash[0], hash[1]);
	device_close(&d);
}

/* In a test's place where the processor cannot run it: at once, with nothing made yet. */
static void
skip_it(void **state)
{
	(void)state;
	skip();
}

static const struct {
	const char *name;
	CMUnitTestFunction function;
} rows[] = {
    {"in turn", test_in_turn},
    {"beside each other", test_beside_each_other},
    {"given up at any layer", test_given_up_at_any_layer},
    {"files that change", test_files_that_change},
    {"the same model", test_the_same_model},
    {"what a device has room for", test_what_a_device_has_room_for},
};

int
main(void)
{
	static struct CMUnitTest tests[MAX_TESTS];
	static char names[MAX_TESTS][64];
	size_t count = 0;

	for (size_t i = 0; i < golden_setting_count; i++) {
		bool absent = golden_must_skip(golden_settings[i].backend, golden_settings[i].precision);
		/* where a card is emulated it takes long, and the other precision has the same order of work
		 */
		bool brief =
		    strcmp(golden_settings[i].backend, "cuda") == 0 && !golden_is_bf16(&golden_settings[i]);
		for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
			if (brief && k > 0)
				break;
			snprintf(names[count], sizeof(names[count]), "%s %s",
			    golden_setting_name(&golden_settings[i]), rows[k].name);
			tests[count] = (struct CMUnitTest){names[count], absent ? skip_it : rows[k].function,
			    NULL, NULL, (void *)&golden_settings[i]};
			count++;
		}
	}
	/* cmocka's macro takes the length from the array's type */
	return _cmocka_run_group_tests("streamed", tests, count, NULL, NULL);
}
