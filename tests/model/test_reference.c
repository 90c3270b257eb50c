/*
 * The runner against the public Python implementation, from prompt text to pixels: tests/model/vectors,
 * written by scripts/reference-dump with diffusers on PyTorch. Stages inside one forward are compared in
 * test_golden.c.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "runner/generation.h"
#include "runner/model_config.h"
#include "runner/tokenizer.h"
#include "tests/model/golden.h"

#define VECTORS "tests/model/vectors/"

/* Errors are in units of the RMS of the whole array. */

/* The same generator: only the last bits of log, sin and cos differ, on values up to 4. */
#define NOISE_TOLERANCE 1e-6

/* Of the worst element. Two float32 evaluations of this model that round differently (diffusers and ref) are
 * up to 1e-5 apart; the smallest mistake tried, positions of image rows off by one, makes 4e-2. */
#define F32_TOLERANCE 1e-4

/* 1e-4 of the image's RMS, 0.67, is 0.0085 of an 8-bit step, so at most 0.85 % of the values round the other
 * way, each by one: 69 dB; less 4 for chance in small pictures. (45 would let the off-by-one above pass on
 * some.) */
#define F32_PICTURE_DB 65.0

/* The manifest says for each array how far diffusers' own bf16 pipeline is from its float32 one, as relative
 * RMS: 0.8 % for the text, 0.3 to 0.7 % for a latent, about 1 % for the image, 46 dB and more for a picture.
 * We may be this many times as far from that same float32 pipeline: both round at about the same places, but
 * each deviation is one draw of a random number, and is looked at on a sample. */
#define BF16_SLACK 1.5
#define BF16_PICTURE_SLACK_DB 2.0

enum { MAX_RUNS = 256, MAX_PIXELS = 256 * 256 };

/* One test: a case of the manifest under a setting. */
struct run {
	const struct golden_setting *setting;
	json_t *row;
	char name[64];
};

/* The worst of each stage seen so far. */
struct outcome {
	double noise, text, latent, image, picture_db;
	double latent_room; /* error by its limit, of the worst step */
};

/* What was written, read once. */
static struct {
	json_t *manifest;
	float *arrays;
	size_t array_count;
	uint8_t *pictures;
	size_t picture_bytes;
} vectors;

/* One model at a time is open: runs of one setting and configuration follow each other. */
static struct {
	char key[96];
	struct device *device;
	struct model *model;
} opened;

/* ---- the vectors */

/* Before there is a test that could fail. */
static void
give_up(const char *path, const char *why)
{
	fprintf(stderr, "%s: %s; run from the root of the repository\n", path, why);
	exit(1);
}

static void *
read_whole(const char *path, size_t *bytes)
{
	FILE *file = fopen(path, "rb");
	void *data;
	long size;

	if (file == NULL || fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) <= 0)
		give_up(path, "cannot be read");
	rewind(file);
	data = malloc((size_t)size);
	if (data == NULL || fread(data, 1, (size_t)size, file) != (size_t)size)
		give_up(path, "cannot be read");
	fclose(file);
	*bytes = (size_t)size;
	return data;
}

static void
vectors_read(void)
{
	json_error_t e;
	size_t bytes;

	vectors.arrays = read_whole(VECTORS "arrays.f32", &bytes);
	vectors.array_count = bytes / sizeof(float);
	vectors.pictures = read_whole(VECTORS "pictures.rgb", &vectors.picture_bytes);
	vectors.manifest = json_load_file(VECTORS "manifest.json", 0, &e);
	if (vectors.manifest == NULL)
		give_up(VECTORS "manifest.json", e.text);
}

static json_t *
case_array(const json_t *row, const char *name)
{
	json_t *array;
	size_t i;

	json_array_foreach(json_object_get(row, "arrays"), i,
	    array) if (strcmp(json_string_value(json_object_get(array, "name")), name) == 0) return array;
	fail_msg("no array %s in the manifest", name);
	return NULL;
}

