/*
 * The diffusion transformer of Z-Image: latent, time and caption to velocity (model-spec section 6).
 *
 * Shapes: D model width, hd head width, F feed-forward width, M modulation width; N image rows, Ni and Lc
 * image and caption rows padded to a multiple of 32. Padding rows are learned and attended: no mask anywhere
 * (section 6.7). What depends on the time alone is made in dit_time.c.
 */
#include "runner/dit_inside.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Modulation of one block, views of the step's table; all NULL data for the context refiner. */
struct modulation {
	struct tensor scale_attention, gate_attention, scale_ffn, gate_ffn; /* (D) */
};

/* ---- loading */

static void
load_block(struct loader *l, struct block *b, const struct transformer_config *c, bool modulated)
{
#define MATRIX(member, columns, ...) LOAD_PARTS(l, &b->member, columns, __VA_ARGS__);
#define VECTOR(member, name, n) load_vector(l, &b->member, name, n);
#include "runner/dit_block.def"
	if (!modulated)
		return;
	LOAD_PARTS(l, &b->adaln, c->modulation_dim, {"adaLN_modulation.0.weight", 4 * (int64_t)c->dim});
	load_vector(l, &b->adaln_bias, "adaLN_modulation.0.bias", 4 * (int64_t)c->dim);
}

static void
load_stack(struct loader *l, struct block *blocks, int count, const char *name, bool modulated,
    const struct transformer_config *c)
{
	for (int i = 0; i < count; i++) {
		loader_prefix(l, "%s.%d.", name, i);
		load_block(l, &blocks[i], c, modulated);
	}
}

static void
load_ends(struct loader *l, struct dit *d)
{
	const struct transformer_config *c = &d->config;

	loader_prefix(l, "%s", "");
#define MATRIX(member, columns, ...) LOAD_PARTS(l, &d->member, columns, __VA_ARGS__);
#define VECTOR(member, name, n) load_vector(l, &d->member, name, n);
#define ROW(member, name, n) load_row(l, &d->member, name, n);
#include "runner/dit_ends.def"
}

/* theta^(-2k/width) of every pair of a head, axis after axis. */
static void
make_frequencies(const struct transformer_config *c, double *frequency)
{
	for (int axis = 0; axis < MAX_ROPE_AXES; axis++) {
		for (int k = 0; k < c->axes_dims[axis] / 2; k++)
			*frequency++ = pow(c->rope_theta, -2.0 * k / c->axes_dims[axis]);
	}
}

/* With everything but weights; NULL: no memory. */
static struct dit *
dit_new(struct loader *l, const struct transformer_config *c)
{
	int refiners = c->refiner_layers, layers = c->layers;
	struct dit *d = calloc(1, sizeof(*d) + (size_t)(2 * refiners + layers) * sizeof(d->blocks[0]));

	if (d == NULL)
		return NULL;
	d->frequency = malloc((size_t)(c->head_dim / 2) * sizeof(double));
	if (d->frequency == NULL) {
		free(d);
		return NULL;
	}
	make_frequencies(c, d->frequency);
	d->config = *c;
	d->device = l->device;
	d->ops = l->ops;
	d->modulated = refiners + layers;
	d->noise_refiner = d->blocks;
	d->layers = d->blocks + refiners;
	d->context_refiner = d->layers + layers;
	return d;
}

struct dit *
dit_load(struct loader *l, const struct transformer_config *config)
{
	int refiners = config->refiner_layers, layers = config->layers;
	struct dit *d = dit_new(l, config);

	if (d == NULL) {
		l->status = err_set(l->e, ERR_OUT_OF_MEMORY, "out of memory");
		return NULL;
	}
	load_ends(l, d);
	load_stack(l, d->noise_refiner, refiners, "noise_refiner", true, config);
	load_stack(l, d->context_refiner, refiners, "context_refiner", false, config);
	load_stack(l, d->layers, layers, "layers", true, config);
	if (l->status != 0)
		dit_free(&d);
	return d;
}

