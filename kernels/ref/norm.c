/*
 * rms_norm, layer_norm, norm_gate_add, group_norm and group_sums, by definition.
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "kernels/ref/ref.h"

/* 1 / sqrt(mean(x^2) + eps) over n numbers. */
static double
inverse_rms(const float *x, int64_t n, double eps)
{
	double sum = 0;

	for (int64_t i = 0; i < n; i++)
		sum += (double)x[i] * x[i];
	return 1.0 / sqrt(sum / (double)n + eps);
}

void
ref_rms_norm(struct device *d, struct tensor *y, const struct tensor *x, const struct tensor *w,
    const struct tensor *scale, float eps)
{
	int64_t rows = x->dim[0], n = tensor_count(x) / rows;
	const float *weight = w->data, *s = scale != NULL ? scale->data : NULL;

	(void)d;
	for (int64_t i = 0; i < rows; i++) {
		const float *in = (const float *)x->data + i * n;
		float *out = (float *)y->data + i * n;
		double inverse = inverse_rms(in, n, eps);
		for (int64_t j = 0; j < n; j++)
			out[j] = (float)(in[j] * inverse * weight[j] * (s != NULL ? s[j] : 1.0));
	}
}

void
ref_layer_norm(
    struct device *d, struct tensor *y, const struct tensor *x, const struct tensor *scale, float eps)
{
	int64_t rows = x->dim[0], n = tensor_count(x) / rows;
	const float *s = scale->data;

	(void)d;
	for (int64_t i = 0; i < rows; i++) {
		const float *in = (const float *)x->data + i * n;
		float *out = (float *)y->data + i * n;
		double mean = 0, variance = 0;
		for (int64_t j = 0; j < n; j++)
			mean += in[j];
		mean /= (double)n;
		for (int64_t j = 0; j < n; j++)
			variance += (in[j] - mean) * (in[j] - mean);
		variance /= (double)n;
		for (int64_t j = 0; j < n; j++)
			out[j] = (float)((in[j] - mean) / sqrt(variance + eps) * s[j]);
	}
}

void
ref_norm_gate_add(struct device *d, struct tensor *x, const struct tensor *branch, const struct tensor *w,
    const struct tensor *gate, float eps)
{
	int64_t rows = x->dim[0], n = tensor_count(x) / rows;
	const float *weight = w->data, *g = gate != NULL ? gate->data : NULL;

	(void)d;
	for (int64_t i = 0; i < rows; i++) {
		const float *in = (const float *)branch->data + i * n;
		float *out = (float *)x->data + i * n;
		double inverse = inverse_rms(in, n, eps);
		for (int64_t j = 0; j < n; j++)
			out[j] = (float)(out[j] + (g != NULL ? g[j] : 1.0) * (in[j] * inverse * weight[j]));
	}
}

void
ref_tail(struct device *d, struct tensor *x, struct tensor *u, const struct tensor *branch,
    const struct tensor *w, const struct tensor *gate, const struct tensor *next_w,
    const struct tensor *next_scale, float eps)
{
	ref_norm_gate_add(d, x, branch, w, gate, eps);
	ref_rms_norm(d, u, x, next_w, next_scale, eps);
}

/* Mean and variance over the channels [first, first + width) of all pixels. */
static void
group_moments(const float *x, int64_t pixels, int64_t channels, int64_t first, int64_t width, double *mean,
    double *variance)
{
	double sum = 0, squares = 0, count = (double)(pixels * width);

	for (int64_t p = 0; p < pixels; p++) {
		for (int64_t c = first; c < first + width; c++)
			sum += x[p * channels + c];
	}
	*mean = sum / count;
	for (int64_t p = 0; p < pixels; p++) {
		for (int64_t c = first; c < first + width; c++)
			squares += (x[p * channels + c] - *mean) * (x[p * channels + c] - *mean);
	}
	*variance = squares / count;
}

/* Mean and variance of a group whose sums and sums of squares lie strip by strip. */
static void
summed_moments(
    const struct group_norm *norm, int64_t w, int64_t width, int group, double *mean, double *variance)
{
	const double *sums = norm->sums->data;
	int64_t strip = group_strip_rows(norm->height, w);
	double sum = 0, squares = 0, count = (double)(norm->height * w * width);

	for (int64_t s = 0; s * strip < norm->height; s++) {
		sum += sums[(s * norm->groups + group) * 2];
		squares += sums[(s * norm->groups + group) * 2 + 1];
	}
	*mean = sum / count;
	*variance = fmax(squares / count - *mean * *mean, 0);
}

void
ref_group_sums(struct device *d, struct tensor *sums, const struct tensor *x, int64_t first, int64_t height)
{
	int64_t w = x->dim[1], channels = x->dim[2], groups = sums->dim[1], width = channels / groups;
	int64_t strip = group_strip_rows(height, w);
	const float *in = x->data;

	(void)d;
	assert(first % strip == 0 && (x->dim[0] % strip == 0 || first + x->dim[0] == height));
	for (int64_t row = 0; row < x->dim[0]; row += strip) {
		int64_t rows = x->dim[0] - row < strip ? x->dim[0] - row : strip;
		double *to = (double *)sums->data + (first + row) / strip * groups * 2;
		memset(to, 0, (size_t)groups * 2 * sizeof(*to));
		for (int64_t at = row * w * channels; at < (row + rows) * w * channels; at++) {
			int64_t group = at % channels / width;
			to[2 * group] += in[at];
			to[2 * group + 1] += (double)in[at] * in[at];
		}
	}
}

void
ref_group_norm(struct device *d, struct tensor *y, const struct tensor *x, const struct group_norm *norm)
{
	int64_t pixels = x->dim[0] * x->dim[1], channels = x->dim[2], width = channels / norm->groups;
	const float *in = x->data, *weight = norm->w->data, *bias = norm->b->data;
	float *out = y->data;

	(void)d;
	for (int64_t first = 0; first < channels; first += width) {
		double mean, variance;
		if (norm->sums != NULL)
			summed_moments(norm, x->dim[1], width, (int)(first / width), &mean, &variance);
		else
			group_moments(in, pixels, channels, first, width, &mean, &variance);
		for (int64_t p = 0; p < pixels; p++) {
			for (int64_t c = first; c < first + width; c++) {
				double v =
				    (in[p * channels + c] - mean) / sqrt(variance + norm->eps) * weight[c] +
				    bias[c];
				out[p * channels + c] = (float)(norm->silu ? v / (1.0 + exp(-v)) : v);
			}
		}
	}
}
