/*
 * From a prompt to pixels, one step at a time: a picture in the making.
 *
 * All it holds on the device lies in its slot; the model's work arena is free between two calls. So pictures
 * may be interleaved step by step, and each has the same bits as if it were alone.
 */
#include "runner/generation.h"

#include <assert.h>
#include <stdlib.h>

#include "ipc/clock.h"
#include "runner/fault.h"
#include "runner/model_inside.h"
#include "runner/noise.h"
#include "runner/sampler.h"

struct generation {
	struct model *model;
	struct slot *slot;
	uint64_t seed;
	int width, height, steps, step;
	float sigmas[MAX_STEPS + 1];
	int32_t *ids; /* the prompt with its frame */
	int tokens;   /* how many */
	bool truncated;
	bool keeps; /* its caption may be one that was kept, and is kept */
	int layer;  /* of the text encoder, that is next */
	bool encoded;
	struct slot_tensors tensors;
	struct generation_times times;
};

static double
now_s(void)
{
	return (double)clock_now_us() * 1e-6;
}

/* ---- starting */

static int
check_request(const struct model *m, const struct generation_request *r, struct err *e)
{
	const struct model_limits *l = &m->limits;

	if (r->width < l->granule || r->height < l->granule || r->width % l->granule != 0 ||
	    r->height % l->granule != 0)
		return err_set(e, ERR_INVALID_PARAM,
		    "width and height must be multiples of %d from %d to %d for this model; %dx%d is not",
		    l->granule, l->granule, l->max_side, r->width, r->height);
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
	for (int i = 0; i < MAX_GENERATIONS; i++) {
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
	size_t count = (size_t)tensor_count(&g->tensors.cos);
	float *host = malloc(2 * count * sizeof(float));

	if (host == NULL)
		return err_set(e, ERR_SYSTEM, "no memory for rotation tables");
	dit_rope(m->dit, g->tensors.latent.dim[1], g->tensors.latent.dim[2], g->tokens, host, host + count);
	m->ops->copy_in(m->device, &g->tensors.cos, host, DT_F32);
	m->ops->copy_in(m->device, &g->tensors.sin, host + count, DT_F32);
	free(host);
	return 0;
}

/* Some milliseconds of the host's, so the device is given its prompt first where there is one. */
static int
put_noise(struct generation *g, struct err *e)
{
	size_t count = (size_t)tensor_count(&g->tensors.latent);
	float *host = malloc(count * sizeof(float));

	if (host == NULL)
		return err_set(e, ERR_SYSTEM, "no memory for noise");
	noise_fill(host, count, g->seed);
	g->model->ops->copy_in(g->model->device, &g->tensors.latent, host, DT_F32);
	free(host);
	return 0;
}

/* What its steps need, before the first of them. */
static int
put_steps(struct generation *g, struct err *e)
{
	sampler_sigmas(g->steps, g->model->config.shift, g->sigmas);
	for (int i = 0; i < g->steps; i++)
		step_table_row(g->model, g->sigmas + i);
	return fault_check(g->model->device, e);
}

/* Files that are read while pictures are drawn must be what they were. Looked at before they are read, for a
 * shorter one would end the process, and after, for a prompt is encoded with one set of weights or not. */
static int
check_files(const struct model *m, struct err *e)
{
	return m->text_files != NULL ? checkpoint_check(m->text_files, e) : 0;
}

/* From what is kept, or yet to be encoded. */
static int
begin_caption(struct generation *g, struct err *e)
{
	struct model *m = g->model;
	int status = check_files(m, e);

	if (status != 0)
		return status;
	g->encoded = g->keeps && caption_cache_find(m, g->ids, g->tokens, &g->tensors.caption);
	if (!g->encoded)
		text_encoder_embed(m->text_encoder, &g->tensors.hidden, g->ids);
	return fault_check(m->device, e);
}

/* Everything of a new picture but its caption and, until that is made, its noise; its slot is taken and its
 * tokens are counted. */
static int
prepare(struct generation *g, const struct generation_request *r, struct err *e)
{
	struct model *m = g->model;
	struct arena slot;
	int scale = m->config.vae.scale, status;

	arena_use(&slot, g->slot->memory, m->slot_bytes);
	model_slot_tensors(m, &slot, r->height / scale, r->width / scale, g->tokens, &g->tensors);
	status = put_rope(g, e);
	if (status == 0)
		status = begin_caption(g, e);
	if (status == 0 && g->encoded)
		status = put_noise(g, e);
	if (status == 0)
		status = put_steps(g, e);
	return status;
}

static int
start_in_slot(struct generation *g, const struct generation_request *r, struct err *e)
{
	struct model *m = g->model;
	size_t count;
	double begin = now_s();
	int status = tokenizer_prompt(m->tokenizer, r->prompt, (size_t)m->limits.max_tokens, r->truncate,
	    &g->ids, &count, &g->truncated, e);

	if (status != 0)
		return status;
	g->times.tokenize_s = now_s() - begin;
	g->tokens = (int)count;
	g->slot = take_slot(m);
	if (g->slot == NULL)
		status = err_set(e, ERR_INTERNAL, "%d pictures are held already", MAX_GENERATIONS);
	else
		status = prepare(g, r, e);
	return status;
}

int
generation_begin(struct generation **out, struct model *m, const struct generation_request *r, struct err *e)
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
	g->seed = r->seed;
	g->width = r->width;
	g->height = r->height;
	g->steps = r->steps;
	g->keeps = !r->fresh && m->trace == NULL; /* a trace wants to see every stage */
	status = start_in_slot(g, r, e);
	g->times.text_s = now_s() - begin - g->times.tokenize_s;
	if (status != 0)
		generation_free(&g);
	else
		*out = g;
	return status;
}

