/*
 * The CUDA backend's device: what devices there are, opening, closing, and the table of its operations.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/gemm.cuh"

enum { LEAST_MAJOR = 8 /* bf16 on tensor cores, asynchronous copies */ };

static const struct ops cuda_ops = {
    .name = "cuda",
    .reserve = cuda_reserve,
    .release = cuda_release,
    .copy_in = cuda_copy_in,
    .copy_out = cuda_copy_out,
    .copy = cuda_copy,
    .repeat_row = cuda_repeat_row,
    .pick_row = cuda_pick_row,
    .weight_load = cuda_weight_load,
    .weight_refill = cuda_weight_refill,
    .sync = cuda_sync,
    .replay = cuda_replay,
    .recorded = cuda_recorded,
    .embed = cuda_embed,
    .linear = cuda_linear,
    .rms_norm = cuda_rms_norm,
    .layer_norm = cuda_layer_norm,
    .norm_gate_add = cuda_norm_gate_add,
    .tail = cuda_tail,
    .add = cuda_add,
    .qkv_norm_rope = cuda_qkv_norm_rope,
    .attention = cuda_attention,
    .swiglu = cuda_swiglu,
    .activate = cuda_activate,
    .affine = cuda_affine,
    .axpy = cuda_axpy,
    .patchify = cuda_patchify,
    .unpatchify = cuda_unpatchify,
    .to_channels_last = cuda_to_channels_last,
    .conv2d = cuda_conv2d,
    .group_norm = cuda_group_norm,
    .group_sums = cuda_group_sums,
    .to_pixels = cuda_to_pixels,
};

/* ---- what there is */

/* Where the driver keeps what it compiles: a card that this build has no code for takes its PTX, some 100
 * kernels, and a service has no home for the driver's own cache. Before the first call that looks for devices. */
static void
keep_compiled(const char *cache_dir)
{
	if (cache_dir != NULL)
		setenv("CUDA_CACHE_PATH", cache_dir, 0);
}

/* How many devices the driver shows, or -1 with the reason for none. */
static int
count_devices(char *why, size_t why_size)
{
	int driver = 0, count = 0;
	cudaError_t error;

	setenv("CUDA_MODULE_LOADING", "EAGER", 0); /* nothing is loaded late, when memory is spoken for */
	if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
		snprintf(why, why_size, "no driver: libcuda.so.1 of an NVIDIA driver is not installed here");
		return -1;
	}
	error = cudaGetDeviceCount(&count);
	if (error == cudaErrorInsufficientDriver)
		snprintf(why, why_size,
		    "the driver is too old: it is for CUDA %d.%d, this build is for %d.%d", driver / 1000,
		    driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
	else if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0))
		snprintf(why, why_size, "no device is visible (CUDA_VISIBLE_DEVICES, /dev/nvidia*)");
	else if (error != cudaSuccess)
		snprintf(why, why_size, "%s (%d): %s", cudaGetErrorName(error), (int)error,
		    cudaGetErrorString(error));
	else
		return count;
	return -1;
}

/* As nvidia-smi writes it: GPU-8-4-4-4-12. */
static void
put_uuid(char out[DEVICE_UUID], const cudaUUID_t *uuid)
{
	int at = snprintf(out, DEVICE_UUID, "GPU");

	for (int i = 0; i < 16; i++) {
		bool dash = i == 0 || i == 4 || i == 6 || i == 8 || i == 10;
		at += snprintf(out + at, (size_t)(DEVICE_UUID - at), "%s%02x", dash ? "-" : "",
		    (unsigned char)uuid->bytes[i]);
	}
}

/* Whether this build has code for it. */
static bool
is_new_enough(int index, const struct cudaDeviceProp *p, char *why, size_t why_size)
{
	if (p->major >= LEAST_MAJOR)
		return true;
	snprintf(why, why_size, "cuda:%d (%s) is too old: compute capability %d.%d, needed is %d.0", index,
	    p->name, p->major, p->minor, LEAST_MAJOR);
	return false;
}

int
cuda_list(struct device_info *list, int max, char *why, size_t why_size)
{
	int count = count_devices(why, why_size);

	for (int i = 0; i < count && i < max; i++) {
		struct cudaDeviceProp p;
		if (cudaGetDeviceProperties(&p, i) != cudaSuccess) {
			snprintf(why, why_size, "cuda:%d does not say what it is", i);
			return -1;
		}
		list[i].index = i;
		put_uuid(list[i].uuid, &p.uuid);
		snprintf(list[i].name, sizeof(list[i].name), "%s", p.name);
		list[i].memory_bytes = p.totalGlobalMem;
		list[i].major = p.major;
		list[i].minor = p.minor;
		list[i].unusable[0] = '\0';
		is_new_enough(i, &p, list[i].unusable, sizeof(list[i].unusable));
	}
	return count < max ? count : max;
}

/* ---- opening */

