/*
 * What the decoder is made of: for vae.c, vae_canvas.c and vae_decode.c only.
 */
#ifndef RUNNER_VAE_INSIDE_H
#define RUNNER_VAE_INSIDE_H

#include "runner/vae.h"

enum { MAX_RESNETS = 17 };

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

#endif
