/*
 * Weights of the CUDA backend: from stored tensors to the device.
 *
 * They travel in their stored type, threads copying from the mapped file to the stagings, and are converted
 * on the device: a float32 shard costs the bus twice the bytes, the host nothing.
 */
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cuda.cuh"

enum { SLICE = 1 << 20 };

static int64_t
stored_count(const struct stored *s)
{
	int64_t count = 1;

	for (int i = 0; i < s->rank; i++)
		count *= s->dim[i];
	return count;
}

/* A file's mapped pages are read by several threads: one alone does not keep the bus busy. */
static void
copy_parallel(unsigned char *to, const unsigned char *from, size_t bytes)
{
#pragma omp parallel for schedule(static)
	for (size_t at = 0; at < bytes; at += SLICE)
		memcpy(to + at, from + at, bytes - at < SLICE ? bytes - at : SLICE);
}

/* One part to its place in the weight, a staging at a time. */
static void
take_part(struct cuda_device *c, struct weight *w, unsigned char *to, const struct stored *part)
{
	int64_t count = stored_count(part), taps = w->rank == 4 ? w->dim[2] * w->dim[3] : 1;
	size_t size = dtype_size(part->type), to_size = dtype_size(w->type);
	int64_t most = (int64_t)(STAGING_BYTES / size);
	bool as_it_is = part->type == w->type && taps == 1;

	for (int64_t at = 0; at < count; at += most) {
		int64_t n = count - at < most ? count - at : most;
		struct staging *s = cuda_staging(c);
		if (s == NULL)
			return;
		copy_parallel(
		    s->host, (const unsigned char *)part->data + (size_t)at * size, (size_t)n * size);
		cuda_check(c,
		    cudaMemcpyAsync(as_it_is ? to + (size_t)at * to_size : (unsigned char *)c->arrival,
			s->host, (size_t)n * size, cudaMemcpyHostToDevice, c->stream),
		    "loading weights");
		cuda_staging_used(c, s);
		if (!as_it_is)
			cuda_convert_permuted(c, to, w->type, c->arrival, part->type, at, n,
			    w->rank == 4 ? w->dim[1] : 1, taps);
	}
}

/* Shape and memory for the parts stacked; NULL: no memory. */
static struct weight *
weight_new(struct cuda_device *c, enum weight_use use, const struct stored *parts, int part_count)
{
	struct weight *w = (struct weight *)calloc(1, sizeof(*w));
	int64_t total = 0;

	if (w == NULL)
		return NULL;
	w->use = use;
	w->type = c->base.act_type;
	w->rank = parts[0].rank;
	for (int i = 0; i < TENSOR_MAX_RANK; i++)
		w->dim[i] = i < w->rank ? parts[0].dim[i] : 1;
	w->dim[0] = 0;
	for (int i = 0; i < part_count; i++) {
		total += stored_count(&parts[i]);
		w->dim[0] += parts[i].dim[0];
	}
	w->data = cuda_allocate(c, (size_t)total * dtype_size(w->type));
	if (w->data == NULL) {
		free(w);
		return NULL;
	}
	w->next = c->weights;
	c->weights = w;
	return w;
}

struct weight *
cuda_weight_load(struct device *d, enum weight_use use, const struct stored *parts, int part_count)
{
	struct cuda_device *c = (struct cuda_device *)d;
	struct weight *w;
	size_t at = 0;

	if (cuda_failed(c))
		return NULL;
	w = weight_new(c, use, parts, part_count);
	if (w == NULL) {
		device_fail(d, DEVICE_OUT_OF_MEMORY, "cuda:%d: no memory for weights", c->index);
		return NULL;
	}
	for (int i = 0; i < part_count; i++) {
		take_part(c, w, (unsigned char *)w->data + at, &parts[i]);
		at += (size_t)stored_count(&parts[i]) * dtype_size(w->type);
	}
	return cuda_failed(c) ? NULL : w;
}

void
cuda_free_weights(struct cuda_device *c)
{
	while (c->weights != NULL) {
		struct weight *w = c->weights;
		c->weights = w->next;
		cuda_release(&c->base, w->data);
		cuda_release(&c->base, w->folded);
		free(w);
	}
}
