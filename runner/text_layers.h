/*
 * The layers of the text encoder, and where their matrices are when they are needed.
 *
 * Resident, they are on the device. Streamed, the device has room for two layers: while one is computed with,
 * the next is on its way from the checkpoint's files, which stay mapped. The page cache keeps those between
 * prompts, for all runners together, and gives them up where memory is short; a pinned copy would be 7 GB of
 * each runner's own, and faster only where the bus is (25 GB/s against some 12 of copying: 0.3 s a prompt).
 */
#ifndef RUNNER_TEXT_LAYERS_H
#define RUNNER_TEXT_LAYERS_H

#include "runner/model_config.h"
#include "runner/weights.h"

struct text_layer {
#define MATRIX(member, ...) struct weight *member;
#define VECTOR(member, ...) struct tensor member;
#include "runner/text_layer.def"
};

struct text_layers;

/* All layers but the last. NULL when l failed. Streamed, l->checkpoint must stay open as long as they live.
 */
struct text_layers *text_layers_load(
    struct loader *l, const struct text_encoder_config *config, bool streamed);
void text_layers_free(struct text_layers **t); /* the weights themselves are the device's */

int text_layers_count(const struct text_layers *t);
/* Layer i, whose matrices are its own until another is taken. */
const struct text_layer *text_layers_take(struct text_layers *t, int i);
/* Layer i, if there is one, will be taken next: to be called when the work on the one before has been asked
 * for. */
void text_layers_bring(struct text_layers *t, int i);

#endif
