/*
 * conv2d on CUDA, plain: a number of y to a thread. For float32, which only tests use, and for channels that
 * 16 bytes do not divide, as tests and tiny models have; slow, and right for every shape.
 */
#include "kernels/cuda/conv.cuh"

enum { THREADS = 128 };

/* One window's share of the sum: `filter` (k, k, channels), the window's first row and column. */
template <typename T>
__device__ static inline float
sum_window(const struct conv_job &j, const T *filter, int top, int left)
{
	const T *x = (const T *)j.x;
	float sum = 0;

	for (int dy = 0; dy < j.k; dy++) {
		for (int dx = 0; dx < j.k; dx++, filter += j.channels) {
			const T *pixel = x + ((int64_t)(top + dy) * j.w + left + dx) * j.channels;
			if (top + dy < 0 || top + dy >= j.h || left + dx < 0 || left + dx >= j.w)
				continue;
			for (int c = 0; c < j.channels; c++)
				sum = fmaf(to_float(pixel[c]), to_float(filter[c]), sum);
		}
	}
	return sum;
}

template <typename T>
__global__ static void
plain_kernel(const struct conv_job j)
{
	int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, window = i / j.outputs / j.phases, at;
	int output = (int)(i % j.outputs), phase = (int)(i / j.outputs % j.phases);
	int row = (int)(window / j.out_w), column = (int)(window % j.out_w);
	float sum;

	if (row >= j.out_h)
		return;
	sum = sum_window(j,
	    (const T *)j.filters + ((int64_t)phase * j.outputs + output) * j.k * j.k * j.channels,
	    row * j.stride - j.top + phase / 2, column * j.stride - j.left + phase % 2);
	at = result_at(j, phase, row, column) + output;
	if (j.bias != NULL)
		sum += j.bias[output];
	if (j.add != NULL)
		sum += to_float(((const T *)j.add)[at]);
	((T *)j.y)[at] = from_float<T>(sum);
}

bool
cuda_conv_plain_takes(const struct cuda_device *, const struct conv_job *)
{
	return true;
}

void
cuda_conv_plain(struct cuda_device *c, const struct conv_job *j)
{
	int64_t count = (int64_t)j->out_h * j->out_w * j->phases * j->outputs;

	WITH_TYPE(c->base.act_type, T,
	    { launch(c, "a plain convolution", blocks_for(count, THREADS), THREADS, plain_kernel<T>, *j); });
}
