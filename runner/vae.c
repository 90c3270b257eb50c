/*
 * The decoder of the FLUX.1 autoencoder: latent to pixels (model-spec section 8). Pictures lie channels last:
 * (h, w, C).
 *
 * Three buffers of the largest picture take turns: a stage reads one and leaves its result in another.
 */
#include "runner/vae.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define NORM_EPS 1e-6f

enum { MAX_RESNETS = 17, BUFFERS = 3 };

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

struct canvas {
	struct vae *vae;
	struct tensor buffer[BUFFERS]; /* memory only; shapes are given as they are used */
	int current;		       /* holds the picture */
	int64_t h, w;
	int channels;
};

/* Buffer `current + step` as a picture of that shape. */
static struct tensor
canvas_tensor(const struct canvas *c, int step, int64_t h, int64_t w, int channels)
{
	const struct tensor *memory = &c->buffer[(c->current + step) % BUFFERS];

	return (struct tensor){memory->data, memory->type, 3, {h, w, channels, 1}};
}

static struct tensor
canvas_picture(const struct canvas *c)
{
	return canvas_tensor(c, 0, c->h, c->w, c->channels);
}

/* The picture is now in buffer current + step, with that many channels. */
static void
canvas_advance(struct canvas *c, int step, int channels)
{
	c->current = (c->current + step) % BUFFERS;
	c->channels = channels;
}

/* y := conv(x) [+ add], the same size as x or twice it. */
static void
convolve(struct vae *v, struct tensor *y, const struct tensor *x, const struct conv *conv,
    const struct tensor *add, bool upsample)
{
	struct conv_shape shape = {
	    .stride = 1, .pad_before = conv->k / 2, .pad_after = conv->k / 2, .upsample2 = upsample};

	v->ops->conv2d(v->device, y, x, conv->weight, &conv->bias, add, &shape);
}

static void
normalize(struct vae *v, struct tensor *y, const struct tensor *x, const struct norm *norm, bool silu)
{
	struct group_norm first = {&norm->weight, &norm->bias, v->config.groups, NORM_EPS, silu};

	v->ops->group_norm(v->device, y, x, &first);
}

/* h = conv1(silu(GN1 x)); h = conv2(silu(GN2 h)); picture = h + x, or + shortcut(x) where the width changes.
 */
static void
run_resnet(struct canvas *c, const struct resnet *r)
{
	struct vae *v = c->vae;
	struct tensor x = canvas_picture(c), normed = canvas_tensor(c, 1, c->h, c->w, r->inputs);
	struct tensor h = canvas_tensor(c, 2, c->h, c->w, r->conv1.outputs), rest = x;
	int result = 1;

	normalize(v, &normed, &x, &r->norm1, true);
	convolve(v, &h, &normed, &r->conv1, NULL, false);
	normalize(v, &h, &h, &r->norm2, true);
	if (r->shortcut.weight != NULL) {
		rest = canvas_tensor(c, 1, c->h, c->w, r->conv1.outputs);
		convolve(v, &rest, &x, &r->shortcut, NULL, false);
		result = 0; /* x is used up */
	}
	x = canvas_tensor(c, result, c->h, c->w, r->conv1.outputs);
	convolve(v, &x, &h, &r->conv2, &rest, false);
	canvas_advance(c, result, r->conv2.outputs);
}

/* picture += to_out(softmax(q k^T / sqrt(C)) v) over all pixels, one head as wide as the picture is deep. */
static void
run_attention(struct canvas *c, struct arena *arena)
{
	struct vae *v = c->vae;
	const struct attention *a = &v->attention;
	int64_t rows = c->h * c->w, shape3[] = {rows, 1, c->channels};
	struct attention_shape shape = {1, 1, c->channels, false, (float)(1.0 / sqrt(c->channels))};
	struct tensor x = canvas_picture(c), normed = canvas_tensor(c, 1, c->h, c->w, c->channels);
	struct tensor flat = {normed.data, normed.type, 2, {rows, c->channels, 1, 1}};
	enum dtype act = x.type;
	struct tensor q = arena_tensor(arena, act, 3, shape3), k = arena_tensor(arena, act, 3, shape3);
	struct tensor value = arena_tensor(arena, act, 3, shape3), o = arena_tensor(arena, act, 3, shape3);

	if (arena->memory == NULL)
		return;
	normalize(v, &normed, &x, &a->norm, false);
	v->ops->linear(v->device, &q, &flat, a->q, &a->q_bias);
	v->ops->linear(v->device, &k, &flat, a->k, &a->k_bias);
	v->ops->linear(v->device, &value, &flat, a->v, &a->v_bias);
	v->ops->attention(v->device, &o, &q, &k, &value, &shape);
	v->ops->linear(v->device, &flat, &o, a->out, &a->out_bias);
	v->ops->add(v->device, &x, &normed);
}

