/*
 * Memory and copies of the CUDA backend.
 *
 * The host's side of every copy is one of two pinned stagings: while the device takes one, the host fills the
 * other.
 */
#include <stdlib.h>
#include <string.h>

extern "C" {
#include "kernels/convert.h"
}
#include "kernels/cuda/cuda.cuh"

enum { ALIGNMENT = 256, THREADS = 256, CONVERT_CHUNK = 1024 };

static struct cuda_device *
cuda(struct device *d)
{
	return (struct cuda_device *)d;
}

/* ---- device memory */

void *
cuda_allocate(struct cuda_device *c, size_t bytes)
{
	void *memory = NULL;
	cudaError_t error;

	if (cuda_failed(c))
		return NULL;
	c->base.allocations++;
	error = cudaMalloc(&memory, bytes > 0 ? bytes : ALIGNMENT);
	if (error == cudaSuccess)
		return memory;
	cudaGetLastError(); /* being out of memory is the caller's to report, and not sticky */
	if (cuda_fault(error) != DEVICE_OUT_OF_MEMORY)
		cuda_check(c, error, "cudaMalloc");
	return NULL;
}

void *
cuda_reserve(struct device *d, size_t bytes)
{
	return cuda_allocate(cuda(d), bytes);
}

void
cuda_release(struct device *d, void *memory)
{
	if (memory != NULL && cuda_sync(d) == DEVICE_OK)
		cuda_check(cuda(d), cudaFree(memory), "cudaFree");
}

uint64_t
cuda_free_bytes(struct device *d)
{
	size_t available = 0, total;

	if (cuda_failed(cuda(d)) ||
	    !cuda_check(cuda(d), cudaMemGetInfo(&available, &total), "cudaMemGetInfo"))
		return 0;
	return available;
}

int
cuda_sync(struct device *d)
{
	if (d->fault == DEVICE_OK)
		cuda_check(cuda(d), cudaStreamSynchronize(cuda(d)->stream), "waiting for the device");
	if (d->fault == DEVICE_OK)
		cuda_check(cuda(d), cudaStreamSynchronize(cuda(d)->filling), "waiting for weights");
	return d->fault;
}

/* ---- stagings */

struct staging *
cuda_staging(struct cuda_device *c)
{
	struct staging *s = &c->staging[c->turn];

	c->turn = (c->turn + 1) % STAGINGS;
	if (cuda_failed(c) || !cuda_check(c, cudaEventSynchronize(s->done), "waiting for a copy"))
		return NULL;
	return s;
}

void
cuda_staging_used(struct cuda_device *c, struct staging *s, cudaStream_t stream)
{
	if (!cuda_failed(c))
		cuda_check(c, cudaEventRecord(s->done, stream), "recording an event");
}

/* On the host; the types differ or not. */
static void
convert_on_host(void *to, enum dtype to_type, const void *from, enum dtype from_type, int64_t count)
{
	size_t to_size = dtype_size(to_type), from_size = dtype_size(from_type);
	float chunk[CONVERT_CHUNK];

	if (to_type == from_type) {
		memcpy(to, from, (size_t)count * to_size);
		return;
	}
	for (int64_t at = 0; at < count; at += CONVERT_CHUNK) {
		int64_t n = count - at < CONVERT_CHUNK ? count - at : CONVERT_CHUNK;
		convert_to_float(chunk, (const char *)from + (size_t)at * from_size, from_type, n);
		convert_from_float((char *)to + (size_t)at * to_size, to_type, chunk, n);
	}
}

void
cuda_copy_in(struct device *d, struct tensor *to, const void *host, enum dtype host_type)
{
	struct cuda_device *c = cuda(d);
	size_t to_size = dtype_size(to->type), host_size = dtype_size(host_type);
	int64_t count = tensor_count(to), most = (int64_t)(STAGING_BYTES / to_size);

	for (int64_t at = 0; at < count; at += most) {
		int64_t n = count - at < most ? count - at : most;
		struct staging *s = cuda_staging(c);
		if (s == NULL)
			return;
		convert_on_host(s->host, to->type, (const char *)host + (size_t)at * host_size, host_type, n);
		cuda_check(c,
		    cudaMemcpyAsync((char *)to->data + (size_t)at * to_size, s->host, (size_t)n * to_size,
			cudaMemcpyHostToDevice, c->stream),
		    "copying to the device");
		cuda_staging_used(c, s, c->stream);
	}
}