static int64_t
number(const json_t *row, const char *key)
{
	assert_true(json_is_integer(json_object_get(row, key)));
	return json_integer_value(json_object_get(row, key));
}

static double
bf16_deviation(const json_t *row, const char *key)
{
	return json_number_value(json_object_get(json_object_get(row, "bf16"), key));
}

static double
bf16_latent_deviation(const json_t *row, size_t step)
{
	return json_number_value(
	    json_array_get(json_object_get(json_object_get(row, "bf16"), "latents"), step));
}

/* ---- comparing */

struct sums {
	double squares, largest;
	size_t count;
};

static void
sums_add(struct sums *s, double difference)
{
	s->squares += difference * difference;
	s->largest = fabs(difference) > s->largest ? fabs(difference) : s->largest;
	s->count++;
}

static double
rms(const float *x, size_t count)
{
	struct sums s = {0};

	for (size_t i = 0; i < count; i++)
		sums_add(&s, x[i]);
	return sqrt(s.squares / (double)s.count);
}

/* Error of the sampled elements, in units of the whole array's RMS: the worst one, or (by_rms) their RMS. The
 * RMS of the elements that are not in the sample counts as one more. */
static double
array_error(const json_t *row, const char *name, const float *got, size_t count, bool by_rms)
{
	const json_t *sample = json_object_get(vectors.manifest, "sample"), *array = case_array(row, name);
	size_t head = (size_t)number(sample, "head"), tail = (size_t)number(sample, "tail");
	size_t spread = (size_t)number(sample, "spread"), stride = (count + spread - 1) / spread;
	const float *want = vectors.arrays + number(array, "first");
	double scale = json_number_value(json_object_get(array, "rms")), whole;
	struct sums s = {0};

	assert_int_equal(count, number(array, "count"));
	assert_in_range(number(array, "first") + number(array, "samples"), 1, vectors.array_count);
	for (size_t i = 0; i < head; i++)
		sums_add(&s, (double)got[i] - *want++);
	for (size_t i = 0; i < count; i += stride)
		sums_add(&s, (double)got[i] - *want++);
	for (size_t i = count - tail; i < count; i++)
		sums_add(&s, (double)got[i] - *want++);
	assert_int_equal(s.count, number(array, "samples"));
	whole = fabs(rms(got, count) - scale);
	s.largest = by_rms ? sqrt(s.squares / (double)s.count) : s.largest;
	return isfinite(whole) ? fmax(s.largest, whole) / scale : INFINITY;
}

/* Decibels between 8-bit pictures; 99 for equal ones. */
static double
picture_db(const uint8_t *got, const uint8_t *want, size_t bytes)
{
	struct sums s = {0};

	for (size_t i = 0; i < bytes; i++)
		sums_add(&s, (double)got[i] - want[i]);
	return s.squares == 0 ? 99.0 : 10 * log10(255.0 * 255.0 * (double)s.count / s.squares);
}

/* ---- drawing */

static void
close_model(void)
{
	if (opened.model != NULL)
		model_close(&opened.model);
	if (opened.device != NULL)
		device_close(&opened.device);
	opened.key[0] = '\0';
}

static struct model *
model_for(const struct run *run)
{
	const struct golden_setting *s = run->setting;
	const char *config = json_string_value(json_object_get(run->row, "config"));
	const char *dir = golden_dir(strcmp(config, "A") == 0 ? "golden-a" : s->reference);
	struct device_options options = {.precision = s->precision, .threads = 2};
	char why[200], key[96];
	struct err e;

	snprintf(key, sizeof(key), "%s %d %s", s->backend, s->precision, dir);
	if (strcmp(key, opened.key) == 0)
		return opened.model;
	close_model();
	if (golden_must_skip(s->backend, s->precision))
		skip();
	if (device_open(&opened.device, s->backend, &options, why, sizeof(why)) != 0)
		fail_msg("%s", why);
	if (model_open(&opened.model, dir, opened.device, &(struct model_options){.max_pixels = MAX_PIXELS},
		&e) != 0)
		fail_msg("%s: %s", dir, e.text);
	memcpy(opened.key, key, sizeof(key));
	return opened.model;
}

