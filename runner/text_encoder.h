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

/* Loads what is needed of the text encoder's checkpoint: the embedding and all layers but the last. Streamed,
 * embedding and matrices stay in l->checkpoint, which must outlive the text encoder (text_layers.h). NULL
 * when l failed. */
struct text_encoder *text_encoder_load(
    struct loader *l, const struct text_encoder_config *config, bool streamed);
void text_encoder_free(struct text_encoder **t); /* the weights themselves are the device's */

/* x (T, hidden) := the embeddings of T token ids, at most MAX_PROMPT_TOKENS: what goes into layer 0. */
void text_encoder_embed(struct text_encoder *t, struct tensor *x, const int32_t *ids);
/* Runs x through layer `layer` and, where they are all on the device, those behind it. Returns which is next;
 * after the last one (true of text_encoder_is_done) x has the caption rows: the residual stream before the
 * checkpoint's last layer, not normed. What it needs besides lies in `arena` for the call only; with an arena
 * without memory it only plans. */
int text_encoder_go_on(
    struct text_encoder *t, struct arena *arena, struct tensor *x, int layer, const struct trace *trace);
bool text_encoder_is_done(const struct text_encoder *t, int layer);

/* Before the first prompt: every product over that many rows once, of whatever lies in the arena. */
void text_encoder_products(struct text_encoder *t, struct arena *arena, int64_t rows);

#endif