/* The text encoder's rows to refined caption rows. */
static int
make_caption(struct generation *g, struct err *e)
{
	struct model *m = g->model;
	struct slot_tensors *t = &g->tensors;
	int64_t rows = t->caption.dim[0], image = t->cos.dim[0] - rows;
	struct tensor cos = tensor_rows(&t->cos, image, rows), sin = tensor_rows(&t->sin, image, rows);

	arena_reset(&m->work);
	dit_caption(m->dit, &m->work, &t->caption, &t->hidden, &cos, &sin, m->trace);
	return fault_check(m->device, e);
}

int
generation_encode(struct generation *g, struct err *e)
{
	struct model *m = g->model;
	double begin = now_s();
	int status = check_files(m, e);

	assert(!g->encoded);
	if (status != 0)
		return status;
	arena_reset(&m->work);
	g->layer = text_encoder_go_on(m->text_encoder, &m->work, &g->tensors.hidden, g->layer, m->trace);
	g->encoded = text_encoder_is_done(m->text_encoder, g->layer);
	if (g->encoded)
		status = put_noise(g, e);
	if (g->encoded && status == 0)
		status = make_caption(g, e);
	if (g->encoded && status == 0)
		status = check_files(m, e);
	if (g->encoded && status == 0 && g->keeps)
		caption_cache_keep(m, g->ids, g->tokens, &g->tensors.caption);
	g->times.text_s += now_s() - begin;
	return status;
}

bool
generation_is_encoded(const struct generation *g)
{
	return g->encoded;
}

int
generation_start(struct generation **out, struct model *m, const struct generation_request *r, struct err *e)
{
	struct generation *g;
	int status = generation_begin(&g, m, r, e);

	if (status != 0)
		return status;
	while (status == 0 && !g->encoded)
		status = generation_encode(g, e);
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
	free((*g)->ids);
	free(*g);
	*g = NULL;
}

/* ---- going on */

/* What is the same for every step of a picture in this slot, of these sizes: the caption's rows, not its
 * tokens. A trace wants to see every stage, so nothing is recorded then. */
static void
run_recorded_step(struct generation *g)
{
	struct model *m = g->model;
	struct slot_tensors *t = &g->tensors;
	struct recording_key key = {
	    (uintptr_t)g->slot->memory, {t->latent.dim[1], t->latent.dim[2], t->caption.dim[0]}};

	if (m->trace != NULL)
		model_step(m, t);
	else if (!m->ops->replay(m->device, &key)) {
		model_step(m, t);
		if (!m->ops->recorded(m->device))
			model_step(m, t);
	}
}

int
generation_step(struct generation *g, struct err *e)
{
	struct model *m = g->model;
	double begin = now_s();
	int32_t row;
	int status;

	assert(g->encoded && g->step < g->steps);
	row = step_table_row(m, g->sigmas + g->step);
	m->ops->copy_in(m->device, &g->tensors.step, &row, DT_I32);
	run_recorded_step(g);
	status = fault_check(m->device, e);
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
	pixels = vae_decode(m->vae, &m->work, &g->tensors.latent, m->trace);
	m->ops->copy_out(m->device, rgb, DT_U8, &pixels);
	status = fault_check(m->device, e);
	g->times.decode_s += now_s() - begin;
	return status;
}

int
generation_latent(struct generation *g, float *latent, struct err *e)
{
	g->model->ops->copy_out(g->model->device, latent, DT_F32, &g->tensors.latent);
	return fault_check(g->model->device, e);
}

size_t
generation_latent_count(const struct generation *g)
{
	return (size_t)tensor_count(&g->tensors.latent);
}

int
generation_restore(struct generation *g, int step, const float *latent, struct err *e)
{
	assert(g->encoded && step >= 0 && step <= g->steps); /* before, its noise is yet to come */
	g->model->ops->copy_in(g->model->device, &g->tensors.latent, latent, DT_F32);
	g->step = step;
	return fault_check(g->model->device, e);
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
