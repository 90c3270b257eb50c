/*
 * A loaded model: opening a checkpoint on a device, its limits, and the memory for drawing with it.
 *
 * Device memory is reserved when the model is opened and never after: a work arena for the stage that is
 * running, the tables of steps, and a slot for each picture that may be held at once.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runner/checkpoint.h"
#include "runner/fault.h"
#include "runner/model_inside.h"
#include "ipc/sha256.h"

/* ---- loading */

enum { PARTS = 3 };

static const struct {
	const char *dir, *stem;
} parts[PARTS] = {{"text_encoder", "model"}, {"transformer", "diffusion_pytorch_model"},
    {"vae", "diffusion_pytorch_model"}};

static int
load_part(struct model *m, int part)
{
	struct loader *l = &m->loader;

	if (part == 0)
		m->text_encoder = text_encoder_load(l, &m->config.text, m->limits.text_streamed);
	else if (part == 1)
		m->dit = dit_load(l, &m->config.transformer);
	else
		m->vae = vae_load(l, &m->config.vae);
	return l->status;
}

static void
feed_identity(void *arg, const void *bytes, size_t count)
{
	sha256_feed(arg, bytes, count);
}

/* As many digits of the digest as the limits have room for. */
static void
put_hash(struct model_limits *l, struct sha256 *identity)
{
	uint8_t digest[SHA256_BYTES];

	sha256_end(identity, digest);
	for (size_t i = 0; i < sizeof(l->hash) / 2; i++)
		snprintf(l->hash + 2 * i, 3, "%02x", digest[i]);
}

/* Loads all three networks. */
static int
load_networks(struct model *m, struct checkpoint *files[PARTS], struct err *e)
{
	struct loader *l = &m->loader;
	struct sha256 identity;

	sha256_init(&identity);
	for (int i = 0; i < PARTS; i++) {
		checkpoint_identity(files[i], feed_identity, &identity);
		l->total_bytes += checkpoint_bytes(files[i]);
	}
	l->identity = &identity;
	for (int i = 0; i < PARTS; i++) {
		l->checkpoint = files[i];
		if (load_part(m, i) != 0)
			return l->status;
	}
	l->identity = NULL;
	put_hash(&m->limits, &identity);
	if (l->progress != NULL) /* what is left are tensors that nobody needs */
		l->progress(l->progress_arg, l->total_bytes, l->total_bytes);
	return fault_check(m->device, e);
}

/* ---- limits and memory */

static void
set_limits(struct model *m, const char *dir, int64_t max_pixels)
{
	const struct transformer_config *t = &m->config.transformer;
	struct model_limits *l = &m->limits;
	char copy[PATH_MAX];
	int axis = t->axes_lens[1] < t->axes_lens[2] ? t->axes_lens[1] : t->axes_lens[2];
	size_t end = (size_t)snprintf(copy, sizeof(copy), "%s", dir);

	while (end > 1 && end < sizeof(copy) && copy[end - 1] == '/')
		copy[--end] = '\0';
	snprintf(
	    l->name, sizeof(l->name), "%.60s", strrchr(copy, '/') != NULL ? strrchr(copy, '/') + 1 : copy);
	l->granule = m->config.vae.scale * t->patch;
	l->default_side = m->config.vae.sample_size / l->granule * l->granule;
	l->max_side = axis * l->granule;
	l->max_pixels = max_pixels > 0 ? max_pixels : (int64_t)l->default_side * l->default_side;
	if (l->max_pixels > (int64_t)l->max_side * l->max_side)
		l->max_pixels = (int64_t)l->max_side * l->max_side;
	l->latent_count = (size_t)t->in_channels * (size_t)l->max_pixels /
			  (size_t)(m->config.vae.scale * m->config.vae.scale);
	l->max_tokens = MAX_PROMPT_TOKENS;
	l->shift = m->config.shift;
}

void
model_slot_tensors(
    const struct model *m, struct arena *slot, int64_t h, int64_t w, int64_t tokens, struct slot_tensors *t)
{
	const struct transformer_config *c = &m->config.transformer;
	int64_t caption = dit_padded(tokens), rows = dit_padded(h / 2 * (w / 2)) + caption;
	int64_t latent[] = {c->in_channels, h, w};

	t->latent = arena_tensor(slot, DT_F32, 3, latent);
	t->velocity = arena_tensor(slot, DT_F32, 3, latent);
	t->caption = arena_matrix(slot, device_act_type(m->device), caption, c->dim);
	t->cos = arena_matrix(slot, DT_F32, rows, c->head_dim / 2);
	t->sin = arena_matrix(slot, DT_F32, rows, c->head_dim / 2);
	t->step = arena_matrix(slot, DT_I32, 1, 1);
	/* last: where what a recorded step needs lies must not depend on the number of tokens */
	t->hidden = arena_matrix(slot, device_act_type(m->device), tokens, m->config.text.hidden);
}

