/*
 * The reference backend: plain loops, sums in double, everything stored as float. It defines the operations
 * of ops.h; it is slow on purpose.
 */
#ifndef KERNELS_REF_REF_H
#define KERNELS_REF_REF_H

#include "kernels/device.h"
#include "kernels/ref/ops.h"

/* Weights as float, row-major, as the checkpoint has them: (N, K), (Cout, Cin, k, k) or (V, D). */
struct weight {
	struct weight *next; /* of the device's list */
	int rank;
	int64_t dim[TENSOR_MAX_RANK];
	float data[];
};

struct ref_device {
	struct device base;
	struct weight *weights;
};

#endif
