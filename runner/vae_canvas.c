/*
 * The decoder's stages. Pictures lie channels last: (h, w, C).
 *
 * The memory is that of the largest picture and of what a resnet makes beside it, and no more: norms are
 * taken by the convolutions that read them, and a resnet adds to its picture where that is. A shortcut
 * narrows the picture in place. At full size that is 1.5 pictures of 256 channels.
 */
#include "runner/vae_canvas.h"

#include <math.h>

#define NORM_EPS 1e-6f

bool
canvas_is_plan(const struct canvas *c)
{
	return c->buffer[0].memory == NULL;
}

struct arena *
canvas_beside(struct canvas *c)
{
	struct arena *a = &c->buffer[1 - c->current];

	arena_reset(a);
	return a;
}

static struct tensor
make_picture(const struct canvas *c, struct arena *a, int64_t h, int64_t w, int channels)
{
	return arena_tensor(a, device_act_type(c->vae->device), 3, (int64_t[]){h, w, channels});
}

/* The picture is now y, made in the other buffer. */
static void
canvas_move(struct canvas *c, const struct tensor *y)
{
	c->current = 1 - c->current;
	c->picture = *y;
}

static struct group_norm
norm_of(const struct vae *v, const struct norm *n, bool silu)
{
	return (struct group_norm){
	    .w = &n->weight, .b = &n->bias, .groups = v->config.groups, .eps = NORM_EPS, .silu = silu};
}

/* The rows of x that are right in the end, `scale` rows for one of the band. */
static struct tensor
own_rows(const struct band *b, const struct tensor *x, int64_t *scale)
{
	*scale = x->dim[0] / (b->end - b->begin);
	return tensor_rows(x, (b->first - b->begin) * *scale, b->count * *scale);
}

static bool
is_over(const struct canvas *c)
{
	return c->band != NULL && c->band->met > c->band->known;
}

/* The norm of a band that comes next on its walk, before x: false where the sums of all rows are not there
 * yet; the first time the band's are put there. */
static bool
meet_norm(struct canvas *c, struct group_norm *norm, struct tensor *sums, const struct tensor *x)
{
	struct band *b = c->band;
	int i = b->met++;
	struct tensor own;
	int64_t scale;

	if (canvas_is_plan(c) || i > b->known)
		return false;
	own = own_rows(b, x, &scale);
	*sums = tensor_rows(&b->sums, i * b->strips, b->strips);
	if (i == b->known)
		c->vae->ops->group_sums(c->vae->device, sums, &own, b->first * scale, b->height * scale);
	norm->sums = sums;
	norm->height = b->height * scale;
	return i < b->known;
}

/* y := conv(silu(norm(x))) [+ add], or of x itself where norm is NULL; the same size as x or twice it. */
static void
convolve(struct canvas *c, struct tensor *y, const struct tensor *x, const struct norm *norm,
    const struct conv *conv, const struct tensor *add)
{
	struct vae *v = c->vae;
	struct group_norm first = {0};
	struct tensor sums;
	struct conv_shape shape = {.stride = 1,
	    .pad_before = conv->k / 2,
	    .pad_after = conv->k / 2,
	    .upsample2 = y->dim[0] != x->dim[0]};

	if (norm != NULL) {
		first = norm_of(v, norm, true);
		shape.norm = &first;
	}
	if (norm != NULL && c->band != NULL && !meet_norm(c, &first, &sums, x))
		return;
	if (!canvas_is_plan(c) && !is_over(c))
		v->ops->conv2d(v->device, y, x, conv->weight, &conv->bias, add, &shape);
}

/* The picture through a 1x1 convolution: in its place, or where it gets wider in the other buffer. */
static void
run_shortcut(struct canvas *c, struct arena *beside, const struct conv *conv)
{
	struct tensor x = c->picture, y = x;

	y.dim[2] = conv->outputs;
	if (y.dim[2] <= x.dim[2])
		c->picture = y;
	else {
		y = make_picture(c, beside, x.dim[0], x.dim[1], conv->outputs);
		canvas_move(c, &y);
	}
	convolve(c, &y, &x, NULL, conv, NULL);
}

/* h = conv1(silu(GN1 x)); h = conv2(silu(GN2 h)); picture = h + x, or + shortcut(x) where the width changes.
 */
static void
run_resnet(struct canvas *c, const struct resnet *r)
{
	struct arena *beside = canvas_beside(c);
	struct tensor x = c->picture, h = make_picture(c, beside, x.dim[0], x.dim[1], r->conv1.outputs);

	convolve(c, &h, &x, &r->norm1, &r->conv1, NULL);
	if (r->shortcut.weight != NULL)
		run_shortcut(c, beside, &r->shortcut);
	x = c->picture;
	convolve(c, &x, &h, &r->norm2, &r->conv2, &x);
}

