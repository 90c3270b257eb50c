/*
 * Qwen3 as a text encoder: token ids to caption rows (model-spec section 5).
 *
 * Only the real tokens are run: attention is causal and padding would be on the right, so it cannot matter.
 * The last layer, the final norm and the head are not even loaded: the pipeline takes hidden_states[-2].
 */
#include "runner/text_encoder.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct layer {
#define MATRIX(member, ...) struct weight *member;
#define VECTOR(member, ...) struct tensor member;
#include "runner/text_layer.def"
};

struct text_encoder {
	struct text_encoder_config config;
	struct device *device;
	const struct ops *ops;
	struct weight *embedding; /* (V, H) */
	struct tensor cos, sin;	  /* (MAX_PROMPT_TOKENS, hd / 2) */
	void *rope_memory;
	int layer_count; /* config.layers - 1 */
	struct layer layers[];
};

/* ---- loading */

static void
load_layer(struct loader *l, struct layer *layer, const struct text_encoder_config *c)
{
#define MATRIX(member, columns, ...) LOAD_PARTS(l, &layer->member, columns, __VA_ARGS__);
#define VECTOR(member, name, n) load_vector(l, &layer->member, name, n);
#include "runner/text_layer.def"
}

/* Angles pos * theta^(-2j/hd), j = 0 .. hd/2 - 1, for every position there can be. */
static void
make_rope(struct loader *l, struct text_encoder *t)
{
	int half = t->config.head_dim / 2;
	size_t count = (size_t)MAX_PROMPT_TOKENS * (size_t)half;
	float *host = malloc(2 * count * sizeof(float));

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

struct text_encoder *
text_encoder_load(struct loader *l, const struct text_encoder_config *config)
{
	int layers = config->layers - 1;
	struct text_encoder *t = calloc(1, sizeof(*t) + (size_t)layers * sizeof(t->layers[0]));

	if (t == NULL) {
		l->status = err_set(l->e, ERR_OUT_OF_MEMORY, "out of memory");
		return NULL;
	}
	t->config = *config;
	t->device = l->device;
	t->ops = l->ops;
	t->layer_count = layers;
	loader_prefix(l, "model.");
	load_table(l, &t->embedding, "embed_tokens.weight", config->vocab, config->hidden);
	for (int i = 0; i < layers; i++) {
		loader_prefix(l, "model.layers.%d.", i);
		load_layer(l, &t->layers[i], config);
	}
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
run_layer(struct text_encoder *t, const struct layer *layer, struct tensor *x, struct buffers *b)
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

struct tensor
text_encoder_run(
    struct text_encoder *t, struct arena *arena, const int32_t *ids, int64_t count, const struct trace *trace)
{
	struct tensor x = arena_matrix(arena, device_act_type(t->device), count, t->config.hidden);
	struct buffers b;

	make_buffers(t, arena, count, &b);
	if (arena->memory == NULL)
		return x;
	t->ops->embed(t->device, &x, t->embedding, ids);
	for (int i = 0; i < t->layer_count; i++)
		run_layer(t, &t->layers[i], &x, &b);
	trace_see(trace, "text_hidden", &x);
	return x;
}