struct watch {
	const struct run *run;
	struct outcome *outcome;
};

/* Stages that the model shows only while it runs. */
static void
see(void *arg, const char *stage, const struct tensor *t)
{
	struct watch *watch = arg;
	size_t count = (size_t)tensor_count(t);
	bool is_text = strcmp(stage, "text_hidden") == 0, is_image = strcmp(stage, "image") == 0;
	float *host;
	double error;

	if (!is_text && !is_image)
		return;
	host = malloc(count * sizeof(float));
	assert_non_null(host);
	device_ops(opened.device)->copy_out(opened.device, host, DT_F32, t);
	error = array_error(watch->run->row, is_text ? "text" : "image", host, count,
	    watch->run->setting->precision == PRECISION_BF16);
	*(is_text ? &watch->outcome->text : &watch->outcome->image) = error;
	free(host);
}

/* Compares the latent after `step` steps; 0 is the noise. */
static void
compare_latent(const struct run *run, struct generation *g, size_t step, struct outcome *o)
{
	size_t count = (size_t)number(case_array(run->row, "latent0"), "count");
	bool by_rms = run->setting->precision == PRECISION_BF16;
	float *latent = malloc(count * sizeof(float));
	double error, limit = F32_TOLERANCE;
	char name[32];
	struct err e;

	assert_non_null(latent);
	assert_int_equal(generation_latent(g, latent, &e), 0);
	snprintf(name, sizeof(name), "latent%zu", step);
	error = array_error(run->row, name, latent, count, by_rms && step > 0);
	free(latent);
	if (step == 0) {
		o->noise = error;
		return;
	}
	if (by_rms)
		limit = BF16_SLACK * bf16_latent_deviation(run->row, step - 1);
	o->latent = fmax(o->latent, error);
	o->latent_room = fmax(o->latent_room, error / limit);
}

static void
draw(const struct run *run, struct outcome *o)
{
	struct generation_request request = {
	    .prompt = json_string_value(json_object_get(run->row, "prompt")),
	    .seed = (uint64_t)number(run->row, "seed"),
	    .width = (int)number(run->row, "width"),
	    .height = (int)number(run->row, "height"),
	    .steps = (int)number(run->row, "steps"),
	    .truncate = true,
	};
	size_t bytes = (size_t)request.width * (size_t)request.height * 3,
	       first = (size_t)number(run->row, "picture");
	struct watch watch = {run, o};
	struct trace trace = {see, &watch};
	struct model *model = model_for(run);
	uint8_t *rgb = malloc(bytes);
	struct generation *g;
	struct err e;

	assert_non_null(rgb);
	model_trace(model, &trace);
	if (generation_start(&g, model, &request, &e) != 0)
		fail_msg("%s", e.text);
	compare_latent(run, g, 0, o);
	for (int step = 1; step <= request.steps; step++) {
		assert_int_equal(generation_step(g, &e), 0);
		compare_latent(run, g, (size_t)step, o);
	}
	assert_int_equal(generation_left(g), 0);
	assert_int_equal(generation_decode(g, rgb, &e), 0);
	model_trace(model, NULL);
	assert_in_range(first + bytes, 1, vectors.picture_bytes);
	o->picture_db = picture_db(rgb, vectors.pictures + first, bytes);
	generation_free(&g);
	free(rgb);
}

/* ---- tests */

