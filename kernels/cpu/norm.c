/*
 * rms_norm, norm_gate_add and group_norm on the CPU: a row or a strip of pixels to a thread.
 */
#include <math.h>
#include <stdlib.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/fast_math.h"

enum { LANES = 16 };

/* Sum of squares in sixteen float lanes, then in double: the compiler keeps the lanes in vectors. */
static double
sum_of_squares(const float *x, int64_t n)
{
	float lanes[LANES] = {0};
	double sum = 0;
	int64_t i = 0;

	for (; i + LANES <= n; i += LANES) {
		for (int l = 0; l < LANES; l++)
			lanes[l] += x[i + l] * x[i + l];
	}
	for (int l = 0; l < LANES; l++)
		sum += lanes[l];
	for (; i < n; i++)
		sum += (double)x[i] * x[i];
	return sum;
}

static float
inverse_rms(const float *x, int64_t n, float eps)
{
	return (float)(1.0 / sqrt(sum_of_squares(x, n) / (double)n + (double)eps));
}

void
cpu_rms_norm(struct device *d, struct tensor *y, const struct tensor *x, const struct tensor *w,
    const struct tensor *scale, float eps)
{
	int64_t rows = x->dim[0], n = tensor_count(x) / rows;
	const float *weight = w->data, *s = scale != NULL ? scale->data : NULL;

	(void)d;
#pragma omp parallel for schedule(static)
	for (int64_t i = 0; i < rows; i++) {
		const float *in = (const float *)x->data + i * n;
		float *out = (float *)y->data + i * n;
		float inverse = inverse_rms(in, n, eps);
		if (s != NULL) {
			for (int64_t j = 0; j < n; j++)
				out[j] = in[j] * inverse * weight[j] * s[j];
		} else {
			for (int64_t j = 0; j < n; j++)
				out[j] = in[j] * inverse * weight[j];
		}
	}
}

void
cpu_norm_gate_add(struct device *d, struct tensor *x, const struct tensor *branch, const struct tensor *w,
    const struct tensor *gate, float eps)
{
	int64_t rows = x->dim[0], n = tensor_count(x) / rows;
	const float *weight = w->data, *g = gate != NULL ? gate->data : NULL;

	(void)d;
#pragma omp parallel for schedule(static)
	for (int64_t i = 0; i < rows; i++) {
		const float *in = (const float *)branch->data + i * n;
		float *out = (float *)x->data + i * n;
		float inverse = inverse_rms(in, n, eps);
		if (g != NULL) {
			for (int64_t j = 0; j < n; j++)
				out[j] += g[j] * (in[j] * inverse * weight[j]);
		} else {
			for (int64_t j = 0; j < n; j++)
				out[j] += in[j] * inverse * weight[j];
		}
	}
}

void
cpu_tail(struct device *d, struct tensor *x, struct tensor *u, const struct tensor *branch,
    const struct tensor *w, const struct tensor *gate, const struct tensor *next_w,
    const struct tensor *next_scale, float eps)
{
	cpu_norm_gate_add(d, x, branch, w, gate, eps);
	cpu_rms_norm(d, u, x, next_w, next_scale, eps);
}

/* ---- group norm: sums of each channel over strips of pixels, added in the strips' order; then one pass that
 * applies. In double: the mean of a large flat picture squared is close to its mean square. */

enum { STRIP = 1024 /* pixels */ };

/* sums (2 channels): sum and sum of squares of every channel over `pixels` pixels. */
static void
strip_sums(const float *x, int64_t pixels, int64_t channels, double *sums)
{
	for (int64_t c = 0; c < 2 * channels; c++)
		sums[c] = 0;
	for (int64_t p = 0; p < pixels; p++) {
		for (int64_t c = 0; c < channels; c++) {
			double v = x[p * channels + c];
			sums[c] += v;
			sums[channels + c] += v * v;
		}
	}
}

/* The first strip's sums become all strips' sums. */
static void
add_strips(double *sums, int64_t strips, int64_t channels)
{
	for (int64_t s = 1; s < strips; s++) {
		for (int64_t c = 0; c < 2 * channels; c++)
			sums[c] += sums[s * 2 * channels + c];
	}
}

/* Of every channel: the mean of its group, and w / sd. */
static void
channel_factors(const double *sums, int64_t pixels, int64_t channels, const struct group_norm *norm,
    float *mean, float *mul)
{
	int64_t width = channels / norm->groups;
	const float *w = norm->w->data;
	double count = (double)(pixels * width);

	for (int64_t first = 0; first < channels; first += width) {
		double sum = 0, squares = 0, m, inverse;
		for (int64_t c = first; c < first + width; c++) {
			sum += sums[c];
			squares += sums[channels + c];
		}
		m = sum / count;
		inverse = 1.0 / sqrt(fmax(squares / count - m * m, 0) + (double)norm->eps);
		for (int64_t c = first; c < first + width; c++) {
			mean[c] = (float)m;
			mul[c] = (float)(w[c] * inverse);
		}
	}
}

bool
cpu_group_factors(
    struct cpu_device *c, struct group_factors *f, const struct tensor *x, const struct group_norm *norm)
{
	int64_t pixels = x->dim[0] * x->dim[1], channels = x->dim[2], strips = (pixels + STRIP - 1) / STRIP;
	size_t sum_bytes = (size_t)(strips * 2 * channels) * sizeof(double);
	double *sums = cpu_scratch(c, SCRATCH_SUMS, sum_bytes + 2 * (size_t)channels * sizeof(float));
	float *mul, *mean;
	const float *in = x->data;

	if (sums == NULL || cpu_failed(&c->base))
		return false;
	mul = (float *)((char *)sums + sum_bytes);
	mean = mul + channels;
#pragma omp parallel for schedule(static)
	for (int64_t s = 0; s < strips; s++) {
		int64_t n = pixels - s * STRIP < STRIP ? pixels - s * STRIP : STRIP;
		strip_sums(in + s * STRIP * channels, n, channels, sums + s * 2 * channels);
	}
	add_strips(sums, strips, channels);
	channel_factors(sums, pixels, channels, norm, mean, mul);
	*f = (struct group_factors){channels, mean, mul, norm->b->data, norm->silu};
	return true;
}

/* The mean is taken away before the product: x mul + (b - mean mul) in one would lose the digits that a small
 * variance leaves. */
void
cpu_group_apply(const struct group_factors *f, float *y, const float *x, int64_t pixels)
{
	int64_t channels = f->channels;
	const float *mean = f->mean, *mul = f->mul, *b = f->b;

	for (int64_t p = 0; p < pixels; p++, x += channels, y += channels) {
		if (f->silu) {
			for (int64_t c = 0; c < channels; c++)
				y[c] = fast_silu((x[c] - mean[c]) * mul[c] + b[c]);
		} else {
			for (int64_t c = 0; c < channels; c++)
				y[c] = (x[c] - mean[c]) * mul[c] + b[c];
		}
	}
}

void
cpu_group_norm(struct device *d, struct tensor *y, const struct tensor *x, const struct group_norm *norm)
{
	int64_t pixels = x->dim[0] * x->dim[1], channels = x->dim[2];
	struct group_factors f;

	if (!cpu_group_factors((struct cpu_device *)d, &f, x, norm))
		return;
#pragma omp parallel for schedule(static)
	for (int64_t at = 0; at < pixels; at += STRIP)
		cpu_group_apply(&f, (float *)y->data + at * channels, (const float *)x->data + at * channels,
		    pixels - at < STRIP ? pixels - at : STRIP);
}