void
model_step(struct model *m, struct slot_tensors *t)
{
	int64_t width = m->config.transformer.dim;
	struct tensor modulation, distance;

	arena_reset(&m->work);
	modulation = arena_matrix(&m->work, DT_F32, dit_modulation_count(m->dit) / width, width);
	distance = arena_matrix(&m->work, DT_F32, 1, 1);
	if (m->work.memory != NULL) {
		m->ops->pick_row(m->device, &modulation, &m->steps.modulation, &t->step);
		m->ops->pick_row(m->device, &distance, &m->steps.distance, &t->step);
	}
	dit_step(
	    m->dit, &m->work, &t->velocity, &t->latent, &t->caption, &t->cos, &t->sin, &modulation, m->trace);
	if (m->work.memory != NULL)
		m->ops->axpy(m->device, &t->latent, &distance, &t->velocity);
}

/* Runs every stage without memory at the largest size. Returns the bytes that the hungriest stage needs; the
 * slot's, and those of all, are set. A picture of any shape needs at most what a flat one of max_pixels does,
 * plus one padding of rows. */
static size_t
plan_memory(struct model *m)
{
	int64_t cells = m->limits.max_pixels / (m->limits.granule * m->limits.granule) + SEQUENCE_MULTIPLE;
	int64_t h = 2, w = 2 * cells, tokens = MAX_PROMPT_TOKENS;
	struct slot_tensors t;
	struct arena slot, *work = &m->work;

	arena_plan(&slot);
	model_slot_tensors(m, &slot, h, w, tokens, &t);
	m->slot_bytes = slot.peak;
	arena_plan(work);
	text_encoder_go_on(m->text_encoder, work, &t.hidden, 0, NULL);
	arena_reset(work);
	dit_caption(m->dit, work, &t.caption, &t.hidden, &t.cos, &t.sin, NULL);
	arena_reset(work);
	dit_modulation(m->dit, work, 0, NULL, NULL);
	model_step(m, &t);
	arena_reset(work);
	vae_decode(m->vae, work, &t.latent, NULL);
	m->limits.memory_bytes =
	    work->peak + step_table_bytes(m) + caption_cache_bytes(m) + MAX_GENERATIONS * m->slot_bytes;
	return work->peak;
}

static void
release_memory(struct model *m)
{
	for (int i = 0; i < MAX_GENERATIONS; i++) {
		m->ops->release(m->device, m->slots[i].memory);
		m->slots[i].memory = NULL;
	}
	m->ops->release(m->device, m->steps.memory);
	m->steps.memory = NULL;
	m->ops->release(m->device, m->captions.memory);
	m->captions.memory = NULL;
	m->ops->release(m->device, m->work_memory);
	m->work_memory = NULL;
}

/* All that limits.max_pixels takes, or nothing. */
static bool
take_memory(struct model *m)
{
	size_t work = plan_memory(m), steps = step_table_bytes(m), captions = caption_cache_bytes(m);
	bool taken = true;

	m->work_memory = m->ops->reserve(m->device, work);
	for (int i = 0; i < MAX_GENERATIONS; i++) {
		m->slots[i].memory = m->ops->reserve(m->device, m->slot_bytes);
		taken &= m->slots[i].memory != NULL;
	}
	step_table_use(m, m->ops->reserve(m->device, steps));
	caption_cache_use(m, m->ops->reserve(m->device, captions));
	taken &= m->work_memory != NULL && m->steps.memory != NULL && m->captions.memory != NULL;
	arena_use(&m->work, m->work_memory, work);
	if (!taken)
		release_memory(m);
	return taken;
}

/* Says what would fit, in steps of a quarter. */
static int
reserve_memory(struct model *m, struct err *e)
{
	int64_t wanted = m->limits.max_pixels, least = (int64_t)m->limits.granule * m->limits.granule;
	unsigned long long needed;

	if (take_memory(m))
		return 0;
	needed = m->limits.memory_bytes >> 20;
	while (m->limits.max_pixels > least) {
		m->limits.max_pixels = m->limits.max_pixels / 4 * 3;
		if (take_memory(m))
			return err_set(e, ERR_OUT_OF_MEMORY,
			    "%llu MiB of device memory are needed to draw %lld pixels; %lld would fit: lower "
			    "max_pixels, or free "
			    "some memory",
			    needed, (long long)wanted, (long long)m->limits.max_pixels);
	}
	return err_set(e, ERR_OUT_OF_MEMORY,
	    "%llu MiB of device memory are needed to draw %lld pixels, and there is not enough for any "
	    "picture; free some "
	    "memory",
	    needed, (long long)wanted);
}

/* ---- where the text encoder's matrices are */

/* Of what is needed, what a device's allocator rounds up to and recorded steps take may be besides: pieces
 * are whole 2 MiB there, by arithmetic 170 MiB in the 6B model. */
enum { HEADROOM = 32 };

struct need {
	uint64_t weights, all; /* bytes of device memory */
};

static unsigned long long
mib(uint64_t bytes)
{
	return (unsigned long long)(bytes >> 20);
}

static void
free_networks(struct model *m)
{
	text_encoder_free(&m->text_encoder);
	dit_free(&m->dit);
	vae_free(&m->vae);
}

