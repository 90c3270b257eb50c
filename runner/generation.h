/*
 * From a prompt to pixels, one step at a time: what session.c drives and what benchmarks and reference tests
 * call.
 *
 * A `model` is one loaded checkpoint on one device. A `generation` is one picture in the making: it holds its
 * caption rows, its latent and its step index, so several may be interleaved step by step.
 */
#ifndef RUNNER_GENERATION_H
#define RUNNER_GENERATION_H

#include <stdbool.h>
#include <stdint.h>

#include "ipc/err.h"
#include "kernels/ops.h"
#include "runner/trace.h"

enum {
	MAX_GENERATIONS =
	    5 /* held at once: the largest concurrency and one that preempts (design section 5) */
};

struct model;
struct generation;

struct model_limits {
	char name[64];	    /* base name of the directory */
	char hash[33];	    /* SHA-256, cut, over names, types, shapes and first bytes of all tensors: tells
			     * fine-tunes apart, does not prove that weights are undamaged */
	int granule;	    /* sides are multiples of this: 16 for an 8x VAE with 2x2 patches */
	int default_side;   /* pixels */
	int max_side;	    /* pixels, from axes_lens and the VAE's scale */
	int64_t max_pixels; /* what the arena was planned for */
	int max_tokens;	    /* 512 */
	float shift;	    /* of the schedule, for the metadata */
	uint64_t memory_bytes; /* reserved on the device for stages and held pictures, without the weights */
	size_t latent_count;   /* floats of the largest picture's latent */
	int thrift;	       /* of the decoder at most, as runner/vae.h has it */
	bool text_streamed;    /* the text encoder's matrices are brought for each prompt */
	uint64_t weight_bytes; /* of the device, by the plan */
};

typedef void model_progress(void *arg, uint64_t done_bytes, uint64_t total_bytes);

/* Where the text encoder's matrices are: on the device, or in the checkpoint's files, from where they are
 * brought for each prompt. */
enum text_weights { TEXT_AUTO, TEXT_RESIDENT, TEXT_STREAMED };

struct model_options {
	int64_t max_pixels; /* plans the arena; 0: default_side squared */
	enum text_weights text_weights;
	model_progress *progress; /* may be NULL */
	void *progress_arg;
};

/* Loads the diffusers folder `dir`. 0; -ERR_BAD_CHECKPOINT naming file and tensor; -ERR_OUT_OF_MEMORY of the
 * device; -ERR_SYSTEM when the host is short of it; -ERR_UNSUPPORTED for a config we cannot run. The device
 * stays the caller's and must outlive the model. */
int model_open(struct model **m, const char *dir, struct device *device, const struct model_options *options,
    struct err *e);
void model_close(struct model **m);
const struct model_limits *model_limits(const struct model *m);
/* Tests: every stage shows its result from here on; NULL ends it. */
void model_trace(struct model *m, const struct trace *trace);

struct generation_request {
	const char *prompt; /* UTF-8 */
	uint64_t seed;	    /* torch CPU generator (model-spec section 7.3) */
	int width, height;  /* pixels */
	int steps;	    /* DiT forwards, 1.. */
	bool truncate;	    /* cut the prompt at max_tokens instead of failing */
	bool fresh;	    /* what was kept of an earlier prompt is neither used nor made: for probes */
};

struct generation_times {
	double tokenize_s, text_s, denoise_s, decode_s; /* wall seconds so far */
};

/* Tokenises; the text is to be encoded next, and the noise drawn meanwhile. 0; -ERR_PROMPT_TOO_LONG,
 * -ERR_INVALID_PARAM (sides, steps), -ERR_TOO_BIG, -ERR_INTERNAL when MAX_GENERATIONS are held already (the
 * caller's bug), -ERR_SYSTEM (no host memory), or a device failure as -ERR_OUT_OF_MEMORY / -ERR_INTERNAL /
 * -ERR_POISONED. */
int generation_begin(
    struct generation **g, struct model *m, const struct generation_request *r, struct err *e);
/* Encodes the text and refines the caption: all of it, or one layer where its weights are streamed. Until it
 * is done there is no step. 0, a device failure, or -ERR_INTERNAL when the weights' files have changed. */
int generation_encode(struct generation *g, struct err *e);
bool generation_is_encoded(const struct generation *g);
/* Both, to the end. */
int generation_start(
    struct generation **g, struct model *m, const struct generation_request *r, struct err *e);
/* One DiT forward and one Euler update. 0 or a device failure. Not to be called when generation_left is 0. */
int generation_step(struct generation *g, struct err *e);
int generation_left(const struct generation *g); /* steps still to do */
/* Decodes the latent as it stands: rgb (height, width, 3), row-major, caller's memory. */
int generation_decode(struct generation *g, uint8_t *rgb, struct err *e);
/* The latent as it stands, (16, height/8, width/8) F32, into caller's memory. */
int generation_latent(struct generation *g, float *latent, struct err *e);
size_t generation_latent_count(const struct generation *g); /* floats in it */
/* Goes on from that latent with `step` steps done (0..steps), as if they had been done here; once it is
 * encoded. 0 or a device failure. */
int generation_restore(struct generation *g, int step, const float *latent, struct err *e);
int generation_tokens(const struct generation *g, bool *truncated); /* of the prompt with its frame */
const struct generation_times *generation_times(const struct generation *g);
void generation_free(struct generation **g); /* at any step */

#endif
