/*
 * The device memory that a model draws with. It is reserved when the model is opened and never after: a work
 * arena for the stage that is running, the tables of steps, and a slot for each picture that may be held at
 * once.
 */
#include "runner/model_inside.h"

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

/* Bytes for decoding latents of these sides with limits.thrift or less. */
static size_t
plan_decode_of(struct model *m, int64_t h, int64_t w)
{
	size_t least = SIZE_MAX;

	for (int thrift = 0; thrift <= m->limits.thrift; thrift++) {
		size_t bytes = vae_plan(m->vae, h, w, thrift);
		least = bytes < least ? bytes : least;
	}
	return least;
}

/* The same, of the shape that needs the most: in bands it is the width that counts. */
static size_t
plan_decode(struct model *m)
{
	const struct model_limits *l = &m->limits;
	int64_t scale = m->config.vae.scale;
	size_t most = 0;

	for (int64_t w = l->granule; w <= l->max_side; w += l->granule) {
		int64_t h = l->max_pixels / w < l->max_side ? l->max_pixels / w : l->max_side;
		size_t bytes =
		    h < l->granule ? 0 : plan_decode_of(m, h / l->granule * l->granule / scale, w / scale);
		most = bytes > most ? bytes : most;
	}
	return most;
}

/* A picture of any shape needs at most what a flat one of max_pixels does, plus one padding of rows. */
size_t
model_plan_memory(struct model *m)
{
	int64_t cells = m->limits.max_pixels / (m->limits.granule * m->limits.granule) + SEQUENCE_MULTIPLE;
	int64_t h = 2, w = 2 * cells, tokens = MAX_PROMPT_TOKENS;
	struct slot_tensors t;
	struct arena slot, *work = &m->work;
	size_t decode = plan_decode(m);

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
	work->peak = work->peak > decode ? work->peak : decode;
	m->limits.memory_bytes =
	    work->peak + step_table_bytes(m) + caption_cache_bytes(m) + MAX_GENERATIONS * m->slot_bytes;
	return work->peak;
}

void
model_release_memory(struct model *m)
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
	size_t work = model_plan_memory(m), steps = step_table_bytes(m), captions = caption_cache_bytes(m);
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
		model_release_memory(m);
	return taken;
}

/* More thrift, so much that less is needed; false where it cannot be less. */
static bool
save_memory(struct model *m)
{
	uint64_t before = m->limits.memory_bytes;

	while (m->limits.thrift < vae_max_thrift(m->vae)) {
		m->limits.thrift++;
		model_plan_memory(m);
		if (m->limits.memory_bytes < before)
			return true;
	}
	return false;
}

/* The same, with as little thrift as will do, and limits.thrift at least. */
static bool
take_memory_somehow(struct model *m)
{
	bool taken = take_memory(m);

	while (!taken && save_memory(m))
		taken = take_memory(m);
	return taken;
}

/* What would fit is found in steps of a quarter. */
int
model_reserve_memory(struct model *m, struct err *e)
{
	int64_t wanted = m->limits.max_pixels, least = (int64_t)m->limits.granule * m->limits.granule;
	unsigned long long needed;

	if (take_memory_somehow(m))
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
