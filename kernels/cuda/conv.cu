/*
 * conv2d on CUDA: which form, and whose rows at a time. A convolution is an implicit product: its kernels
 * gather the windows of the picture tap by tap, and none of them is ever made (conv_wgmma.cu, conv_tiled.cu,
 * conv_plain.cu). A 1x1 one is a product as it is; where its result takes its picture's place, so many pixels
 * at a time are copied out of the way. One behind a doubling is four on the small picture (conv_fold.cu).
 *
 * Where the picture is normed first, so are the rows that a strip of the result sees: half of the
 * second-level cache (50 MiB on an H100), where they stay until they have been read.
 */
#include "kernels/cuda/conv.cuh"
#include "kernels/cuda/gemm.cuh"

extern "C" {
#include "kernels/cuda/conv.h"
}

enum {
	STRIP_BYTES = SCRATCH_BYTES - FACTORS_BYTES, /* at most */
	STRIP_ROWS = 32 /* strips are multiples of so many: kernels/SPEED.md has the turns that they take */
};

/* The first that takes a job is the one for it. */
static const struct form {
	const char *name;
	bool (*takes)(const struct cuda_device *c, const struct conv_job *j);
	void (*convolve)(struct cuda_device *c, const struct conv_job *j);
} forms[] = {
    {"wgmma", cuda_conv_wgmma_takes, cuda_conv_wgmma},
    {"mma", cuda_conv_tiled_takes, cuda_conv_tiled},
    {"plain", cuda_conv_plain_takes, cuda_conv_plain},
};

enum { FORMS = sizeof(forms) / sizeof(forms[0]) };

/* What cuda_conv2d was asked for, or some rows of it. */
struct convolution {
	struct tensor y, x, add; /* add.data may be NULL */
	struct weight *w;
	const struct tensor *bias; /* or NULL */
	int k, stride, top, left;
	bool doubled;
	const struct form *form; /* NULL: the first that takes it */
};

/* What is made for a strip and is then read should still be in the cache; of none a driver may say 0. */
static int64_t
strip_bytes(const struct cuda_device *c)
{
	int64_t half = c->cache_bytes / 2;

	return half > 0 && half < STRIP_BYTES ? half : STRIP_BYTES;
}

/* ---- 1x1 */

static bool
is_product(const struct convolution *v)
{
	return v->form == NULL && v->k == 1 && v->stride == 1 && v->top == 0 && v->left == 0 && !v->doubled;
}

/* Every pixel is a row of the left side. In place a strip's results end before its pixels do, and other
 * strips' pixels are further on. */
static void
multiply_pixels(struct cuda_device *c, const struct convolution *v)
{
	size_t size = dtype_size(v->x.type);
	int64_t pixels = v->x.dim[0] * v->x.dim[1], strip = pixels;
	bool in_place = v->y.data == v->x.data;
	struct gemm g = {};

	g.n = g.ldy = v->w->dim[0];
	g.k = g.lda = g.ldb = v->w->dim[1];
	g.b = v->w->data;
	g.bias = cuda_bias(c, v->bias);
	g.y_type = v->y.type;
	g.alpha = 1.0f;
	g.batch = 1;
	if (in_place)
		strip = strip_bytes(c) / (g.k * (int64_t)size);
	for (int64_t first = 0; first < pixels; first += strip) {
		g.m = pixels - first < strip ? pixels - first : strip;
		g.a = (const char *)v->x.data + (size_t)(first * g.k) * size;
		g.y = (char *)v->y.data + (size_t)(first * g.n) * size;
		if (v->add.data != NULL)
			g.add = (const char *)v->add.data + (size_t)(first * g.n) * size;
		if (in_place) {
			cuda_convert(c, c->scratch, v->x.type, g.a, v->x.type, g.m * g.k);
			g.a = c->scratch;
		}
		cuda_gemm(c, &g);
	}
}

/* ---- others */

static void
run_form(struct cuda_device *c, const struct convolution *v, const struct conv_job *j)
{
	const struct form *form = v->form;

	for (int i = 0; form == NULL; i++) {
		if (forms[i].takes(c, j))
			form = &forms[i];
	}
	if (!cuda_failed(c))
		form->convolve(c, j);
}

static struct conv_job
job_of(const struct convolution *v)
{
	struct conv_job j = {};
	size_t size = dtype_size(v->y.type);

	j.x = v->x.data;
	j.filters = v->w->data;
	j.bias = v->bias != NULL ? (const float *)v->bias->data : NULL;
	j.add = v->add.data;
	j.y = v->y.data;
	j.h = (int)v->x.dim[0];
	j.w = (int)v->x.dim[1];
	j.channels = (int)v->x.dim[2];
	j.outputs = (int)v->y.dim[2];
	j.k = v->k;
	j.stride = v->stride;
	j.top = v->top;
	j.left = v->left;
	j.out_h = (int)v->y.dim[0];
	j.out_w = (int)v->y.dim[1];
	j.phases = 1;
	j.wide = is_wide(j.y, j.outputs, size) && is_wide(j.add, j.outputs, size) &&
		 is_wide(j.bias, j.outputs, sizeof(float));
	return j;
}

