/*
 * The files of one part of a checkpoint (transformer, text_encoder, vae) as a set of named tensors in mapped
 * memory.
 *
 * Reads safetensors, one file or shards with an index (model-spec sections 1.3, 1.4). Every header field is
 * bounded and checked before use; the bytes of tensors are only mapped. Formats and names other than
 * diffusers' are not here.
 */
#ifndef RUNNER_CHECKPOINT_H
#define RUNNER_CHECKPOINT_H

#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"
#include "kernels/ops.h"

struct checkpoint;

/* Opens `dir` with weight files of `stem` ("model", "diffusion_pytorch_model"): stem.safetensors, or the
 * shards that stem.safetensors.index.json names. 0, or -ERR_BAD_CHECKPOINT naming the file, the tensor and
 * what is wrong. */
int checkpoint_open(struct checkpoint **c, const char *dir, const char *stem, struct err *e);
void checkpoint_close(struct checkpoint **c); /* unmaps: every `stored` of it dies */

/* safetensors_check of every file. */
int checkpoint_check(const struct checkpoint *c, struct err *e);

/* The tensor `name` of exactly `rank` dimensions `dim`; F32, BF16 or F16. 0, or -ERR_BAD_CHECKPOINT naming
 * the tensor: missing, of another shape (both are said), or of a type we do not read. */
int checkpoint_tensor(const struct checkpoint *c, const char *name, int rank, const int64_t *dim,
    struct stored *out, struct err *e);

uint64_t checkpoint_bytes(const struct checkpoint *c); /* of all tensors, for progress */
/* Feeds names, shapes, types and sizes, in sorted order, to `feed`: the identity of the weights without
 * reading them. */
void checkpoint_identity(
    const struct checkpoint *c, void (*feed)(void *arg, const void *bytes, size_t count), void *arg);

#endif
