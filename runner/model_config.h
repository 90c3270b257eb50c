/*
 * The sizes of the three networks and the schedule, read from the checkpoint's own config files and checked.
 */
#ifndef RUNNER_MODEL_CONFIG_H
#define RUNNER_MODEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "ipc/err.h"

enum { MAX_VAE_BLOCKS = 8, MAX_ROPE_AXES = 3, SEQUENCE_MULTIPLE = 32, MAX_PROMPT_TOKENS = 512 };

struct transformer_config { /* transformer/config.json, model-spec section 2.1 */
	int patch;	    /* 2 */
	int in_channels;    /* 16 */
	int dim, heads, head_dim, ffn_dim;
	int layers, refiner_layers;
	int caption_dim;
	int modulation_dim;  /* min(dim, 256) */
	int timestep_hidden; /* 1024 */
	int axes_dims[MAX_ROPE_AXES], axes_lens[MAX_ROPE_AXES];
	float norm_eps, qk_norm_eps, final_norm_eps;
	double rope_theta;
	float t_scale;
};

struct text_encoder_config { /* text_encoder/config.json, section 2.2 */
	int hidden, intermediate, layers, heads, kv_heads, head_dim, vocab;
	float norm_eps;
	double rope_theta;
};

struct vae_config { /* vae/config.json, section 2.3 */
	int blocks; /* of block_out_channels; the scale is 2^(blocks-1) */
	int block_out_channels[MAX_VAE_BLOCKS];
	int layers_per_block, latent_channels, groups;
	int scale;	 /* pixels per latent side: 8 */
	int sample_size; /* pixels: the size the model is at home with */
	float scaling_factor, shift_factor;
	bool mid_attention;
	bool post_quant_conv;
};

struct model_config {
	struct transformer_config transformer;
	struct text_encoder_config text;
	struct vae_config vae;
	float shift; /* scheduler/scheduler_config.json */
};

/* Reads the four files below `dir`. Defaults are those of the public classes where the file is silent. 0;
 * -ERR_BAD_CHECKPOINT naming file and key (missing, wrong type, out of bounds, sizes that disagree);
 * -ERR_UNSUPPORTED for a value that is legal elsewhere and that we cannot run (another class, dynamic
 * shifting, grouped heads, ...). */
int model_config_read(struct model_config *c, const char *dir, struct err *e);

#endif
