/*
 * group_norm on CUDA, channels last, in three passes: sums of every group over strips of pixels, the strips'
 * sums to a mean and a factor for every channel, and the application, which a convolution has done a few rows
 * at a time. Memory sees 2 bytes read for the sums, 2 read and 2 written for the result; the sums need every
 * processor, so a strip is short.
 *
 * Sums are of x - shift, shift being the picture's first number in the group: the mean of a large flat
 * picture, squared, is close to its mean square, and float has not digits enough for their difference.
 */
#include "kernels/cuda/cuda.cuh"

enum { THREADS = 256, MAX_STRIPS = 1024, MIN_PIXELS = 64 /* of a strip */, MAX_CHANNELS = 2048 };

struct picture {
	int64_t pixels, strip; /* pixels of one strip; the last may have fewer */
	int channels, groups, strips;
};

/* partial (strips, groups, 2): sum and sum of squares of x - shift. A block to a strip, and in it a thread to
 * a group at a time, W numbers a load; groups are runs of consecutive channels, so neighbouring threads read
 * neighbouring runs. Threads of more rows than one share a group and are added in order. */
template <typename T, int W>
__global__ static void
sums_kernel(float *partial, const T *x, struct picture p)
{
	__shared__ float sums[2][THREADS];
	int width = p.channels / p.groups, rows = THREADS / p.groups, row = threadIdx.x / p.groups,
	    group = threadIdx.x % p.groups;
	int64_t first = blockIdx.x * p.strip, end = first + p.strip < p.pixels ? first + p.strip : p.pixels;
	float sum = 0, squares = 0, shift = to_float(x[group * width]);

	for (int64_t at = first + row; row < rows && at < end; at += rows) {
		const T *run = x + at * p.channels + group * width;
		for (int c = 0; c < width; c += W) {
			float v[W];
			load_numbers<T, W>(v, run + c);
#pragma unroll
			for (int j = 0; j < W; j++) {
				sum += v[j] - shift;
				squares += (v[j] - shift) * (v[j] - shift);
			}
		}
	}
	sums[0][threadIdx.x] = sum;
	sums[1][threadIdx.x] = squares;
	__syncthreads();
	if (row > 0)
		return;
	for (int r = 1; r < rows; r++) {
		sum += sums[0][r * p.groups + group];
		squares += sums[1][r * p.groups + group];
	}
	partial[((int64_t)blockIdx.x * p.groups + group) * 2] = sum;
	partial[((int64_t)blockIdx.x * p.groups + group) * 2 + 1] = squares;
}

/* factors (2, channels): the mean, and w / deviation. A block to a group; strips are added in double. */
template <typename T>
__global__ static void
factors_kernel(float *factors, const float *partial, const T *x, const float *w, struct picture p, float eps)
{
	__shared__ double sums[2][WARP];
	int width = p.channels / p.groups, group = blockIdx.x, lane = threadIdx.x;
	double sum = 0, squares = 0, mean, variance, count = (double)p.pixels * width;

	for (int s = lane; s < p.strips; s += WARP) {
		sum += partial[((int64_t)s * p.groups + group) * 2];
		squares += partial[((int64_t)s * p.groups + group) * 2 + 1];
	}
	sums[0][lane] = sum;
	sums[1][lane] = squares;
	__syncthreads();
	sum = squares = 0;
	for (int l = 0; l < WARP; l++) {
		sum += sums[0][l];
		squares += sums[1][l];
	}
	mean = sum / count;
	variance = fmax(squares / count - mean * mean, 0.0);
	for (int c = group * width + lane; c < (group + 1) * width; c += WARP) {
		factors[c] = (float)(mean + (double)to_float(x[group * width]));
		factors[p.channels + c] = (float)(w[c] / sqrt(variance + (double)eps));
	}
}

/* The mean is taken away before the product: one fused multiply-add with b - mean mul would lose the digits
 * that a small deviation leaves. */
template <typename T, int W>
__global__ static void
apply_kernel(
    T *y, const T *x, const float *factors, const float *b, int64_t count, int channels, bool then_silu)
{
	int64_t at = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * W;
	int c = (int)(at % channels);
	float v[W], mean[W], factor[W], shift[W];

	if (at >= count)
		return;
	load_numbers<T, W>(v, x + at);
	load_numbers<float, W>(mean, factors + c);
	load_numbers<float, W>(factor, factors + channels + c);
	load_numbers<float, W>(shift, b + c);
#pragma unroll
	for (int j = 0; j < W; j++) {
		v[j] = (v[j] - mean[j]) * factor[j] + shift[j];
		v[j] = then_silu ? silu(v[j]) : v[j];
	}
	store_numbers<T, W>(y + at, v);
}

const float *
cuda_group_factors(struct cuda_device *c, void *memory, const struct tensor *x, const struct group_norm *norm)
{
	struct picture p = {x->dim[0] * x->dim[1], MIN_PIXELS, (int)x->dim[2], norm->groups, 0};
	int width = p.channels / p.groups;
	int64_t least = (p.pixels + MAX_STRIPS - 1) / MAX_STRIPS;
	float *partial = (float *)memory, *factors = partial + (size_t)MAX_STRIPS * THREADS * 2;
	bool wide = is_wide(x->data, p.channels, dtype_size(x->type));

	static_assert(((size_t)MAX_STRIPS * THREADS + MAX_CHANNELS) * 2 * sizeof(float) <= FACTORS_BYTES, "");
	if (p.groups > THREADS || p.channels > MAX_CHANNELS) {
		device_fail(
		    &c->base, DEVICE_INTERNAL, "group_norm: %d groups of %d channels", p.groups, p.channels);
		return NULL;
	}
	p.strip = least > MIN_PIXELS ? least : MIN_PIXELS;
	p.strips = (int)blocks_for(p.pixels, p.strip);
	WITH_TYPE(x->type, T, {
		const int W = full_width<T>();
		launch(c, "group_norm: sums", p.strips, THREADS,
		    wide && width % W == 0   ? sums_kernel<T, full_width<T>()>
		    : wide && width % 4 == 0 ? sums_kernel<T, 4>
					     : sums_kernel<T, 1>,
		    partial, (const T *)x->data, p);
		launch(c, "group_norm: factors", p.groups, WARP, factors_kernel<T>, factors, partial,
		    (const T *)x->data, (const float *)norm->w->data, p, norm->eps);
	});
	return factors;
}

void
cuda_group_apply(struct cuda_device *c, struct tensor *y, const struct tensor *x, const float *factors,
    const struct group_norm *norm)
{
	int64_t count = tensor_count(x);
	int channels = (int)x->dim[2];
	bool wide = is_wide(x->data, channels, dtype_size(x->type)) &&
		    is_wide(y->data, channels, dtype_size(y->type)) &&
		    is_wide(norm->b->data, channels, sizeof(float));

	WITH_TYPE(x->type, T, {
		launch(c, "group_norm: application",
		    blocks_for(count / (wide ? full_width<T>() : 1), THREADS), THREADS,
		    wide ? apply_kernel<T, full_width<T>()> : apply_kernel<T, 1>, (T *)y->data,
		    (const T *)x->data, factors, (const float *)norm->b->data, count, channels, norm->silu);
	});
}

void
cuda_group_norm(struct device *d, struct tensor *y, const struct tensor *x, const struct group_norm *norm)
{
	struct cuda_device *c = (struct cuda_device *)d;
	const float *factors = cuda_group_factors(c, c->scratch, x, norm);

	if (factors != NULL)
		cuda_group_apply(c, y, x, factors, norm);
}