/* Loads and runs without memory. */
static int
plan_model(
    const struct model *m, struct checkpoint *files[PARTS], bool streamed, struct need *need, struct err *e)
{
	struct model planned = {.config = m->config, .limits = m->limits, .device = m->device, .ops = m->ops};
	int status = 0;

	planned.limits.text_streamed = streamed;
	planned.loader = (struct loader){.device = m->device, .ops = m->ops, .e = e, .plans = true};
	for (int i = 0; i < PARTS && status == 0; i++) {
		planned.loader.checkpoint = files[i];
		status = load_part(&planned, i);
	}
	if (status == 0) {
		need->weights = loader_planned(&planned.loader);
		plan_memory(&planned);
		need->all = need->weights + planned.limits.memory_bytes;
	}
	free_networks(&planned);
	return status;
}

/* By arithmetic, before anything is on the device. What cannot fit there is refused with what would. */
static int
place_text(struct model *m, struct checkpoint *files[PARTS], enum text_weights wanted, struct err *e)
{
	uint64_t bytes = device_free_bytes(m->device), available = bytes > 0 ? bytes : UINT64_MAX;
	struct need resident, streamed, *chosen;
	int status = plan_model(m, files, false, &resident, e);

	if (status == 0)
		status = plan_model(m, files, true, &streamed, e);
	if (status != 0)
		return status;
	m->limits.text_streamed = wanted == TEXT_STREAMED ||
				  (wanted == TEXT_AUTO && resident.all + resident.all / HEADROOM > available);
	chosen = m->limits.text_streamed ? &streamed : &resident;
	m->limits.weight_bytes = chosen->weights;
	if (wanted == TEXT_RESIDENT && resident.all > available)
		return err_set(e, ERR_OUT_OF_MEMORY,
		    "%llu MiB of device memory are needed and %llu are free; with text_encoder = streamed "
		    "%llu are needed",
		    mib(resident.all), mib(available), mib(streamed.all));
	if (chosen->weights > available)
		return err_set(e, ERR_OUT_OF_MEMORY,
		    "%llu MiB of device memory are needed for the weights alone, with text_encoder = "
		    "streamed, and "
		    "%llu are free: free some memory, or take a larger device",
		    mib(chosen->weights), mib(available));
	return 0;
}

static int
open_networks(struct model *m, const char *dir, enum text_weights wanted, struct err *e)
{
	struct checkpoint *files[PARTS] = {NULL};
	char path[PATH_MAX];
	int status = 0;

	for (int i = 0; i < PARTS && status == 0; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, parts[i].dir);
		status = checkpoint_open(&files[i], path, parts[i].stem, e);
	}
	if (status == 0)
		status = place_text(m, files, wanted, e);
	if (status == 0)
		status = load_networks(m, files, e);
	if (m->limits.text_streamed) { /* it is read for each prompt */
		m->text_files = files[0];
		files[0] = NULL;
	}
	for (int i = 0; i < PARTS; i++)
		checkpoint_close(&files[i]);
	return status;
}

/* ---- opening */

static int
open_tokenizer(struct model *m, const char *dir, struct err *e)
{
	char path[PATH_MAX];
	int status;

	snprintf(path, sizeof(path), "%s/tokenizer", dir);
	status = tokenizer_open(&m->tokenizer, path, e);
	if (status != 0)
		return status;
	if (tokenizer_vocab(m->tokenizer) > (size_t)m->config.text.vocab)
		return err_set(e, ERR_BAD_CHECKPOINT,
		    "%s/tokenizer.json: gives ids up to %zu, the text encoder knows %d", path,
		    tokenizer_vocab(m->tokenizer) - 1, m->config.text.vocab);
	return 0;
}

int
model_open(struct model **out, const char *dir, struct device *device, const struct model_options *options,
    struct err *e)
{
	struct model *m = calloc(1, sizeof(*m));
	struct err local;
	int status;

	e = e != NULL ? e : &local;
	if (m == NULL)
		return err_set(e, ERR_OUT_OF_MEMORY, "out of memory");
	m->device = device;
	m->ops = device_ops(device);
	m->loader = (struct loader){.device = device,
	    .ops = m->ops,
	    .e = e,
	    .progress = options->progress,
	    .progress_arg = options->progress_arg};
	status = model_config_read(&m->config, dir, e);
	if (status == 0) {
		set_limits(m, dir, options->max_pixels);
		status = open_tokenizer(m, dir, e);
	}
	if (status == 0)
		status = open_networks(m, dir, options->text_weights, e);
	if (status == 0)
		status = reserve_memory(m, e);
	if (status != 0)
		model_close(&m);
	else
		*out = m;
	return status;
}

void
model_close(struct model **out)
{
	struct model *m = *out;

	if (m == NULL)
		return;
	release_memory(m);
	free_networks(m);
	checkpoint_close(&m->text_files);
	for (int i = 0; i < m->loader.chunk_count; i++)
		m->ops->release(m->device, m->loader.chunks[i]);
	tokenizer_close(&m->tokenizer);
	free(m);
	*out = NULL;
}

const struct model_limits *
model_limits(const struct model *m)
{
	return &m->limits;
}

void
model_trace(struct model *m, const struct trace *trace)
{
	m->trace = trace;
}
