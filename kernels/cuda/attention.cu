/*
 * attention on CUDA, in four forms, with a table of them at the end: tiles on tensor cores for the head
 * widths of the text encoder and the transformer, on a 9.0 card (attention_wgmma.cu) and on others
 * (attention_tiled.cu); scores in memory, between two products, for the one wide head of the VAE; and a plain
 * one for the rest, which only tests use.
 */
#include <math.h>

#include "kernels/cuda/gemm.cuh"

extern "C" {
#include "kernels/cuda/attention.h"
}

enum { THREADS = 128 };

/* ---- the plain form: a block to a query row of a head. Keys come in chunks of one to a thread: scores,
 * their maximum, their weights, then every thread adds up its channels. Any width up to 4 x 128. */

enum { PLAIN_CHANNELS = 4 };

struct plain_job {
	int64_t keys;
	int heads, kv_heads, width;
	bool causal;
	float scale;
};

template <typename T>
__global__ static void
plain_kernel(T *o, const T *q, const T *k, const T *v, struct plain_job j)
{
	__shared__ float weight[THREADS], query[PLAIN_CHANNELS * THREADS];
	int64_t row = blockIdx.x, kv_row = (int64_t)j.kv_heads * j.width,
		visible = j.causal ? row + 1 : j.keys;
	int head = blockIdx.y, kv = head / (j.heads / j.kv_heads), me = threadIdx.x;
	int64_t at = (row * j.heads + head) * j.width;
	float sum[PLAIN_CHANNELS] = {0}, total = 0, largest = -INFINITY;

	for (int c = me; c < j.width; c += THREADS)
		query[c] = to_float(q[at + c]) * j.scale;
	__syncthreads();
	for (int64_t first = 0; first < visible; first += THREADS) {
		int64_t key = first + me;
		int count = visible - first < THREADS ? (int)(visible - first) : THREADS;
		float score = -INFINITY, before = largest, keep;
		if (me < count) {
			score = 0;
			for (int c = 0; c < j.width; c++)
				score += query[c] * to_float(k[key * kv_row + kv * j.width + c]);
		}
		largest = fmaxf(before, block_max<THREADS>(score));
		weight[me] = expf(score - largest);
		keep = expf(before - largest);
		total = total * keep + block_sum<THREADS>(weight[me]);
		for (int i = 0; i < PLAIN_CHANNELS && i * THREADS + me < j.width; i++) {
			const T *value = v + first * kv_row + kv * j.width + i * THREADS + me;
			sum[i] *= keep;
			for (int l = 0; l < count; l++)
				sum[i] += weight[l] * to_float(value[l * kv_row]);
		}
		__syncthreads(); /* weights have been read */
	}
	for (int i = 0; i < PLAIN_CHANNELS && i * THREADS + me < j.width; i++)
		o[at + i * THREADS + me] = from_float<T>(sum[i] / total);
}

static void
attend_plainly(struct cuda_device *c, struct tensor *o, const struct tensor *q, const struct tensor *k,
    const struct tensor *v, const struct attention_shape *s)
{
	struct plain_job j = {k->dim[0], s->heads, s->kv_heads, s->head_dim, s->causal, s->scale};
	dim3 grid((unsigned)q->dim[0], (unsigned)s->heads);

	WITH_TYPE(q->type, T, {
		launch(c, "attention", grid, THREADS, plain_kernel<T>, (T *)o->data, (const T *)q->data,
		    (const T *)k->data, (const T *)v->data, j);
	});
}

/* ---- the form with scores in memory: as many query rows at a time as the scratch has room for. At 1024x1024
 * the VAE has 16384 pixels, so 1024 rows of scores, 16 times; 2 x 2 x 16384^2 x 512 = 0.55 TFLOP. */

/* A row is softened in chunks that the registers of one block hold: at 1024x1024 a row is one. */
enum {
	SOFTENING = 512, /* threads */
	SCORES = 32,	 /* of a thread */
	CHUNK = SOFTENING * SCORES
};

/* Below every score, and still a number. */
static const float LOWEST = -0x1p127f;