void
dit_free(struct dit **d)
{
	if (*d == NULL)
		return;
	free((*d)->frequency);
	free(*d);
	*d = NULL;
}

/* ---- positions */

int64_t
dit_padded(int64_t rows)
{
	return (rows + SEQUENCE_MULTIPLE - 1) / SEQUENCE_MULTIPLE * SEQUENCE_MULTIPLE;
}

/* What is rotated: an h x w latent's tokens, padded, and a caption's. */
struct rope_rows {
	int64_t h, w, tokens; /* as dit_rope has them */
};

/* Where a row is on an axis: frame, row or column. */
static int64_t
rope_position(const struct rope_rows *p, int64_t r, int axis)
{
	int64_t rows = p->h / 2 * (p->w / 2), image = dit_padded(rows);
	const int64_t of_token[MAX_ROPE_AXES] = {dit_padded(p->tokens) + 1, r / (p->w / 2), r % (p->w / 2)};

	if (r < rows)
		return of_token[axis];
	return r >= image && axis == 0 ? 1 + r - image : 0; /* image pads have zeros */
}

/* An earlier row that is where r is on this axis, or -1: the token on the left is in the same row, the one
 * above in the same column. */
static int64_t
rope_alike(const struct rope_rows *p, int64_t r, int axis)
{
	const int64_t near[] = {r - 1, r - p->w / 2};

	for (int i = 0; i < 2; i++)
		if (near[i] >= 0 && rope_position(p, near[i], axis) == rope_position(p, r, axis))
			return near[i];
	return -1;
}

/* Angles of one axis at an integer position: float64, rounded to float32, as the reference does. */
static void
rope_axis(const double *frequency, int count, int64_t position, float *cos_row, float *sin_row)
{
	for (int i = 0; i < count; i++) {
		float angle = (float)((double)position * frequency[i]);
		cos_row[i] = (float)cos(angle);
		sin_row[i] = (float)sin(angle);
	}
}

/* Sines in float64 for each of 4000 tokens would take 10 ms, while the device waits; some hundred are new. */
void
dit_rope(const struct dit *d, int64_t h, int64_t w, int64_t tokens, float *cos, float *sin)
{
	struct rope_rows p = {h, w, tokens};
	int64_t rows = dit_padded(h / 2 * (w / 2)) + dit_padded(tokens), half = d->config.head_dim / 2;

	for (int64_t r = 0; r < rows; r++) {
		int64_t at = r * half, first = 0; /* where the axis begins: in the table, in its row */
		for (int axis = 0; axis < MAX_ROPE_AXES; axis++) {
			int count = d->config.axes_dims[axis] / 2;
			int64_t alike = rope_alike(&p, r, axis), from = alike * half + first;
			if (alike >= 0) {
				memcpy(cos + at, cos + from, (size_t)count * sizeof(*cos));
				memcpy(sin + at, sin + from, (size_t)count * sizeof(*sin));
			} else
				rope_axis(d->frequency + first, count, rope_position(&p, r, axis), cos + at,
				    sin + at);
			at += count;
			first += count;
		}
	}
}

/* ---- one block */

/* What a block over L rows needs. */
struct buffers {
	struct tensor u;       /* (L, D) */
	struct tensor qkv;     /* (L, 3D) */
	struct tensor q, k, v; /* (L, heads, hd) */
	struct tensor o;       /* (L, heads, hd) */
	struct tensor gate_up; /* (L, 2F) */
	struct tensor f;       /* (L, F) */
};

