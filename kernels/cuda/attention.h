/*
 * The forms that attention has on CUDA. Which one the operation takes is its own business; this is for tests
 * and benchmarks that put them side by side.
 */
#ifndef KERNELS_CUDA_ATTENTION_H
#define KERNELS_CUDA_ATTENTION_H

#include "kernels/ops.h"

/* The name of form i, from 0; NULL after the last one. The operation takes the first that takes its shape. */
const char *cuda_attention_form(int i);

/* Whether form i takes attention of that shape on that device, a CUDA one. */
bool cuda_attention_takes(const struct device *d, int i, const struct attention_shape *shape);

/* As the operation of ops.h, by form i, which takes the shape. */
void cuda_attention_by(struct device *d, int i, struct tensor *o, const struct tensor *q,
    const struct tensor *k, const struct tensor *v, const struct attention_shape *shape);

#endif
