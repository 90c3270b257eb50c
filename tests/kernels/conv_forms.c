/*
 * The shapes are about tiles of 16 x 16 pixels (128 in a row for mma), of 128, 32 and 8 outputs and of 64
 * channels: one less, one more, pictures smaller than a tile, rings of boxes and taps that go round, more
 * tiles than blocks. Tolerances: as the operation's.
 */
#include "tests/kernels/conv_forms.h"

#include <string.h>

#include "kernels/cuda/conv.h"

/* How the windows lie. */
static const struct kind {
	int k;
	struct conv_shape shape;
} kinds[] = {
    {3, {1, 1, 1, false, NULL}},
    {1, {1, 0, 0, false, NULL}},
    {3, {1, 1, 1, true, NULL}},
    {3, {1, 0, 2, false, NULL}},
    {2, {1, 1, 0, false, NULL}},
    {3, {1, 2, 2, false, NULL}}, /* larger than the picture */
    {3, {2, 0, 1, false, NULL}},
    {5, {1, 2, 2, false, NULL}},
};

enum { SAME, ONE, DOUBLED, AFTER, TWO, WIDER, HALVED, FIVE };

static int
form_of(const char *name)
{
	int i = 0;

	while (strcmp(cuda_conv_form(i), name) != 0)
		i++;
	return i;
}

static const char *
form_name(const struct operation *o)
{
	return strrchr(o->name, ' ') + 1;
}

bool
conv_form_is_here(const struct device *d, const struct operation *o)
{
	return cuda_conv_takes(d, form_of(form_name(o)), 64, 3, 1);
}

static int64_t
side_of(int64_t side, const struct kind *kind)
{
	const struct conv_shape *s = &kind->shape;

	return (side * (s->upsample2 ? 2 : 1) + s->pad_before + s->pad_after - kind->k) / s->stride + 1;
}

/* By ref as ever. y may hold what is added. */
static void
convolve_by(const char *form, struct bench *b, struct tensor *y, const struct tensor *x,
    const struct weight *w, const struct tensor *bias, bool add, const struct conv_shape *shape)
{
	if (strcmp(b->ops->name, "cuda") == 0)
		cuda_conv_by(b->d, form_of(form), y, x, w, bias, add ? y : NULL, shape);
	else
		b->ops->conv2d(b->d, y, x, w, bias, add ? y : NULL, shape);
}

/* h, w, inputs, outputs, kind, whether there are a bias and a picture to add to */
static struct tensor
run_by(const char *form, struct bench *b, const struct shape *s)
{
	const struct kind *kind = &kinds[s->n[4]];
	int64_t dim[] = {side_of(s->n[0], kind), side_of(s->n[1], kind), s->n[3]};
	struct tensor x = bench_random(b, 3, DIM(s->n[0], s->n[1], s->n[2])), bias = bench_vector(b, s->n[3]),
		      y = s->n[5] ? bench_random(b, 3, dim) : bench_empty(b, device_act_type(b->d), 3, dim);
	struct weight *w = bench_weight(b, WEIGHT_CONV, 4, DIM(s->n[3], s->n[2], kind->k, kind->k));

	convolve_by(form, b, &y, &x, w, s->n[5] ? &bias : NULL, s->n[5], &kind->shape);
	return y;
}

/* h, w, inputs, outputs, kind, groups: behind a norm, added to what is there */
static struct tensor
run_normed_by(const char *form, struct bench *b, const struct shape *s)
{
	const struct kind *kind = &kinds[s->n[4]];
	struct tensor x = bench_random(b, 3, DIM(s->n[0], s->n[1], s->n[2])),
		      y = bench_random(b, 3, DIM(side_of(s->n[0], kind), side_of(s->n[1], kind), s->n[3])),
		      scale = bench_vector(b, s->n[2]), shift = bench_vector(b, s->n[2]),
		      bias = bench_vector(b, s->n[3]);
	struct weight *w = bench_weight(b, WEIGHT_CONV, 4, DIM(s->n[3], s->n[2], kind->k, kind->k));
	struct group_norm norm = {
	    .w = &scale, .b = &shift, .groups = (int)s->n[5], .eps = 1e-6f, .silu = true};
	struct conv_shape shape = kind->shape;

	shape.norm = &norm;
	convolve_by(form, b, &y, &x, w, &bias, true, &shape);
	return y;
}

