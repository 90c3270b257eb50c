/*
 * The decoder of the FLUX.1 autoencoder: latent to pixels (model-spec section 8). Pictures lie channels last:
 * (h, w, C).
 *
 * The memory is that of the largest picture and of what a resnet makes beside it, and no more: norms are
 * taken by the convolutions that read them, and a resnet adds to its picture where that is. A shortcut
 * narrows the picture in place. At full size that is 1.5 pictures of 256 channels.
 */
#include "runner/vae.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define NORM_EPS 1e-6f

enum { MAX_RESNETS = 17, BUFFERS = 2 };

struct norm {
	struct tensor weight, bias; /* (C) */
};

struct conv {
	struct weight *weight; /* (Cout, Cin, k, k) */
	struct tensor bias;    /* (Cout) */
	int outputs, k;
};

struct resnet {
	struct norm norm1, norm2;
	struct conv conv1, conv2;
	struct conv shortcut; /* weight NULL where input and output are equally wide */
	int inputs;
};

struct attention {
	struct norm norm;
	struct weight *q, *k, *v, *out; /* (C, C) */
	struct tensor q_bias, k_bias, v_bias, out_bias;
};

struct vae {
	struct vae_config config;
	struct device *device;
	const struct ops *ops;
	struct conv post_quant; /* weight NULL when the configuration has none */
	struct conv conv_in, conv_out;
	struct norm norm_out;
	struct resnet mid[2];
	struct attention attention;
	struct resnet up[MAX_VAE_BLOCKS][MAX_RESNETS];
	struct conv upsampler[MAX_VAE_BLOCKS]; /* of all blocks but the last */
};

/* ---- loading. Block i counts from the smallest picture: its width is that of block_out_channels from the
 * end. */

static int
block_width(const struct vae_config *c, int i)
{
	return c->block_out_channels[c->blocks - 1 - i];
}

static void
get_norm(struct loader *l, struct norm *n, const char *name, int channels)
{
	char weight[64], bias[64];

	snprintf(weight, sizeof(weight), "%s.weight", name);
	snprintf(bias, sizeof(bias), "%s.bias", name);
	load_vector(l, &n->weight, weight, channels);
	load_vector(l, &n->bias, bias, channels);
}

static void
get_conv(struct loader *l, struct conv *c, const char *name, int outputs, int inputs, int k)
{
	c->outputs = outputs;
	c->k = k;
	load_conv(l, &c->weight, &c->bias, name, outputs, inputs, k);
}

static void
load_resnet(struct loader *l, struct resnet *r, int inputs, int outputs)
{
	r->inputs = inputs;
	get_norm(l, &r->norm1, "norm1", inputs);
	get_conv(l, &r->conv1, "conv1", outputs, inputs, 3);
	get_norm(l, &r->norm2, "norm2", outputs);
	get_conv(l, &r->conv2, "conv2", outputs, outputs, 3);
	if (inputs != outputs)
		get_conv(l, &r->shortcut, "conv_shortcut", outputs, inputs, 1);
}

static void
load_mid(struct loader *l, struct vae *v)
{
	int width = block_width(&v->config, 0);
	struct attention *a = &v->attention;

	for (int i = 0; i < 2; i++) {
		loader_prefix(l, "decoder.mid_block.resnets.%d.", i);
		load_resnet(l, &v->mid[i], width, width);
	}
	if (!v->config.mid_attention)
		return;
	loader_prefix(l, "decoder.mid_block.attentions.0.");
	get_norm(l, &a->norm, "group_norm", width);
	load_matrix(l, &a->q, "to_q.weight", width, width);
	load_matrix(l, &a->k, "to_k.weight", width, width);
	load_matrix(l, &a->v, "to_v.weight", width, width);
	load_matrix(l, &a->out, "to_out.0.weight", width, width);
	load_vector(l, &a->q_bias, "to_q.bias", width);
	load_vector(l, &a->k_bias, "to_k.bias", width);
	load_vector(l, &a->v_bias, "to_v.bias", width);
	load_vector(l, &a->out_bias, "to_out.0.bias", width);
}

static void
load_up(struct loader *l, struct vae *v)
{
	int width = block_width(&v->config, 0);

	for (int i = 0; i < v->config.blocks; i++) {
		for (int j = 0; j <= v->config.layers_per_block; j++) {
			loader_prefix(l, "decoder.up_blocks.%d.resnets.%d.", i, j);
			load_resnet(l, &v->up[i][j], width, block_width(&v->config, i));
			width = block_width(&v->config, i);
		}
		loader_prefix(l, "decoder.up_blocks.%d.upsamplers.0.", i);
		if (i + 1 < v->config.blocks)
			get_conv(l, &v->upsampler[i], "conv", width, width, 3);
	}
}

