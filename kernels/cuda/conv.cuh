/*
 * What the files of conv2d share: a convolution as kernels see it, and how the tensor cores' sums become
 * pixels.
 */
#ifndef KERNELS_CUDA_CONV_CUH
#define KERNELS_CUDA_CONV_CUH

#include "kernels/cuda/cuda.cuh"

/* Windows of a picture times filters. Window (row, column) begins at the picture's row * stride - top and
 * column * stride - left; outside of the picture there are zeros. With four phases, which is behind a
 * doubling, phase 2a + b has filters of its own, its windows begin a rows lower and b columns further right,
 * and its results are the pixels (2 row + a, 2 column + b). Goes by value to kernels. */
struct conv_job {
	const void *x, *filters; /* (h, w, channels); (phases, outputs, k, k, channels) */
	const float *bias;	 /* (outputs) or NULL */
	const void *add;	 /* as y, or NULL */
	void *y;		 /* (out_h, out_w, outputs), or twice as high and wide */
	int h, w, channels, outputs;
	int k, stride, top, left;
	int out_h, out_w; /* windows */
	int phases;	  /* 1 or 4 */
	bool wide;	  /* pixels of y and add, and the bias, can be reached 16 bytes at a time */
};

/* The forms of a convolution (conv.cu has the table). `takes` says whether it is for such a job on such a
 * device. */
bool cuda_conv_wgmma_takes(const struct cuda_device *c, const struct conv_job *j);
void cuda_conv_wgmma(struct cuda_device *c, const struct conv_job *j);
bool cuda_conv_tiled_takes(const struct cuda_device *c, const struct conv_job *j);
void cuda_conv_tiled(struct cuda_device *c, const struct conv_job *j);
bool cuda_conv_plain_takes(const struct cuda_device *c, const struct conv_job *j);
void cuda_conv_plain(struct cuda_device *c, const struct conv_job *j);

/* The filters (4, outputs, 2, 2, channels) of a 3x3 convolution behind a doubling; NULL after a failure. */
const void *cuda_folded_filters(struct cuda_device *c, struct weight *w);

/* Where in y, in numbers, the result of a window begins. */
__device__ static inline int64_t
result_at(const struct conv_job &j, int phase, int row, int column)
{
	int apart = j.phases == 4 ? 2 : 1;
	int64_t line = (int64_t)row * apart + phase / 2;

	return ((line * j.out_w + column) * apart + phase % 2) * j.outputs;
}

#endif
