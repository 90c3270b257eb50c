/*
 * conv2d on the CPU, through oneDNN, pictures channels last. Weights are put into the layout that the
 * primitive wants at their first use; it depends on the widths, hardly on the picture's size, so they are
 * rarely put again.
 */
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

enum { MAX_CONVOLUTIONS = 256 };

struct key {
	int64_t h, w, inputs, outputs, k, out_h, out_w;
	int stride, pad_before, pad_after;
	bool bias;
};

struct convolution {
	struct convolution *next;
	struct key key;
	dnnl_primitive_t primitive;
	dnnl_memory_desc_t weights_desc;
	dnnl_memory_t x, weights, bias, y;
};

static void
free_convolution(struct convolution *v)
{
	dnnl_primitive_destroy(v->primitive);
	dnnl_memory_destroy(v->x);
	dnnl_memory_destroy(v->weights);
	dnnl_memory_destroy(v->bias);
	dnnl_memory_destroy(v->y);
	free(v);
}

void
cpu_free_convolutions(struct cpu_device *c)
{
	while (c->convolutions != NULL) {
		struct convolution *next = c->convolutions->next;
		free_convolution(c->convolutions);
		c->convolutions = next;
	}
}

static bool
make_memory(struct cpu_device *c, dnnl_memory_t *memory, const dnnl_memory_desc_t *desc)
{
	return cpu_check(c, dnnl_memory_create(memory, desc, c->engine, DNNL_MEMORY_NONE), "memory");
}

static bool
set_up(struct cpu_device *c, struct convolution *v)
{
	const struct key *k = &v->key;
	dnnl_data_type_t type = cpu_product_type(c) == DT_BF16 ? dnnl_bf16 : dnnl_f32;
	dnnl_memory_desc_t x, w, bias, y;
	dnnl_convolution_desc_t desc;
	dnnl_primitive_desc_t pd;
	bool made;

	dnnl_memory_desc_init_by_tag(&x, 4, (dnnl_dims_t){1, k->inputs, k->h, k->w}, type, dnnl_nhwc);
	dnnl_memory_desc_init_by_tag(
	    &w, 4, (dnnl_dims_t){k->outputs, k->inputs, k->k, k->k}, type, dnnl_format_tag_any);
	dnnl_memory_desc_init_by_tag(&bias, 1, (dnnl_dims_t){k->outputs}, dnnl_f32, dnnl_a);
	dnnl_memory_desc_init_by_tag(
	    &y, 4, (dnnl_dims_t){1, k->outputs, k->out_h, k->out_w}, dnnl_f32, dnnl_nhwc);
	if (!cpu_check(c,
		dnnl_convolution_forward_desc_init(&desc, dnnl_forward_inference, dnnl_convolution_direct, &x,
		    &w, k->bias ? &bias : NULL, &y, (dnnl_dims_t){k->stride, k->stride},
		    (dnnl_dims_t){k->pad_before, k->pad_before}, (dnnl_dims_t){k->pad_after, k->pad_after}),
		"convolution") ||
	    !cpu_check(c, dnnl_primitive_desc_create(&pd, &desc, NULL, c->engine, NULL), "convolution"))
		return false;
	v->weights_desc = *dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
	made = cpu_check(c, dnnl_primitive_create(&v->primitive, pd), "convolution") &&
	       make_memory(c, &v->x, &x) && make_memory(c, &v->weights, &v->weights_desc) &&
	       make_memory(c, &v->y, &y) && (!k->bias || make_memory(c, &v->bias, &bias));
	dnnl_primitive_desc_destroy(pd);
	return made;
}

static bool
is_key(const struct key *a, const struct key *b)
{
	return a->h == b->h && a->w == b->w && a->inputs == b->inputs && a->outputs == b->outputs &&
	       a->k == b->k && a->out_h == b->out_h && a->out_w == b->out_w && a->stride == b->stride &&
	       a->pad_before == b->pad_before && a->pad_after == b->pad_after && a->bias == b->bias;
}

static struct convolution *
find_convolution(struct cpu_device *c, const struct key *key)
{
	struct convolution *v;
	int count = 0;

	for (v = c->convolutions; v != NULL; v = v->next, count++) {
		if (is_key(&v->key, key))
			return v;
	}
	if (count >= MAX_CONVOLUTIONS)
		cpu_free_convolutions(c);
	v = calloc(1, sizeof(*v));
	if (v == NULL) {
		device_fail(&c->base, DEVICE_OUT_OF_MEMORY, "no memory for a convolution");
		return NULL;
	}
	v->key = *key;
	if (!set_up(c, v)) {
		free_convolution(v);
		return NULL;
	}
	v->next = c->convolutions;
	c->convolutions = v;
	return v;
}

/* ---- weights in the primitive's layout */

