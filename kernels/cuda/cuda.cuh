/*
 * The CUDA backend's device, and what its files share on the host.
 *
 * One stream carries everything in order: copies, products, kernels; beside it weights are filled in another,
 * events holding each to the other's order where they meet. Activations are bf16 (float in the f32
 * mode, which is for tests), sums and statistics float; the same build, device and shapes give the same bits:
 * no atomics, and every sum has a fixed order.
 *
 * Device memory is reserved by `reserve` and at opening; what an operation needs besides its tensors lies in
 * the scratch memory, which never grows: operations cut their work so that it fits.
 */
#ifndef KERNELS_CUDA_CUDA_CUH
#define KERNELS_CUDA_CUDA_CUH

#include <cuda_runtime.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include "kernels/device.h"
}

#include "kernels/cuda/numbers.cuh"

struct weight {
	struct weight *next; /* of the device's list */
	enum weight_use use;
	enum dtype type; /* of data: the activations' */
	int rank;
	int64_t dim[TENSOR_MAX_RANK]; /* as stored: (N, K), (V, D), (Cout, Cin, k, k) */
	void *data;		      /* (N, K), (V, D), or (Cout, k, k, Cin): channels innermost */
	void
	    *folded; /* (4, Cout, 2, 2, Cin) of a 3x3 kernel behind an upsample, made at first use, or NULL */
	/* Of one that is refilled, else NULL: its numbers are there; what used the last ones is done. */
	cudaEvent_t filled, used;
};

/* Pinned host memory on its way to or from the device; the two take turns. */
struct staging {
	unsigned char *host;
	cudaEvent_t done; /* the device needs `host` no more */
};

enum {
	STAGINGS = 2,
	STAGING_BYTES = 32 << 20,
	SCRATCH_BYTES = 64 << 20, /* scores, strips of a group norm */
	FACTORS_BYTES = 4 << 20,  /* a group norm's sums, and what they make of each channel */
	BIAS_BYTES = 256 << 10,	  /* one bias in the activations' type */
	CACHE_PATH = 512,
};

struct gemm_engine; /* gemm_inside.cuh */
struct recordings;  /* graph.cu */
struct sensors;	    /* sensors.cu */

struct cuda_device {
	struct device base;
	int index;
	bool portable; /* as in device_options */
	int processors;
	int64_t cache_bytes;	      /* of the second level */
	cudaStream_t stream, filling; /* what is computed, in order; the way of weights to the device */
	cudaEvent_t filled;	      /* of a weight that is loaded */
	struct staging staging[STAGINGS];
	int turn;	      /* of the stagings */
	void *arrival;	      /* STAGING_BYTES on the device, of `filling`: weights in their stored type */
	void *scratch, *bias; /* SCRATCH_BYTES, BIAS_BYTES on the device */
	struct weight *weights;
	struct gemm_engine *gemm;
	struct recordings *recordings;
	char uuid[DEVICE_UUID];
	struct sensors *sensors; /* opened at the first reading */
	void *encode_map; /* cuTensorMapEncodeTiled, where the forms for sm_90a may run; else NULL */
};

/* ---- fault.cu */

/* The failure that an error of the runtime means (errors.def). */
enum device_fault cuda_fault(int error);
/* false after failing the device with the error's name. */
bool cuda_check(struct cuda_device *c, cudaError_t error, const char *what);
bool cuda_failed(const struct cuda_device *c);

/* ---- memory.cu */

/* Device memory that is counted; NULL without failing the device. */
void *cuda_allocate(struct cuda_device *c, size_t bytes);
/* As device_free_bytes. */
uint64_t cuda_free_bytes(struct device *d);
/* The staging whose turn it is, once the device has done with it; NULL after a failure. */
struct staging *cuda_staging(struct cuda_device *c);
/* The device may have it until what is in that stream now is done. */
void cuda_staging_used(struct cuda_device *c, struct staging *s, cudaStream_t stream);
/* bias (n) F32 in the activations' type, in c->bias until the next call; NULL for NULL. */
const void *cuda_bias(struct cuda_device *c, const struct tensor *bias);
/* count numbers from one type to another; to == from only for equal types. */
void cuda_convert(struct cuda_device *c, void *to, enum dtype to_type, const void *from, enum dtype from_type,
    int64_t count);
