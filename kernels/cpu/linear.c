/*
 * Weights, embed and linear on the CPU.
 */
#include <stdlib.h>
#include <string.h>

#include "kernels/convert.h"
#include "kernels/cpu/cpu.h"

/* One part into the weight's own type, a chunk at a time through float. */
static void
take_part(void *to, enum dtype type, const struct stored *part)
{
	enum { CHUNK = 4096 };
	int64_t count = stored_count(part);
	size_t from_size = dtype_size(part->type), to_size = dtype_size(type);

#pragma omp parallel for schedule(static)
	for (int64_t at = 0; at < count; at += CHUNK) {
		float chunk[CHUNK];
		int64_t n = count - at < CHUNK ? count - at : CHUNK;
		convert_to_float(chunk, (const char *)part->data + (size_t)at * from_size, part->type, n);
		convert_from_float((char *)to + (size_t)at * to_size, type, chunk, n);
	}
}

/* Parts one after another. */
static void
take_parts(struct weight *w, const struct stored *parts, int part_count)
{
	size_t at = 0;

	for (int i = 0; i < part_count; i++) {
		take_part((char *)w->data + at, w->type, &parts[i]);
		at += (size_t)stored_count(&parts[i]) * dtype_size(w->type);
	}
}

struct weight *
cpu_weight_load(struct device *d, enum weight_use use, const struct stored *parts, int part_count)
{
	struct cpu_device *c = (struct cpu_device *)d;
	struct weight *w = calloc(1, sizeof(*w));
	int64_t total = 0;

	for (int i = 0; i < part_count; i++)
		total += stored_count(&parts[i]);
	if (w != NULL) {
		w->use = use;
		w->type = use == WEIGHT_TABLE ? DT_F32 : cpu_product_type(c);
		w->rank = parts[0].rank;
		w->data = aligned_alloc(64, ((size_t)total * dtype_size(w->type) + 63) / 64 * 64);
	}
	if (w == NULL || w->data == NULL) {
		device_fail(
		    d, DEVICE_OUT_OF_MEMORY, "no memory for a weight of %lld numbers", (long long)total);
		free(w);
		return NULL;
	}
	for (int i = 0; i < TENSOR_MAX_RANK; i++)
		w->dim[i] = i < w->rank ? parts[0].dim[i] : 1;
	w->dim[0] = 0;
	for (int i = 0; i < part_count; i++)
		w->dim[0] += parts[i].dim[0];
	take_parts(w, parts, part_count);
	w->next = c->weights;
	c->weights = w;
	return w;
}

void
cpu_weight_refill(struct device *d, struct weight *w, const struct stored *parts, int part_count)
{
	(void)d;
	take_parts(w, parts, part_count); /* products take it as it lies: nothing is packed from it */
}

void
cpu_embed(struct device *d, struct tensor *y, const struct weight *table, const int32_t *ids)
{
	int64_t width = table->dim[1];

	(void)d;
	for (int64_t t = 0; t < y->dim[0]; t++)
		memcpy((float *)y->data + t * width, (const float *)table->data + ids[t] * width,
		    (size_t)width * sizeof(float));
}

void
cpu_linear(struct device *d, struct tensor *y, const struct tensor *x, const struct weight *w,
    const struct tensor *bias)
{
	struct cpu_device *c = (struct cpu_device *)d;
	int64_t rows = x->dim[0], k = tensor_count(x) / rows, n = w->dim[0];
	struct gemm g = {.m = rows,
	    .n = n,
	    .k = k,
	    .lda = k,
	    .b_row = 1,
	    .b_column = k,
	    .ldy = n,
	    .b = w->data,
	    .bias = bias != NULL ? bias->data : NULL,
	    .y = y->data};

	if (cpu_failed(d))
		return;
	g.a = cpu_product_input(c, SCRATCH_A, x->data, rows * k);
	if (g.a != NULL)
		cpu_gemm(c, &g);
}
