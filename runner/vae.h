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

/* How memory is saved: the last `thrift` of the up blocks, 0 to vae_max_thrift, are made a band of rows at a
 * time. The first halves the memory for a large picture and trebles the time; the picture is the same. */
int vae_max_thrift(const struct vae *v);
/* Bytes that vae_decode needs in its arena for a latent of sides h, w. */
size_t vae_plan(struct vae *v, int64_t h, int64_t w, int thrift);
/* Pixels (scale h, scale w, 3) U8 of latent (C, h, w) F32, which lie in `arena`; with as little thrift as
 * there is memory for in it. */
struct tensor vae_decode(
    struct vae *v, struct arena *arena, const struct tensor *latent, const struct trace *trace);

#endif
