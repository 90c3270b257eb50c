/*
 * The layers of the text encoder, and where their matrices are when they are needed.
 */
#include "runner/text_layers.h"

#include <stdlib.h>

enum { SETS = 2 }; /* of matrices, where layers take turns on the device: layer i has set i % SETS */

/* Where a layer's matrices are in the checkpoint. */
struct stored_layer {
#define MATRIX(member, ...) struct stored_parts member;
#include "runner/text_layer.def"
};

struct text_layers {
	struct device *device;
	const struct ops *ops;
	int count;
	struct stored_layer *stored; /* of each layer, where they take turns; else NULL */
	int holds[SETS];	     /* whose numbers a set has */
	struct text_layer layers[];
};

/* ---- loading */

static void
load_resident(struct loader *l, struct text_layer *layer, const struct text_encoder_config *c)
{
#define MATRIX(member, columns, ...) LOAD_PARTS(l, &layer->member, columns, __VA_ARGS__);
#define VECTOR(member, name, n) load_vector(l, &layer->member, name, n);
#include "runner/text_layer.def"
}

/* The first ones bring the sets with them; the others get their matrices' places from `lender`. */
static void
load_streamed(struct loader *l, struct text_layer *layer, struct stored_layer *stored,
    const struct text_layer *lender, const struct text_encoder_config *c)
{
#define MATRIX(member, columns, ...) \
	FIND_PARTS(l, &stored->member, columns, __VA_ARGS__); \
	if (lender == NULL) \
		load_found(l, &layer->member, &stored->member); \
	else \
		layer->member = lender->member;
#define VECTOR(member, name, n) load_vector(l, &layer->member, name, n);
#include "runner/text_layer.def"
}

static void
load_layer(struct loader *l, struct text_layers *t, int i, const struct text_encoder_config *c)
{
	loader_prefix(l, "model.layers.%d.", i);
	if (t->stored == NULL)
		load_resident(l, &t->layers[i], c);
	else
		load_streamed(l, &t->layers[i], &t->stored[i], i < SETS ? NULL : &t->layers[i - SETS], c);
}

struct text_layers *
text_layers_load(struct loader *l, const struct text_encoder_config *config, bool streamed)
{
	int count = config->layers - 1;
	struct text_layers *t = calloc(1, sizeof(*t) + (size_t)count * sizeof(t->layers[0]));

	if (t != NULL && streamed)
		t->stored = calloc((size_t)count + 1, sizeof(t->stored[0]));
	if (t == NULL || (streamed && t->stored == NULL)) {
		l->status = err_set(l->e, ERR_OUT_OF_MEMORY, "out of memory");
		free(t);
		return NULL;
	}
	t->device = l->device;
	t->ops = l->ops;
	t->count = count;
	for (int i = 0; i < SETS; i++)
		t->holds[i] = i;
	for (int i = 0; i < count; i++)
		load_layer(l, t, i, config);
	if (l->status != 0)
		text_layers_free(&t);
	return t;
}

void
text_layers_free(struct text_layers **t)
{
	if (*t == NULL)
		return;
	free((*t)->stored);
	free(*t);
	*t = NULL;
}

/* ---- taking turns */

int
text_layers_count(const struct text_layers *t)
{
	return t->count;
}

void
text_layers_bring(struct text_layers *t, int i)
{
	if (t->stored == NULL || i >= t->count || t->holds[i % SETS] == i)
		return;
#define MATRIX(member, ...) \
	t->ops->weight_refill( \
	    t->device, t->layers[i].member, t->stored[i].member.part, t->stored[i].member.count);
#include "runner/text_layer.def"
	t->holds[i % SETS] = i;
}

const struct text_layer *
text_layers_take(struct text_layers *t, int i)
{
	text_layers_bring(t, i);
	return &t->layers[i];
}
