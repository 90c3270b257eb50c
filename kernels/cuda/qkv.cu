/*
 * qkv_norm_rope on CUDA: every number is read and written once, 2 x 2 bytes; at 4224 rows of 90 heads of 128
 * that is 195 MB.
 *
 * Heads of 64 and 128 channels lie in a few lanes, 16 bytes in each: 16 lanes at width 128 in bf16, so a warp
 * has two heads, and 512 bytes of its own under way. Pairs of neighbours are in one lane; those of halves are
 * in two, half the lanes of a head apart. Other widths, which only tests use, take a warp to a head and two
 * readings.
 */
#include "kernels/cuda/cuda.cuh"

enum { THREADS = 128 };

struct rope_job {
	int heads, kv_heads, width;
	enum rope_pairs pairs;
	float eps;
	int64_t rows;
};

/* One head of one row. */
template <typename T> struct head {
	T *out;
	const T *in;
	const float *norm;	/* (width); NULL: it is copied */
	const float *cos, *sin; /* (width / 2) */
};

/* Head number `unit` of all rows, each row's q, k and v heads in their order. */
template <typename T>
__device__ static inline head<T>
find_head(T *q, T *k, T *v, const T *qkv, const float *norm_q, const float *norm_k, const float *cos,
    const float *sin, const struct rope_job &j, int64_t unit)
{
	int all = j.heads + 2 * j.kv_heads, number = (int)(unit % all), kv = number - j.heads,
	    value = kv - j.kv_heads;
	int64_t row = unit / all, kv_row = row * j.kv_heads * j.width;
	head<T> h = {NULL, qkv + unit * j.width, NULL, cos + row * (j.width / 2), sin + row * (j.width / 2)};

	if (kv < 0) {
		h.out = q + (row * j.heads + number) * j.width;
		h.norm = norm_q;
	} else if (value < 0) {
		h.out = k + kv_row + kv * j.width;
		h.norm = norm_k;
	} else {
		h.out = v + kv_row + value * j.width;
	}
	return h;
}

/* ---- any width */

template <typename T>
__global__ static void
plain_kernel(T *q, T *k, T *v, const T *qkv, const float *norm_q, const float *norm_k, const float *cos,
    const float *sin, struct rope_job j)
{
	int64_t warp = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / WARP;
	int lane = threadIdx.x % WARP, half = j.width / 2;
	float sum = 0, inverse;

	if (warp >= j.rows * (j.heads + 2 * j.kv_heads))
		return;
	head<T> h = find_head(q, k, v, qkv, norm_q, norm_k, cos, sin, j, warp);
	for (int i = lane; i < j.width; i += WARP)
		sum += to_float(h.in[i]) * to_float(h.in[i]);
	inverse = rsqrtf(warp_sum(sum) / j.width + j.eps);
	for (int i = lane; i < half; i += WARP) {
		int ia = j.pairs == ROPE_HALVES ? i : 2 * i,
		    ib = j.pairs == ROPE_HALVES ? i + half : 2 * i + 1;
		float a = to_float(h.in[ia]), b = to_float(h.in[ib]);
		if (h.norm != NULL) {
			float na = a * inverse * h.norm[ia], nb = b * inverse * h.norm[ib];
			a = na * h.cos[i] - nb * h.sin[i];
			b = na * h.sin[i] + nb * h.cos[i];
		}
		h.out[ia] = from_float<T>(a);
		h.out[ib] = from_float<T>(b);
	}
}

/* ---- in vectors */

/* x, a lane's W channels: (a, b) -> (a cos - b sin, a sin + b cos), a and b being neighbours. */
template <int W>
__device__ static inline void
rotate_neighbours(float x[W], const float *cos, const float *sin, int part)
{
	float c[W / 2], s[W / 2];

	load_numbers<float, W / 2>(c, cos + part * (W / 2));
	load_numbers<float, W / 2>(s, sin + part * (W / 2));
#pragma unroll
	for (int i = 0; i < W / 2; i++) {
		float a = x[2 * i], b = x[2 * i + 1];
		x[2 * i] = a * c[i] - b * s[i];
		x[2 * i + 1] = a * s[i] + b * c[i];
	}
}

