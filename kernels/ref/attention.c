/*
 * qkv_norm_rope and attention, by definition.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/ref/ref.h"

/* RMS over one head, then the rotation by the row's angles. */
static void
norm_rotate_head(float *out, const float *in, const float *norm, const float *cos, const float *sin,
    int width, enum rope_pairs pairs, double eps)
{
	double sum = 0, inverse;

	for (int i = 0; i < width; i++)
		sum += (double)in[i] * in[i];
	inverse = 1.0 / sqrt(sum / width + eps);
	for (int j = 0; j < width / 2; j++) {
		int ia = pairs == ROPE_HALVES ? j : 2 * j,
		    ib = pairs == ROPE_HALVES ? j + width / 2 : 2 * j + 1;
		double a = in[ia] * inverse * norm[ia], b = in[ib] * inverse * norm[ib];
		out[ia] = (float)(a * cos[j] - b * sin[j]);
		out[ib] = (float)(a * sin[j] + b * cos[j]);
	}
}

void
ref_qkv_norm_rope(struct device *d, struct tensor *q, struct tensor *k, struct tensor *v,
    const struct tensor *qkv, const struct tensor *norm_q, const struct tensor *norm_k,
    const struct tensor *cos, const struct tensor *sin, const struct attention_shape *shape,
    enum rope_pairs pairs, float eps)
{
	int width = shape->head_dim;
	int64_t q_row = (int64_t)shape->heads * width, kv_row = (int64_t)shape->kv_heads * width;

	(void)d;
	for (int64_t i = 0; i < qkv->dim[0]; i++) {
		const float *in = (const float *)qkv->data + i * (q_row + 2 * kv_row);
		const float *c = (const float *)cos->data + i * (width / 2),
			    *s = (const float *)sin->data + i * (width / 2);
		for (int h = 0; h < shape->heads; h++)
			norm_rotate_head((float *)q->data + i * q_row + h * width, in + h * width,
			    norm_q->data, c, s, width, pairs, eps);
		for (int h = 0; h < shape->kv_heads; h++)
			norm_rotate_head((float *)k->data + i * kv_row + h * width, in + q_row + h * width,
			    norm_k->data, c, s, width, pairs, eps);
		memcpy((float *)v->data + i * kv_row, in + q_row + kv_row, (size_t)kv_row * sizeof(float));
	}
}

/* One row of one head: softmax(scale q k^T) v over `visible` rows of stride kv_row. */
static void
attend_row(float *out, const float *q, const float *k, const float *v, int64_t visible, int64_t kv_row,
    int width, double scale, double *scores)
{
	double largest = -INFINITY, total = 0;

	for (int64_t j = 0; j < visible; j++) {
		double dot = 0;
		for (int c = 0; c < width; c++)
			dot += (double)q[c] * k[j * kv_row + c];
		scores[j] = dot * scale;
		largest = scores[j] > largest ? scores[j] : largest;
	}
	for (int64_t j = 0; j < visible; j++) {
		scores[j] = exp(scores[j] - largest);
		total += scores[j];
	}
	for (int c = 0; c < width; c++) {
		double sum = 0;
		for (int64_t j = 0; j < visible; j++)
			sum += scores[j] * v[j * kv_row + c];
		out[c] = (float)(sum / total);
	}
}

void
ref_attention(struct device *d, struct tensor *o, const struct tensor *q, const struct tensor *k,
    const struct tensor *v, const struct attention_shape *shape)
{
	int width = shape->head_dim, share = shape->heads / shape->kv_heads;
	int64_t q_row = (int64_t)shape->heads * width, kv_row = (int64_t)shape->kv_heads * width;
	double *scores = malloc((size_t)k->dim[0] * sizeof(double));

	if (scores == NULL) {
		device_fail(
		    d, DEVICE_OUT_OF_MEMORY, "no memory for %lld attention scores", (long long)k->dim[0]);
		return;
	}
	for (int64_t i = 0; i < q->dim[0]; i++) {
		for (int h = 0; h < shape->heads; h++) {
			int64_t at = i * q_row + h * width, kv_at = h / share * width;
			attend_row((float *)o->data + at, (const float *)q->data + at,
			    (const float *)k->data + kv_at, (const float *)v->data + kv_at,
			    shape->causal ? i + 1 : k->dim[0], kv_row, width, shape->scale, scores);
		}
		device_worked(d);
	}
	free(scores);
}
