/*
 * Byte-level BPE from a Hugging Face tokenizer.json, with Qwen's pre-tokenization and chat frame (model-spec
 * section 4). Gives the ids that the Hugging Face tokenizer gives.
 */
#ifndef RUNNER_TOKENIZER_H
#define RUNNER_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"

struct tokenizer;

/* Reads dir/tokenizer.json. 0; -ERR_BAD_CHECKPOINT (what is wrong in it); -ERR_UNSUPPORTED (another kind of
 * model, normalizer or split than ours). */
int tokenizer_open(struct tokenizer **t, const char *dir, struct err *e);
void tokenizer_close(struct tokenizer **t);

/* Ids of `bytes` bytes of UTF-8 text as it stands, special tokens in it recognised. *ids is the caller's to
 * free. 0, or -ERR_INVALID_PARAM (not UTF-8), -ERR_SYSTEM (no memory). Time is O(n log n) in the bytes. */
int tokenizer_encode(
    const struct tokenizer *t, const char *text, size_t bytes, int32_t **ids, size_t *count, struct err *e);

/* Ids of the prompt in its chat frame. More than `max`: cut there when `truncate`, else -ERR_PROMPT_TOO_LONG
 * that says how many there are. *truncated says whether it was cut. */
int tokenizer_prompt(const struct tokenizer *t, const char *prompt, size_t max, bool truncate, int32_t **ids,
    size_t *count, bool *truncated, struct err *e);

size_t tokenizer_vocab(const struct tokenizer *t); /* one more than the largest id it can give */

#endif
