/*
 * group_norm and group_sums on CUDA, channels last, in three passes: sums of every group over strips of rows,
 * the strips' sums to a mean and a factor for every channel, and the application, which a convolution has
 * done a few rows at a time. Memory sees 2 bytes read for the sums, 2 read and 2 written for the result; the
 * sums need every processor, so a strip is short.
 *
 * A strip's sums are of x - shift, shift being its own first number in the group: the mean of a large flat
 * picture, squared, is close to its mean square, and float has not digits enough for their difference. What
 * the strips say is put together in double.
 */
#include "kernels/cuda/cuda.cuh"

enum { THREADS = 256, MAX_GROUPS = 128, MAX_CHANNELS = 2048 };

/* What a group_sums tensor holds of a strip and a group. */
struct alignas(16) group_sum {
	float sum, squares; /* of x - shift */
	float shift, unused;
};

/* A picture, or rows of one, in strips. */
struct picture {
	int64_t pixels, strip; /* of all; of one strip, the last of the picture may have fewer */
	int channels, groups, strips;
};

static struct picture
in_strips(const struct tensor *x, int64_t height, int groups)
{
	int64_t rows = group_strip_rows(height, x->dim[1]);

	return (struct picture){x->dim[0] * x->dim[1], rows * x->dim[1], (int)x->dim[2], groups,
	    (int)blocks_for(x->dim[0], rows)};
}

/* How many numbers of a group are in a strip. */
__device__ static double
strip_numbers(const struct picture &p, int s)
{
	int64_t first = s * p.strip, pixels = first + p.strip < p.pixels ? p.strip : p.pixels - first;

	return (double)pixels * (p.channels / p.groups);
}

/* sums (strips, groups). A block to a strip, and in it a thread to G groups at a time, W numbers a load: of
 * one group, or of all of two. Groups are runs of consecutive channels, so neighbouring threads read
 * neighbouring runs. Threads of more rows than one share their groups and are added in order. A thread has
 * one load under way: memory needs 16 bytes of each of 2048 on a processor, so none may have more than 32
 * registers. */
template <typename T, int W, int G>
__global__ static void
sums_kernel(struct group_sum *sums, const T *x, struct picture p)
{
	__shared__ float of_thread[2][G][THREADS];
	int width = p.channels / p.groups, across = p.groups / G, rows = THREADS / across,
	    row = threadIdx.x / across, group = threadIdx.x % across * G, length = G > 1 ? W : width;
	int64_t first = blockIdx.x * p.strip, end = first + p.strip < p.pixels ? first + p.strip : p.pixels;
	float sum[G] = {0}, squares[G] = {0}, shift[G];

	for (int g = 0; g < G; g++)
		shift[g] = to_float(x[first * p.channels + (group + g) * width]);
	for (int64_t at = first + row; row < rows && at < end; at += rows) {
		const T *run = x + at * p.channels + group * width;
		for (int c = 0; c < length; c += W) {
			float v[W];
			load_numbers<T, W>(v, run + c);
#pragma unroll
			for (int j = 0; j < W; j++) {
				int g = j * G / W;
				sum[g] += v[j] - shift[g];
				squares[g] += (v[j] - shift[g]) * (v[j] - shift[g]);
			}
		}
	}
	for (int g = 0; g < G; g++) {
		of_thread[0][g][threadIdx.x] = sum[g];
		of_thread[1][g][threadIdx.x] = squares[g];
	}
	__syncthreads();
	if (row > 0)
		return;
	for (int g = 0; g < G; g++) {
		for (int r = 1; r < rows; r++) {
			sum[g] += of_thread[0][g][r * across + threadIdx.x];
			squares[g] += of_thread[1][g][r * across + threadIdx.x];
		}
		sums[(int64_t)blockIdx.x * p.groups + group + g] =
		    (struct group_sum){sum[g], squares[g], shift[g], 0};
	}
}

/* The sum over the block's threads of v, for each of them: halves added to halves. */
__device__ static double
sum_threads(double v)
{
	__shared__ double of_thread[THREADS];

	__syncthreads(); /* an earlier sum has been read by all */
	of_thread[threadIdx.x] = v;
	for (int half = THREADS / 2; half > 0; half /= 2) {
		__syncthreads();
		if ((int)threadIdx.x < half)
			of_thread[threadIdx.x] += of_thread[threadIdx.x + half];
	}
	__syncthreads();
	return of_thread[0];
}

