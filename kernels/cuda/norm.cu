/*
 * rms_norm, layer_norm, norm_gate_add and tail on CUDA: a block to a row.
 *
 * A row is read twice, for its statistics and to be scaled; the second time it comes from the cache next to
 * the processor (7.5 KiB at D = 3840), so memory sees each number once. At D = 3840 a block of 128 threads
 * has 3.75 vectors of 16 bytes to a thread: enough loads under way, and a sum over 4 warps is short.
 * Statistics are float, in a fixed order.
 *
 * The vectors that every row is scaled with stay in that cache too, and are read 16 bytes at a time like the
 * row: one float at a time, 32 bytes apart from lane to lane, a warp would take eight lines for each, and
 * their 16 loads for a vector of x would cost more than memory does.
 */
#include "kernels/cuda/cuda.cuh"

enum { THREADS = 128 };

/* factor := w, times scale where there is one, from `at` on. */
template <int W>
__device__ static inline void
load_factors(float factor[W], const float *w, const float *scale, int at)
{
	float s[W];

	load_numbers<float, W>(factor, w + at);
	if (scale == NULL)
		return;
	load_numbers<float, W>(s, scale + at);
#pragma unroll
	for (int j = 0; j < W; j++)
		factor[j] *= s[j];
}

/* Whether vectors of floats that scale rows can be read 16 bytes at a time; NULL can. */
static bool
are_wide(const float *a, const float *b)
{
	return ((uintptr_t)a | (uintptr_t)b) % 16 == 0;
}

/* Sum of squares of a row, the same in every thread. */
template <typename T, int W>
__device__ static inline float
row_squares(const T *row, int width)
{
	float sum = 0, v[W];

	for (int at = threadIdx.x * W; at < width; at += THREADS * W) {
		load_numbers<T, W>(v, row + at);
#pragma unroll
		for (int j = 0; j < W; j++)
			sum += v[j] * v[j];
	}
	return block_sum<THREADS>(sum);
}

template <typename T, int W>
__global__ static void
rms_norm_kernel(T *y, const T *x, const float *w, const float *scale, int width, float eps)
{
	const T *in = x + (int64_t)blockIdx.x * width;
	T *out = y + (int64_t)blockIdx.x * width;
	float inverse = rsqrtf(row_squares<T, W>(in, width) / width + eps), v[W], factor[W];

	for (int at = threadIdx.x * W; at < width; at += THREADS * W) {
		load_numbers<T, W>(v, in + at);
		load_factors<W>(factor, w, scale, at);
#pragma unroll
		for (int j = 0; j < W; j++)
			v[j] *= inverse * factor[j];
		store_numbers<T, W>(out + at, v);
	}
}

void
cuda_rms_norm(struct device *d, struct tensor *y, const struct tensor *x, const struct tensor *w,
    const struct tensor *scale, float eps)
{
	unsigned rows = (unsigned)x->dim[0];
	int width = (int)(tensor_count(x) / rows);
	const float *f = (const float *)w->data, *s = scale != NULL ? (const float *)scale->data : NULL;
	bool wide = is_wide(x->data, width, dtype_size(x->type)) &&
		    is_wide(y->data, width, dtype_size(y->type)) && are_wide(f, s);

	WITH_TYPE(x->type, T, {
		launch((struct cuda_device *)d, "rms_norm", rows, THREADS,
		    wide ? rms_norm_kernel<T, full_width<T>()> : rms_norm_kernel<T, 1>, (T *)y->data,
		    (const T *)x->data, f, s, width, eps);
	});
}

/* Two passes for the statistics, for the mean may be large beside the deviation. */
template <typename T, int W>
__global__ static void
layer_norm_kernel(T *y, const T *x, const float *scale, int width, float eps)
{
	const T *in = x + (int64_t)blockIdx.x * width;
	T *out = y + (int64_t)blockIdx.x * width;
	float sum = 0, squares = 0, mean, inverse, v[W], factor[W];

	for (int at = threadIdx.x * W; at < width; at += THREADS * W) {
		load_numbers<T, W>(v, in + at);
#pragma unroll
		for (int j = 0; j < W; j++)
			sum += v[j];
	}
	mean = block_sum<THREADS>(sum) / width;
	for (int at = threadIdx.x * W; at < width; at += THREADS * W) {
		load_numbers<T, W>(v, in + at);
#pragma unroll
		for (int j = 0; j < W; j++)
			squares += (v[j] - mean) * (v[j] - mean);
	}
	inverse = rsqrtf(block_sum<THREADS>(squares) / width + eps);
	for (int at = threadIdx.x * W; at < width; at += THREADS * W) {
		load_numbers<T, W>(v, in + at);
		load_factors<W>(factor, scale, NULL, at);
#pragma unroll
		for (int j = 0; j < W; j++)
			v[j] = (v[j] - mean) * inverse * factor[j];
		store_numbers<T, W>(out + at, v);
	}
}