/* to[i] := from[i]; with taps > 1, `from` is (outputs, channels, taps) and `to` (outputs, taps, channels),
 * and only the numbers first .. first + count - 1 of `from` are there. */
void cuda_convert_permuted(struct cuda_device *c, cudaStream_t stream, void *to, enum dtype to_type,
    const void *from, enum dtype from_type, int64_t first, int64_t count, int64_t channels, int64_t taps);

/* ---- weights.cu */

/* Around a use of a weight that may be refilled: what comes in the stream waits for its numbers, and they are
 * replaced when what is there now is done. */
void cuda_weight_use(struct cuda_device *c, const struct weight *w);
void cuda_weight_used(struct cuda_device *c, const struct weight *w);
void cuda_free_weights(struct cuda_device *c);

/* ---- group_norm.cu */

/* The statistics of x, or of the picture that it is rows of: means and factors of its channels, in
 * FACTORS_BYTES of memory; NULL after a failure. */
const float *cuda_group_factors(
    struct cuda_device *c, void *memory, const struct tensor *x, const struct group_norm *norm);
/* y := x normed with them: the picture that they are of, or rows of it. */
void cuda_group_apply(struct cuda_device *c, struct tensor *y, const struct tensor *x, const float *factors,
    const struct group_norm *norm);

/* ---- graph.cu */

/* false after failing the device. */
bool cuda_recordings_open(struct cuda_device *c);
void cuda_recordings_close(struct cuda_device *c);

/* ---- boxes.cu */

/* Finds out whether there are tensor maps. false after failing the device. */
bool cuda_boxes_open(struct cuda_device *c);

/* ---- sensors.cu */

/* As device_read. The first reading looks for the driver's library, which takes its time. */
bool cuda_sensors_read(struct device *d, struct device_readings *r);
void cuda_sensors_close(struct sensors **s);

/* ---- launching */

static inline unsigned
blocks_for(int64_t work, int64_t per_block)
{
	return (unsigned)((work + per_block - 1) / per_block);
}

/* Whether rows of `width` numbers of that size can be read 16 bytes at a time from `data` on. */
static inline bool
is_wide(const void *data, int64_t width, size_t size)
{
	return (uintptr_t)data % 16 == 0 && (size_t)width * size % 16 == 0;
}

template <typename... P, typename... A>
static inline void
launch_in(struct cuda_device *c, cudaStream_t stream, const char *what, dim3 grid, unsigned threads,
    size_t shared, void (*kernel)(P...), A... arguments)
{
	cudaLaunchConfig_t config = {};

	if (cuda_failed(c) || grid.x == 0)
		return;
	config.gridDim = grid;
	config.blockDim = dim3(threads);
	config.dynamicSmemBytes = shared;
	config.stream = stream;
	cuda_check(c, cudaLaunchKernelEx(&config, kernel, (P)arguments...), what);
}

template <typename... P, typename... A>
static inline void
launch_shared(struct cuda_device *c, const char *what, dim3 grid, unsigned threads, size_t shared,
    void (*kernel)(P...), A... arguments)
{
	launch_in(c, c->stream, what, grid, threads, shared, kernel, arguments...);
}

template <typename... P, typename... A>
static inline void
launch(struct cuda_device *c, const char *what, dim3 grid, unsigned threads, void (*kernel)(P...),
    A... arguments)
{
	launch_shared(c, what, grid, threads, 0, kernel, arguments...);
}

/* The block with T as the type that stands for `type`: F32 or BF16. */
#define WITH_TYPE(type, T, ...) \
	do { \
		if ((type) == DT_BF16) { \
			typedef bf16 T; \
			__VA_ARGS__ \
		} else { \
			typedef float T; \
			__VA_ARGS__ \
		} \
	} while (0)

/* ---- the operations of ops.h, in the file of their kind */