void
cuda_copy_out(struct device *d, void *host, enum dtype host_type, const struct tensor *from)
{
	struct cuda_device *c = cuda(d);
	size_t from_size = dtype_size(from->type), host_size = dtype_size(host_type);
	int64_t count = tensor_count(from), most = (int64_t)(STAGING_BYTES / from_size);

	for (int64_t at = 0; at < count; at += most) {
		int64_t n = count - at < most ? count - at : most;
		struct staging *s = cuda_staging(c);
		if (s == NULL)
			return;
		cuda_check(c,
		    cudaMemcpyAsync(s->host, (const char *)from->data + (size_t)at * from_size,
			(size_t)n * from_size, cudaMemcpyDeviceToHost, c->stream),
		    "copying from the device");
		if (cuda_sync(d) != DEVICE_OK)
			return;
		convert_on_host((char *)host + (size_t)at * host_size, host_type, s->host, from->type, n);
	}
}

/* ---- conversions on the device */

struct f16 {
	uint16_t bits;
};

__device__ static inline float
to_float(f16 x)
{
	return float_of_half(x.bits);
}

/* As cuda_convert_permuted says. One number to a thread. */
template <typename To, typename From>
__global__ static void
convert_kernel(To *to, const From *from, int64_t first, int64_t count, int64_t channels, int64_t taps)
{
	int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, at = first + i;

	if (i >= count)
		return;
	if (taps > 1) {
		int64_t tap = at % taps, channel = at / taps % channels, output = at / taps / channels;
		at = (output * taps + tap) * channels + channel;
	}
	to[at] = from_float<To>(to_float(from[i]));
}

void
cuda_convert_permuted(struct cuda_device *c, cudaStream_t stream, void *to, enum dtype to_type,
    const void *from, enum dtype from_type, int64_t first, int64_t count, int64_t channels, int64_t taps)
{
	dim3 grid = blocks_for(count, THREADS);

	WITH_TYPE(to_type, To, {
		if (from_type == DT_F16)
			launch_in(c, stream, "convert", grid, THREADS, 0, convert_kernel<To, f16>, (To *)to,
			    (const f16 *)from, first, count, channels, taps);
		else
			WITH_TYPE(from_type, From, {
				launch_in(c, stream, "convert", grid, THREADS, 0, convert_kernel<To, From>,
				    (To *)to, (const From *)from, first, count, channels, taps);
			});
	});
}

void
cuda_convert(struct cuda_device *c, void *to, enum dtype to_type, const void *from, enum dtype from_type,
    int64_t count)
{
	if (to_type != from_type)
		cuda_convert_permuted(c, c->stream, to, to_type, from, from_type, 0, count, 1, 1);
	else if (!cuda_failed(c))
		cuda_check(c,
		    cudaMemcpyAsync(
			to, from, (size_t)count * dtype_size(to_type), cudaMemcpyDeviceToDevice, c->stream),
		    "copying on the device");
}

void
cuda_copy(struct device *d, struct tensor *to, const struct tensor *from)
{
	cuda_convert(cuda(d), to->data, to->type, from->data, from->type, tensor_count(to));
}

template <typename To, typename From>
__global__ static void
repeat_kernel(To *to, const From *row, int64_t count, int64_t width)
{
	int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;

	if (i < count)
		to[i] = from_float<To>(to_float(row[i % width]));
}

void
cuda_repeat_row(struct device *d, struct tensor *to, const struct tensor *row)
{
	int64_t count = tensor_count(to), width = tensor_count(row);

	WITH_TYPE(to->type, To, {
		WITH_TYPE(row->type, From, {
			launch(cuda(d), "repeat_row", blocks_for(count, THREADS), THREADS,
			    repeat_kernel<To, From>, (To *)to->data, (const From *)row->data, count, width);
		});
	});
}

/* 16 bytes a load would save nothing: 2 MB of a step, 1 us. */
template <typename To, typename From>
__global__ static void
pick_kernel(To *to, const From *table, const int32_t *index, int64_t width)
{
	int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;

	if (i < width)
		to[i] = from_float<To>(to_float(table[*index * width + i]));
}

void
cuda_pick_row(struct device *d, struct tensor *to, const struct tensor *table, const struct tensor *index)
{
	int64_t width = tensor_count(to);

	WITH_TYPE(to->type, To, {
		WITH_TYPE(table->type, From, {
			launch(cuda(d), "pick_row", blocks_for(width, THREADS), THREADS,
			    pick_kernel<To, From>, (To *)to->data, (const From *)table->data,
			    (const int32_t *)index->data, width);
		});
	});
}

const void *
cuda_bias(struct cuda_device *c, const struct tensor *bias)
{
	if (bias == NULL || c->base.act_type == DT_F32)
		return bias != NULL ? bias->data : NULL;
	if (tensor_bytes(bias) > BIAS_BYTES) {
		device_fail(&c->base, DEVICE_INTERNAL, "a bias of %lld numbers is too long",
		    (long long)tensor_count(bias));
		return NULL;
	}
	cuda_convert(c, c->bias, c->base.act_type, bias->data, DT_F32, tensor_count(bias));
	return c->bias;
}
