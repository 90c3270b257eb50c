/*
 * The forms that conv2d has on CUDA. Which one the operation takes is its own business; this is for tests and
 * benchmarks that put them side by side.
 */
#ifndef KERNELS_CUDA_CONV_H
#define KERNELS_CUDA_CONV_H

#include "kernels/ops.h"

/* The name of form i, from 0; NULL after the last one. The operation takes the first that takes its shape;
 * but a 1x1 convolution is a matrix product. */
const char *cuda_conv_form(int i);

/* Whether form i takes a convolution of that many channels, kernel and stride on that device, a CUDA one. */
bool cuda_conv_takes(const struct device *d, int i, int channels, int k, int stride);

/* As the operation of ops.h, by form i, which takes the shape; not in place. */
void cuda_conv_by(struct device *d, int i, struct tensor *y, const struct tensor *x, const struct weight *w,
    const struct tensor *bias, const struct tensor *add, const struct conv_shape *shape);

#endif
