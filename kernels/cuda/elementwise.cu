/*
 * add, swiglu, activate, affine, axpy and to_pixels on CUDA. All are bound by memory: a thread takes 16 bytes
 * at a time where the row's width and address allow it, and the two that matter (swiglu, add) read and write
 * every number once.
 */
#include "kernels/cuda/cuda.cuh"

enum { THREADS = 256 };

/* ---- x += y: 3 x 2 bytes a number */

template <typename T, int W>
__global__ static void
add_kernel(T *x, const T *y, int64_t vectors)
{
	int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
	float a[W], b[W];

	if (i >= vectors)
		return;
	load_numbers<T, W>(a, x + i * W);
	load_numbers<T, W>(b, y + i * W);
#pragma unroll
	for (int j = 0; j < W; j++)
		a[j] += b[j];
	store_numbers<T, W>(x + i * W, a);
}

void
cuda_add(struct device *d, struct tensor *x, const struct tensor *y)
{
	struct cuda_device *c = (struct cuda_device *)d;
	int64_t count = tensor_count(x);
	bool wide =
	    is_wide(x->data, count, dtype_size(x->type)) && is_wide(y->data, count, dtype_size(x->type));

	WITH_TYPE(x->type, T, {
		const int W = full_width<T>();
		if (wide)
			launch(c, "add", blocks_for(count / W, THREADS), THREADS,
			    add_kernel<T, full_width<T>()>, (T *)x->data, (const T *)y->data, count / W);
		else
			launch(c, "add", blocks_for(count, THREADS), THREADS, add_kernel<T, 1>, (T *)x->data,
			    (const T *)y->data, count);
	});
}

/* ---- y (L, F) := silu(x[:, 0..F-1]) x[:, F..2F-1]: 3 x 2 bytes a number of y */

template <typename T, int W>
__global__ static void
swiglu_kernel(T *y, const T *x, int64_t rows, int64_t width)
{
	int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, row = i / (width / W);
	const T *gate = x + row * 2 * width + i % (width / W) * W;
	float a[W], b[W];

	if (row >= rows)
		return;
	load_numbers<T, W>(a, gate);
	load_numbers<T, W>(b, gate + width);
#pragma unroll
	for (int j = 0; j < W; j++)
		a[j] = silu(a[j]) * b[j];
	store_numbers<T, W>(y + i * W, a);
}

void
cuda_swiglu(struct device *d, struct tensor *y, const struct tensor *x)
{
	struct cuda_device *c = (struct cuda_device *)d;
	int64_t rows = y->dim[0], width = tensor_count(y) / rows;
	bool wide =
	    is_wide(x->data, width, dtype_size(x->type)) && is_wide(y->data, width, dtype_size(y->type));

	WITH_TYPE(y->type, T, {
		const int W = full_width<T>();
		if (wide)
			launch(c, "swiglu", blocks_for(rows * width / W, THREADS), THREADS,
			    swiglu_kernel<T, full_width<T>()>, (T *)y->data, (const T *)x->data, rows, width);
		else
			launch(c, "swiglu", blocks_for(rows * width, THREADS), THREADS, swiglu_kernel<T, 1>,
			    (T *)y->data, (const T *)x->data, rows, width);
	});
}

/* ---- small ones, one number to a thread */

template <typename T>
__global__ static void
activate_kernel(T *y, const T *x, int64_t count, enum activation f)
{
	int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
	float v;

	if (i >= count)
		return;
	v = to_float(x[i]);
	y[i] = from_float<T>(f == ACT_SILU ? silu(v) : f == ACT_TANH ? tanhf(v) : 1.0f + v);
}

void
cuda_activate(struct device *d, struct tensor *y, const struct tensor *x, enum activation f)
{
	int64_t count = tensor_count(x);

	WITH_TYPE(x->type, T, {
		launch((struct cuda_device *)d, "activate", blocks_for(count, THREADS), THREADS,
		    activate_kernel<T>, (T *)y->data, (const T *)x->data, count, f);
	});
}

template <typename To, typename From>
__global__ static void
affine_kernel(To *y, const From *x, int64_t count, float mul, float add)
{
	int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;

	if (i < count)
		y[i] = from_float<To>(fmaf(to_float(x[i]), mul, add));
}

void
cuda_affine(struct device *d, struct tensor *y, const struct tensor *x, float mul, float add)
{
	int64_t count = tensor_count(x);

	WITH_TYPE(y->type, To, {
		WITH_TYPE(x->type, From, {
			launch((struct cuda_device *)d, "affine", blocks_for(count, THREADS), THREADS,
			    affine_kernel<To, From>, (To *)y->data, (const From *)x->data, count, mul, add);
		});
	});
}

__global__ static void
axpy_kernel(float *x, const float *a, const float *y, int64_t count)
{
	int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;

	if (i < count)
		x[i] = fmaf(*a, y[i], x[i]);
}

void
cuda_axpy(struct device *d, struct tensor *x, const struct tensor *a, const struct tensor *y)
{
	int64_t count = tensor_count(x);

	launch((struct cuda_device *)d, "axpy", blocks_for(count, THREADS), THREADS, axpy_kernel,
	    (float *)x->data, (const float *)a->data, (const float *)y->data, count);
}

template <typename T>
__global__ static void
to_pixels_kernel(uint8_t *pixels, const T *x, int64_t count)
{
	int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
	float v;

	if (i >= count)
		return;
	v = fminf(fmaxf(to_float(x[i]) / 2 + 0.5f, 0.0f), 1.0f);
	pixels[i] = (uint8_t)rintf(v * 255.0f); /* half to even */
}

void
cuda_to_pixels(struct device *d, struct tensor *pixels, const struct tensor *x)
{
	int64_t count = tensor_count(x);

	WITH_TYPE(x->type, T, {
		launch((struct cuda_device *)d, "to_pixels", blocks_for(count, THREADS), THREADS,
		    to_pixels_kernel<T>, (uint8_t *)pixels->data, (const T *)x->data, count);
	});
}
