/*
 * Byte-pair encoding on ids: a table of merges, and one segment of bytes to its ids (model-spec section 4.2).
 */
#ifndef RUNNER_BPE_H
#define RUNNER_BPE_H

#include <stddef.h>
#include <stdint.h>

struct bpe;

/* `byte_ids`: the id of each byte's own symbol. Room for `merges` merges. NULL: no memory. */
struct bpe *bpe_new(const int32_t byte_ids[256], size_t merges);
void bpe_free(struct bpe **b);
/* The next merge, in order of rank: (left, right) become `merged`. A pair that is there already keeps its
 * rank. */
void bpe_add(struct bpe *b, int32_t left, int32_t right, int32_t merged);

/* The ids of one segment into ids (room for `bytes`); their number, or -1 (no memory). O(n log n). */
ptrdiff_t bpe_encode(const struct bpe *b, const char *segment, size_t bytes, int32_t *ids);

#endif
