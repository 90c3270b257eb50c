/*
 * The refined captions of the last prompts, on the device: another picture of the same prompt, with another
 * seed, size or step count, needs neither the text encoder nor the transformer's refiner for it. A caption
 * depends on its ids alone, so a picture has the same bits whether its caption was kept or made.
 *
 * Captions that were used longest ago give way. The memory is reserved when the model is opened.
 */
#ifndef RUNNER_CAPTION_CACHE_H
#define RUNNER_CAPTION_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/ops.h"
#include "runner/model_config.h"

enum { CAPTIONS = 8 }; /* 31 MB in the 6B model in bf16 */

struct model;

struct caption {
	int32_t ids[MAX_PROMPT_TOKENS];
	int64_t tokens; /* of the prompt with its frame; 0: nothing is kept here */
	uint64_t last_use;
	struct tensor rows; /* (dit_padded(MAX_PROMPT_TOKENS), D): the first dit_padded(tokens) count */
};

struct caption_cache {
	void *memory; /* the device's */
	struct caption captions[CAPTIONS];
	uint64_t uses;
};

/* Bytes of device memory for the captions of m, which has its transformer. */
size_t caption_cache_bytes(const struct model *m);
/* Begins with none in that memory, which stays the caller's. */
void caption_cache_use(struct model *m, void *memory);
/* Copies what is kept for these ids to `refined` (dit_padded(tokens), D); false when nothing is. */
bool caption_cache_find(struct model *m, const int32_t *ids, int64_t tokens, struct tensor *refined);
/* Keeps a copy of it. A failure is the device's. */
void caption_cache_keep(struct model *m, const int32_t *ids, int64_t tokens, const struct tensor *refined);

#endif
