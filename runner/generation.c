/*
 * From a prompt to pixels, one step at a time: a loaded model, and the pictures in the making on it.
 *
 * Device memory is reserved when the model is opened and never after: a work arena for the stage that is
 * running, and a slot for each picture that may be held at once. Host memory holds the modulation tables of
 * the last few schedules.
 */
#include "runner/generation.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "runner/arena.h"
#include "runner/checkpoint.h"
#include "runner/dit.h"
#include "runner/noise.h"
#include "runner/sampler.h"
#include "runner/text_encoder.h"
#include "runner/tokenizer.h"
#include "runner/vae.h"

enum {
	SLOTS = 3, /* two jobs at once and one that preempts (design section 5) */
	SCHEDULES = 4,
	MAX_STEPS = 100,
};

/* Tables of one step count: sigmas, and what modulates the network at each step. */
struct schedule {
	int steps; /* 0: free */
	uint64_t last_use;
	float sigmas[MAX_STEPS + 1];
	float *modulation; /* (steps, dit_modulation_count) on the host */
};

/* What a held picture keeps on the device, at the largest size that was planned. */
struct slot {
	bool taken;
	void *memory;
};

struct model {
	struct model_config config;
	struct model_limits limits;
	struct device *device;
	const struct ops *ops;
	struct tokenizer *tokenizer;
	struct text_encoder *text_encoder;
	struct dit *dit;
	struct vae *vae;
	struct loader loader; /* its pooled memory */

	void *work_memory;
	struct arena work; /* of the running stage */
	size_t slot_bytes;
	struct slot slots[SLOTS];
	struct schedule schedules[SCHEDULES];
	uint64_t uses;
	const struct trace *trace;
};

struct generation {
	struct model *model;
	struct slot *slot;
	int width, height, steps, step;
	int tokens;
	bool truncated;
	struct tensor latent;	/* (C, h, w) F32 */
	struct tensor velocity; /* (C, h, w) F32 */
	struct tensor caption;	/* (Lc, D), refined */
	struct tensor cos, sin; /* (Ni + Lc, hd / 2) F32 */
	struct generation_times times;
};

static double
now_s(void)
{
	return (double)clock_now_us() * 1e-6;
}

/* 0, or the device's first failure as an error. */
static int
check_device(const struct model *m, struct err *e)
{
	static const enum err_code codes[] = {[DEVICE_OUT_OF_MEMORY] = ERR_OUT_OF_MEMORY,
	    [DEVICE_POISONED] = ERR_POISONED,
	    [DEVICE_INTERNAL] = ERR_INTERNAL};
	int fault = m->ops->sync(m->device);

	return fault == DEVICE_OK ? 0 : err_set(e, codes[fault], "%s", device_error(m->device));
}

/* ---- identity: FNV-1a over names, types and shapes, twice with different starts */

struct identity {
	uint64_t a, b;
};

static void
identity_feed(void *arg, const void *bytes, size_t count)
{
	struct identity *id = arg;
	const uint8_t *p = bytes;

	for (size_t i = 0; i < count; i++) {
		id->a = (id->a ^ p[i]) * UINT64_C(0x100000001b3);
		id->b = (id->b ^ p[i]) * UINT64_C(0x100000001b3);
	}
}

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
		m->text_encoder = text_encoder_load(l, &m->config.text);
	else if (part == 1)
		m->dit = dit_load(l, &m->config.transformer);
	else
		m->vae = vae_load(l, &m->config.vae);
	return l->status;
}

/* Loads all three networks; the files are unmapped afterwards unless the device reads from them. */
static int
load_networks(struct model *m, struct checkpoint *files[PARTS], struct err *e)
{
	struct identity id = {UINT64_C(0xcbf29ce484222325), UINT64_C(0x84222325cbf29ce4)};

	for (int i = 0; i < PARTS; i++) {
		checkpoint_identity(files[i], identity_feed, &id);
		m->loader.total_bytes += checkpoint_bytes(files[i]);
	}
	snprintf(m->limits.hash, sizeof(m->limits.hash), "%016llx%016llx", (unsigned long long)id.a,
	    (unsigned long long)id.b);
	for (int i = 0; i < PARTS; i++) {
		m->loader.checkpoint = files[i];
		if (load_part(m, i) != 0)
			return m->loader.status;
	}
	return check_device(m, e);
}

