/*
 * Qwen3 as a text encoder: token ids to caption rows (model-spec section 5).
 *
 * Only the real tokens are run: attention is causal and padding would be on the right, so it cannot matter.
 * The last layer, the final norm and the head are not even loaded: the pipeline takes hidden_states[-2].
 */
#include "runner/text_encoder.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runner/text_layers.h"

struct text_encoder {
	struct text_encoder_config config;
	struct device *device;
	const struct ops *ops;
	struct weight *embedding; /* (V, H), or NULL: its rows are fetched from `table` */
	struct stored table;
	char *rows;		/* room for those of a prompt, as they are stored */
	struct tensor cos, sin; /* (MAX_PROMPT_TOKENS, hd / 2) */
	void *rope_memory;
	bool streamed;
	struct text_layers *layers;
};

/* ---- loading */

/* Angles pos * theta^(-2j/hd), j = 0 .. hd/2 - 1, for every position there can be. */
static void
make_rope(struct loader *l, struct text_encoder *t)
{
	int half = t->config.head_dim / 2;
	size_t count = (size_t)MAX_PROMPT_TOKENS * (size_t)half;
	float *host;

	if (l->plans) {
		l->weight_bytes += 2 * count * sizeof(float);
		return;
	}
	host = malloc(2 * count * sizeof(float));
	t->rope_memory = l->ops->reserve(l->device, 2 * count * sizeof(float));
	if (host == NULL || t->rope_memory == NULL) {
		l->status =
		    err_set(l->e, ERR_OUT_OF_MEMORY, "no memory for the text encoder's rotation tables");
		free(host);
		return;
	}
	for (int pos = 0; pos < MAX_PROMPT_TOKENS; pos++) {
		for (int j = 0; j < half; j++) {
			double angle = pos * pow(t->config.rope_theta, -2.0 * j / t->config.head_dim);
			host[pos * half + j] = (float)cos(angle);
			host[count + (size_t)(pos * half + j)] = (float)sin(angle);
		}
	}
	t->cos = (struct tensor){t->rope_memory, DT_F32, 2, {MAX_PROMPT_TOKENS, half, 1, 1}};
	t->sin = t->cos;
	t->sin.data = (float *)t->rope_memory + count;
	l->ops->copy_in(l->device, &t->cos, host, DT_F32);
	l->ops->copy_in(l->device, &t->sin, host + count, DT_F32);
	free(host);
}

/* On the device, or left where it is. */
static void
load_embedding(struct loader *l, struct text_encoder *t)
{
	const struct text_encoder_config *c = &t->config;

	loader_prefix(l, "model.");
	if (!t->streamed) {
		load_table(l, &t->embedding, "embed_tokens.weight", c->vocab, c->hidden);
		return;
	}
	find_table(l, &t->table, "embed_tokens.weight", c->vocab, c->hidden);
	t->rows = malloc((size_t)MAX_PROMPT_TOKENS * (size_t)c->hidden * sizeof(float));
	if (t->rows == NULL && l->status == 0)
		l->status = err_set(l->e, ERR_SYSTEM, "no memory for a prompt's embeddings");
}

struct text_encoder *
text_encoder_load(struct loader *l, const struct text_encoder_config *config, bool streamed)
{
	struct text_encoder *t = calloc(1, sizeof(*t));

	if (t == NULL) {
		l->status = err_set(l->e, ERR_OUT_OF_MEMORY, "out of memory");
		return NULL;
	}
	t->config = *config;
	t->device = l->device;
	t->ops = l->ops;
	t->streamed = streamed;
	load_embedding(l, t);
	t->layers = text_layers_load(l, config, streamed);
	if (l->status == 0)
		make_rope(l, t);
	if (l->status != 0)
		text_encoder_free(&t);
	return t;
}

void
text_encoder_free(struct text_encoder **t)
{
	if (*t == NULL)
		return;
	if ((*t)->rope_memory != NULL)
		(*t)->ops->release((*t)->device, (*t)->rope_memory);
	text_layers_free(&(*t)->layers);
	free((*t)->rows);
	free(*t);
	*t = NULL;
}

/* ---- running */

/* What a run of T rows needs besides its result. */
struct buffers {
	struct tensor h;       /* (T, H) */
	struct tensor qkv;     /* (T, (heads + 2 kv_heads) hd) */
	struct tensor q, k, v; /* (T, heads or kv_heads, hd) */
	struct tensor o;       /* (T, heads, hd) */
	struct tensor gate_up; /* (T, 2F) */
	struct tensor f;       /* (T, F) */
};