void *cuda_reserve(struct device *d, size_t bytes);
void cuda_release(struct device *d, void *memory);
void cuda_copy_in(struct device *d, struct tensor *to, const void *host, enum dtype host_type);
void cuda_copy_out(struct device *d, void *host, enum dtype host_type, const struct tensor *from);
void cuda_copy(struct device *d, struct tensor *to, const struct tensor *from);
void cuda_repeat_row(struct device *d, struct tensor *to, const struct tensor *row);
void cuda_pick_row(
    struct device *d, struct tensor *to, const struct tensor *table, const struct tensor *index);
struct weight *cuda_weight_load(
    struct device *d, enum weight_use use, const struct stored *parts, int part_count);
void cuda_weight_refill(struct device *d, struct weight *w, const struct stored *parts, int part_count);
int cuda_sync(struct device *d);
bool cuda_replay(struct device *d, const struct recording_key *key);
bool cuda_recorded(struct device *d);
void cuda_embed(struct device *d, struct tensor *y, const struct weight *table, const int32_t *ids);
void cuda_linear(struct device *d, struct tensor *y, const struct tensor *x, const struct weight *w,
    const struct tensor *bias);
void cuda_rms_norm(struct device *d, struct tensor *y, const struct tensor *x, const struct tensor *w,
    const struct tensor *scale, float eps);
void cuda_layer_norm(
    struct device *d, struct tensor *y, const struct tensor *x, const struct tensor *scale, float eps);
void cuda_norm_gate_add(struct device *d, struct tensor *x, const struct tensor *branch,
    const struct tensor *w, const struct tensor *gate, float eps);
void cuda_tail(struct device *d, struct tensor *x, struct tensor *u, const struct tensor *branch,
    const struct tensor *w, const struct tensor *gate, const struct tensor *next_w,
    const struct tensor *next_scale, float eps);
void cuda_add(struct device *d, struct tensor *x, const struct tensor *y);
void cuda_qkv_norm_rope(struct device *d, struct tensor *q, struct tensor *k, struct tensor *v,
    const struct tensor *qkv, const struct tensor *norm_q, const struct tensor *norm_k,
    const struct tensor *cos, const struct tensor *sin, const struct attention_shape *shape,
    enum rope_pairs pairs, float eps);
void cuda_attention(struct device *d, struct tensor *o, const struct tensor *q, const struct tensor *k,
    const struct tensor *v, const struct attention_shape *shape);
void cuda_swiglu(struct device *d, struct tensor *y, const struct tensor *x);
void cuda_activate(struct device *d, struct tensor *y, const struct tensor *x, enum activation f);
void cuda_affine(struct device *d, struct tensor *y, const struct tensor *x, float mul, float add);
void cuda_axpy(struct device *d, struct tensor *x, const struct tensor *a, const struct tensor *y);
void cuda_patchify(struct device *d, struct tensor *rows, const struct tensor *latent);
void cuda_unpatchify(struct device *d, struct tensor *latent, const struct tensor *rows, float sign);
void cuda_to_channels_last(struct device *d, struct tensor *y, const struct tensor *x);
void cuda_conv2d(struct device *d, struct tensor *y, const struct tensor *x, const struct weight *w,
    const struct tensor *bias, const struct tensor *add, const struct conv_shape *shape);
void cuda_group_norm(
    struct device *d, struct tensor *y, const struct tensor *x, const struct group_norm *norm);
void cuda_group_sums(
    struct device *d, struct tensor *sums, const struct tensor *x, int64_t first, int64_t height);
void cuda_to_pixels(struct device *d, struct tensor *pixels, const struct tensor *x);

/* The forms of attention that have files of their own (attention.cu has the table). `takes` says whether the
 * form is for such a shape on such a device. */
bool cuda_attention_tiled_takes(const struct cuda_device *c, const struct attention_shape *s);
void cuda_attention_tiled(struct cuda_device *c, struct tensor *o, const struct tensor *q,
    const struct tensor *k, const struct tensor *v, const struct attention_shape *s);
bool cuda_attention_wgmma_takes(const struct cuda_device *c, const struct attention_shape *s);
void cuda_attention_wgmma(struct cuda_device *c, struct tensor *o, const struct tensor *q,
    const struct tensor *k, const struct tensor *v, const struct attention_shape *s);

#endif
