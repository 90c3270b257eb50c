/*
 * patchify, unpatchify and to_channels_last on CUDA: one number to a thread. The latent is 1 MiB at
 * 1024x1024, so these take microseconds whatever the access pattern.
 */
#include "kernels/cuda/cuda.cuh"

enum { THREADS = 256 };

/* Where number i of the rows ((h/2)(w/2), 4C) lies in a latent (C, h, w): entry (dy*2 + dx) C + c of row
 * Y (w/2) + X. */
__device__ static inline int64_t
latent_index(int64_t i, int channels, int h, int w)
{
	int64_t r = i / (4 * channels), y, x;
	int e = (int)(i % (4 * channels)), c = e % channels;

	y = r / (w / 2) * 2 + e / channels / 2;
	x = r % (w / 2) * 2 + e / channels % 2;
	return (c * (int64_t)h + y) * w + x;
}

template <typename T>
__global__ static void
patchify_kernel(T *rows, const float *latent, int64_t count, int channels, int h, int w)
{
	int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;

	if (i < count)
		rows[i] = from_float<T>(latent[latent_index(i, channels, h, w)]);
}

void
cuda_patchify(struct device *d, struct tensor *rows, const struct tensor *latent)
{
	int64_t count = tensor_count(latent);

	WITH_TYPE(rows->type, T, {
		launch((struct cuda_device *)d, "patchify", blocks_for(count, THREADS), THREADS,
		    patchify_kernel<T>, (T *)rows->data, (const float *)latent->data, count, latent->dim[0],
		    latent->dim[1], latent->dim[2]);
	});
}

template <typename T>
__global__ static void
unpatchify_kernel(float *latent, const T *rows, int64_t count, int channels, int h, int w, float sign)
{
	int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;

	if (i < count)
		latent[latent_index(i, channels, h, w)] = sign * to_float(rows[i]);
}

void
cuda_unpatchify(struct device *d, struct tensor *latent, const struct tensor *rows, float sign)
{
	int64_t count = tensor_count(latent);

	WITH_TYPE(rows->type, T, {
		launch((struct cuda_device *)d, "unpatchify", blocks_for(count, THREADS), THREADS,
		    unpatchify_kernel<T>, (float *)latent->data, (const T *)rows->data, count, latent->dim[0],
		    latent->dim[1], latent->dim[2], sign);
	});
}

/* y (h, w, C) := x (C, h, w); pixels = h w. */
template <typename T>
__global__ static void
to_channels_last_kernel(T *y, const float *x, int64_t count, int channels, int64_t pixels)
{
	int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;

	if (i < count)
		y[i] = from_float<T>(x[i % channels * pixels + i / channels]);
}

void
cuda_to_channels_last(struct device *d, struct tensor *y, const struct tensor *x)
{
	int64_t count = tensor_count(x);

	WITH_TYPE(y->type, T, {
		launch((struct cuda_device *)d, "to_channels_last", blocks_for(count, THREADS), THREADS,
		    to_channels_last_kernel<T>, (T *)y->data, (const float *)x->data, count, x->dim[0],
		    x->dim[1] * x->dim[2]);
	});
}
