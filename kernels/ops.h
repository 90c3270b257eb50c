/*
 * The arithmetic of the model: tensor views and one table of operations.
 *
 * Every backend fills the same `struct ops`; `ref/` is the definition (plain loops, sums in double), `cpu/`
 * and `cuda/` are the fast twins, checked against it on tests/kernels/shapes. Formulas and shapes are stated
 * here and nowhere else. The model (runner/dit.c, text_encoder.c, vae.c) is written once, against this
 * header.
 *
 * Errors: an operation returns nothing. A backend that fails remembers its first failure and makes every
 * later operation a no-op; `sync` returns it. The model looks once per stage and per step, not once per call.
 *
 * Conventions: row-major, outermost dimension first, contiguous. L rows of a sequence, D model width, K/N
 * input and output width of a linear. Activations have the backend's `act` type; vectors that carry
 * statistics or tables (norm weights, modulation, rotation) are F32 on the device; accumulation is F32 or
 * wider everywhere. Outputs never overlap inputs unless the operation says "may be in place".
 */
#ifndef KERNELS_OPS_H
#define KERNELS_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum dtype { DT_F32, DT_BF16, DT_F16, DT_U8, DT_I32 };

enum { TENSOR_MAX_RANK = 4 };

/* A view: owns nothing. `data` is a device address of the backend that made it (host memory for ref and cpu).
 */
struct tensor {
	void *data;
	enum dtype type;
	int rank;
	int64_t dim[TENSOR_MAX_RANK]; /* outermost first; unused ones are 1 */
};

size_t dtype_size(enum dtype type);	      /* bytes of one element */
int64_t tensor_count(const struct tensor *t); /* elements */
size_t tensor_bytes(const struct tensor *t);
struct tensor tensor_rows(
    const struct tensor *t, int64_t first, int64_t count); /* view of rows along dim[0] */

/* One stored tensor as the checkpoint has it: host memory, F32, BF16 or F16. Alignment of `data` is not
 * promised. */
struct stored {
	const void *data;
	enum dtype type;
	int rank;
	int64_t dim[TENSOR_MAX_RANK];
};

int64_t stored_count(const struct stored *s); /* elements */

/* A weight in the layout and precision its backend likes best. Opaque, owned by the device, freed by
 * device_close. */
struct weight;

enum weight_use {
	WEIGHT_LINEAR, /* parts (N_i, K) stacked to (sum N_i, K): packed QKV and w1+w3 */
	WEIGHT_CONV,   /* one part (Cout, Cin, k, k); a rank-2 part is taken as 1x1 */
	WEIGHT_TABLE,  /* one part (V, D), rows looked up by `embed` */
};

enum precision {
	PRECISION_AUTO, /* bf16 where the device multiplies bf16 in hardware, else f32 */
	PRECISION_F32,
	PRECISION_BF16,
};

enum activation { ACT_SILU, ACT_TANH, ACT_ONE_PLUS }; /* x/(1+e^-x), tanh x, 1+x */

/* How pairs of channels of one head rotate together. */
enum rope_pairs {
	ROPE_HALVES,   /* (j, j + d/2): Qwen3, model-spec section 5 */
	ROPE_ADJACENT, /* (2j, 2j + 1): the transformer, section 6.4 */
};

struct attention_shape {
	int heads;    /* query heads */
	int kv_heads; /* divides heads; query head n reads head n / (heads / kv_heads) */
	int head_dim;
	bool causal; /* row i sees rows 0..i */
	float scale; /* on q.k, before the softmax */
};

/* y (h, w, C) := GN(x) w + b [then SiLU]; statistics over (h, w, channels of the group), population variance.
 */
struct group_norm {
	const struct tensor *w, *b; /* (C) */
	int groups;		    /* runs of consecutive channels */
	float eps;
	bool silu;
	/* Where x is some rows of a picture: what group_sums made of all of it, and how high it is. NULL: x
	 * is the picture. */
	const struct tensor *sums;
	int64_t height;
};

/* A picture's sums are kept by strips of so many rows, a power of two: at most GROUP_STRIPS of them. */
enum { GROUP_STRIPS = 1024 };
int64_t group_strip_rows(int64_t height, int64_t w);
int64_t group_strips(int64_t height, int64_t w);

