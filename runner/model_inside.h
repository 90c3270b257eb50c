/*
 * What a loaded model is made of: for model.c, model_memory.c, generation.c, step_table.c, caption_cache.c
 * and warm_up.c only.
 */
#ifndef RUNNER_MODEL_INSIDE_H
#define RUNNER_MODEL_INSIDE_H

#include "runner/arena.h"
#include "runner/caption_cache.h"
#include "runner/dit.h"
#include "runner/generation.h"
#include "runner/model_config.h"
#include "runner/step_table.h"
#include "runner/text_encoder.h"
#include "runner/tokenizer.h"
#include "runner/vae.h"
#include "runner/weights.h"

/* What a held picture keeps on the device, at the largest size that was planned. */
struct slot {
	bool taken;
	void *memory;
};

/* The tensors of a held picture, in its slot. */
struct slot_tensors {
	struct tensor latent;	/* (C, h, w) F32 */
	struct tensor velocity; /* (C, h, w) F32 */
	struct tensor caption;	/* (Lc, D), refined */
	struct tensor cos, sin; /* (Ni + Lc, hd / 2) F32 */
	struct tensor step;	/* (1) I32: the row in the step tables of the step that is next or running */
	struct tensor hidden;	/* (T, H): on its way through the text encoder */
};

struct model {
	struct model_config config;
	struct model_limits limits;
	struct device *device;
	const struct ops *ops;
	struct tokenizer *tokenizer;
	struct checkpoint *text_files; /* of a text encoder that is streamed, else NULL */
	struct text_encoder *text_encoder;
	struct dit *dit;
	struct vae *vae;
	struct loader loader; /* its pooled memory */

	void *work_memory;
	struct arena work; /* of the running stage: reset by whoever begins one */
	size_t slot_bytes;
	struct slot slots[MAX_GENERATIONS];
	struct step_table steps;
	struct caption_cache captions;
	const struct trace *trace;
};

/* Lays out a picture of latent sides h, w and `tokens` caption rows in `slot`. */
void model_slot_tensors(
    const struct model *m, struct arena *slot, int64_t h, int64_t w, int64_t tokens, struct slot_tensors *t);

/* One step of the picture of these tensors: its row of the tables, the forward pass, the Euler update. Copies
 * nothing between host and device; in a work arena without memory it only plans. */
void model_step(struct model *m, struct slot_tensors *t);

/* Runs every stage without memory at the largest size. Returns the bytes that the hungriest stage needs; the
 * slot's, and limits.memory_bytes, are set. */
size_t model_plan_memory(struct model *m);
/* All that limits.max_pixels takes, with limits.thrift or more; -ERR_OUT_OF_MEMORY saying what would fit. */
int model_reserve_memory(struct model *m, struct err *e);
void model_release_memory(struct model *m);

#endif
