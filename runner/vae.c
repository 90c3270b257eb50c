/*
 * The decoder of the FLUX.1 autoencoder (model-spec section 8): its weights. vae_canvas.c has its stages,
 * vae_decode.c their order.
 */
#include <stdio.h>
#include <stdlib.h>

#include "runner/vae_inside.h"

/* Block i counts from the smallest picture: its width is that of block_out_channels from the end. */

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