static void
convolve(struct cuda_device *c, const struct convolution *v)
{
	struct conv_job j = job_of(v);

	if (is_product(v)) {
		multiply_pixels(c, v);
		return;
	}
	if (v->doubled) {
		j.filters = cuda_folded_filters(c, v->w);
		j.k = 2;
		j.phases = 4;
		j.out_h /= 2;
		j.out_w /= 2;
	}
	run_form(c, v, &j);
}

/* ---- of a normed picture */

/* Rows of y that see at most so much; 0: not even one. */
static int64_t
rows_within(const struct convolution *v, int64_t bytes)
{
	int64_t seen = bytes / (v->x.dim[1] * v->x.dim[2] * (int64_t)dtype_size(v->x.type));

	return seen < v->k ? 0 : (seen - v->k) / v->stride + 1;
}

/* Rows of y at a time; one where the cache has room for none. */
static int64_t
strip_rows(const struct cuda_device *c, const struct convolution *v)
{
	int64_t rows = rows_within(v, strip_bytes(c));

	if (rows > STRIP_ROWS)
		rows -= rows % STRIP_ROWS;
	return rows > 0 ? rows : 1;
}

/* Rows [row, row + count) of y: what they see of x is normed, and is then the picture. */
static void
convolve_strip(struct cuda_device *c, const struct convolution *all, const struct group_norm *norm,
    const float *factors, int64_t row, int64_t count)
{
	struct convolution v = *all;
	int64_t first = row * v.stride - v.top, end = first + (count - 1) * v.stride + v.k;
	int64_t begin = first > 0 ? first : 0, h = all->x.dim[0];
	struct tensor seen = tensor_rows(&all->x, begin, (end < h ? end : h) - begin);

	v.x = seen;
	v.x.data = (char *)c->scratch + FACTORS_BYTES;
	v.y = tensor_rows(&all->y, row, count);
	if (v.add.data != NULL)
		v.add = tensor_rows(&all->add, row, count);
	v.top = (int)(begin - first);
	cuda_group_apply(c, &v.x, &seen, factors, norm);
	convolve(c, &v);
}

static void
convolve_normed(struct cuda_device *c, const struct convolution *v, const struct group_norm *norm)
{
	const float *factors = cuda_group_factors(c, c->scratch, &v->x, norm);
	int64_t rows = strip_rows(c, v), h = v->y.dim[0];

	for (int64_t row = 0; row < h && factors != NULL; row += rows)
		convolve_strip(c, v, norm, factors, row, h - row < rows ? h - row : rows);
}

/* ---- which */

/* Whether what a row of the result sees finds room where it is normed; and what a doubling is folded for. */
static bool
is_possible(const struct convolution *v, const struct conv_shape *shape)
{
	if (shape->upsample2)
		return shape->norm == NULL && v->k == 3 && v->stride == 1 && v->top == 1;
	return shape->norm == NULL || rows_within(v, STRIP_BYTES) > 0;
}

static void
conv2d(struct cuda_device *c, const struct form *form, struct tensor *y, const struct tensor *x,
    const struct weight *w, const struct tensor *bias, const struct tensor *add,
    const struct conv_shape *shape)
{
	struct convolution v = {*y, *x, {}, (struct weight *)w, bias, w->rank == 4 ? (int)w->dim[2] : 1,
	    shape->stride, shape->pad_before, shape->pad_before, shape->upsample2, form};

	if (cuda_failed(c))
		return;
	if (!is_possible(&v, shape)) {
		device_fail(&c->base, DEVICE_INTERNAL, "conv2d: %lldx%lld of %lld channels, kernel %d",
		    (long long)x->dim[0], (long long)x->dim[1], (long long)x->dim[2], v.k);
		return;
	}
	if (add != NULL)
		v.add = *add;
	if (shape->norm != NULL)
		convolve_normed(c, &v, shape->norm);
	else
		convolve(c, &v);
}

void
cuda_conv2d(struct device *d, struct tensor *y, const struct tensor *x, const struct weight *w,
    const struct tensor *bias, const struct tensor *add, const struct conv_shape *shape)
{
	conv2d((struct cuda_device *)d, NULL, y, x, w, bias, add, shape);
}

/* ---- side by side */

const char *
cuda_conv_form(int i)
{
	return i < FORMS ? forms[i].name : NULL;
}

bool
cuda_conv_takes(const struct device *d, int i, int channels, int k, int stride)
{
	struct conv_job j = {};

	j.channels = channels;
	j.k = k;
	j.stride = stride;
	return forms[i].takes((const struct cuda_device *)d, &j);
}

void
cuda_conv_by(struct device *d, int i, struct tensor *y, const struct tensor *x, const struct weight *w,
    const struct tensor *bias, const struct tensor *add, const struct conv_shape *shape)
{
	conv2d((struct cuda_device *)d, &forms[i], y, x, w, bias, add, shape);
}