struct vae *
vae_load(struct loader *l, const struct vae_config *config)
{
	struct vae *v = calloc(1, sizeof(*v));
	int latent = config->latent_channels;

	if (v == NULL) {
		l->status = err_set(l->e, ERR_OUT_OF_MEMORY, "out of memory");
		return NULL;
	}
	v->config = *config;
	v->device = l->device;
	v->ops = l->ops;
	loader_prefix(l, "%s", "");
	if (config->post_quant_conv)
		get_conv(l, &v->post_quant, "post_quant_conv", latent, latent, 1);
	loader_prefix(l, "decoder.");
	get_conv(l, &v->conv_in, "conv_in", block_width(config, 0), latent, 3);
	get_norm(l, &v->norm_out, "conv_norm_out", config->block_out_channels[0]);
	get_conv(l, &v->conv_out, "conv_out", 3, config->block_out_channels[0], 3);
	load_mid(l, v);
	load_up(l, v);
	if (l->status != 0)
		vae_free(&v);
	return v;
}

void
vae_free(struct vae **v)
{
	free(*v);
	*v = NULL;
}

/* ---- the picture in the making */

/* A plan walks the same way with buffers without memory, and calls no operation. */
struct canvas {
	struct vae *vae;
	struct arena buffer[BUFFERS];
	struct tensor picture; /* (h, w, channels), in the buffer `current` */
	int current;
};

static bool
is_plan(const struct canvas *c)
{
	return c->buffer[0].memory == NULL;
}

/* The buffer where the picture is not, empty: memory for one stage. */
static struct arena *
canvas_beside(struct canvas *c)
{
	struct arena *a = &c->buffer[1 - c->current];

	arena_reset(a);
	return a;
}

static struct tensor
make_picture(const struct canvas *c, struct arena *a, int64_t h, int64_t w, int channels)
{
	return arena_tensor(a, device_act_type(c->vae->device), 3, (int64_t[]){h, w, channels});
}

/* The picture is now y, made in the other buffer. */
static void
canvas_move(struct canvas *c, const struct tensor *y)
{
	c->current = 1 - c->current;
	c->picture = *y;
}

static struct group_norm
norm_of(const struct vae *v, const struct norm *n, bool silu)
{
	return (struct group_norm){&n->weight, &n->bias, v->config.groups, NORM_EPS, silu};
}

/* y := conv(silu(norm(x))) [+ add], or of x itself where norm is NULL; the same size as x or twice it. */
static void
convolve(const struct canvas *c, struct tensor *y, const struct tensor *x, const struct norm *norm,
    const struct conv *conv, const struct tensor *add)
{
	struct vae *v = c->vae;
	struct group_norm first = {0};
	struct conv_shape shape = {.stride = 1,
	    .pad_before = conv->k / 2,
	    .pad_after = conv->k / 2,
	    .upsample2 = y->dim[0] != x->dim[0]};

	if (is_plan(c))
		return;
	if (norm != NULL) {
		first = norm_of(v, norm, true);
		shape.norm = &first;
	}
	v->ops->conv2d(v->device, y, x, conv->weight, &conv->bias, add, &shape);
}

/* The picture through a 1x1 convolution: in its place, or where it gets wider in the other buffer. */
static void
run_shortcut(struct canvas *c, struct arena *beside, const struct conv *conv)
{
	struct tensor x = c->picture, y = x;

	y.dim[2] = conv->outputs;
	if (y.dim[2] <= x.dim[2])
		c->picture = y;
	else {
		y = make_picture(c, beside, x.dim[0], x.dim[1], conv->outputs);
		canvas_move(c, &y);
	}
	convolve(c, &y, &x, NULL, conv, NULL);
}

/* h = conv1(silu(GN1 x)); h = conv2(silu(GN2 h)); picture = h + x, or + shortcut(x) where the width changes.
 */
static void
run_resnet(struct canvas *c, const struct resnet *r)
{
	struct arena *beside = canvas_beside(c);
	struct tensor x = c->picture, h = make_picture(c, beside, x.dim[0], x.dim[1], r->conv1.outputs);

	convolve(c, &h, &x, &r->norm1, &r->conv1, NULL);
	if (r->shortcut.weight != NULL)
		run_shortcut(c, beside, &r->shortcut);
	x = c->picture;
	convolve(c, &x, &h, &r->norm2, &r->conv2, &x);
}

