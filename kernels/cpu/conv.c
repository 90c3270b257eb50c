/*
 * conv2d on the CPU, pictures channels last: some rows of the input at a time, normed and rounded as they are
 * copied into scratch, where a convolution of oneDNN finds them in the cache.
 */
#include <stdlib.h>
#include <string.h>

#include "kernels/convert.h"
#include "kernels/cpu/convolution.h"

enum {
	STRIP_BYTES = 256 << 10, /* of a strip for each thread: half of a small second-level cache */
	CHUNK = 8192		 /* numbers that a thread prepares at a time */
};

/* Where rows of input come from. */
struct source {
	struct cpu_device *c;
	const float *x; /* (h, w, channels) */
	int64_t h, w, channels;
	const struct group_factors *factors; /* or NULL: as it is */
	size_t size;			     /* bytes of one number of the strip */
};

/* What cpu_conv2d was asked for. */
struct call {
	struct source s;
	struct tensor *y;
	const struct tensor *add; /* or NULL */
	struct weight *w;
	const float *bias; /* or NULL */
	int64_t k;
	const struct conv_shape *shape;
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

/* to: `count` rows of the input from `first` on, which are zero where there is no picture. */
static void
put_rows(const struct source *s, unsigned char *to, int64_t first, int64_t count)
{
	int64_t begin = first > 0 ? first : 0, end = first + count < s->h ? first + count : s->h;
	int64_t pixels = (end - begin) * s->w, most = CHUNK / s->channels;
	const float *from = s->x + begin * s->w * s->channels;
	size_t pixel = (size_t)s->channels * s->size, row = (size_t)s->w * pixel;
	unsigned char *inside = to + (size_t)(begin - first) * row;

	memset(to, 0, (size_t)(begin - first) * row);
	memset(to + (size_t)(end - first) * row, 0, (size_t)(first + count - end) * row);
#pragma omp parallel for schedule(static)
	for (int64_t at = 0; at < pixels; at += most)
		put_pixels(s, inside + (size_t)at * pixel, from + at * s->channels,
		    pixels - at < most ? pixels - at : most);
}

/* Room for that many rows of input; NULL after a failure. */
static unsigned char *
make_strip(const struct source *s, int64_t rows)
{
	return cpu_scratch(s->c, SCRATCH_A, (size_t)(rows * s->w * s->channels) * s->size);
}

/* Rows of output for which a strip is made at a time; all strips are alike. */
static int64_t
strip_rows(const struct source *s, int64_t rows, int stride)
{
	int64_t row = s->w * s->channels * (int64_t)s->size * stride;
	int64_t most = (int64_t)STRIP_BYTES * s->c->threads / row, strips;

	most = most > 1 ? most : 1;
	strips = (rows + most - 1) / most;
	return (rows + strips - 1) / strips;
}

/* ---- as it is */

/* Rows [row, row + count) of y, the strip of input being there. */
static void
convolve_rows(const struct call *v, int64_t row, int64_t count, const void *strip)
{
	const struct conv_shape *shape = v->shape;
	struct conv_sizes sizes = {(count - 1) * shape->stride + v->k, v->s.w, v->s.channels, count,
	    v->y->dim[1], v->y->dim[2], v->k, shape->stride, shape->pad_before, shape->pad_after,
	    v->bias != NULL, v->add != NULL};
	struct tensor to = tensor_rows(v->y, row, count);

	if (v->add != NULL && v->add->data != v->y->data)
		memcpy(to.data, tensor_rows(v->add, row, count).data, tensor_bytes(&to));
	cpu_convolve(v->s.c, &sizes, strip, v->w->data, &v->w->packed, v->bias, to.data);
}

static void
convolve(const struct call *v)
{
	const struct conv_shape *shape = v->shape;
	int64_t h = v->y->dim[0], rows = strip_rows(&v->s, h, shape->stride);
	unsigned char *strip = make_strip(&v->s, (rows - 1) * shape->stride + v->k);

	for (int64_t row = 0; row < h && strip != NULL; row += rows) {
		int64_t count = h - row < rows ? h - row : rows;
		put_rows(&v->s, strip, row * shape->stride - shape->pad_before,
		    (count - 1) * shape->stride + v->k);
		convolve_rows(v, row, count, strip);
	}
}

/* ---- behind a doubling by nearest neighbour: four 2x2 convolutions of the small picture, 16 taps for 36.
 * Output pixel (2i + a, 2j + b) sees the small picture's rows i - 1 + a and i + a, and its columns alike: row
 * r of the 3x3 kernel falls on the second where r > a. */

/* One of the four of a kernel. */
static void
fold(float to[4], const float from[9], int phase)
{
	int a = phase / 2, b = phase % 2;

	memset(to, 0, 4 * sizeof(*to));
	for (int row = 0; row < 3; row++) {
		for (int column = 0; column < 3; column++)
			to[2 * (row > a) + (column > b)] += from[3 * row + column];
	}
}

/* The four of all kernels, (4, Cout, Cin, 2, 2), made at their first use; NULL after a failure. */
static const unsigned char *
folded_weights(struct cpu_device *c, struct weight *w)
{
	int64_t count = w->dim[0] * w->dim[1];
	size_t size = dtype_size(w->type);
	float kernel[9], folded[4];

	if (w->folded != NULL)
		return w->folded;
	w->folded = malloc((size_t)(16 * count) * size);
	if (w->folded == NULL) {
		device_fail(&c->base, DEVICE_OUT_OF_MEMORY, "no memory for folded weights");
		return NULL;
	}
	for (int64_t i = 0; i < count; i++) {
		convert_to_float(kernel, (unsigned char *)w->data + (size_t)(9 * i) * size, w->type, 9);
		for (int phase = 0; phase < 4; phase++) {
			fold(folded, kernel, phase);
			convert_from_float(
			    (unsigned char *)w->folded + (size_t)(4 * (phase * count + i)) * size, w->type,
			    folded, 4);
		}
	}
	return w->folded;
}

/* One of the four, of `count` rows of the small picture from `row` on, to every other pixel of every other
 * row of y. */
static void
spread_rows(const struct call *v, const float *results, int64_t row, int64_t count, int phase)
{
	int64_t w = v->s.w, outputs = v->y->dim[2];

#pragma omp parallel for schedule(static)
	for (int64_t i = 0; i < count * w; i++) {
		int64_t at = ((2 * (row + i / w) + phase / 2) * 2 * w + 2 * (i % w) + phase % 2) * outputs;
		const float *from = results + i * outputs, *rest = v->add != NULL ? v->add->data : NULL;
		float *to = (float *)v->y->data + at;
		for (int64_t c = 0; c < outputs; c++)
			to[c] = from[c] + (rest != NULL ? rest[at + c] : 0.0f);
	}
}

static void
convolve_doubled(const struct call *v)
{
	const struct source *s = &v->s;
	int64_t outputs = v->y->dim[2], rows = strip_rows(s, s->h, 1);
	unsigned char *strip = make_strip(s, rows + 2);
	float *results = cpu_scratch(s->c, SCRATCH_B, (size_t)(rows * s->w * outputs) * sizeof(float));
	const unsigned char *folded = folded_weights(s->c, v->w);
	size_t row_bytes = (size_t)(s->w * s->channels) * s->size;
	size_t phase_bytes = (size_t)(4 * outputs * s->channels) * s->size;

	for (int64_t row = 0; row < s->h && !cpu_failed(&s->c->base); row += rows) {
		int64_t count = s->h - row < rows ? s->h - row : rows;
		put_rows(s, strip, row - 1, count + 2);
		for (int phase = 0; phase < 4; phase++) {
			int a = phase / 2, b = phase % 2;
			struct conv_sizes sizes = {count + 1, s->w, s->channels, count, s->w, outputs, 2, 1,
			    1 - b, b, v->bias != NULL, false};
			cpu_convolve(s->c, &sizes, strip + (size_t)a * row_bytes,
			    folded + (size_t)phase * phase_bytes, &v->w->packed_folded[phase], v->bias,
			    results);
			spread_rows(v, results, row, count, phase);
		}
	}
}

/* ---- the operation */

void
cpu_conv2d(struct device *d, struct tensor *y, const struct tensor *x, const struct weight *w,
    const struct tensor *bias, const struct tensor *add, const struct conv_shape *shape)
{
	struct cpu_device *c = (struct cpu_device *)d;
	struct call v = {
	    .s = {c, x->data, x->dim[0], x->dim[1], x->dim[2], NULL, dtype_size(cpu_product_type(c))},
	    .y = y,
	    .add = add,
	    .w = (struct weight *)w, /* whose layout is made */
	    .bias = bias != NULL ? bias->data : NULL,
	    .k = w->rank == 4 ? w->dim[2] : 1,
	    .shape = shape};
	struct group_factors factors;

	if (v.s.channels > CHUNK || (shape->upsample2 && (v.k != 3 || shape->pad_before != 1)))
		device_fail(d, DEVICE_INTERNAL, "conv2d: %lld channels, kernel %lld", (long long)v.s.channels,
		    (long long)v.k);
	if (cpu_failed(d))
		return;
	if (shape->norm != NULL) {
		if (!cpu_group_factors(c, &factors, x, shape->norm))
			return;
		v.s.factors = &factors;
	}
	if (shape->upsample2)
		convolve_doubled(&v);
	else
		convolve(&v);
}