static void
make_buffers(const struct dit *d, struct arena *a, int64_t rows, struct buffers *b)
{
	const struct transformer_config *c = &d->config;
	enum dtype act = device_act_type(d->device);
	int64_t heads[] = {rows, c->heads, c->head_dim};

	b->u = arena_matrix(a, act, rows, c->dim);
	b->qkv = arena_matrix(a, act, rows, 3 * (int64_t)c->dim);
	b->q = arena_tensor(a, act, 3, heads);
	b->k = arena_tensor(a, act, 3, heads);
	b->v = arena_tensor(a, act, 3, heads);
	b->o = arena_tensor(a, act, 3, heads);
	b->gate_up = arena_matrix(a, act, rows, 2 * (int64_t)c->ffn_dim);
	b->f = arena_matrix(a, act, rows, c->ffn_dim);
}

/* The first `rows` rows of every buffer. */
static struct buffers
first_rows(const struct buffers *b, int64_t rows)
{
	return (struct buffers){
	    .u = tensor_rows(&b->u, 0, rows),
	    .qkv = tensor_rows(&b->qkv, 0, rows),
	    .q = tensor_rows(&b->q, 0, rows),
	    .k = tensor_rows(&b->k, 0, rows),
	    .v = tensor_rows(&b->v, 0, rows),
	    .o = tensor_rows(&b->o, 0, rows),
	    .gate_up = tensor_rows(&b->gate_up, 0, rows),
	    .f = tensor_rows(&b->f, 0, rows),
	};
}

static const struct tensor *
or_null(const struct tensor *t)
{
	return t->data != NULL ? t : NULL;
}

/* A block's weights with what modulates them. */
struct modulated {
	const struct block *w;
	struct modulation m;
};

/* u := the normed input of a block's attention; the tail of the block before does it too. */
static void
begin_block(struct dit *d, const struct modulated *block, const struct tensor *x, struct buffers *b)
{
	d->ops->rms_norm(d->device, &b->u, x, &block->w->attention_norm1, or_null(&block->m.scale_attention),
	    d->config.norm_eps);
}

/* x (L, D) := one block of section 6.5, u being its normed input; cos, sin (L, hd/2). Leaves the normed input
 * of `next` in u, if there is a next one. */
static void
run_block(struct dit *d, const struct modulated *block, const struct modulated *next, struct tensor *x,
    const struct tensor *cos, const struct tensor *sin, struct buffers *b)
{
	const struct transformer_config *c = &d->config;
	const struct block *w = block->w;
	const struct modulation *m = &block->m;
	const struct ops *ops = d->ops;
	struct attention_shape shape = {
	    c->heads, c->heads, c->head_dim, false, (float)(1.0 / sqrt(c->head_dim))};

	ops->linear(d->device, &b->qkv, &b->u, w->qkv, NULL);
	ops->qkv_norm_rope(d->device, &b->q, &b->k, &b->v, &b->qkv, &w->norm_q, &w->norm_k, cos, sin, &shape,
	    ROPE_ADJACENT, c->qk_norm_eps);
	ops->attention(d->device, &b->o, &b->q, &b->k, &b->v, &shape);
	ops->linear(d->device, &b->u, &b->o, w->out, NULL);
	ops->tail(d->device, x, &b->u, &b->u, &w->attention_norm2, or_null(&m->gate_attention), &w->ffn_norm1,
	    or_null(&m->scale_ffn), c->norm_eps);

	ops->linear(d->device, &b->gate_up, &b->u, w->w13, NULL);
	ops->swiglu(d->device, &b->f, &b->gate_up);
	ops->linear(d->device, &b->u, &b->f, w->w2, NULL);
	if (next != NULL)
		ops->tail(d->device, x, &b->u, &b->u, &w->ffn_norm2, or_null(&m->gate_ffn),
		    &next->w->attention_norm1, or_null(&next->m.scale_attention), c->norm_eps);
	else
		ops->norm_gate_add(d->device, x, &b->u, &w->ffn_norm2, or_null(&m->gate_ffn), c->norm_eps);
}