/* This thread's numbers of the chunk that begins at `chunk`, W neighbours at a time; piece i begins here. */
template <int W>
__device__ static inline int
piece_at(int chunk, int i)
{
	return chunk + (i * SOFTENING + (int)threadIdx.x) * W;
}

/* All loads are under way before the first number is used. What the row does not see is -inf. */
template <int n, int W>
__device__ static inline void
load_scores(float (&score)[n][W], const float *row, int chunk, int visible)
{
#pragma unroll
	for (int i = 0; i < n; i++) {
		int at = piece_at<W>(chunk, i);
		if (at < visible)
			load_numbers<float, W>(score[i], row + at);
#pragma unroll
		for (int j = 0; j < W; j++) {
			if (at + j >= visible)
				score[i][j] = -INFINITY;
		}
	}
}

template <int n, int W>
__device__ static inline float
max_of(const float (&score)[n][W])
{
	float largest = -INFINITY;

#pragma unroll
	for (int i = 0; i < n; i++) {
#pragma unroll
		for (int j = 0; j < W; j++)
			largest = fmaxf(largest, score[i][j]);
	}
	return largest;
}

/* Scores become weights 2^(scale score - base); their sum. */
template <int n, int W>
__device__ static inline float
soften(float (&score)[n][W], float scale, float base)
{
	float sum = 0;

#pragma unroll
	for (int i = 0; i < n; i++) {
#pragma unroll
		for (int j = 0; j < W; j++) {
			score[i][j] = fast_exp2(fmaf(score[i][j], scale, -base));
			sum += score[i][j];
		}
	}
	return sum;
}

template <typename T, int n, int W>
__device__ static inline void
store_weights(T *row, float (&weight)[n][W], int chunk, int keys, float factor)
{
#pragma unroll
	for (int i = 0; i < n; i++) {
		int at = piece_at<W>(chunk, i);
#pragma unroll
		for (int j = 0; j < W; j++)
			weight[i][j] *= factor;
		if (at < keys)
			store_numbers<T, W>(row + at, weight[i]);
	}
}

/* A row of scores to a block, in place: softmax(scale x), scale times log2 e, as numbers of type T from the
 * row's beginning on. The last rows come first, and so do the last chunks: the second-level cache has them
 * still. Each thread weighs by the largest of its own scores; the row's makes a factor of that. A row of one
 * chunk is read once; of more, all but the first are read again, each before the chunk's weights are written:
 * T is not wider than float, so they lie before what has not been read. */
template <typename T, int W>
__global__ static void
__launch_bounds__(SOFTENING, 2) softmax_kernel(float *scores, int keys, int first, bool causal, float scale)
{
	int r = (int)(gridDim.x - 1 - blockIdx.x),
	    visible = causal && first + r < keys ? first + r + 1 : keys;
	float *row = scores + (int64_t)r * keys, score[SCORES / W][W], largest = LOWEST, total = 0, factor;

	for (int chunk = (keys - 1) / CHUNK * CHUNK; chunk >= 0; chunk -= CHUNK) {
		float before = largest;
		load_scores(score, row, chunk, visible);
		largest = fmaxf(before, max_of(score) * scale);
		total = total * fast_exp2(before - largest) + soften(score, scale, largest);
	}
	factor = fast_exp2(largest - block_max<SOFTENING>(largest));
	factor /= block_sum<SOFTENING>(total * factor);
	for (int chunk = 0; chunk < keys; chunk += CHUNK) {
		if (chunk > 0) {
			load_scores(score, row, chunk, visible);
			soften(score, scale, largest);
			__syncthreads();
		}
		store_weights((T *)row, score, chunk, keys, factor);
	}
}