/* The same where b is half a head further: the first half of the lanes has a, the other has b. */
template <int W, int lanes>
__device__ static inline void
rotate_halves(float x[W], const float *cos, const float *sin, int part)
{
	float c[W], s[W], sign = part < lanes / 2 ? -1.0f : 1.0f;

	load_numbers<float, W>(c, cos + part % (lanes / 2) * W);
	load_numbers<float, W>(s, sin + part % (lanes / 2) * W);
#pragma unroll
	for (int i = 0; i < W; i++) {
		float other = __shfl_xor_sync(0xffffffffu, x[i], lanes / 2);
		x[i] = x[i] * c[i] + sign * other * s[i];
	}
}

/* A head to `lanes` lanes. Those past the last head do it again and keep it to themselves: all lanes of a
 * warp exchange numbers. */
template <typename T, int lanes>
__global__ static void
vector_kernel(T *q, T *k, T *v, const T *qkv, const float *norm_q, const float *norm_k, const float *cos,
    const float *sin, struct rope_job j)
{
	const int W = full_width<T>();
	int64_t unit = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / lanes,
		last = j.rows * (j.heads + 2 * j.kv_heads) - 1;
	head<T> h = find_head(q, k, v, qkv, norm_q, norm_k, cos, sin, j, unit < last ? unit : last);
	int part = threadIdx.x % lanes;
	float x[W], y[W], w[W], sum = 0, inverse;

	load_numbers<T, W>(x, h.in + part * W);
#pragma unroll
	for (int i = 0; i < W; i++)
		sum += x[i] * x[i];
#pragma unroll
	for (int distance = lanes / 2; distance > 0; distance /= 2)
		sum += __shfl_xor_sync(0xffffffffu, sum, distance);
	inverse = rsqrtf(sum / (lanes * W) + j.eps);
	/* Values go along, and come out as they were: a warp may have a key and a value, and exchanges are
	 * for all.
	 */
	load_numbers<float, W>(w, (h.norm != NULL ? h.norm : norm_k) + part * W);
#pragma unroll
	for (int i = 0; i < W; i++)
		y[i] = x[i] * inverse * w[i];
	if (j.pairs == ROPE_HALVES)
		rotate_halves<W, lanes>(y, h.cos, h.sin, part);
	else
		rotate_neighbours<W>(y, h.cos, h.sin, part);
#pragma unroll
	for (int i = 0; i < W; i++)
		y[i] = h.norm != NULL ? y[i] : x[i];
	if (unit <= last)
		store_numbers<T, W>(h.out + part * W, y);
}

/* ---- which */

template <typename T> struct form {
	void (*kernel)(T *q, T *k, T *v, const T *qkv, const float *norm_q, const float *norm_k,
	    const float *cos, const float *sin, struct rope_job j);
	int lanes; /* of a head */
};

template <typename T>
static struct form<T>
choose(int width, bool wide) {
	if (wide && width == 128)
		return {vector_kernel<T, 128 / full_width<T>()>, 128 / full_width<T>()};
	if (wide && width == 64)
		return {vector_kernel<T, 64 / full_width<T>()>, 64 / full_width<T>()};
	return {plain_kernel<T>, WARP};
}

static bool
starts_wide(const struct tensor *t)
{
	return (uintptr_t)t->data % 16 == 0;
}

void
cuda_qkv_norm_rope(struct device *d, struct tensor *q, struct tensor *k, struct tensor *v,
    const struct tensor *qkv, const struct tensor *norm_q, const struct tensor *norm_k,
    const struct tensor *cos, const struct tensor *sin, const struct attention_shape *shape,
    enum rope_pairs pairs, float eps)
{
	struct rope_job j = {shape->heads, shape->kv_heads, shape->head_dim, pairs, eps, qkv->dim[0]};
	int64_t heads = j.rows * (j.heads + 2 * j.kv_heads);
	bool wide = starts_wide(q) && starts_wide(k) && starts_wide(v) && starts_wide(qkv) &&
		    starts_wide(norm_q) && starts_wide(norm_k) && starts_wide(cos) && starts_wide(sin);

	WITH_TYPE(qkv->type, T, {
		struct form<T> f = choose<T>(j.width, wide);
		launch((struct cuda_device *)d, "qkv_norm_rope", blocks_for(heads * f.lanes, THREADS),
		    THREADS, f.kernel, (T *)q->data, (T *)k->data, (T *)v->data, (const T *)qkv->data,
		    (const float *)norm_q->data, (const float *)norm_k->data, (const float *)cos->data,
		    (const float *)sin->data, j);
	});
}
