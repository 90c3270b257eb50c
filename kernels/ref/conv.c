/*
 * conv2d, by definition.
 */
#include <stdlib.h>
#include <string.h>

#include "kernels/ref/ref.h"

/* The input as the convolution sees it: doubled by nearest neighbour when asked, zero outside. */
struct source {
	const float *data; /* (h, w, c) */
	int64_t h, w, c;
	int doubling; /* 1 or 2 */
};

static const float *
source_pixel(const struct source *s, int64_t y, int64_t x)
{
	if (y < 0 || x < 0 || y >= s->h * s->doubling || x >= s->w * s->doubling)
		return NULL;
	return s->data + (y / s->doubling * s->w + x / s->doubling) * s->c;
}

/* One output number: the window at (top, left) against one filter (Cin, k, k). */
static double
window_product(const struct source *s, const float *filter, int64_t k, int64_t top, int64_t left)
{
	int64_t taps = k * k;
	double sum = 0;

	for (int64_t dy = 0; dy < k; dy++) {
		for (int64_t dx = 0; dx < k; dx++) {
			const float *pixel = source_pixel(s, top + dy, left + dx),
				    *tap = filter + dy * k + dx;
			for (int64_t c = 0; pixel != NULL && c < s->c; c++)
				sum += (double)pixel[c] * tap[c * taps];
		}
	}
	return sum;
}

/* x normed, in memory of its own; or a copy where y is made in x's memory; or x itself. What is not x is the
 * caller's to free. data NULL: no memory. */
static struct tensor
conv_input(struct device *d, const struct tensor *x, const struct tensor *y, const struct group_norm *norm)
{
	struct tensor in = *x;

	if (norm == NULL && y->data != x->data)
		return in;
	in.data = malloc(tensor_bytes(x));
	if (in.data == NULL)
		device_fail(d, DEVICE_OUT_OF_MEMORY, "no memory for a convolution's input");
	else if (norm != NULL)
		ref_group_norm(d, &in, x, norm);
	else
		memcpy(in.data, x->data, tensor_bytes(x));
	return in;
}

void
ref_conv2d(struct device *d, struct tensor *y, const struct tensor *x, const struct weight *w,
    const struct tensor *bias, const struct tensor *add, const struct conv_shape *shape)
{
	struct tensor in = conv_input(d, x, y, shape->norm);
	struct source source = {in.data, x->dim[0], x->dim[1], x->dim[2], shape->upsample2 ? 2 : 1};
	int64_t k = w->rank == 4 ? w->dim[2] : 1, outputs = w->dim[0];
	const float *b = bias != NULL ? bias->data : NULL, *rest = add != NULL ? add->data : NULL;

	if (in.data == NULL)
		return;
	for (int64_t row = 0; row < y->dim[0]; row++) {
		for (int64_t column = 0; column < y->dim[1]; column++) {
			int64_t top = row * shape->stride - shape->pad_before,
				left = column * shape->stride - shape->pad_before;
			for (int64_t o = 0; o < outputs; o++) {
				int64_t at = (row * y->dim[1] + column) * outputs + o;
				double sum =
				    window_product(&source, w->data + o * source.c * k * k, k, top, left);
				sum += (b != NULL ? b[o] : 0.0) + (rest != NULL ? rest[at] : 0.0);
				((float *)y->data)[at] = (float)sum;
			}
		}
		device_worked(d);
	}
	if (in.data != x->data)
		free(in.data);
}
