/*
 * The decoder of the FLUX.1 autoencoder: latent to pixels (model-spec section 8).
 */
#ifndef RUNNER_VAE_H
#define RUNNER_VAE_H

#include "runner/arena.h"
#include "runner/model_config.h"
#include "runner/trace.h"
#include "runner/weights.h"

struct vae;

/* Loads the decoder half of the VAE's checkpoint. NULL when l failed. */
struct vae *vae_load(struct loader *l, const struct vae_config *config);
void vae_free(struct vae **v); /* the weights themselves are the device's */

/* Pixels (scale h, scale w, 3) U8 of latent (C, h, w) F32. The result lies in `arena`; called without memory
 * it only plans. */
struct tensor vae_decode(
    struct vae *v, struct arena *arena, const struct tensor *latent, const struct trace *trace);

#endif