static void
run_upsampler(struct canvas *c, const struct conv *conv)
{
	struct tensor x = canvas_picture(c), y = canvas_tensor(c, 1, 2 * c->h, 2 * c->w, conv->outputs);

	convolve(c->vae, &y, &x, conv, NULL, true);
	c->h *= 2;
	c->w *= 2;
	canvas_advance(c, 1, conv->outputs);
}

/* ---- decoding */

/* Numbers of the largest picture that a buffer must hold for a latent of h x w. */
static int64_t
largest_picture(const struct vae_config *c, int64_t h, int64_t w)
{
	/* the scaled latent is F32 even where buffers are bf16: it counts twice */
	int64_t deepest =
	    2 * c->latent_channels > block_width(c, 0) ? 2 * c->latent_channels : block_width(c, 0);
	int64_t largest = h * w * deepest;

	for (int i = 0; i < c->blocks; i++) {
		int64_t pixels = h * w << 2 * i, incoming = block_width(c, i > 0 ? i - 1 : 0);
		int64_t widest = incoming > block_width(c, i) ? incoming : block_width(c, i);
		largest = pixels * widest > largest ? pixels * widest : largest;
	}
	return largest;
}

/* Steps 1 and 2 of section 8.1: latent to the first picture. */
static void
open_canvas(struct canvas *c, const struct tensor *latent)
{
	struct vae *v = c->vae;
	struct tensor scaled = canvas_tensor(c, 1, latent->dim[0], c->h, (int)c->w);
	struct tensor x = canvas_tensor(c, 2, c->h, c->w, v->config.latent_channels), y;

	scaled.type = DT_F32; /* the latent keeps its type and layout until it is scaled */
	v->ops->affine(v->device, &scaled, latent, 1.0f / v->config.scaling_factor, v->config.shift_factor);
	v->ops->to_channels_last(v->device, &x, &scaled);
	canvas_advance(c, 2, v->config.latent_channels);
	if (v->post_quant.weight != NULL) {
		y = canvas_tensor(c, 1, c->h, c->w, v->post_quant.outputs);
		convolve(v, &y, &x, &v->post_quant, NULL, false);
		canvas_advance(c, 1, v->post_quant.outputs);
		x = y;
	}
	y = canvas_tensor(c, 1, c->h, c->w, v->conv_in.outputs);
	convolve(v, &y, &x, &v->conv_in, NULL, false);
	canvas_advance(c, 1, v->conv_in.outputs);
}

/* Step 5: the last norm and convolution, then bytes. */
static void
close_canvas(struct canvas *c, struct tensor *pixels, const struct trace *trace)
{
	struct vae *v = c->vae;
	struct tensor x = canvas_picture(c), normed = canvas_tensor(c, 1, c->h, c->w, c->channels);
	struct tensor rgb = canvas_tensor(c, 2, c->h, c->w, 3);

	normalize(v, &normed, &x, &v->norm_out, true);
	convolve(v, &rgb, &normed, &v->conv_out, NULL, false);
	trace_see(trace, "image", &rgb);
	v->ops->to_pixels(v->device, pixels, &rgb);
}

struct tensor
vae_decode(struct vae *v, struct arena *arena, const struct tensor *latent, const struct trace *trace)
{
	struct canvas c = {
	    .vae = v, .h = latent->dim[1], .w = latent->dim[2], .channels = block_width(&v->config, 0)};
	int64_t size[] = {c.h * v->config.scale, c.w * v->config.scale, 3},
		largest = largest_picture(&v->config, c.h, c.w);
	struct tensor pixels = arena_tensor(arena, DT_U8, 3, size);

	for (int i = 0; i < BUFFERS; i++)
		c.buffer[i] = arena_tensor(arena, device_act_type(v->device), 1, &largest);
	if (arena->memory == NULL) {
		if (v->config.mid_attention)
			run_attention(&c, arena); /* plans its four tensors */
		return pixels;
	}
	open_canvas(&c, latent);
	run_resnet(&c, &v->mid[0]);
	if (v->config.mid_attention)
		run_attention(&c, arena);
	run_resnet(&c, &v->mid[1]);
	for (int i = 0; i < v->config.blocks; i++) {
		for (int j = 0; j <= v->config.layers_per_block; j++)
			run_resnet(&c, &v->up[i][j]);
		if (i + 1 < v->config.blocks)
			run_upsampler(&c, &v->upsampler[i]);
	}
	close_canvas(&c, &pixels, trace);
	return pixels;
}