/* Row `index` of the step's table (rows, D). */
static struct tensor
table_row(const struct tensor *table, int64_t index)
{
	struct tensor row = tensor_rows(table, index, 1);

	row.rank = 1;
	row.dim[0] = table->dim[1];
	row.dim[1] = 1;
	return row;
}

/* Block i of a stack whose modulation begins at block `first` of the table; without a table there is none. */
static struct modulated
modulated_block(const struct block *blocks, int i, const struct tensor *table, int first)
{
	struct modulated block = {.w = &blocks[i]};
	int64_t row = 4 * (int64_t)(first + i);

	if (table == NULL)
		return block;
	block.m.scale_attention = table_row(table, row);
	block.m.gate_attention = table_row(table, row + 1);
	block.m.scale_ffn = table_row(table, row + 2);
	block.m.gate_ffn = table_row(table, row + 3);
	return block;
}

/* x (L, D) through `count` blocks; `name`, if not NULL, is what the trace calls them. */
static void
run_stack(struct dit *d, const struct block *blocks, int count, struct tensor *x, const struct tensor *cos,
    const struct tensor *sin, const struct tensor *table, int first, struct buffers *b, const char *name,
    const struct trace *trace)
{
	struct modulated block;

	if (count == 0)
		return;
	block = modulated_block(blocks, 0, table, first);
	begin_block(d, &block, x, b);
	for (int i = 0; i < count; i++) {
		bool last = i + 1 == count;
		struct modulated next = last ? block : modulated_block(blocks, i + 1, table, first);
		char stage[32];
		run_block(d, &block, last ? NULL : &next, x, cos, sin, b);
		if (name != NULL) {
			snprintf(stage, sizeof(stage), "%s%d", name, i);
			trace_see(trace, stage, x);
		}
		block = next;
	}
}

/* ---- the caption */

void
dit_caption(struct dit *d, struct arena *arena, struct tensor *refined, const struct tensor *caption,
    const struct tensor *cos, const struct tensor *sin, const struct trace *trace)
{
	int64_t tokens = caption->dim[0], rows = refined->dim[0];
	struct tensor normed = arena_matrix(arena, device_act_type(d->device), tokens, d->config.caption_dim);
	struct tensor real = tensor_rows(refined, 0, tokens),
		      pads = tensor_rows(refined, tokens, rows - tokens);
	struct buffers b;

	make_buffers(d, arena, rows, &b);
	if (arena->memory == NULL)
		return;
	d->ops->rms_norm(d->device, &normed, caption, &d->cap_norm, NULL, d->config.norm_eps);
	d->ops->linear(d->device, &real, &normed, d->cap_embedder, &d->cap_bias);
	if (rows > tokens)
		d->ops->repeat_row(d->device, &pads, &d->cap_pad);
	run_stack(
	    d, d->context_refiner, d->config.refiner_layers, refined, cos, sin, NULL, 0, &b, NULL, trace);
	trace_see(trace, "context_refiner", refined);
}

/* ---- the forward pass */

struct step_buffers {
	struct tensor patches; /* (N, 4C), in and out */
	struct tensor x;       /* (Ni + Lc, D): image rows, then caption rows */
	struct buffers block;
};

static void
make_step_buffers(const struct dit *d, struct arena *a, int64_t rows, int64_t caption, struct step_buffers *b)
{
	enum dtype act = device_act_type(d->device);
	int64_t total = dit_padded(rows) + caption;

	b->patches = arena_matrix(a, act, rows, 4 * (int64_t)d->config.in_channels);
	b->x = arena_matrix(a, act, total, d->config.dim);
	make_buffers(d, a, total, &b->block);
}

