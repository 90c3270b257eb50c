/*
 * rms_norm and norm_gate_add on the CPU: a row to a thread.
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
