/*
 * Convolutions of oneDNN, each made once for its sizes and kept, and weights in the layout that they want.
 */
#ifndef KERNELS_CPU_CONVOLUTION_H
#define KERNELS_CPU_CONVOLUTION_H

#include "kernels/cpu/cpu.h"

struct conv_sizes {
	int64_t h, w, inputs; /* of x, which has its zero rows; zero columns are added */
	int64_t out_h, out_w, outputs;
	int64_t k;
	int stride, left, right; /* zero columns */
	bool bias, add;
};

/* y (out_h, out_w, outputs) float := windows of x (h, w, inputs) [+ bias] [+ y]. x and w are of the product
 * type; w (outputs, inputs, k, k) row-major is put into the primitive's layout at its first use, into
 * `packed`. */
void cpu_convolve(struct cpu_device *c, const struct conv_sizes *sizes, const void *x, const void *w,
    struct packed *packed, const float *bias, float *y);

#endif