static int
open_networks(struct model *m, const char *dir, struct err *e)
{
	struct checkpoint *files[PARTS] = {NULL};
	char path[PATH_MAX];
	int status = 0;

	for (int i = 0; i < PARTS && status == 0; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, parts[i].dir);
		status = checkpoint_open(&files[i], path, parts[i].stem, e);
	}
	if (status == 0)
		status = load_networks(m, files, e);
	for (int i = 0; i < PARTS; i++)
		checkpoint_close(&files[i]);
	return status;
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
	l->max_tokens = MAX_PROMPT_TOKENS;
	l->shift = m->config.shift;
}

/* The tensors that a held picture of that size owns, from its slot. */
static void
slot_tensors(
    const struct model *m, struct arena *slot, int64_t h, int64_t w, int64_t tokens, struct generation *g)
{
	const struct transformer_config *t = &m->config.transformer;
	int64_t caption = dit_padded(tokens), rows = dit_padded(h / 2 * (w / 2)) + caption;
	int64_t latent[] = {t->in_channels, h, w};

	g->latent = arena_tensor(slot, DT_F32, 3, latent);
	g->velocity = arena_tensor(slot, DT_F32, 3, latent);
	g->caption = arena_matrix(slot, device_act_type(m->device), caption, t->dim);
	g->cos = arena_matrix(slot, DT_F32, rows, t->head_dim / 2);
	g->sin = arena_matrix(slot, DT_F32, rows, t->head_dim / 2);
}

/* Runs every stage without memory at the largest size. Returns the bytes that the hungriest stage needs; the
 * slot's are set. A picture of any shape needs at most what a flat one of max_pixels does, plus one padding
 * of rows. */
static size_t
plan_memory(struct model *m)
{
	int64_t cells = m->limits.max_pixels / (m->limits.granule * m->limits.granule) + SEQUENCE_MULTIPLE;
	int64_t h = 2, w = 2 * cells, tokens = MAX_PROMPT_TOKENS;
	struct generation g;
	struct tensor caption = {.rank = 2, .dim = {tokens, m->config.text.hidden, 1, 1}};
	struct arena slot, work;

	arena_plan(&slot);
	slot_tensors(m, &slot, h, w, tokens, &g);
	m->slot_bytes = slot.peak;
	arena_plan(&work);
	caption = text_encoder_run(m->text_encoder, &work, NULL, tokens, NULL);
	dit_caption(m->dit, &work, &g.caption, &caption, &g.cos, &g.sin, NULL);
	arena_reset(&work);
	dit_modulation(m->dit, &work, 0, NULL, NULL);
	arena_reset(&work);
	dit_step(m->dit, &work, &g.velocity, &g.latent, &g.caption, &g.cos, &g.sin, NULL, NULL);
	arena_reset(&work);
	vae_decode(m->vae, &work, &g.latent, NULL);
	return work.peak;
}

