/*
 * The diffusion transformer of Z-Image: latent, time and caption to velocity (model-spec section 6).
 */
#ifndef RUNNER_DIT_H
#define RUNNER_DIT_H

#include "runner/arena.h"
#include "runner/model_config.h"
#include "runner/trace.h"
#include "runner/weights.h"

struct dit;

/* Loads all tensors of the transformer's checkpoint. NULL when l failed. */
struct dit *dit_load(struct loader *l, const struct transformer_config *config);
void dit_free(struct dit **d); /* the weights themselves are the device's */

/* Rows after padding to the multiple of 32 that the model was trained with. */
int64_t dit_padded(int64_t rows);

/* ---- before the first picture */

/* Every product over L rows that there can be, once, of whatever lies in the arena. */
void dit_products(struct dit *d, struct arena *arena, int64_t rows);

/* ---- once per picture size and caption length */

/* Rotation angles of image rows (h/2 * w/2, padded), then caption rows (padded): cos, sin (rows, hd/2) on the
 * host, section 6.4. h, w: sides of the latent; tokens: caption rows before padding. */
void dit_rope(const struct dit *d, int64_t h, int64_t w, int64_t tokens, float *cos, float *sin);

/* ---- once per prompt */

/* caption (T, caption_dim) embedded, padded and refined into refined (Lc, D); cos, sin: the caption's rows of
 * dit_rope. */
void dit_caption(struct dit *d, struct arena *arena, struct tensor *refined, const struct tensor *caption,
    const struct tensor *cos, const struct tensor *sin, const struct trace *trace);

/* ---- once per time */

/* Numbers that modulate all blocks and the final layer at one time. */
int64_t dit_modulation_count(const struct dit *d);
/* Computes them for model time t = 1 - sigma into `row` (dit_modulation_count numbers), section 6.1. */
void dit_modulation(
    struct dit *d, struct arena *arena, float t, struct tensor *row, const struct trace *trace);

/* ---- once per step */

/* velocity (C, h, w) F32 of latent (C, h, w) F32 at the time that `modulation` was made for, which lies on
 * the device as a table (dit_modulation_count / D, D) F32; refined (Lc, D) from dit_caption; cos, sin (Ni +
 * Lc, hd/2). Copies nothing between host and device. */
void dit_step(struct dit *d, struct arena *arena, struct tensor *velocity, const struct tensor *latent,
    const struct tensor *refined, const struct tensor *cos, const struct tensor *sin,
    const struct tensor *modulation, const struct trace *trace);

/* Each of the last three, called with an arena without memory, only plans. */

#endif