#define FORM(name) \
	static struct tensor run_##name(struct bench *b, const struct shape *s) \
	{ \
		return run_by(#name, b, s); \
	} \
	static struct tensor run_normed_##name(struct bench *b, const struct shape *s) \
	{ \
		return run_normed_by(#name, b, s); \
	}

FORM(wgmma)
FORM(mma)
FORM(plain)

/* clang-format off */
#define TILES \
	{{{1, 1, 8, 1, SAME, 1}}, {{16, 16, 64, 128, SAME, 1}}, {{17, 33, 72, 136, SAME, 1}}, \
	 {{6, 31, 128, 8, SAME, 0}}, {{18, 5, 24, 36, DOUBLED, 1}}, {{9, 17, 64, 130, DOUBLED, 0}}, \
	 {{33, 20, 136, 3, SAME, 1}}, {{3, 40, 64, 257, ONE, 1}}}
#define WINDOWS \
	{{{15, 16, 64, 40, AFTER, 1}}, {{16, 15, 64, 40, TWO, 1}}, {{2, 1, 32, 32, WIDER, 0}}, \
	 {{5, 160, 16, 33, AFTER, 0}}, {{1, 17, 64, 9, DOUBLED, 1}}, {{7, 7, 40, 7, TWO, 0}}, \
	 {{4, 9, 320, 64, ONE, 0}}, {{2, 130, 8, 31, SAME, 1}}}
#define NORMED \
	{{{1, 1, 16, 3, SAME, 4}}, {{20, 30, 64, 64, SAME, 32}}, {{40, 45, 64, 16, SAME, 8}}, \
	 {{70, 20, 64, 5, TWO, 4}}, {{21, 75, 48, 32, AFTER, 4}}, {{12, 20, 128, 128, ONE, 32}}}
#define ODD \
	{{{12, 18, 64, 40, HALVED, 1}}, {{30, 34, 8, 130, HALVED, 0}}, {{9, 11, 16, 24, FIVE, 1}}, \
	 {{33, 2, 72, 64, FIVE, 1}}, {{1, 1, 8, 8, HALVED, 0}}}
#define UNEVEN \
	{{{12, 19, 5, 7, HALVED, 1}}, {{9, 11, 3, 2, SAME, 0}}, {{4, 5, 9, 4, DOUBLED, 1}}, {{3, 2, 12, 6, WIDER, 1}}}
/* clang-format on */

const struct operation conv_forms[] = {
    {"conv2d, wgmma", run_wgmma, 2e-5, 1.2e-2, 8e-3, TILES},
    {"conv2d, windows, wgmma", run_wgmma, 2e-5, 1.2e-2, 8e-3, WINDOWS},
    {"conv2d, normed, wgmma", run_normed_wgmma, 2e-5, 1.2e-2, 8e-3, NORMED},
    {"conv2d, mma", run_mma, 2e-5, 1.2e-2, 8e-3, TILES},
    {"conv2d, windows, mma", run_mma, 2e-5, 1.2e-2, 8e-3, WINDOWS},
    {"conv2d, odd windows, mma", run_mma, 2e-5, 1.2e-2, 8e-3, ODD},
    {"conv2d, normed, mma", run_normed_mma, 2e-5, 1.2e-2, 8e-3, NORMED},
    {"conv2d, windows, plain", run_plain, 2e-5, 1.2e-2, 8e-3, WINDOWS},
    {"conv2d, uneven, plain", run_plain, 2e-5, 1.2e-2, 8e-3, UNEVEN},
    {"conv2d, normed, plain", run_normed_plain, 2e-5, 1.2e-2, 8e-3, NORMED},
};

const size_t conv_form_count = sizeof(conv_forms) / sizeof(conv_forms[0]);