void
cuda_layer_norm(
    struct device *d, struct tensor *y, const struct tensor *x, const struct tensor *scale, float eps)
{
	unsigned rows = (unsigned)x->dim[0];
	int width = (int)(tensor_count(x) / rows);
	const float *s = (const float *)scale->data;
	bool wide = is_wide(x->data, width, dtype_size(x->type)) &&
		    is_wide(y->data, width, dtype_size(y->type)) && are_wide(s, NULL);

	WITH_TYPE(x->type, T, {
		launch((struct cuda_device *)d, "layer_norm", rows, THREADS,
		    wide ? layer_norm_kernel<T, full_width<T>()> : layer_norm_kernel<T, 1>, (T *)y->data,
		    (const T *)x->data, s, width, eps);
	});
}

template <typename T, int W>
__global__ static void
norm_gate_add_kernel(T *x, const T *branch, const float *w, const float *gate, int width, float eps)
{
	const T *in = branch + (int64_t)blockIdx.x * width;
	T *out = x + (int64_t)blockIdx.x * width;
	float inverse = rsqrtf(row_squares<T, W>(in, width) / width + eps), v[W], rest[W], factor[W];

	for (int at = threadIdx.x * W; at < width; at += THREADS * W) {
		load_numbers<T, W>(v, in + at);
		load_numbers<T, W>(rest, out + at);
		load_factors<W>(factor, w, gate, at);
#pragma unroll
		for (int j = 0; j < W; j++)
			rest[j] += v[j] * inverse * factor[j];
		store_numbers<T, W>(out + at, rest);
	}
}

void
cuda_norm_gate_add(struct device *d, struct tensor *x, const struct tensor *branch, const struct tensor *w,
    const struct tensor *gate, float eps)
{
	unsigned rows = (unsigned)x->dim[0];
	int width = (int)(tensor_count(x) / rows);
	const float *f = (const float *)w->data, *g = gate != NULL ? (const float *)gate->data : NULL;
	bool wide = is_wide(x->data, width, dtype_size(x->type)) &&
		    is_wide(branch->data, width, dtype_size(x->type)) && are_wide(f, g);

	WITH_TYPE(x->type, T, {
		launch((struct cuda_device *)d, "norm_gate_add", rows, THREADS,
		    wide ? norm_gate_add_kernel<T, full_width<T>()> : norm_gate_add_kernel<T, 1>,
		    (T *)x->data, (const T *)branch->data, f, g, width, eps);
	});
}

/* norm_gate_add, and rms_norm of what it leaves: 4 x 2 bytes a number where the two apart take 5. The sum of
 * squares is of x as it is stored. Every thread reads and writes its own vectors only, so u may be branch. */
template <typename T, int W>
__global__ static void
tail_kernel(T *x, T *u, const T *branch, const float *w, const float *gate, const float *next_w,
    const float *next_scale, int width, float eps)
{
	const T *in = branch + (int64_t)blockIdx.x * width;
	T *row = x + (int64_t)blockIdx.x * width, *out = u + (int64_t)blockIdx.x * width;
	float inverse = rsqrtf(row_squares<T, W>(in, width) / width + eps), sum = 0, v[W], rest[W], factor[W];

	for (int at = threadIdx.x * W; at < width; at += THREADS * W) {
		load_numbers<T, W>(v, in + at);
		load_numbers<T, W>(rest, row + at);
		load_factors<W>(factor, w, gate, at);
#pragma unroll
		for (int j = 0; j < W; j++) {
			rest[j] += v[j] * inverse * factor[j];
			rest[j] = to_float(from_float<T>(rest[j]));
			sum += rest[j] * rest[j];
		}
		store_numbers<T, W>(row + at, rest);
	}
	inverse = rsqrtf(block_sum<THREADS>(sum) / width + eps);
	for (int at = threadIdx.x * W; at < width; at += THREADS * W) {
		load_numbers<T, W>(v, row + at);
		load_factors<W>(factor, next_w, next_scale, at);
#pragma unroll
		for (int j = 0; j < W; j++)
			v[j] *= inverse * factor[j];
		store_numbers<T, W>(out + at, v);
	}
}

void
cuda_tail(struct device *d, struct tensor *x, struct tensor *u, const struct tensor *branch,
    const struct tensor *w, const struct tensor *gate, const struct tensor *next_w,
    const struct tensor *next_scale, float eps)
{
	unsigned rows = (unsigned)x->dim[0];
	int width = (int)(tensor_count(x) / rows);
	const float *f = (const float *)w->data, *g = gate != NULL ? (const float *)gate->data : NULL;
	const float *next_f = (const float *)next_w->data,
		    *s = next_scale != NULL ? (const float *)next_scale->data : NULL;
	size_t size = dtype_size(x->type);
	bool wide = is_wide(x->data, width, size) && is_wide(branch->data, width, size) &&
		    is_wide(u->data, width, size) && are_wide(f, g) && are_wide(next_f, s);

	WITH_TYPE(x->type, T, {
		launch((struct cuda_device *)d, "tail", rows, THREADS,
		    wide ? tail_kernel<T, full_width<T>()> : tail_kernel<T, 1>, (T *)x->data, (T *)u->data,
		    (const T *)branch->data, f, g, next_f, s, width, eps);
	});
}
