/*
 * add, swiglu, activate, affine, axpy and to_pixels, by definition.
 */
#include <math.h>

#include "kernels/ref/ref.h"

static double
silu(double x)
{
	return x / (1.0 + exp(-x));
}

void
ref_add(struct device *d, struct tensor *x, const struct tensor *y)
{
	float *out = x->data;

	(void)d;
	for (int64_t i = 0; i < tensor_count(x); i++)
		out[i] = (float)(out[i] + (double)((const float *)y->data)[i]);
}

void
ref_swiglu(struct device *d, struct tensor *y, const struct tensor *x)
{
	int64_t rows = y->dim[0], width = tensor_count(y) / rows;

	(void)d;
	for (int64_t i = 0; i < rows; i++) {
		const float *gate = (const float *)x->data + i * 2 * width, *up = gate + width;
		for (int64_t j = 0; j < width; j++)
			((float *)y->data)[i * width + j] = (float)(silu(gate[j]) * up[j]);
	}
}

void
ref_activate(struct device *d, struct tensor *y, const struct tensor *x, enum activation f)
{
	const float *in = x->data;
	float *out = y->data;

	(void)d;
	for (int64_t i = 0; i < tensor_count(x); i++)
		out[i] = (float)(f == ACT_SILU ? silu(in[i]) : f == ACT_TANH ? tanh(in[i]) : 1.0 + in[i]);
}

void
ref_affine(struct device *d, struct tensor *y, const struct tensor *x, float mul, float add)
{
	(void)d;
	for (int64_t i = 0; i < tensor_count(x); i++)
		((float *)y->data)[i] = (float)((double)((const float *)x->data)[i] * mul + add);
}

void
ref_axpy(struct device *d, struct tensor *x, const struct tensor *a, const struct tensor *y)
{
	double factor = *(const float *)a->data;
	float *out = x->data;

	(void)d;
	for (int64_t i = 0; i < tensor_count(x); i++)
		out[i] = (float)(out[i] + factor * ((const float *)y->data)[i]);
}

void
ref_to_pixels(struct device *d, struct tensor *pixels, const struct tensor *x)
{
	(void)d;
	for (int64_t i = 0; i < tensor_count(x); i++) {
		float v = ((const float *)x->data)[i] / 2 + 0.5f;
		float clamped = v < 0 ? 0 : v > 1 ? 1 : v;
		((uint8_t *)pixels->data)[i] =
		    (uint8_t)rintf(clamped * 255.0f); /* the default rounding: half to even */
	}
}
