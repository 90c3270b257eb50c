/*
 * qkv_norm_rope and attention on the CPU. Scores are made for a block of query rows at a time, so memory does
 * not grow with the square of the sequence; both products go through oneDNN, the softmax is ours.
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/fast_math.h"

enum { SCORE_BLOCK = 4 * 1024 * 1024 /* numbers */, LANES = 16 };

static void
norm_rotate_head(float *out, const float *in, const float *norm, const float *cos, const float *sin,
    int width, enum rope_pairs pairs, float eps)
{
	float lanes[LANES] = {0}, inverse;
	double sum = 0;
	int half = width / 2;

	for (int i = 0; i < width; i++)
		lanes[i % LANES] += in[i] * in[i];
	for (int l = 0; l < LANES; l++)
		sum += lanes[l];
	inverse = (float)(1.0 / sqrt(sum / width + (double)eps));
	if (pairs == ROPE_HALVES) {
		for (int j = 0; j < half; j++) {
			float a = in[j] * inverse * norm[j], b = in[j + half] * inverse * norm[j + half];
			out[j] = a * cos[j] - b * sin[j];
			out[j + half] = a * sin[j] + b * cos[j];
		}
		return;
	}
	for (int j = 0; j < half; j++) {
		float a = in[2 * j] * inverse * norm[2 * j], b = in[2 * j + 1] * inverse * norm[2 * j + 1];
		out[2 * j] = a * cos[j] - b * sin[j];
		out[2 * j + 1] = a * sin[j] + b * cos[j];
	}
}

void
cpu_qkv_norm_rope(struct device *d, struct tensor *q, struct tensor *k, struct tensor *v,
    const struct tensor *qkv, const struct tensor *norm_q, const struct tensor *norm_k,
    const struct tensor *cos, const struct tensor *sin, const struct attention_shape *shape,
    enum rope_pairs pairs, float eps)
{
	int width = shape->head_dim, heads = shape->heads, kv_heads = shape->kv_heads;
	int64_t rows = qkv->dim[0], q_row = (int64_t)heads * width, kv_row = (int64_t)kv_heads * width;

	(void)d;
#pragma omp parallel for schedule(static)
	for (int64_t i = 0; i < rows; i++) {
		const float *in = (const float *)qkv->data + i * (q_row + 2 * kv_row);
		const float *c = (const float *)cos->data + i * (width / 2),
			    *s = (const float *)sin->data + i * (width / 2);
		for (int h = 0; h < heads; h++)
			norm_rotate_head((float *)q->data + i * q_row + h * width, in + h * width,
			    norm_q->data, c, s, width, pairs, eps);
		for (int h = 0; h < kv_heads; h++)
			norm_rotate_head((float *)k->data + i * kv_row + h * width, in + q_row + h * width,
			    norm_k->data, c, s, width, pairs, eps);
		memcpy((float *)v->data + i * kv_row, in + q_row + kv_row, (size_t)kv_row * sizeof(float));
	}
}

/* ---- softmax */

/* One row in place: e^(scale (x - max)) over the first `visible` numbers, zero beyond, divided by the sum. */
static void
softmax_row(float *x, int64_t n, int64_t visible, float scale)
{
	float largest = x[0], lanes[LANES] = {0}, inverse;
	double sum = 0;
	int64_t i = 0;

	for (int64_t j = 1; j < visible; j++)
		largest = x[j] > largest ? x[j] : largest;
	for (int64_t j = 0; j < visible; j++)
		x[j] = fast_exp(scale * (x[j] - largest));
	for (; i + LANES <= visible; i += LANES) {
		for (int l = 0; l < LANES; l++)
			lanes[l] += x[i + l];
	}
	for (int l = 0; l < LANES; l++)
		sum += lanes[l];
	for (; i < visible; i++)
		sum += x[i];
	inverse = (float)(1.0 / sum);
	for (int64_t j = 0; j < visible; j++)
		x[j] *= inverse;
	for (int64_t j = visible; j < n; j++)
		x[j] = 0;
}

/* Scores (rows, n) of query rows from `first` on. */
static void
softmax_rows(float *scores, int64_t rows, int64_t n, int64_t first, const struct attention_shape *shape)
{
#pragma omp parallel for schedule(static)
	for (int64_t i = 0; i < rows; i++)
		softmax_row(scores + i * n, n, shape->causal ? first + i + 1 : n, shape->scale);
}

/* ---- attention */

/* Inputs in the product type, with their row lengths. */
struct inputs {
	const char *q, *k, *v;
	int64_t q_row, kv_row, keys;
	size_t size; /* bytes of a number */
	float *scores;
};

/* Rows first .. first + rows - 1 of head h. */
static void
attend_block(struct cpu_device *c, const struct inputs *in, float *o, int64_t first, int64_t rows, int h,
    const struct attention_shape *shape)
{
	int width = shape->head_dim, kv = h / (shape->heads / shape->kv_heads);
	struct gemm score = {.m = rows,
	    .n = in->keys,
	    .k = width,
	    .lda = in->q_row,
	    .b_row = 1,
	    .b_column = in->kv_row,
	    .ldy = in->keys,
	    .y = in->scores};
	struct gemm mix = {.m = rows,
	    .n = width,
	    .k = in->keys,
	    .lda = in->keys,
	    .b_row = in->kv_row,
	    .b_column = 1,
	    .ldy = in->q_row,
	    .y = o + first * in->q_row + h * width};

	score.a = in->q + (size_t)(first * in->q_row + h * width) * in->size;
	score.b = in->k + (size_t)(kv * width) * in->size;
	cpu_gemm(c, &score);
	softmax_rows(in->scores, rows, in->keys, first, shape);
	mix.a = cpu_product_input(c, SCRATCH_SCORES, in->scores, rows * in->keys);
	mix.b = in->v + (size_t)(kv * width) * in->size;
	if (mix.a != NULL)
		cpu_gemm(c, &mix);
}

void
cpu_attention(struct device *d, struct tensor *o, const struct tensor *q, const struct tensor *k,
    const struct tensor *v, const struct attention_shape *shape)
{
	struct cpu_device *c = (struct cpu_device *)d;
	int64_t queries = q->dim[0], keys = k->dim[0],
		block = SCORE_BLOCK / keys > 0 ? SCORE_BLOCK / keys : 1;
	struct inputs in = {.q_row = (int64_t)shape->heads * shape->head_dim,
	    .kv_row = (int64_t)shape->kv_heads * shape->head_dim,
	    .keys = keys,
	    .size = dtype_size(cpu_product_type(c))};

	block = block < queries ? block : queries;
	in.q = cpu_product_input(c, SCRATCH_A, q->data, tensor_count(q));
	in.k = cpu_product_input(c, SCRATCH_B, k->data, tensor_count(k));
	in.v = cpu_product_input(c, SCRATCH_C, v->data, tensor_count(v));
	in.scores = cpu_scratch(c, SCRATCH_SUMS, (size_t)(block * keys) * sizeof(float));
	for (int64_t first = 0; first < queries && !cpu_failed(d); first += block) {
		int64_t rows = queries - first < block ? queries - first : block;
		for (int h = 0; h < shape->heads; h++)
			attend_block(c, &in, o->data, first, rows, h, shape);
	}
}