/* factors (2, channels): the mean, and w / deviation. A block to a group. Around the mean of all, a strip's
 * squares are those around its own and the square of the distance between the two, for each number. */
__global__ static void
factors_kernel(float *factors, const struct group_sum *sums, const float *w, struct picture p, float eps)
{
	int width = p.channels / p.groups, group = blockIdx.x, me = threadIdx.x;
	double sum = 0, squares = 0, count = (double)p.pixels * width, mean, variance;

	for (int s = me; s < p.strips; s += THREADS) {
		struct group_sum of = sums[(int64_t)s * p.groups + group];
		sum += of.sum + (double)of.shift * strip_numbers(p, s);
	}
	mean = sum_threads(sum) / count;
	for (int s = me; s < p.strips; s += THREADS) {
		struct group_sum of = sums[(int64_t)s * p.groups + group];
		double n = strip_numbers(p, s), apart = of.shift + of.sum / n - mean;
		squares += fmax(of.squares - (double)of.sum * of.sum / n, 0.0) + n * apart * apart;
	}
	variance = sum_threads(squares) / count;
	for (int c = group * width + me; c < (group + 1) * width; c += THREADS) {
		factors[c] = (float)mean;
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

/* false after failing the device: more groups or channels than the kernels are made for. */
static bool
is_possible(struct cuda_device *c, int64_t channels, int64_t groups)
{
	if (groups <= MAX_GROUPS && channels <= MAX_CHANNELS)
		return true;
	device_fail(&c->base, DEVICE_INTERNAL, "group_norm: %lld groups of %lld channels", (long long)groups,
	    (long long)channels);
	return false;
}

/* Of the strips of x, whose first is at sums. */
static void
put_sums(struct cuda_device *c, struct group_sum *sums, const struct tensor *x, struct picture p)
{
	int width = p.channels / p.groups;
	bool wide = is_wide(x->data, p.channels, dtype_size(x->type));

	WITH_TYPE(x->type, T, {
		const int W = full_width<T>();
		launch(c, "group_norm: sums", p.strips, THREADS,
		    wide && width % W == 0   ? sums_kernel<T, full_width<T>(), 1>
		    : wide && width * 2 == W ? sums_kernel<T, full_width<T>(), 2>
		    : wide && width % 4 == 0 ? sums_kernel<T, 4, 1>
					     : sums_kernel<T, 1, 1>,
		    sums, (const T *)x->data, p);
	});
}

void
cuda_group_sums(struct device *d, struct tensor *sums, const struct tensor *x, int64_t first, int64_t height)
{
	struct cuda_device *c = (struct cuda_device *)d;
	int64_t groups = sums->dim[1];
	struct picture p = in_strips(x, height, (int)groups);

	if (is_possible(c, x->dim[2], groups))
		put_sums(c, (struct group_sum *)sums->data + first * x->dim[1] / p.strip * groups, x, p);
}

const float *
cuda_group_factors(struct cuda_device *c, void *memory, const struct tensor *x, const struct group_norm *norm)
{
	struct tensor all = *x;
	struct group_sum *own = (struct group_sum *)memory;
	const struct group_sum *sums = norm->sums != NULL ? (const struct group_sum *)norm->sums->data : own;
	float *factors = (float *)(own + (size_t)GROUP_STRIPS * MAX_GROUPS);
	struct picture p;

	static_assert(
	    (size_t)GROUP_STRIPS * MAX_GROUPS * sizeof(struct group_sum) + 2 * MAX_CHANNELS * sizeof(float) <=
		FACTORS_BYTES,
	    "");
	if (!is_possible(c, x->dim[2], norm->groups))
		return NULL;
	if (norm->sums != NULL)
		all.dim[0] = norm->height;
	p = in_strips(&all, all.dim[0], norm->groups);
	if (norm->sums == NULL)
		put_sums(c, own, x, p);
	launch(c, "group_norm: factors", p.groups, THREADS, factors_kernel, factors, sums,
	    (const float *)norm->w->data, p, norm->eps);
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
