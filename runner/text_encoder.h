/*
 * Qwen3 as a text encoder: token ids to caption rows (model-spec section 5).
 */
#ifndef RUNNER_TEXT_ENCODER_H
#define RUNNER_TEXT_ENCODER_H

#include "runner/arena.h"
#include "runner/model_config.h"
#include "runner/trace.h"
#include "runner/weights.h"

struct text_encoder;

/* Loads what is needed of the text encoder's checkpoint: the embedding and all layers but the last. NULL when
 * l failed. */
struct text_encoder *text_encoder_load(struct loader *l, const struct text_encoder_config *config);
void text_encoder_free(struct text_encoder **t); /* the weights themselves are the device's */

/* Caption rows (T, hidden) of T token ids: the residual stream before the last layer, not normed. The result
 * lies in `arena`; called without memory it only plans. */
struct tensor text_encoder_run(struct text_encoder *t, struct arena *arena, const int32_t *ids, int64_t count,
    const struct trace *trace);

#endif
