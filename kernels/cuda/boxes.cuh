/*
 * Tensor maps: what the hardware of a 9.0 card is told of a tensor that it copies boxes of.
 */
#ifndef KERNELS_CUDA_BOXES_CUH
#define KERNELS_CUDA_BOXES_CUH

#include <cuda.h>

#include "kernels/cuda/cuda.cuh"

/* Whether this device may copy boxes and multiply by warpgroups: it is a 9.0 one, and nobody said that it is
 * to be portable. */
static inline bool
cuda_has_boxes(const struct cuda_device *c)
{
	return c->encode_map != NULL;
}

/* The map of bf16 data (dim[2], dim[1], dim[0]), its last dimension contiguous and 16 bytes dividing it;
 * boxes (deep, high, 64), swizzled as panels (panels.cuh). false after failing the device. */
bool cuda_map_boxes(
    struct cuda_device *c, CUtensorMap *map, const void *data, const int64_t dim[3], int high, int deep);

#endif