static void
test_picture(void **state)
{
	const struct run *run = *state;
	bool bf16 = run->setting->precision == PRECISION_BF16;
	struct outcome o = {.text = INFINITY, .image = INFINITY}; /* a stage that is not shown fails */
	double text_limit = bf16 ? BF16_SLACK * bf16_deviation(run->row, "text") : F32_TOLERANCE;
	double image_limit = bf16 ? BF16_SLACK * bf16_deviation(run->row, "image") : F32_TOLERANCE;
	double db_limit =
	    bf16 ? bf16_deviation(run->row, "picture_db") - BF16_PICTURE_SLACK_DB : F32_PICTURE_DB;

	draw(run, &o);
	printf("%-26s noise %.1e  text %.1e of %.1e  latent %.1e, %3.0f %% of its limit  image %.1e of %.1e  "
	       "picture %.1f dB, at least %.1f\n",
	    run->name, o.noise, o.text, text_limit, o.latent, 100 * o.latent_room, o.image, image_limit,
	    o.picture_db, db_limit);
	assert_true(o.noise <= NOISE_TOLERANCE);
	assert_true(o.text <= text_limit);
	assert_true(o.latent_room <= 1);
	assert_true(o.image <= image_limit);
	assert_true(o.picture_db >= db_limit);
}

static void
check_ids(const struct tokenizer *t, const json_t *row)
{
	const json_t *want = json_object_get(row, "ids");
	const char *name = json_string_value(json_object_get(row, "name"));
	bool truncated;
	int32_t *ids;
	size_t count;
	struct err e;

	if (tokenizer_prompt(t, json_string_value(json_object_get(row, "prompt")), MAX_PROMPT_TOKENS, true,
		&ids, &count, &truncated, &e) != 0)
		fail_msg("%s: %s", name, e.text);
	if (count != json_array_size(want))
		fail_msg("%s: %zu ids, expected %zu", name, count, json_array_size(want));
	for (size_t i = 0; i < count; i++)
		if (ids[i] != json_integer_value(json_array_get(want, i)))
			fail_msg("%s: id %zu is %d, expected %lld", name, i, ids[i],
			    (long long)json_integer_value(json_array_get(want, i)));
	assert_int_equal(truncated, json_is_true(json_object_get(row, "truncated")));
	free(ids);
}

static void
test_token_ids(void **state)
{
	struct tokenizer *t;
	char dir[160];
	struct err e;
	json_t *row;
	size_t i;

	(void)state;
	snprintf(dir, sizeof(dir), "%s/tokenizer", golden_dir("golden"));
	if (tokenizer_open(&t, dir, &e) != 0)
		fail_msg("%s", e.text);
	json_array_foreach(json_object_get(vectors.manifest, "cases"), i, row) check_ids(t, row);
	printf("token ids: %zu prompts equal\n", i);
	tokenizer_close(&t);
}

/* One run for every setting and every case that is small enough for it; their number. */
static size_t
plan_runs(struct run *runs)
{
	json_t *row;
	size_t count = 0, i;

	for (size_t s = 0; s < golden_setting_count; s++)
		json_array_foreach(json_object_get(vectors.manifest, "cases"), i, row)
		{
			size_t tokens = json_array_size(json_object_get(row, "ids"));
			if (number(row, "width") * number(row, "height") > golden_settings[s].max_area ||
			    tokens > (size_t)golden_settings[s].max_tokens)
				continue;
			assert_true(count < MAX_RUNS);
			runs[count].setting = &golden_settings[s];
			runs[count].row = row;
			snprintf(runs[count].name, sizeof(runs[count].name), "%s %s %s",
			    golden_settings[s].backend,
			    golden_settings[s].precision == PRECISION_BF16 ? "bf16" : "f32",
			    json_string_value(json_object_get(row, "name")));
			count++;
		}
	return count;
}

static int
clean_up(void **state)
{
	(void)state;
	close_model();
	json_decref(vectors.manifest);
	free(vectors.arrays);
	free(vectors.pictures);
	return 0;
}

int
main(void)
{
	static struct CMUnitTest tests[1 + MAX_RUNS];
	static struct run runs[MAX_RUNS];
	size_t count;

	vectors_read();
	count = plan_runs(runs);
	tests[0] = (struct CMUnitTest){"token ids", test_token_ids, NULL, NULL, NULL};
	for (size_t i = 0; i < count; i++)
		tests[1 + i] = (struct CMUnitTest){runs[i].name, test_picture, NULL, NULL, &runs[i]};
	/* cmocka's macro takes the length from the array's type */
	return _cmocka_run_group_tests("reference", tests, 1 + count, NULL, clean_up);
}