struct conv_shape {
	int stride;		       /* 1 or 2 */
	int pad_before;		       /* zero rows above and columns left */
	int pad_after;		       /* zero rows below and columns right */
	bool upsample2;		       /* nearest-neighbour x2 of the input first, then the convolution */
	const struct group_norm *norm; /* of the input before its zero rows; or NULL, as under upsample2 */
};

/* Where a sequence's tensors lie, and their sizes. */
struct recording_key {
	uint64_t place;
	int64_t sizes[3];
};

struct device; /* one opened backend: its handles, weights, scratch memory and first failure */

struct ops {
	const char *name;

	/* ---- memory. reserve/release are for start-up: nothing is reserved after the first job (design
	 * section 5). */

	/* `bytes` of device memory, 256-byte aligned, contents undefined; NULL when there is none. What was
	 * asked for and may use it is done before it is released. */
	void *(*reserve)(struct device *d, size_t bytes);
	void (*release)(struct device *d, void *memory);
	/* Host to device and back; same count, types converted (round to nearest even). copy_out waits. */
	void (*copy_in)(struct device *d, struct tensor *to, const void *host, enum dtype host_type);
	void (*copy_out)(struct device *d, void *host, enum dtype host_type, const struct tensor *from);
	/* Device to device, same count, types converted. */
	void (*copy)(struct device *d, struct tensor *to, const struct tensor *from);
	/* to (n, D): every row := row (D). */
	void (*repeat_row)(struct device *d, struct tensor *to, const struct tensor *row);
	/* to (any shape of D numbers) := row number index (1) I32 of table (n, D), types converted; 0 <=
	 * index < n, which the device reads when its turn comes. */
	void (*pick_row)(
	    struct device *d, struct tensor *to, const struct tensor *table, const struct tensor *index);

	/* Takes `parts` into the device's own layout; NULL on failure (out of memory). The parts' bytes are
	 * not needed afterwards. */
	struct weight *(*weight_load)(
	    struct device *d, enum weight_use use, const struct stored *parts, int part_count);
	/* Fills a WEIGHT_LINEAR again, from parts of the shapes that it was loaded from; takes no memory.
	 * Like an operation it comes after what was asked for before and before what is asked for later, but
	 * it may be under way beside operations on other weights. The parts' bytes are not needed afterwards.
	 */
	void (*weight_refill)(struct device *d, struct weight *w, const struct stored *parts, int part_count);

	/* Waits for all work; 0, or the first failure as a positive enum device_fault (device_error has the
	 * text). */
	int (*sync)(struct device *d);

	/* ---- sequences that come again. `replay` runs what was recorded under the key and returns true;
	 * where it returns false the caller runs the operations, and then calls `recorded`, which returns
	 * whether they have been done: if not, the caller runs them once more. Between the two there are no
	 * copies between host and device, and nothing but what the key says may differ from one time to the
	 * next. */
	bool (*replay)(struct device *d, const struct recording_key *key);
	bool (*recorded)(struct device *d);

	/* ---- operations */

	/* y (T, D) := table[ids[t]], ids in host memory, each below V. */
	void (*embed)(struct device *d, struct tensor *y, const struct weight *table, const int32_t *ids);

	/* y (L, N) := x (L, K) W^T + bias (N) ; bias may be NULL. */
	void (*linear)(struct device *d, struct tensor *y, const struct tensor *x, const struct weight *w,
	    const struct tensor *bias);

	/* y (L, D) := x / sqrt(mean(x^2) + eps) * w (D) * scale (D); scale may be NULL (ones). May be in
	 * place. */
	void (*rms_norm)(struct device *d, struct tensor *y, const struct tensor *x, const struct tensor *w,
	    const struct tensor *scale, float eps);

	/* y (L, D) := (x - mean) / sqrt(var + eps) * scale (D); population variance; no affine part. */
	void (*layer_norm)(struct device *d, struct tensor *y, const struct tensor *x,
	    const struct tensor *scale, float eps);

	/* The tail of a branch: x (L, D) += gate (D) * RMS(branch (L, D); w (D), eps); gate may be NULL
	 * (ones). */
	void (*norm_gate_add)(struct device *d, struct tensor *x, const struct tensor *branch,
	    const struct tensor *w, const struct tensor *gate, float eps);