/* Rows first .. first + rows - 1 of one head. */
static void
attend_rows(struct cuda_device *c, const struct attention_shape *s, struct tensor *o, const struct tensor *q,
    const struct tensor *k, const struct tensor *v, int head, int64_t first, int64_t rows)
{
	int64_t keys = k->dim[0], kv_row = (int64_t)s->kv_heads * s->head_dim,
		kv = head / (s->heads / s->kv_heads);
	int64_t q_row = (int64_t)s->heads * s->head_dim, at = first * q_row + (int64_t)head * s->head_dim;
	size_t size = dtype_size(q->type), kv_at = (size_t)(kv * s->head_dim) * size;
	struct gemm score = {}, mix = {};

	score.m = rows;
	score.n = keys;
	score.k = s->head_dim;
	score.lda = q_row;
	score.ldb = kv_row;
	score.ldy = keys;
	score.a = (const char *)q->data + (size_t)at * size;
	score.b = (const char *)k->data + kv_at;
	score.y = c->scratch;
	score.y_type = DT_F32;
	score.alpha = 1.0f;
	score.batch = 1;
	cuda_gemm(c, &score);
	WITH_TYPE(q->type, T, {
		launch(c, "softmax", (unsigned)rows, SOFTENING,
		    keys % 4 == 0 ? softmax_kernel<T, 4> : softmax_kernel<T, 1>, (float *)c->scratch, keys,
		    first, s->causal, s->scale * (float)M_LOG2E);
	});
	mix = score;
	mix.n = s->head_dim;
	mix.k = keys;
	mix.lda = keys * (int64_t)(sizeof(float) / size);
	mix.ldy = q_row;
	mix.a = c->scratch;
	mix.b = (const char *)v->data + kv_at;
	mix.b_is_kn = true;
	mix.y = (char *)o->data + (size_t)at * size;
	mix.y_type = o->type;
	cuda_gemm(c, &mix);
}

static void
attend_through_memory(struct cuda_device *c, struct tensor *o, const struct tensor *q, const struct tensor *k,
    const struct tensor *v, const struct attention_shape *s)
{
	int64_t queries = q->dim[0], most = SCRATCH_BYTES / (k->dim[0] * (int64_t)sizeof(float));

	if (most == 0) {
		device_fail(
		    &c->base, DEVICE_INTERNAL, "attention: %lld keys are too many", (long long)k->dim[0]);
		return;
	}
	for (int head = 0; head < s->heads; head++) {
		for (int64_t first = 0; first < queries; first += most) {
			int64_t rows = queries - first < most ? queries - first : most;
			attend_rows(c, s, o, q, k, v, head, first, rows);
		}
	}
}

/* ---- which form */

static bool
has_wide_heads(const struct cuda_device *, const struct attention_shape *s)
{
	return s->head_dim >= 256;
}

static bool
is_any(const struct cuda_device *, const struct attention_shape *)
{
	return true;
}

/* The first that takes a shape is the one for it. */
static const struct form {
	const char *name;
	bool (*takes)(const struct cuda_device *c, const struct attention_shape *s);
	void (*attend)(struct cuda_device *c, struct tensor *o, const struct tensor *q,
	    const struct tensor *k, const struct tensor *v, const struct attention_shape *s);
} forms[] = {
    {"wgmma", cuda_attention_wgmma_takes, cuda_attention_wgmma},
    {"mma", cuda_attention_tiled_takes, cuda_attention_tiled},
    {"memory", has_wide_heads, attend_through_memory},
    {"plain", is_any, attend_plainly},
};

enum { FORMS = sizeof(forms) / sizeof(forms[0]) };

const char *
cuda_attention_form(int i)
{
	return i < FORMS ? forms[i].name : NULL;
}

bool
cuda_attention_takes(const struct device *d, int i, const struct attention_shape *shape)
{
	return forms[i].takes((const struct cuda_device *)d, shape);
}

void
cuda_attention_by(struct device *d, int i, struct tensor *o, const struct tensor *q, const struct tensor *k,
    const struct tensor *v, const struct attention_shape *shape)
{
	forms[i].attend((struct cuda_device *)d, o, q, k, v, shape);
}

void
cuda_attention(struct device *d, struct tensor *o, const struct tensor *q, const struct tensor *k,
    const struct tensor *v, const struct attention_shape *shape)
{
	int i = 0;

	while (!cuda_attention_takes(d, i, shape))
		i++;
	cuda_attention_by(d, i, o, q, k, v, shape);
}
