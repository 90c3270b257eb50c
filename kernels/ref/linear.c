/*
 * embed and linear, by definition.
 */
#include <string.h>

#include "kernels/ref/ref.h"

void
ref_embed(struct device *d, struct tensor *y, const struct weight *table, const int32_t *ids)
{
	int64_t width = table->dim[1];

	(void)d;
	for (int64_t t = 0; t < y->dim[0]; t++)
		memcpy((float *)y->data + t * width, table->data + ids[t] * width,
		    (size_t)width * sizeof(float));
}

void
ref_linear(struct device *d, struct tensor *y, const struct tensor *x, const struct weight *w,
    const struct tensor *bias)
{
	int64_t rows = x->dim[0], n = w->dim[0], k = tensor_count(x) / rows;
	const float *b = bias != NULL ? bias->data : NULL;

	for (int64_t i = 0; i < rows; i++) {
		const float *in = (const float *)x->data + i * k;
		for (int64_t j = 0; j < n; j++) {
			const float *row = w->data + j * k;
			double sum = b != NULL ? b[j] : 0.0;
			for (int64_t p = 0; p < k; p++)
				sum += (double)in[p] * row[p];
			((float *)y->data)[i * n + j] = (float)sum;
		}
		device_worked(d);
	}
}