	/* The tail of a branch and the head of the next in one: norm_gate_add, then u (L, D) := rms_norm of
	 * the new x with next_w and next_scale (may be NULL) and the same eps. u may be branch's memory. */
	void (*tail)(struct device *d, struct tensor *x, struct tensor *u, const struct tensor *branch,
	    const struct tensor *w, const struct tensor *gate, const struct tensor *next_w,
	    const struct tensor *next_scale, float eps);

	/* x += y, elementwise, any equal shape. */
	void (*add)(struct device *d, struct tensor *x, const struct tensor *y);

	/* Splits qkv (L, (heads + 2 kv_heads) head_dim) into q (L, heads, head_dim), k and v (L, kv_heads,
	 * head_dim); q and k get RMS over head_dim with norm_q / norm_k (head_dim) and eps, then the rotation
	 * by cos/sin (L, head_dim / 2), F32: (a, b) -> (a cos - b sin, a sin + b cos). v is copied. */
	void (*qkv_norm_rope)(struct device *d, struct tensor *q, struct tensor *k, struct tensor *v,
	    const struct tensor *qkv, const struct tensor *norm_q, const struct tensor *norm_k,
	    const struct tensor *cos, const struct tensor *sin, const struct attention_shape *shape,
	    enum rope_pairs pairs, float eps);

	/* o (Lq, heads, head_dim) := softmax(scale q k^T [causal]) v. q (Lq, heads, hd), k and v (Lk,
	 * kv_heads, hd); causal wants Lq == Lk. */
	void (*attention)(struct device *d, struct tensor *o, const struct tensor *q, const struct tensor *k,
	    const struct tensor *v, const struct attention_shape *shape);

	/* y (L, F) := silu(x[:, 0..F-1]) * x[:, F..2F-1], x (L, 2F). */
	void (*swiglu)(struct device *d, struct tensor *y, const struct tensor *x);

	/* y := f(x), elementwise. May be in place. */
	void (*activate)(struct device *d, struct tensor *y, const struct tensor *x, enum activation f);

	/* y := x * mul + add, elementwise. May be in place when the types are equal. */
	void (*affine)(struct device *d, struct tensor *y, const struct tensor *x, float mul, float add);

	/* x += a (1) * y, all F32: the Euler step. */
	void (*axpy)(struct device *d, struct tensor *x, const struct tensor *a, const struct tensor *y);

	/* rows ((h/2)(w/2), 4C) := 2x2 patches of latent (C, h, w) F32; row r = Y (w/2) + X,
	 * entry (dy*2 + dx) C + c = latent[c][2Y + dy][2X + dx] (model-spec section 6.2). */
	void (*patchify)(struct device *d, struct tensor *rows, const struct tensor *latent);
	/* latent (C, h, w) F32 := sign * the inverse of patchify. */
	void (*unpatchify)(struct device *d, struct tensor *latent, const struct tensor *rows, float sign);

	/* y (h, w, C) := x (C, h, w) F32, the layout of the VAE. */
	void (*to_channels_last)(struct device *d, struct tensor *y, const struct tensor *x);

	/* y (H, W, Cout) := conv(x (h, w, Cin), normed) + bias (Cout) [+ add (H, W, Cout)]; bias and add may
	 * be NULL. H = (s h + pad_before + pad_after - k) / stride + 1 with s = 2 under upsample2, else 1; W
	 * alike. What is between x and y is made a few rows at a time: no second picture is needed for it.
	 * y may be add; and with k = 1, stride 1, no norm and Cout <= Cin it may begin where x does, which
	 * is then used up. */
	void (*conv2d)(struct device *d, struct tensor *y, const struct tensor *x, const struct weight *w,
	    const struct tensor *bias, const struct tensor *add, const struct conv_shape *shape);

	/* As struct group_norm says. May be in place. */
	void (*group_norm)(
	    struct device *d, struct tensor *y, const struct tensor *x, const struct group_norm *norm);

	/* sums (group_strips(height, w) or more, groups, 4) F32 := in the device's own form, what a
	 * group_norm needs of x (n, w, C), the rows from `first` on of a picture (height, w, C); what other
	 * rows have put there stays. `first` begins a strip, and x ends with one or with the picture. */
	void (*group_sums)(
	    struct device *d, struct tensor *sums, const struct tensor *x, int64_t first, int64_t height);

