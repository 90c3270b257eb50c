/*
 * conv2d on the CPU, pictures channels last: some rows of the input at a time, normed and rounded as they are
 * copied into scratch, where a convolution of oneDNN finds them in the cache.
 */
#include <stdlib.h>
#include <string.h>

#include "kernels/convert.h"
#include "kernels/cpu/convolution.h"

enum { STRIP_BYTES = 1 << 20, CHUNK = 8192 /* numbers that a thread prepares at a time */ };

/* Where rows of input come from. */
struct source {
	struct cpu_device *c;
	const float *x;			     /* (h / doubling, w / doubling, channels) */
	int64_t h, w, channels;		     /* as the convolution sees it */
	int doubling;			     /* 1, or 2: each pixel is seen as four */
	const struct group_factors *factors; /* or NULL: as it is */
	size_t size;			     /* bytes of one number of the strip */
};

/* count pixels, normed and rounded. */
static void
put_pixels(const struct source *s, void *to, const float *x, int64_t count)
{
	int64_t numbers = count * s->channels;
	float normed[CHUNK];

	if (s->factors != NULL) {
		float *y = s->size == sizeof(float) ? to : normed;
		cpu_group_apply(s->factors, y, x, count);
		x = y;
	}
	if (s->size != sizeof(float)) {
		for (int64_t i = 0; i < numbers; i++)
			((uint16_t *)to)[i] = bf16_of_float(x[i]);
	} else if (x != to)
		memcpy(to, x, (size_t)numbers * sizeof(float));
}

/* Rows [begin, end) of the picture. */
static void
put_picture(const struct source *s, unsigned char *to, int64_t begin, int64_t end)
{
	int64_t pixels = (end - begin) * s->w, most = CHUNK / s->channels;
	const float *from = s->x + begin * s->w * s->channels;
	size_t pixel = (size_t)s->channels * s->size;

#pragma omp parallel for schedule(static)
	for (int64_t at = 0; at < pixels; at += most)
		put_pixels(s, to + (size_t)at * pixel, from + at * s->channels,
		    pixels - at < most ? pixels - at : most);
}

/* The same of a picture that is to be doubled. */
static void
put_doubled(const struct source *s, unsigned char *to, int64_t begin, int64_t end)
{
	size_t pixel = (size_t)s->channels * s->size;

#pragma omp parallel for schedule(static)
	for (int64_t row = begin; row < end; row++) {
		const float *from = s->x + row / 2 * (s->w / 2) * s->channels;
		unsigned char *at = to + (size_t)((row - begin) * s->w) * pixel;
		for (int64_t column = 0; column < s->w; column++, at += pixel)
			put_pixels(s, at, from + column / 2 * s->channels, 1);
	}
}

/* to: `count` rows of the input from `first` on, which are zero where there is no picture. */
static void
put_rows(const struct source *s, unsigned char *to, int64_t first, int64_t count)
{
	int64_t begin = first > 0 ? first : 0, end = first + count < s->h ? first + count : s->h;
	size_t row = (size_t)(s->w * s->channels) * s->size;
	unsigned char *inside = to + (size_t)(begin - first) * row;

	memset(to, 0, (size_t)(begin - first) * row);
	memset(to + (size_t)(end - first) * row, 0, (size_t)(first + count - end) * row);
	if (s->doubling == 2)
		put_doubled(s, inside, begin, end);
	else
		put_picture(s, inside, begin, end);
}

/* Rows of output for which a strip is made at a time: about STRIP_BYTES of input, all strips alike. */
static int64_t
strip_rows(const struct source *s, int64_t rows, int stride)
{
	int64_t most = STRIP_BYTES / (s->w * s->channels * (int64_t)s->size * stride), strips;

	most = most > 1 ? most : 1;
	strips = (rows + most - 1) / most;
	return (rows + strips - 1) / strips;
}

/* Rows [row, row + count) of y, the strip of input being there. */
static void
convolve_rows(const struct source *s, struct tensor *y, int64_t row, int64_t count, const void *strip,
    const struct weight *w, const struct tensor *bias, const struct tensor *add,
    const struct conv_shape *shape)
{
	int64_t k = w->rank == 4 ? w->dim[2] : 1;
	struct conv_sizes sizes = {(count - 1) * shape->stride + k, s->w, s->channels, count, y->dim[1],
	    y->dim[2], k, shape->stride, shape->pad_before, shape->pad_after, bias != NULL, add != NULL};
	struct tensor to = tensor_rows(y, row, count);

	if (add != NULL && add->data != y->data)
		memcpy(to.data, tensor_rows(add, row, count).data, tensor_bytes(&to));
	cpu_convolve(s->c, &sizes, strip, w->data, &((struct weight *)w)->packed,
	    bias != NULL ? bias->data : NULL, to.data);
}

void
cpu_conv2d(struct device *d, struct tensor *y, const struct tensor *x, const struct weight *w,
    const struct tensor *bias, const struct tensor *add, const struct conv_shape *shape)
{
	struct cpu_device *c = (struct cpu_device *)d;
	int doubling = shape->upsample2 ? 2 : 1;
	struct source s = {c, x->data, x->dim[0] * doubling, x->dim[1] * doubling, x->dim[2], doubling, NULL,
	    dtype_size(cpu_product_type(c))};
	int64_t k = w->rank == 4 ? w->dim[2] : 1, rows = strip_rows(&s, y->dim[0], shape->stride);
	int64_t most = (rows - 1) * shape->stride + k;
	unsigned char *strip = cpu_scratch(c, SCRATCH_A, (size_t)(most * s.w * s.channels) * s.size);
	struct group_factors factors;

	if (s.channels > CHUNK)
		device_fail(d, DEVICE_INTERNAL, "conv2d: %lld channels", (long long)s.channels);
	if (strip == NULL || cpu_failed(d))
		return;
	if (shape->norm != NULL) {
		if (!cpu_group_factors(c, &factors, x, shape->norm))
			return;
		s.factors = &factors;
	}
	for (int64_t row = 0; row < y->dim[0]; row += rows) {
		int64_t count = y->dim[0] - row < rows ? y->dim[0] - row : rows;
		put_rows(&s, strip, row * shape->stride - shape->pad_before, (count - 1) * shape->stride + k);
		convolve_rows(&s, y, row, count, strip, w, bias, add, shape);
	}
}
