/*
 * Matrix products through oneDNN. A product is set up once for its shape and kept; there are as many shapes
 * as the model has kinds of layers times the row counts in use, so the list stays short. When it grows past
 * its bound it is dropped whole and fills again.
 */
#include <stdlib.h>

#include "kernels/cpu/cpu.h"

enum { MAX_PRODUCTS = 512 };

struct key {
	int64_t m, n, k, lda, b_row, b_column, ldy;
	bool bias;
};

struct product {
	struct product *next;
	struct key key;
	dnnl_primitive_t primitive;
	dnnl_memory_t a, b, bias, y; /* handles are set at each use */
};

static void
free_product(struct product *p)
{
	dnnl_primitive_destroy(p->primitive);
	dnnl_memory_destroy(p->a);
	dnnl_memory_destroy(p->b);
	dnnl_memory_destroy(p->bias);
	dnnl_memory_destroy(p->y);
	free(p);
}

void
cpu_free_products(struct cpu_device *c)
{
	while (c->products != NULL) {
		struct product *next = c->products->next;
		free_product(c->products);
		c->products = next;
	}
}

static bool
is_key(const struct key *a, const struct key *b)
{
	return a->m == b->m && a->n == b->n && a->k == b->k && a->lda == b->lda && a->b_row == b->b_row &&
	       a->b_column == b->b_column && a->ldy == b->ldy && a->bias == b->bias;
}

static dnnl_status_t
describe(dnnl_memory_desc_t *d, dnnl_data_type_t type, int64_t rows, int64_t columns, int64_t row_stride,
    int64_t column_stride)
{
	return dnnl_memory_desc_init_by_strides(
	    d, 2, (dnnl_dims_t){rows, columns}, type, (dnnl_dims_t){row_stride, column_stride});
}

static bool
make_memory(struct cpu_device *c, dnnl_memory_t *memory, const dnnl_memory_desc_t *desc)
{
	return cpu_check(c, dnnl_memory_create(memory, desc, c->engine, DNNL_MEMORY_NONE), "memory");
}

/* Fills p->primitive and its memories; what was made before a failure is freed with p. */
static bool
set_up(struct cpu_device *c, struct product *p)
{
	const struct key *k = &p->key;
	dnnl_data_type_t type = cpu_product_type(c) == DT_BF16 ? dnnl_bf16 : dnnl_f32;
	dnnl_memory_desc_t a, b, bias, y;
	dnnl_matmul_desc_t desc;
	dnnl_primitive_desc_t pd;
	bool made;

	describe(&a, type, k->m, k->k, k->lda, 1);
	describe(&b, type, k->k, k->n, k->b_row, k->b_column);
	describe(&bias, dnnl_f32, 1, k->n, k->n, 1);
	describe(&y, dnnl_f32, k->m, k->n, k->ldy, 1);
	if (!cpu_check(c, dnnl_matmul_desc_init(&desc, &a, &b, k->bias ? &bias : NULL, &y), "matmul") ||
	    !cpu_check(c, dnnl_primitive_desc_create(&pd, &desc, NULL, c->engine, NULL), "matmul"))
		return false;
	made = cpu_check(c, dnnl_primitive_create(&p->primitive, pd), "matmul") &&
	       make_memory(c, &p->a, &a) && make_memory(c, &p->b, &b) && make_memory(c, &p->y, &y) &&
	       (!k->bias || make_memory(c, &p->bias, &bias));
	dnnl_primitive_desc_destroy(pd);
	return made;
}

static struct product *
find_product(struct cpu_device *c, const struct key *key)
{
	struct product *p;
	int count = 0;

	for (p = c->products; p != NULL; p = p->next, count++) {
		if (is_key(&p->key, key))
			return p;
	}
	if (count >= MAX_PRODUCTS)
		cpu_free_products(c);
	p = calloc(1, sizeof(*p));
	if (p == NULL) {
		device_fail(&c->base, DEVICE_OUT_OF_MEMORY, "no memory for a product");
		return NULL;
	}
	p->key = *key;
	if (!set_up(c, p)) {
		free_product(p);
		return NULL;
	}
	p->next = c->products;
	c->products = p;
	return p;
}

void
cpu_gemm(struct cpu_device *c, const struct gemm *g)
{
	struct key key = {g->m, g->n, g->k, g->lda, g->b_row, g->b_column, g->ldy, g->bias != NULL};
	struct product *p = find_product(c, &key);
	dnnl_exec_arg_t args[4];
	int count = 3;

	if (p == NULL)
		return;
	args[0] = (dnnl_exec_arg_t){DNNL_ARG_SRC, p->a};
	args[1] = (dnnl_exec_arg_t){DNNL_ARG_WEIGHTS, p->b};
	args[2] = (dnnl_exec_arg_t){DNNL_ARG_DST, p->y};
	dnnl_memory_set_data_handle(p->a, (void *)g->a);
	dnnl_memory_set_data_handle(p->b, (void *)g->b);
	dnnl_memory_set_data_handle(p->y, g->y);
	if (g->bias != NULL) {
		args[count++] = (dnnl_exec_arg_t){DNNL_ARG_BIAS, p->bias};
		dnnl_memory_set_data_handle(p->bias, (void *)g->bias);
	}
	cpu_check(c, dnnl_primitive_execute(p->primitive, c->stream, count, args), "matmul");
	device_worked(&c->base);
}