static void
cuda_close(struct device *d)
{
	struct cuda_device *c = (struct cuda_device *)d;

	cuda_sync(d);
	cuda_sensors_close(&c->sensors);
	cuda_recordings_close(c);
	cuda_free_weights(c);
	cuda_gemm_close(c);
	cuda_release(d, c->arrival);
	cuda_release(d, c->scratch);
	cuda_release(d, c->bias);
	for (int i = 0; i < STAGINGS && !cuda_failed(c); i++) {
		cudaFreeHost(c->staging[i].host);
		cudaEventDestroy(c->staging[i].done);
	}
	if (!cuda_failed(c)) {
		cudaEventDestroy(c->filled);
		cudaStreamDestroy(c->filling);
		cudaStreamDestroy(c->stream);
	}
	free(c);
}

static void
cuda_settle(struct device *d)
{
	cuda_gemm_settle((struct cuda_device *)d);
}

static bool
make_stagings(struct cuda_device *c)
{
	for (int i = 0; i < STAGINGS; i++) {
		if (!cuda_check(
			c, cudaMallocHost((void **)&c->staging[i].host, STAGING_BYTES), "pinned memory") ||
		    !cuda_check(c,
			cudaEventCreateWithFlags(
			    &c->staging[i].done, cudaEventDisableTiming | cudaEventBlockingSync),
			"an event"))
			return false;
	}
	return true;
}

static bool
make_scratch(struct cuda_device *c)
{
	c->arrival = cuda_allocate(c, STAGING_BYTES);
	c->scratch = cuda_allocate(c, SCRATCH_BYTES);
	c->bias = cuda_allocate(c, BIAS_BYTES);
	if (c->arrival != NULL && c->scratch != NULL && c->bias != NULL)
		return true;
	device_fail(&c->base, DEVICE_OUT_OF_MEMORY, "cuda:%d: no memory for %d MiB of scratch", c->index,
	    (STAGING_BYTES + SCRATCH_BYTES) >> 20);
	return false;
}

/* A name that does not depend on which of several equal devices it is: resumed pictures are compared by it.
 */
static void
name_device(struct cuda_device *c, const struct cudaDeviceProp *p)
{
	snprintf(c->base.name, sizeof(c->base.name), "cuda (%s, sm_%d%d, %s%s, CUDA %d.%d)", p->name,
	    p->major, p->minor, c->base.precision == PRECISION_BF16 ? "bf16" : "f32",
	    c->portable ? ", portable" : "", CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
}

/* Waiting for the device leaves the processor to others: a step is long beside the wake-up. */
static bool
set_up(struct cuda_device *c, const char *cache_dir)
{
	return cuda_check(c, cudaSetDevice(c->index), "opening") &&
	       cuda_check(c, cudaSetDeviceFlags(cudaDeviceScheduleBlockingSync), "opening") &&
	       cuda_check(c, cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking), "a stream") &&
	       cuda_check(c, cudaStreamCreateWithFlags(&c->filling, cudaStreamNonBlocking), "a stream") &&
	       cuda_check(c, cudaEventCreateWithFlags(&c->filled, cudaEventDisableTiming), "an event") &&
	       make_stagings(c) && make_scratch(c) && cuda_recordings_open(c) && cuda_boxes_open(c) &&
	       cuda_gemm_open(c, cache_dir) == 0;
}

/* Whether the index is one of this build's devices. */
static bool
is_usable(int index, struct cudaDeviceProp *p, char *why, size_t why_size)
{
	int count = count_devices(why, why_size);

	if (count < 0)
		return false;
	if (index >= count) {
		snprintf(why, why_size, "there is no cuda:%d, the last one is cuda:%d", index, count - 1);
		return false;
	}
	if (cudaGetDeviceProperties(p, index) != cudaSuccess) {
		snprintf(why, why_size, "cuda:%d does not say what it is", index);
		return false;
	}
	return is_new_enough(index, p, why, why_size);
}

int
cuda_open(struct device **d, const struct device_options *options, char *why, size_t why_size)
{
	bool bf16 = options->precision != PRECISION_F32;
	struct cudaDeviceProp properties;
	struct cuda_device *c;
	int fault;

	keep_compiled(options->cache_dir);
	if (!is_usable(options->index, &properties, why, why_size))
		return -1;
	c = (struct cuda_device *)calloc(1, sizeof(*c));
	if (c == NULL) {
		snprintf(why, why_size, "out of memory");
		return -1;
	}
	c->base.ops = &cuda_ops;
	c->base.act_type = bf16 ? DT_BF16 : DT_F32;
	c->base.precision = bf16 ? PRECISION_BF16 : PRECISION_F32;
	c->base.warms_up = true;
	c->base.free_bytes = cuda_free_bytes;
	c->base.settle = cuda_settle;
	c->base.read = cuda_sensors_read;
	c->base.close = cuda_close;
	c->index = options->index;
	c->portable = options->portable;
	c->processors = properties.multiProcessorCount;
	c->cache_bytes = properties.l2CacheSize;
	name_device(c, &properties);
	put_uuid(c->uuid, &properties.uuid);
	if (set_up(c, options->cache_dir)) {
		*d = &c->base;
		return 0;
	}
	fault = c->base.fault;
	snprintf(why, why_size, "%s", c->base.error);
	cuda_close(&c->base);
	return fault;
}