/* picture += to_out(softmax(q k^T / sqrt(C)) v) over all pixels, one head as wide as the picture is deep. */
static void
run_attention(struct canvas *c)
{
	struct vae *v = c->vae;
	const struct attention *a = &v->attention;
	struct group_norm norm = norm_of(v, &a->norm, false);
	struct arena *beside = canvas_beside(c);
	struct tensor *x = &c->picture;
	int channels = (int)x->dim[2];
	int64_t rows = x->dim[0] * x->dim[1], shape3[] = {rows, 1, channels};
	struct attention_shape shape = {1, 1, channels, false, (float)(1.0 / sqrt(channels))};
	struct tensor normed = make_picture(c, beside, x->dim[0], x->dim[1], channels);
	struct tensor q = arena_tensor(beside, x->type, 3, shape3),
		      k = arena_tensor(beside, x->type, 3, shape3),
		      value = arena_tensor(beside, x->type, 3, shape3);
	struct tensor in = {normed.data, x->type, 2, {rows, channels, 1, 1}}; /* then what attention gives */
	struct tensor o = {normed.data, x->type, 3, {rows, 1, channels, 1}}, out = in;

	if (is_plan(c))
		return;
	out.data = q.data;
	v->ops->group_norm(v->device, &normed, x, &norm);
	v->ops->linear(v->device, &q, &in, a->q, &a->q_bias);
	v->ops->linear(v->device, &k, &in, a->k, &a->k_bias);
	v->ops->linear(v->device, &value, &in, a->v, &a->v_bias);
	v->ops->attention(v->device, &o, &q, &k, &value, &shape);
	v->ops->linear(v->device, &out, &o, a->out, &a->out_bias);
	v->ops->add(v->device, x, &out);
}

/* The picture through a convolution into the other buffer, `scale` times as large. */
static void
run_conv(struct canvas *c, const struct conv *conv, int scale)
{
	struct tensor x = c->picture, y = make_picture(c, canvas_beside(c), scale * x.dim[0],
					  scale * x.dim[1], conv->outputs);

	convolve(c, &y, &x, NULL, conv, NULL);
	canvas_move(c, &y);
}

/* ---- decoding */

/* Steps 1 and 2 of section 8.1: latent to the first picture. */
static void
open_canvas(struct canvas *c, const struct tensor *latent)
{
	struct vae *v = c->vae;
	struct tensor scaled, x; /* the latent keeps its type and layout until it is scaled */

	c->current = 0;
	scaled = arena_tensor(canvas_beside(c), DT_F32, 3, latent->dim);
	canvas_move(c, &scaled);
	x = make_picture(c, canvas_beside(c), latent->dim[1], latent->dim[2], (int)latent->dim[0]);
	canvas_move(c, &x);
	if (!is_plan(c)) {
		v->ops->affine(
		    v->device, &scaled, latent, 1.0f / v->config.scaling_factor, v->config.shift_factor);
		v->ops->to_channels_last(v->device, &x, &scaled);
	}
	if (v->post_quant.weight != NULL)
		run_conv(c, &v->post_quant, 1);
	run_conv(c, &v->conv_in, 1);
}

/* Steps 3 and 4. */
static void
run_blocks(struct canvas *c)
{
	struct vae *v = c->vae;

	run_resnet(c, &v->mid[0]);
	if (v->config.mid_attention)
		run_attention(c);
	run_resnet(c, &v->mid[1]);
	for (int i = 0; i < v->config.blocks; i++) {
		for (int j = 0; j <= v->config.layers_per_block; j++)
			run_resnet(c, &v->up[i][j]);
		if (i + 1 < v->config.blocks)
			run_conv(c, &v->upsampler[i], 2);
	}
}

/* Step 5: the last norm and convolution, then bytes. */
static void
close_canvas(struct canvas *c, struct tensor *pixels, const struct trace *trace)
{
	struct vae *v = c->vae;
	struct tensor rgb =
	    make_picture(c, canvas_beside(c), c->picture.dim[0], c->picture.dim[1], v->conv_out.outputs);

	convolve(c, &rgb, &c->picture, &v->norm_out, &v->conv_out, NULL);
	if (is_plan(c))
		return;
	trace_see(trace, "image", &rgb);
	v->ops->to_pixels(v->device, pixels, &rgb);
}

static void
decode(struct canvas *c, const struct tensor *latent, struct tensor *pixels, const struct trace *trace)
{
	open_canvas(c, latent);
	run_blocks(c);
	close_canvas(c, pixels, trace);
}

struct tensor
vae_decode(struct vae *v, struct arena *arena, const struct tensor *latent, const struct trace *trace)
{
	struct canvas c = {.vae = v};
	int64_t size[] = {latent->dim[1] * v->config.scale, latent->dim[2] * v->config.scale, 3};
	struct tensor pixels = arena_tensor(arena, DT_U8, 3, size);

	for (int i = 0; i < BUFFERS; i++)
		arena_plan(&c.buffer[i]);
	decode(&c, latent, &pixels, NULL);
	for (int i = 0; i < BUFFERS; i++) {
		int64_t bytes = (int64_t)c.buffer[i].peak;
		struct tensor memory = arena_tensor(arena, DT_U8, 1, &bytes);
		arena_use(&c.buffer[i], memory.data, (size_t)bytes);
	}
	if (arena->memory != NULL)
		decode(&c, latent, &pixels, trace);
	return pixels;
}
