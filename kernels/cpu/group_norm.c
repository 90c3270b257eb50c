/*
 * group_norm and group_sums on the CPU: sums of each group over strips of rows, added in the strips' order,
 * then one pass that applies. In double: the mean of a large flat picture squared is close to its mean
 * square.
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/fast_math.h"

enum { PIXELS = 1024 /* that a thread norms at a time */ };

/* sums (groups, 2): sum and sum of squares of every group over `pixels` pixels; by_channel (2 channels): room
 * for every channel's. */
static void
strip_sums(const float *x, int64_t pixels, int64_t channels, int64_t groups, double *by_channel, double *sums)
{
	int64_t width = channels / groups;

	memset(by_channel, 0, 2 * (size_t)channels * sizeof(*by_channel));
	for (int64_t p = 0; p < pixels; p++) {
		for (int64_t c = 0; c < channels; c++) {
			double v = x[p * channels + c];
			by_channel[c] += v;
			by_channel[channels + c] += v * v;
		}
	}
	memset(sums, 0, 2 * (size_t)groups * sizeof(*sums));
	for (int64_t c = 0; c < channels; c++) {
		sums[c / width * 2] += by_channel[c];
		sums[c / width * 2 + 1] += by_channel[channels + c];
	}
}

/* sums (strips, groups, 2), of which the strips of x, rows from `first` on, are put there. false after a
 * failure. */
static bool
put_sums(
    struct cpu_device *c, double *sums, const struct tensor *x, int64_t first, int64_t height, int64_t groups)
{
	int64_t rows = x->dim[0], row = x->dim[1] * x->dim[2], strip = group_strip_rows(height, x->dim[1]);
	int64_t strips = (rows + strip - 1) / strip, room = 2 * x->dim[2];
	double *by_channel = cpu_scratch(c, SCRATCH_SUMS, (size_t)(strips * room) * sizeof(double));

	assert(first % strip == 0 && (rows % strip == 0 || first + rows == height));
	if (by_channel == NULL)
		return false;
	sums += first / strip * groups * 2;
#pragma omp parallel for schedule(static)
	for (int64_t s = 0; s < strips; s++) {
		int64_t n = rows - s * strip < strip ? rows - s * strip : strip;
		strip_sums((const float *)x->data + s * strip * row, n * x->dim[1], x->dim[2], groups,
		    by_channel + s * room, sums + s * groups * 2);
	}
	return true;
}

void
cpu_group_sums(struct device *d, struct tensor *sums, const struct tensor *x, int64_t first, int64_t height)
{
	if (!cpu_failed(d))
		put_sums((struct cpu_device *)d, sums->data, x, first, height, sums->dim[1]);
}

/* Of every channel of a picture of so many strips and pixels: the mean of its group, and w / sd. */
static void
channel_factors(const double *sums, int64_t strips, int64_t pixels, int64_t channels,
    const struct group_norm *norm, float *mean, float *mul)
{
	int64_t width = channels / norm->groups;
	const float *w = norm->w->data;
	double count = (double)(pixels * width);

	for (int g = 0; g < norm->groups; g++) {
		double sum = 0, squares = 0, m, inverse;
		for (int64_t s = 0; s < strips; s++) {
			sum += sums[(s * norm->groups + g) * 2];
			squares += sums[(s * norm->groups + g) * 2 + 1];
		}
		m = sum / count;
		inverse = 1.0 / sqrt(fmax(squares / count - m * m, 0) + (double)norm->eps);
		for (int64_t c = g * width; c < (g + 1) * width; c++) {
			mean[c] = (float)m;
			mul[c] = (float)(w[c] * inverse);
		}
	}
}

bool
cpu_group_factors(
    struct cpu_device *c, struct group_factors *f, const struct tensor *x, const struct group_norm *norm)
{
	int64_t height = norm->sums != NULL ? norm->height : x->dim[0], channels = x->dim[2];
	int64_t strips = group_strips(height, x->dim[1]);
	size_t factor_bytes = 2 * (size_t)channels * sizeof(float);
	size_t sum_bytes = norm->sums != NULL ? 0 : (size_t)(strips * norm->groups * 2) * sizeof(double);
	float *mean = cpu_scratch(c, SCRATCH_FACTORS, factor_bytes + sum_bytes), *mul = mean + channels;
	double *sums = norm->sums != NULL ? norm->sums->data : (double *)(mul + channels);

	if (mean == NULL || cpu_failed(&c->base))
		return false;
	if (norm->sums == NULL && !put_sums(c, sums, x, 0, height, norm->groups))
		return false;
	channel_factors(sums, strips, height * x->dim[1], channels, norm, mean, mul);
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
	for (int64_t at = 0; at < pixels; at += PIXELS)
		cpu_group_apply(&f, (float *)y->data + at * channels, (const float *)x->data + at * channels,
		    pixels - at < PIXELS ? pixels - at : PIXELS);
}
