/*
 * add and swiglu on the CPU.
 */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/fast_math.h"

void
cpu_add(struct device *d, struct tensor *x, const struct tensor *y)
{
	int64_t count = tensor_count(x);
	const float *in = y->data;
	float *out = x->data;

	(void)d;
#pragma omp parallel for schedule(static)
	for (int64_t i = 0; i < count; i++)
		out[i] += in[i];
}

void
cpu_swiglu(struct device *d, struct tensor *y, const struct tensor *x)
{
	int64_t rows = y->dim[0], width = tensor_count(y) / rows;

	(void)d;
#pragma omp parallel for schedule(static)
	for (int64_t i = 0; i < rows; i++) {
		const float *gate = (const float *)x->data + i * 2 * width, *up = gate + width;
		float *out = (float *)y->data + i * width;
		for (int64_t j = 0; j < width; j++)
			out[j] = fast_silu(gate[j]) * up[j];
	}
}