static bool
reorder(struct cpu_device *c, dnnl_memory_t from, const dnnl_memory_desc_t *from_desc, dnnl_memory_t to,
    const dnnl_memory_desc_t *to_desc)
{
	dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
	dnnl_primitive_desc_t pd;
	dnnl_primitive_t primitive = NULL;
	bool done;

	if (!cpu_check(c,
		dnnl_reorder_primitive_desc_create(&pd, from_desc, c->engine, to_desc, c->engine, NULL),
		"reorder"))
		return false;
	done = cpu_check(c, dnnl_primitive_create(&primitive, pd), "reorder") &&
	       cpu_check(c, dnnl_primitive_execute(primitive, c->stream, 2, args), "reorder");
	dnnl_primitive_destroy(primitive);
	dnnl_primitive_desc_destroy(pd);
	return done;
}

/* The weight as the primitive wants it; NULL after a failure. */
static void *
packed_weight(struct cpu_device *c, struct weight *w, const struct convolution *v)
{
	dnnl_data_type_t type = w->type == DT_BF16 ? dnnl_bf16 : dnnl_f32;
	size_t bytes = (dnnl_memory_desc_get_size(&v->weights_desc) + 63) / 64 * 64;
	dnnl_memory_desc_t plain;
	dnnl_memory_t from = NULL, to = NULL;
	bool done;

	if (w->packed != NULL && dnnl_memory_desc_equal(&w->packed_desc, &v->weights_desc))
		return w->packed;
	free(w->packed);
	w->packed = aligned_alloc(64, bytes);
	if (w->packed == NULL) {
		device_fail(&c->base, DEVICE_OUT_OF_MEMORY, "no memory for a convolution's weights");
		return NULL;
	}
	w->packed_desc = v->weights_desc;
	dnnl_memory_desc_init_by_tag(
	    &plain, 4, (dnnl_dims_t){v->key.outputs, v->key.inputs, v->key.k, v->key.k}, type, dnnl_oihw);
	done = cpu_check(c, dnnl_memory_create(&from, &plain, c->engine, w->data), "memory") &&
	       cpu_check(c, dnnl_memory_create(&to, &v->weights_desc, c->engine, w->packed), "memory") &&
	       reorder(c, from, &plain, to, &v->weights_desc);
	dnnl_memory_destroy(from);
	dnnl_memory_destroy(to);
	return done ? w->packed : NULL;
}

/* ---- the operation */

/* x (h, w, channels) doubled by nearest neighbour into scratch; NULL after a failure. */
static const float *
upsample(struct cpu_device *c, const struct tensor *x)
{
	int64_t h = x->dim[0], w = x->dim[1], channels = x->dim[2];
	float *out = cpu_scratch(c, SCRATCH_UPSAMPLED, (size_t)(4 * h * w * channels) * sizeof(float));
	const float *in = x->data;

	if (out == NULL)
		return NULL;
#pragma omp parallel for schedule(static)
	for (int64_t row = 0; row < 2 * h; row++) {
		for (int64_t column = 0; column < 2 * w; column++)
			memcpy(out + (row * 2 * w + column) * channels,
			    in + (row / 2 * w + column / 2) * channels, (size_t)channels * sizeof(float));
	}
	return out;
}

static void
execute(
    struct cpu_device *c, struct convolution *v, const void *x, void *weights, const float *bias, float *y)
{
	dnnl_exec_arg_t args[4] = {
	    {DNNL_ARG_SRC, v->x}, {DNNL_ARG_WEIGHTS, v->weights}, {DNNL_ARG_DST, v->y}};
	int count = 3;

	dnnl_memory_set_data_handle(v->x, (void *)x);
	dnnl_memory_set_data_handle(v->weights, weights);
	dnnl_memory_set_data_handle(v->y, y);
	if (bias != NULL) {
		args[count++] = (dnnl_exec_arg_t){DNNL_ARG_BIAS, v->bias};
		dnnl_memory_set_data_handle(v->bias, (void *)bias);
	}
	cpu_check(c, dnnl_primitive_execute(v->primitive, c->stream, count, args), "convolution");
}

void
cpu_conv2d(struct device *d, struct tensor *y, const struct tensor *x, const struct weight *w,
    const struct tensor *bias, const struct tensor *add, const struct conv_shape *shape)
{
	struct cpu_device *c = (struct cpu_device *)d;
	int scale = shape->upsample2 ? 2 : 1;
	struct key key = {x->dim[0] * scale, x->dim[1] * scale, x->dim[2], w->dim[0],
	    w->rank == 4 ? w->dim[2] : 1, y->dim[0], y->dim[1], shape->stride, shape->pad_before,
	    shape->pad_after, bias != NULL};
	const float *in = shape->upsample2 ? upsample(c, x) : x->data;
	const void *input =
	    in != NULL ? cpu_product_input(c, SCRATCH_A, in, key.h * key.w * key.inputs) : NULL;
	struct convolution *v = input != NULL && !cpu_failed(d) ? find_convolution(c, &key) : NULL;
	void *weights = v != NULL ? packed_weight(c, (struct weight *)w, v) : NULL;

	if (weights == NULL)
		return;
	execute(c, v, input, weights, bias != NULL ? bias->data : NULL, y->data);
	if (add != NULL)
		cpu_add(d, y, add);
}