static void
make_buffers(const struct text_encoder *t, struct arena *a, int64_t rows, struct buffers *b)
{
	const struct text_encoder_config *c = &t->config;
	enum dtype act = device_act_type(t->device);
	int64_t q[] = {rows, c->heads, c->head_dim}, kv[] = {rows, c->kv_heads, c->head_dim};

	b->h = arena_matrix(a, act, rows, c->hidden);
	b->qkv = arena_matrix(a, act, rows, (int64_t)(c->heads + 2 * c->kv_heads) * c->head_dim);
	b->q = arena_tensor(a, act, 3, q);
	b->k = arena_tensor(a, act, 3, kv);
	b->v = arena_tensor(a, act, 3, kv);
	b->o = arena_tensor(a, act, 3, q);
	b->gate_up = arena_matrix(a, act, rows, 2 * (int64_t)c->intermediate);
	b->f = arena_matrix(a, act, rows, c->intermediate);
}

/* x (T, H) := x + attention + MLP, steps 1 to 7 of section 5. */
static void
run_layer(struct text_encoder *t, const struct text_layer *layer, struct tensor *x, struct buffers *b)
{
	const struct text_encoder_config *c = &t->config;
	const struct ops *ops = t->ops;
	struct attention_shape shape = {
	    c->heads, c->kv_heads, c->head_dim, .causal = true, .scale = (float)(1.0 / sqrt(c->head_dim))};
	struct tensor cos = tensor_rows(&t->cos, 0, x->dim[0]), sin = tensor_rows(&t->sin, 0, x->dim[0]);

	ops->rms_norm(t->device, &b->h, x, &layer->norm_attention, NULL, c->norm_eps);
	ops->linear(t->device, &b->qkv, &b->h, layer->qkv, NULL);
	ops->qkv_norm_rope(t->device, &b->q, &b->k, &b->v, &b->qkv, &layer->norm_q, &layer->norm_k, &cos,
	    &sin, &shape, ROPE_HALVES, c->norm_eps);
	ops->attention(t->device, &b->o, &b->q, &b->k, &b->v, &shape);
	ops->linear(t->device, &b->h, &b->o, layer->out, NULL);
	ops->add(t->device, x, &b->h);

	ops->rms_norm(t->device, &b->h, x, &layer->norm_mlp, NULL, c->norm_eps);
	ops->linear(t->device, &b->gate_up, &b->h, layer->gate_up, NULL);
	ops->swiglu(t->device, &b->f, &b->gate_up);
	ops->linear(t->device, &b->h, &b->f, layer->down, NULL);
	ops->add(t->device, x, &b->h);
}

void
text_encoder_embed(struct text_encoder *t, struct tensor *x, const int32_t *ids)
{
	size_t bytes = (size_t)t->config.hidden * dtype_size(t->table.type);

	if (!t->streamed) {
		t->ops->embed(t->device, x, t->embedding, ids);
		return;
	}
	for (int64_t i = 0; i < x->dim[0]; i++)
		memcpy(
		    t->rows + (size_t)i * bytes, (const char *)t->table.data + (size_t)ids[i] * bytes, bytes);
	t->ops->copy_in(t->device, x, t->rows, t->table.type);
}

int
text_encoder_go_on(
    struct text_encoder *t, struct arena *arena, struct tensor *x, int layer, const struct trace *trace)
{
	int count = text_layers_count(t->layers), end = t->streamed && layer < count ? layer + 1 : count;
	size_t before = arena->used;
	struct buffers b;

	make_buffers(t, arena, x->dim[0], &b);
	arena->used = before;
	if (arena->memory == NULL)
		return count;
	for (; layer < end; layer++) {
		run_layer(t, text_layers_take(t->layers, layer), x, &b);
		text_layers_bring(t->layers, layer + 1);
	}
	if (layer == count)
		trace_see(trace, "text_hidden", x);
	return layer;
}

bool
text_encoder_is_done(const struct text_encoder *t, int layer)
{
	return layer == text_layers_count(t->layers);
}

void
text_encoder_products(struct text_encoder *t, struct arena *arena, int64_t rows)
{
	const struct text_layer *w = text_layers_take(t->layers, 0);
	struct buffers b;

	arena_reset(arena);
	make_buffers(t, arena, rows, &b);
	t->ops->linear(t->device, &b.qkv, &b.h, w->qkv, NULL);
	t->ops->linear(t->device, &b.h, &b.o, w->out, NULL);
	t->ops->linear(t->device, &b.gate_up, &b.h, w->gate_up, NULL);
	t->ops->linear(t->device, &b.h, &b.f, w->down, NULL);
}
