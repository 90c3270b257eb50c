/*
 * From a time to the numbers that modulate the transformer (model-spec sections 6.1, 6.5).
 *
 * They are stored ready for use, 1 + scale and tanh(gate), so a block only multiplies. D model width, M
 * modulation width.
 */
#include <math.h>

#include "runner/dit_inside.h"

enum { MAX_PERIOD = 10000 };

/* The table of one time, in order: for each modulated block 1 + s1, tanh g1, 1 + s2, tanh g2 (D each); 1 +
 * final scale. */
int64_t
dit_modulation_count(const struct dit *d)
{
	return (4 * (int64_t)d->modulated + 1) * d->config.dim;
}

static void
sinusoids(float t, float t_scale, float out[SINUSOIDS])
{
	float argument = t * t_scale;

	for (int i = 0; i < SINUSOIDS / 2; i++) {
		float frequency = (float)exp(-log(MAX_PERIOD) * i / (SINUSOIDS / 2));
		out[i] = cosf(argument * frequency); /* cosines first */
		out[i + SINUSOIDS / 2] = sinf(argument * frequency);
	}
}

struct time_buffers {
	struct tensor s; /* (1, 256) */
	struct tensor h; /* (1, 1024) */
	struct tensor c; /* (1, M) */
	struct tensor m; /* (1, 4D) */
};

static void
make_time_buffers(const struct dit *d, struct arena *a, struct time_buffers *b)
{
	enum dtype act = device_act_type(d->device);

	b->s = arena_matrix(a, act, 1, SINUSOIDS);
	b->h = arena_matrix(a, act, 1, d->config.timestep_hidden);
	b->c = arena_matrix(a, act, 1, d->config.modulation_dim);
	b->m = arena_matrix(a, act, 1, 4 * (int64_t)d->config.dim);
}

/* c (1, M) of section 6.1. */
static void
embed_time(struct dit *d, struct time_buffers *b, float t)
{
	float host[SINUSOIDS];

	sinusoids(t, d->config.t_scale, host);
	d->ops->copy_in(d->device, &b->s, host, DT_F32);
	d->ops->linear(d->device, &b->h, &b->s, d->t_mlp1, &d->t_bias1);
	d->ops->activate(d->device, &b->h, &b->h, ACT_SILU);
	d->ops->linear(d->device, &b->c, &b->h, d->t_mlp2, &d->t_bias2);
}

/* The next numbers of the row. Products are made in one place and copied, because the address of their result
 * may decide how they are made, and the bits must be those of any other row. */
static void
put(struct dit *d, const struct tensor *numbers, const struct tensor *row, int64_t *at)
{
	int64_t count = tensor_count(numbers);
	struct tensor place = {
	    (char *)row->data + (size_t)*at * dtype_size(row->type), row->type, 1, {count, 1, 1, 1}};

	d->ops->copy(d->device, &place, numbers);
	*at += count;
}

/* m (1, 4D) into the block's place in the row: scales as 1 + s, gates as tanh g. */
static void
modulate_block(
    struct dit *d, const struct block *w, struct time_buffers *b, const struct tensor *row, int64_t *at)
{
	int64_t width = d->config.dim;

	d->ops->linear(d->device, &b->m, &b->c, w->adaln, &w->adaln_bias);
	for (int chunk = 0; chunk < 4; chunk++) {
		struct tensor part = {(char *)b->m.data + (size_t)(chunk * width) * dtype_size(b->m.type),
		    b->m.type, 1, {width, 1, 1, 1}};
		d->ops->activate(d->device, &part, &part, chunk % 2 == 0 ? ACT_ONE_PLUS : ACT_TANH);
	}
	put(d, &b->m, row, at);
}

void
dit_modulation(struct dit *d, struct arena *arena, float t, struct tensor *row, const struct trace *trace)
{
	struct time_buffers b;
	struct tensor final;
	int64_t at = 0;

	make_time_buffers(d, arena, &b);
	if (arena->memory == NULL)
		return;
	embed_time(d, &b, t);
	trace_see(trace, "t_embed", &b.c);
	for (int i = 0; i < d->modulated; i++)
		modulate_block(d, &d->noise_refiner[i], &b, row, &at);

	final = (struct tensor){b.m.data, b.m.type, 2, {1, d->config.dim, 1, 1}};
	d->ops->activate(d->device, &b.c, &b.c, ACT_SILU); /* only the final layer has it */
	d->ops->linear(d->device, &final, &b.c, d->final_adaln, &d->final_adaln_bias);
	d->ops->activate(d->device, &final, &final, ACT_ONE_PLUS);
	put(d, &final, row, &at);
}
