/*
 * The sizes of Z-Image-Turbo (model-spec section 2), and of a small model of the same build that the emulated
 * device can run in seconds.
 */
#ifndef TESTS_BENCH_FULL_SIZE_H
#define TESTS_BENCH_FULL_SIZE_H

#include "runner/model_config.h"

static const struct model_config full_size = {
    .transformer = {.patch = 2,
	.in_channels = 16,
	.dim = 3840,
	.heads = 30,
	.head_dim = 128,
	.ffn_dim = 10240,
	.layers = 30,
	.refiner_layers = 2,
	.caption_dim = 2560,
	.modulation_dim = 256,
	.timestep_hidden = 1024,
	.axes_dims = {32, 48, 48},
	.axes_lens = {1536, 512, 512},
	.norm_eps = 1e-5f,
	.qk_norm_eps = 1e-5f,
	.final_norm_eps = 1e-6f,
	.rope_theta = 256,
	.t_scale = 1000},
    /* of 151936 words 16384: looking up takes microseconds whatever their number */
    .text = {2560, 9728, 36, 32, 8, 128, 16384, 1e-6f, 1e6},
    .vae = {4, {128, 256, 512, 512}, 2, 16, 32, 8, 1024, 0.3611f, 0.1159f, true, false},
    .shift = 3,
};

static const struct model_config small_size = {
    .transformer = {.patch = 2,
	.in_channels = 16,
	.dim = 256,
	.heads = 2,
	.head_dim = 128,
	.ffn_dim = 512,
	.layers = 1,
	.refiner_layers = 1,
	.caption_dim = 128,
	.modulation_dim = 256,
	.timestep_hidden = 64,
	.axes_dims = {32, 48, 48},
	.axes_lens = {1536, 512, 512},
	.norm_eps = 1e-5f,
	.qk_norm_eps = 1e-5f,
	.final_norm_eps = 1e-6f,
	.rope_theta = 256,
	.t_scale = 1000},
    .text = {128, 256, 2, 2, 1, 64, 512, 1e-6f, 1e6},
    .vae = {4, {32, 32, 32, 32}, 1, 16, 32, 8, 1024, 0.3611f, 0.1159f, true, false},
    .shift = 3,
};

#endif
