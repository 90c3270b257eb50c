/*
 * Weights of the CUDA backend: from stored tensors to the device.
 *
 * They travel in their stored type, threads copying from the mapped file to the stagings, and are converted
 * on the device: a float32 shard costs the bus twice the bytes, the host nothing. Their way is a stream of
 * its own, so that one can be filled while another is computed with.
 */
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cuda.cuh"

enum { SLICE = 1 << 20 };

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
		device_worked(&c->base); /* what the staging had is there */
		copy_parallel(
		    s->host, (const unsigned char *)part->data + (size_t)at * size, (size_t)n * size);
		cuda_check(c,
		    cudaMemcpyAsync(as_it_is ? to + (size_t)at * to_size : (unsigned char *)c->arrival,
			s->host, (size_t)n * size, cudaMemcpyHostToDevice, c->filling),
		    "loading weights");
		cuda_staging_used(c, s, c->filling);
		if (!as_it_is)
			cuda_convert_permuted(c, c->filling, to, w->type, c->arrival, part->type, at, n,
			    w->rank == 4 ? w->dim[1] : 1, taps);
	}
}

/* All parts, one after another; then `filled` happens. */
static void
take_parts(
    struct cuda_device *c, struct weight *w, cudaEvent_t filled, const struct stored *parts, int part_count)
{
	size_t at = 0;

	for (int i = 0; i < part_count; i++) {
		take_part(c, w, (unsigned char *)w->data + at, &parts[i]);
		at += (size_t)stored_count(&parts[i]) * dtype_size(w->type);
	}
	if (!cuda_failed(c))
		cuda_check(c, cudaEventRecord(filled, c->filling), "recording an event");
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

	if (cuda_failed(c))
		return NULL;
	w = weight_new(c, use, parts, part_count);
	if (w == NULL) {
		device_fail(d, DEVICE_OUT_OF_MEMORY, "cuda:%d: no memory for weights", c->index);
		return NULL;
	}
	take_parts(c, w, c->filled, parts, part_count);
	if (!cuda_failed(c))
		cuda_check(c, cudaStreamWaitEvent(c->stream, c->filled, 0), "waiting for weights");
	return cuda_failed(c) ? NULL : w;
}

/* ---- filling again */

static bool
make_events(struct cuda_device *c, struct weight *w)
{
	return cuda_check(c, cudaEventCreateWithFlags(&w->filled, cudaEventDisableTiming), "an event") &&
	       cuda_check(c, cudaEventCreateWithFlags(&w->used, cudaEventDisableTiming), "an event") &&
	       cuda_check(c, cudaEventRecord(w->used, c->stream), "recording an event"); /* or was before */
}

void
cuda_weight_refill(struct device *d, struct weight *w, const struct stored *parts, int part_count)
{
	struct cuda_device *c = (struct cuda_device *)d;

	if (cuda_failed(c) || (w->filled == NULL && !make_events(c, w)))
		return;
	if (cuda_check(c, cudaStreamWaitEvent(c->filling, w->used, 0), "waiting for a product"))
		take_parts(c, w, w->filled, parts, part_count);
}

void
cuda_weight_use(struct cuda_device *c, const struct weight *w)
{
	if (w->filled != NULL && !cuda_failed(c))
		cuda_check(c, cudaStreamWaitEvent(c->stream, w->filled, 0), "waiting for weights");
}

void
cuda_weight_used(struct cuda_device *c, const struct weight *w)
{
	if (w->filled != NULL && !cuda_failed(c))
		cuda_check(c, cudaEventRecord(w->used, c->stream), "recording an event");
}

static void
free_events(struct cuda_device *c, struct weight *w)
{
	if (w->filled != NULL && !cuda_failed(c))
		cudaEventDestroy(w->filled);
	if (w->used != NULL && !cuda_failed(c))
		cudaEventDestroy(w->used);
}

void
cuda_free_weights(struct cuda_device *c)
{
	while (c->weights != NULL) {
		struct weight *w = c->weights;
		c->weights = w->next;
		cuda_release(&c->base, w->data);
		cuda_release(&c->base, w->folded);
		free_events(c, w);
		free(w);
	}
}