static int
reserve_memory(struct model *m, struct err *e)
{
	size_t work = plan_memory(m);
	bool failed = false;

	m->work_memory = m->ops->reserve(m->device, work);
	for (int i = 0; i < SLOTS; i++) {
		m->slots[i].memory = m->ops->reserve(m->device, m->slot_bytes);
		failed |= m->slots[i].memory == NULL;
	}
	if (failed || m->work_memory == NULL)
		return err_set(e, ERR_OUT_OF_MEMORY,
		    "%zu MiB of device memory are needed to draw %lld pixels; lower max_pixels or free some",
		    (work + SLOTS * m->slot_bytes) >> 20, (long long)m->limits.max_pixels);
	arena_use(&m->work, m->work_memory, work);
	m->limits.memory_bytes = work + SLOTS * m->slot_bytes;
	return 0;
}

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
model_open(struct model **out, const char *dir, struct device *device, int64_t max_pixels,
    model_progress *progress, void *arg, struct err *e)
{
	struct model *m = calloc(1, sizeof(*m));
	struct err local;
	int status;

	e = e != NULL ? e : &local;
	if (m == NULL)
		return err_set(e, ERR_OUT_OF_MEMORY, "out of memory");
	m->device = device;
	m->ops = device_ops(device);
	m->loader = (struct loader){
	    .device = device, .ops = m->ops, .e = e, .progress = progress, .progress_arg = arg};
	status = model_config_read(&m->config, dir, e);
	if (status == 0) {
		set_limits(m, dir, max_pixels);
		status = open_tokenizer(m, dir, e);
	}
	if (status == 0)
		status = open_networks(m, dir, e);
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
	for (int i = 0; i < SCHEDULES; i++)
		free(m->schedules[i].modulation);
	for (int i = 0; i < SLOTS; i++)
		m->ops->release(m->device, m->slots[i].memory);
	m->ops->release(m->device, m->work_memory);
	text_encoder_free(&m->text_encoder);
	dit_free(&m->dit);
	vae_free(&m->vae);
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

/* ---- schedules */

/* The schedule that was used longest ago, emptied; or a free one. */
static struct schedule *
recycle_schedule(struct model *m)
{
	struct schedule *oldest = &m->schedules[0];

	for (int i = 1; i < SCHEDULES; i++) {
		if (m->schedules[i].last_use < oldest->last_use)
			oldest = &m->schedules[i];
	}
	free(oldest->modulation);
	*oldest = (struct schedule){0};
	return oldest;
}

static int
fill_schedule(struct model *m, struct schedule *s, int steps, struct err *e)
{
	int64_t count = dit_modulation_count(m->dit);

	s->modulation = malloc((size_t)(steps * count) * sizeof(float));
	if (s->modulation == NULL)
		return err_set(e, ERR_SYSTEM, "no memory for the tables of %d steps", steps);
	sampler_sigmas(steps, m->config.shift, s->sigmas);
	for (int i = 0; i < steps; i++) {
		arena_reset(&m->work);
		dit_modulation(
		    m->dit, &m->work, sampler_time(s->sigmas[i]), s->modulation + i * count, m->trace);
	}
	return check_device(m, e);
}

/* The tables of that many steps, made now if they are not at hand; NULL after a failure. Valid until the next
 * call. */
static const struct schedule *
find_schedule(struct model *m, int steps, struct err *e)
{
	struct schedule *s = NULL;

	for (int i = 0; i < SCHEDULES; i++) {
		if (m->schedules[i].steps == steps)
			s = &m->schedules[i];
	}
	if (s == NULL) {
		s = recycle_schedule(m);
		if (fill_schedule(m, s, steps, e) != 0)
			return NULL;
		s->steps = steps;
	}
	s->last_use = ++m->uses;
	return s;
}

/* ---- starting */

static int
check_request(const struct model *m, const struct generation_request *r, struct err *e)
{
	const struct model_limits *l = &m->limits;

	if (r->width < l->granule || r->height < l->granule || r->width % l->granule != 0 ||
	    r->height % l->granule != 0)
		return err_set(e, ERR_INVALID_PARAM,
		    "width and height must be multiples of %d for this model; %dx%d is not", l->granule,
		    r->width, r->height);
	if (r->width > l->max_side || r->height > l->max_side ||
	    (int64_t)r->width * r->height > l->max_pixels)
		return err_set(e, ERR_TOO_BIG,
		    "%dx%d is too big: at most %lld pixels, and %d on a side, are possible here", r->width,
		    r->height, (long long)l->max_pixels, l->max_side);
	if (r->steps < 1 || r->steps > MAX_STEPS)
		return err_set(
		    e, ERR_INVALID_PARAM, "steps must be from 1 to %d; %d is not", MAX_STEPS, r->steps);
	return 0;
}

static struct slot *
take_slot(struct model *m)
{
	for (int i = 0; i < SLOTS; i++) {
		if (!m->slots[i].taken) {
			m->slots[i].taken = true;
			return &m->slots[i];
		}
	}
	return NULL;
}

/* Rotation tables of the picture and its caption, host to device. */
static int
put_rope(struct generation *g, struct err *e)
{
	struct model *m = g->model;
	size_t count = (size_t)tensor_count(&g->cos);
	float *host = malloc(2 * count * sizeof(float));

	if (host == NULL)
		return err_set(e, ERR_SYSTEM, "no memory for rotation tables");
	dit_rope(m->dit, g->latent.dim[1], g->latent.dim[2], g->tokens, host, host + count);
	m->ops->copy_in(m->device, &g->cos, host, DT_F32);
	m->ops->copy_in(m->device, &g->sin, host + count, DT_F32);
	free(host);
	return 0;
}

static int
put_noise(struct generation *g, uint64_t seed, struct err *e)
{
	size_t count = (size_t)tensor_count(&g->latent);
	float *host = malloc(count * sizeof(float));

	if (host == NULL)
		return err_set(e, ERR_SYSTEM, "no memory for noise");
	noise_fill(host, count, seed);
	g->model->ops->copy_in(g->model->device, &g->latent, host, DT_F32);
	free(host);
	return 0;
}

/* Token ids to refined caption rows. */
static int
put_caption(struct generation *g, const int32_t *ids, struct err *e)
{
	struct model *m = g->model;
	int64_t rows = g->caption.dim[0], image = g->cos.dim[0] - rows;
	struct tensor cos = tensor_rows(&g->cos, image, rows), sin = tensor_rows(&g->sin, image, rows),
		      hidden;

	arena_reset(&m->work);
	hidden = text_encoder_run(m->text_encoder, &m->work, ids, g->tokens, m->trace);
	dit_caption(m->dit, &m->work, &g->caption, &hidden, &cos, &sin, m->trace);
	return check_device(m, e);
}

/* Everything of a new picture, its slot being taken and its tokens counted. */
static int
prepare(struct generation *g, const struct generation_request *r, const int32_t *ids, struct err *e)
{
	struct arena slot;
	int scale = g->model->config.vae.scale, status;

	arena_use(&slot, g->slot->memory, g->model->slot_bytes);
	slot_tensors(g->model, &slot, r->height / scale, r->width / scale, g->tokens, g);
	status = put_rope(g, e);
	if (status == 0)
		status = put_noise(g, r->seed, e);
	if (status == 0)
		status = put_caption(g, ids, e);
	if (status == 0 && find_schedule(g->model, g->steps, e) == NULL)
		status = -(int)e->code;
	return status;
}

static int
start_in_slot(struct generation *g, const struct generation_request *r, struct err *e)
{
	struct model *m = g->model;
	int32_t *ids;
	size_t count;
	int status = tokenizer_prompt(m->tokenizer, r->prompt, (size_t)m->limits.max_tokens, r->truncate,
	    &ids, &count, &g->truncated, e);

	if (status != 0)
		return status;
	g->tokens = (int)count;
	g->slot = take_slot(m);
	if (g->slot == NULL)
		status = err_set(e, ERR_INTERNAL, "%d pictures are held already", SLOTS);
	else
		status = prepare(g, r, ids, e);
	free(ids);
	return status;
}

int
generation_start(struct generation **out, struct model *m, const struct generation_request *r, struct err *e)
{
	struct generation *g;
	struct err local;
	double begin = now_s();
	int status;

	e = e != NULL ? e : &local;
	status = check_request(m, r, e);
	if (status != 0)
		return status;
	g = calloc(1, sizeof(*g));
	if (g == NULL)
		return err_set(e, ERR_SYSTEM, "out of memory");
	g->model = m;
	g->width = r->width;
	g->height = r->height;
	g->steps = r->steps;
	status = start_in_slot(g, r, e);
	g->times.text_s = now_s() - begin;
	if (status != 0)
		generation_free(&g);
	else
		*out = g;
	return status;
}

void
generation_free(struct generation **g)
{
	if (*g == NULL)
		return;
	if ((*g)->slot != NULL)
		(*g)->slot->taken = false;
	free(*g);
	*g = NULL;
}

/* ---- going on */

int
generation_step(struct generation *g, struct err *e)
{
	struct model *m = g->model;
	double begin = now_s();
	struct err local;
	const struct schedule *s = find_schedule(m, g->steps, e != NULL ? e : &local);
	const float *modulation;
	int status;

	if (s == NULL)
		return -(int)(e != NULL ? e : &local)->code;
	modulation = s->modulation + g->step * dit_modulation_count(m->dit);
	arena_reset(&m->work);
	dit_step(
	    m->dit, &m->work, &g->velocity, &g->latent, &g->caption, &g->cos, &g->sin, modulation, m->trace);
	m->ops->axpy(m->device, &g->latent, s->sigmas[g->step + 1] - s->sigmas[g->step], &g->velocity);
	status = check_device(m, e);
	g->step++;
	g->times.denoise_s += now_s() - begin;
	return status;
}

int
generation_left(const struct generation *g)
{
	return g->steps - g->step;
}

int
generation_decode(struct generation *g, uint8_t *rgb, struct err *e)
{
	struct model *m = g->model;
	double begin = now_s();
	struct tensor pixels;
	int status;

	arena_reset(&m->work);
	pixels = vae_decode(m->vae, &m->work, &g->latent, m->trace);
	m->ops->copy_out(m->device, rgb, DT_U8, &pixels);
	status = check_device(m, e);
	g->times.decode_s += now_s() - begin;
	return status;
}

int
generation_latent(struct generation *g, float *latent, struct err *e)
{
	g->model->ops->copy_out(g->model->device, latent, DT_F32, &g->latent);
	return check_device(g->model, e);
}

int
generation_tokens(const struct generation *g, bool *truncated)
{
	*truncated = g->truncated;
	return g->tokens;
}

const struct generation_times *
generation_times(const struct generation *g)
{
	return &g->times;
}
