/*
 * Convolutions of oneDNN, kept by their sizes. The layout of weights depends on the widths, hardly on the
 * picture's size, so they are rarely put again.
 */
#include "kernels/cpu/convolution.h"

#include <stdlib.h>

enum { MAX_CONVOLUTIONS = 256 };

struct convolution {
	struct convolution *next;
	struct conv_sizes sizes;
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

/* Adds to what is there, or not. NULL after a failure. */
static dnnl_primitive_attr_t
make_attributes(struct cpu_device *c, bool add)
{
	dnnl_primitive_attr_t attributes = NULL;
	dnnl_post_ops_t after = NULL;
	bool made = cpu_check(c, dnnl_primitive_attr_create(&attributes), "attributes") &&
		    cpu_check(c, dnnl_post_ops_create(&after), "attributes") &&
		    (!add || cpu_check(c, dnnl_post_ops_append_sum(after, 1.0f), "attributes")) &&
		    cpu_check(c, dnnl_primitive_attr_set_post_ops(attributes, after), "attributes");

	dnnl_post_ops_destroy(after);
	if (made)
		return attributes;
	dnnl_primitive_attr_destroy(attributes);
	return NULL;
}

static bool
describe(struct cpu_device *c, dnnl_primitive_desc_t *pd, const struct conv_sizes *s, dnnl_data_type_t type)
{
	dnnl_primitive_attr_t attributes = make_attributes(c, s->add);
	dnnl_memory_desc_t x, w, bias, y;
	dnnl_convolution_desc_t desc;
	bool made;

	dnnl_memory_desc_init_by_tag(&x, 4, (dnnl_dims_t){1, s->inputs, s->h, s->w}, type, dnnl_nhwc);
	dnnl_memory_desc_init_by_tag(
	    &w, 4, (dnnl_dims_t){s->outputs, s->inputs, s->k, s->k}, type, dnnl_format_tag_any);
	dnnl_memory_desc_init_by_tag(&bias, 1, (dnnl_dims_t){s->outputs}, dnnl_f32, dnnl_a);
	dnnl_memory_desc_init_by_tag(
	    &y, 4, (dnnl_dims_t){1, s->outputs, s->out_h, s->out_w}, dnnl_f32, dnnl_nhwc);
	made =
	    attributes != NULL &&
	    cpu_check(c,
		dnnl_convolution_forward_desc_init(&desc, dnnl_forward_inference, dnnl_convolution_direct, &x,
		    &w, s->bias ? &bias : NULL, &y, (dnnl_dims_t){s->stride, s->stride},
		    (dnnl_dims_t){0, s->left}, (dnnl_dims_t){0, s->right}),
		"convolution") &&
	    cpu_check(c, dnnl_primitive_desc_create(pd, &desc, attributes, c->engine, NULL), "convolution");
	dnnl_primitive_attr_destroy(attributes);
	return made;
}

static bool
set_up(struct cpu_device *c, struct convolution *v)
{
	dnnl_primitive_desc_t pd;
	bool made;

	if (!describe(c, &pd, &v->sizes, cpu_product_type(c) == DT_BF16 ? dnnl_bf16 : dnnl_f32))
		return false;
	v->weights_desc = *dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
	made = cpu_check(c, dnnl_primitive_create(&v->primitive, pd), "convolution") &&
	       make_memory(c, &v->x, dnnl_primitive_desc_query_md(pd, dnnl_query_src_md, 0)) &&
	       make_memory(c, &v->weights, &v->weights_desc) &&
	       make_memory(c, &v->y, dnnl_primitive_desc_query_md(pd, dnnl_query_dst_md, 0)) &&
	       (!v->sizes.bias ||
		   make_memory(c, &v->bias, dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 1)));
	dnnl_primitive_desc_destroy(pd);
	return made;
}

static bool
are_sizes(const struct conv_sizes *a, const struct conv_sizes *b)
{
	return a->h == b->h && a->w == b->w && a->inputs == b->inputs && a->out_h == b->out_h &&
	       a->out_w == b->out_w && a->outputs == b->outputs && a->k == b->k && a->stride == b->stride &&
	       a->left == b->left && a->right == b->right && a->bias == b->bias && a->add == b->add;
}

static struct convolution *
find_convolution(struct cpu_device *c, const struct conv_sizes *sizes)
{
	struct convolution *v;
	int count = 0;

	for (v = c->convolutions; v != NULL; v = v->next, count++) {
		if (are_sizes(&v->sizes, sizes))
			return v;
	}
	if (count >= MAX_CONVOLUTIONS)
		cpu_free_convolutions(c);
	v = calloc(1, sizeof(*v));
	if (v == NULL) {
		device_fail(&c->base, DEVICE_OUT_OF_MEMORY, "no memory for a convolution");
		return NULL;
	}
	v->sizes = *sizes;
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
packed_weight(struct cpu_device *c, const void *w, struct packed *packed, const struct convolution *v)
{
	const struct conv_sizes *s = &v->sizes;
	dnnl_data_type_t type = cpu_product_type(c) == DT_BF16 ? dnnl_bf16 : dnnl_f32;
	size_t bytes = (dnnl_memory_desc_get_size(&v->weights_desc) + 63) / 64 * 64;
	dnnl_memory_desc_t plain;
	dnnl_memory_t from = NULL, to = NULL;
	bool done;

	if (packed->data != NULL && dnnl_memory_desc_equal(&packed->desc, &v->weights_desc))
		return packed->data;
	free(packed->data);
	packed->data = aligned_alloc(64, bytes);
	if (packed->data == NULL) {
		device_fail(&c->base, DEVICE_OUT_OF_MEMORY, "no memory for a convolution's weights");
		return NULL;
	}
	packed->desc = v->weights_desc;
	dnnl_memory_desc_init_by_tag(
	    &plain, 4, (dnnl_dims_t){s->outputs, s->inputs, s->k, s->k}, type, dnnl_oihw);
	done = cpu_check(c, dnnl_memory_create(&from, &plain, c->engine, (void *)w), "memory") &&
	       cpu_check(c, dnnl_memory_create(&to, &v->weights_desc, c->engine, packed->data), "memory") &&
	       reorder(c, from, &plain, to, &v->weights_desc);
	dnnl_memory_destroy(from);
	dnnl_memory_destroy(to);
	return done ? packed->data : NULL;
}

/* ---- running them */

void
cpu_convolve(struct cpu_device *c, const struct conv_sizes *sizes, const void *x, const void *w,
    struct packed *packed, const float *bias, float *y)
{
	struct convolution *v = cpu_failed(&c->base) ? NULL : find_convolution(c, sizes);
	void *weights = v != NULL ? packed_weight(c, w, packed, v) : NULL;
	dnnl_exec_arg_t args[4];
	int count = 3;

	if (weights == NULL)
		return;
	args[0] = (dnnl_exec_arg_t){DNNL_ARG_SRC, v->x};
	args[1] = (dnnl_exec_arg_t){DNNL_ARG_WEIGHTS, v->weights};
	args[2] = (dnnl_exec_arg_t){DNNL_ARG_DST, v->y};
	dnnl_memory_set_data_handle(v->x, (void *)x);
	dnnl_memory_set_data_handle(v->weights, weights);
	dnnl_memory_set_data_handle(v->y, y);
	if (bias != NULL) {
		args[count++] = (dnnl_exec_arg_t){DNNL_ARG_BIAS, v->bias};
		dnnl_memory_set_data_handle(v->bias, (void *)bias);
	}
	cpu_check(c, dnnl_primitive_execute(v->primitive, c->stream, count, args), "convolution");
	device_worked(&c->base);
}