/* picture += to_out(softmax(q k^T / sqrt(C)) v) over all pixels, one head as wide as the picture is deep. */
static void
run_attention(struct canvas *c)
{
	struct vae *v = c->vae;
	const struct attention *a = &v->attention;
	struct group_norm norm = norm_of(v, &a->norm, false);
	struct arena *beside = canvas_beside(c);
	struct tensor *x = &c->picture;
	int channels = (int)x->dim[2];
	int64_t rows = x->dim[0] * x->dim[1], shape3[] = {rows, 1, channels};
	struct attention_shape shape = {1, 1, channels, false, (float)(1.0 / sqrt(channels))};
	struct tensor normed = make_picture(c, beside, x->dim[0], x->dim[1], channels);
	struct tensor q = arena_tensor(beside, x->type, 3, shape3),
		      k = arena_tensor(beside, x->type, 3, shape3),
		      value = arena_tensor(beside, x->type, 3, shape3);
	struct tensor in = {normed.data, x->type, 2, {rows, channels, 1, 1}}; /* then what attention gives */
	struct tensor o = {normed.data, x->type, 3, {rows, 1, channels, 1}}, out = in;

	if (canvas_is_plan(c))
		return;
	out.data = q.data;
	v->ops->group_norm(v->device, &normed, x, &norm);
	v->ops->linear(v->device, &q, &in, a->q, &a->q_bias);
	v->ops->linear(v->device, &k, &in, a->k, &a->k_bias);
	v->ops->linear(v->device, &value, &in, a->v, &a->v_bias);
	v->ops->attention(v->device, &o, &q, &k, &value, &shape);
	v->ops->linear(v->device, &out, &o, a->out, &a->out_bias);
	v->ops->add(v->device, x, &out);
}

/* The picture through a convolution into the other buffer, `scale` times as large. */
static void
run_conv(struct canvas *c, const struct conv *conv, int scale)
{
	struct tensor x = c->picture, y = make_picture(c, canvas_beside(c), scale * x.dim[0],
					  scale * x.dim[1], conv->outputs);

	convolve(c, &y, &x, NULL, conv, NULL);
	canvas_move(c, &y);
}

void
canvas_open(struct canvas *c, const struct tensor *latent)
{
	struct vae *v = c->vae;
	struct tensor scaled, x; /* the latent keeps its type and layout until it is scaled */

	c->current = 0;
	scaled = arena_tensor(canvas_beside(c), DT_F32, 3, latent->dim);
	canvas_move(c, &scaled);
	x = make_picture(c, canvas_beside(c), latent->dim[1], latent->dim[2], (int)latent->dim[0]);
	canvas_move(c, &x);
	if (!canvas_is_plan(c)) {
		v->ops->affine(
		    v->device, &scaled, latent, 1.0f / v->config.scaling_factor, v->config.shift_factor);
		v->ops->to_channels_last(v->device, &x, &scaled);
	}
	if (v->post_quant.weight != NULL)
		run_conv(c, &v->post_quant, 1);
	run_conv(c, &v->conv_in, 1);
}

void
canvas_mid(struct canvas *c)
{
	run_resnet(c, &c->vae->mid[0]);
	if (c->vae->config.mid_attention)
		run_attention(c);
	run_resnet(c, &c->vae->mid[1]);
}

void
canvas_up(struct canvas *c, int i)
{
	struct vae *v = c->vae;

	if (i > 0)
		run_conv(c, &v->upsampler[i - 1], 2);
	for (int j = 0; j <= v->config.layers_per_block; j++)
		run_resnet(c, &v->up[i][j]);
}

void
canvas_close(struct canvas *c, const struct tensor *pixels)
{
	struct vae *v = c->vae;
	struct tensor to = *pixels;
	struct tensor rgb =
	    make_picture(c, canvas_beside(c), c->picture.dim[0], c->picture.dim[1], v->conv_out.outputs);
	int64_t scale;

	convolve(c, &rgb, &c->picture, &v->norm_out, &v->conv_out, NULL);
	if (canvas_is_plan(c) || is_over(c))
		return;
	if (c->band != NULL) {
		rgb = own_rows(c->band, &rgb, &scale);
		to = tensor_rows(pixels, c->band->first * scale, c->band->count * scale);
	}
	trace_see(c->trace, "image", &rgb);
	v->ops->to_pixels(v->device, &to, &rgb);
}