	/* pixels (h, w, 3) U8 := round-half-even(255 clamp(x / 2 + 1/2, 0, 1)), x (h, w, 3). */
	void (*to_pixels)(struct device *d, struct tensor *pixels, const struct tensor *x);
};

enum device_fault {
	DEVICE_OK,
	DEVICE_OUT_OF_MEMORY,
	DEVICE_POISONED, /* a sticky error: the process must end */
	DEVICE_INTERNAL, /* our bug or the library's: a shape it refuses */
	DEVICE_BUSY,	 /* at opening: another process has it to itself */
};

struct device_options {
	enum precision precision;
	int threads;	       /* CPU backends; 0 = as many as the affinity mask has */
	int index;	       /* cuda:N */
	const char *cache_dir; /* cuda: where choices of algorithms are kept; NULL: nowhere */
	bool portable;	       /* cuda: only the kernels that every device takes, none for one kind alone */
};

/* Opens a backend by name: "ref", "cpu" or "cuda". 0; -1 with a sentence in `why` (no such backend in this
 * build, no usable device); or, with a sentence too, a positive enum device_fault that opening failed with.
 * The device is freed by device_close, which nulls the pointer. */
int device_open(
    struct device **d, const char *backend, const struct device_options *options, char *why, size_t why_size);
void device_close(struct device **d);

/* One device that a backend sees. */
enum { DEVICE_UUID = 48, DEVICE_MODEL = 128, DEVICE_WHY = 200 };
struct device_info {
	int index;
	char uuid[DEVICE_UUID], name[DEVICE_MODEL];
	uint64_t memory_bytes;
	int major, minor;	   /* compute capability */
	char unusable[DEVICE_WHY]; /* why it cannot be opened; "": it can, as far as that can be told */
};

/* Fills at most `max` rows and returns how many; -1 with a sentence in `why` when there is none: this build
 * has no such backend, or it has no devices to tell apart, or there is no driver. */
int device_list(const char *backend, struct device_info *list, int max, char *why, size_t why_size);

const struct ops *device_ops(const struct device *d);
enum dtype device_act_type(const struct device *d);	 /* what activations are stored in */
enum precision device_precision(const struct device *d); /* what products are computed in: F32 or BF16 */
const char *device_name(
    const struct device *d); /* for people: "cpu (2 threads, avx512_bf16, oneDNN 2.6.3)" */
/* Calls so far for memory on the device, of `reserve` and the backend's own; 0 where it is the host's memory.
 */
uint64_t device_allocations(const struct device *d);
/* Bytes of the device that nobody has: what a driver takes for itself shows here only, and so does what other
 * processes take. 0 where it is the host's memory, and after a failure. */
uint64_t device_free_bytes(struct device *d);
/* Whether its first work of a size takes longer than the next one's, and is better done before READY. */
bool device_warms_up(const struct device *d);
/* Whether it tries several ways of doing what it has not done before, and keeps the fastest: as one with a
 * cache_dir may until device_settle. That takes its time, and leaves garbage in inputs and results. */
bool device_searches(const struct device *d);
/* From now on results count and nothing is tried. */
void device_settle(struct device *d);
/* What a device's sensors say; a negative number: it has no such sensor. */
struct device_readings {
	double memory_used_bytes;   /* of the whole device, by all processes */
	double utilization;	    /* 0 to 1: for how much of the last moments something ran on it */
	double temperature_celsius; /* its own, not its memory's */
	double energy_joules;	    /* since its driver was loaded */
};

/* false: it has no sensors. By one thread at a time, beside operations; it may wait for the driver. */
bool device_read(struct device *d, struct device_readings *r);
/* From now on `worked` is called, on the caller's thread, whenever work is done that may take long: after
 * each operation of that kind or a part of it, where operations are over when they return, between two trials
 * of a search, and while weights are brought. It must be quick and must not call operations. NULL: nobody
 * wants to know. */
void device_watch(struct device *d, void (*worked)(void *arg), void *arg);
const char *device_error(const struct device *d); /* one sentence about the first failure, or "" */

#endif