/* Image rows: patches embedded, padded, and refined among themselves. */
static void
run_noise_refiner(struct dit *d, struct step_buffers *b, const struct tensor *latent,
    const struct tensor *cos, const struct tensor *sin, const struct tensor *table, const struct trace *trace)
{
	int64_t rows = b->patches.dim[0], padded = dit_padded(rows);
	struct tensor image = tensor_rows(&b->x, 0, padded), real = tensor_rows(&b->x, 0, rows);
	struct tensor pads = tensor_rows(&b->x, rows, padded - rows);
	struct tensor image_cos = tensor_rows(cos, 0, padded), image_sin = tensor_rows(sin, 0, padded);
	struct buffers part = first_rows(&b->block, padded);

	d->ops->patchify(d->device, &b->patches, latent);
	d->ops->linear(d->device, &real, &b->patches, d->x_embedder, &d->x_bias);
	trace_see(trace, "x_embed", &real);
	if (padded > rows)
		d->ops->repeat_row(d->device, &pads, &d->x_pad);
	run_stack(d, d->noise_refiner, d->config.refiner_layers, &image, &image_cos, &image_sin, table, 0,
	    &part, NULL, trace);
	trace_see(trace, "noise_refiner", &image);
}

void
dit_step(struct dit *d, struct arena *arena, struct tensor *velocity, const struct tensor *latent,
    const struct tensor *refined, const struct tensor *cos, const struct tensor *sin,
    const struct tensor *modulation, const struct trace *trace)
{
	int64_t rows = latent->dim[1] / 2 * (latent->dim[2] / 2), padded = dit_padded(rows);
	struct tensor caption, real, u, final_scale;
	struct step_buffers b;

	make_step_buffers(d, arena, rows, refined->dim[0], &b);
	if (arena->memory == NULL)
		return;
	run_noise_refiner(d, &b, latent, cos, sin, modulation, trace);
	caption = tensor_rows(&b.x, padded, refined->dim[0]);
	d->ops->copy(d->device, &caption, refined);
	run_stack(d, d->layers, d->config.layers, &b.x, cos, sin, modulation, d->config.refiner_layers,
	    &b.block, "layer", trace);

	real = tensor_rows(&b.x, 0, rows);
	u = tensor_rows(&b.block.u, 0, rows);
	final_scale = table_row(modulation, 4 * (int64_t)d->modulated);
	d->ops->layer_norm(d->device, &u, &real, &final_scale, d->config.final_norm_eps);
	d->ops->linear(d->device, &b.patches, &u, d->final_linear, &d->final_bias);
	d->ops->unpatchify(
	    d->device, velocity, &b.patches, -1.0f); /* the network predicts minus the velocity */
	trace_see(trace, "velocity", velocity);
}

/* ---- before the first picture */

/* The products of run_block. */
static void
block_products(struct dit *d, struct arena *arena, int64_t rows)
{
	const struct block *w = &d->layers[0];
	struct buffers b;

	arena_reset(arena);
	make_buffers(d, arena, rows, &b);
	d->ops->linear(d->device, &b.qkv, &b.u, w->qkv, NULL);
	d->ops->linear(d->device, &b.u, &b.o, w->out, NULL);
	d->ops->linear(d->device, &b.gate_up, &b.u, w->w13, NULL);
	d->ops->linear(d->device, &b.u, &b.f, w->w2, NULL);
}

void
dit_products(struct dit *d, struct arena *arena, int64_t rows)
{
	const struct transformer_config *c = &d->config;
	enum dtype act = device_act_type(d->device);
	struct tensor x, patches, caption;

	block_products(d, arena, rows);
	arena_reset(arena);
	x = arena_matrix(arena, act, rows, c->dim);
	patches = arena_matrix(arena, act, rows, 4 * (int64_t)c->in_channels);
	d->ops->linear(d->device, &x, &patches, d->x_embedder, &d->x_bias);
	d->ops->linear(d->device, &patches, &x, d->final_linear, &d->final_bias);
	if (rows > dit_padded(MAX_PROMPT_TOKENS))
		return;
	caption = arena_matrix(arena, act, rows, c->caption_dim);
	d->ops->linear(d->device, &x, &caption, d->cap_embedder, &d->cap_bias);
}
