/*
 * What a card does with networks of full size: weights of random normal numbers, no checkpoint. Each line is
 * NAME measured_ms floor_ms share: the median of --rounds samples, each waited for; the time that its
 * operations or bytes take at the rates of a large product and a large copy measured at the beginning of this
 * run; and floor by measured.
 *
 *   bench_gpu [--rounds N] [--small] [--only NAME] [--cache DIR]
 *
 * --small: a model and pictures that the emulated device can do, to see that this program works.
 * --only NAME: the lines that begin with NAME, after the rates. Exit 77: no device.
 */
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/conv.h"
#include "runner/dit.h"
#include "runner/fault.h"
#include "runner/noise.h"
#include "runner/text_encoder.h"
#include "runner/vae.h"
#include "tests/bench/full_size.h"

enum { MAX_ROUNDS = 101, NAME = 32, NO_DEVICE = 77, TENSORS = 8, STEPS = 8, SAMPLE_MS = 5 };

static struct {
	int rounds;
	bool small;
	const char *only, *cache;
} options = {7, false, "", NULL};

static struct {
	struct device *device;
	const struct ops *ops;
	const struct model_config *config;
	struct checkpoint *checkpoint;
	struct loader loader;
	struct text_encoder *text;
	struct dit *dit;
	struct vae *vae;
	double flops_per_ms, bytes_per_ms; /* of this device, measured */
} bench;

static void
fail(const char *what, const char *why)
{
	fprintf(stderr, "bench_gpu: %s: %s\n", what, why);
	exit(1);
}

static void
wait_for_device(const char *what)
{
	if (bench.ops->sync(bench.device) != 0)
		fail(what, device_error(bench.device));
}

/* ---- measuring */

static int
compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Of each of `count` runs in a row, which are waited for together. */
static double
sample_ms(const char *name, void (*run)(void *arg), void *arg, int count)
{
	int64_t begin = clock_now_us();

	for (int i = 0; i < count; i++)
		run(arg);
	wait_for_device(name);
	return (double)(clock_now_us() - begin) * 1e-3 / count;
}

/* The median of options.rounds samples after two that warm up. A kernel of some 20 us is over before the host
 * has woken up from waiting for it, so a sample has as many runs as take a few milliseconds. */
static double
time_ms(const char *name, void (*run)(void *arg), void *arg)
{
	double ms[MAX_ROUNDS], one;
	int count;

	sample_ms(name, run, arg, 1);
	one = sample_ms(name, run, arg, 1);
	count = options.small || one >= SAMPLE_MS ? 1 : (int)ceil(SAMPLE_MS / fmax(one, 0.01));
	for (int i = 0; i < options.rounds; i++)
		ms[i] = sample_ms(name, run, arg, count);
	qsort(ms, (size_t)options.rounds, sizeof(ms[0]), compare);
	return ms[options.rounds / 2];
}

static void
report(const char *name, double ms, double floor_ms)
{
	printf("%-24s %10.3f %10.3f %5.2f\n", name, ms, floor_ms, floor_ms / ms);
	fflush(stdout);
}

static bool
is_wanted(const char *name)
{
	return strncmp(name, options.only, strlen(options.only)) == 0;
}

static double
floor_of(double flops, double bytes)
{
	return fmax(flops / bench.flops_per_ms, bytes / bench.bytes_per_ms);
}

/* ---- tensors of random normal numbers */

static struct tensor
reserve(enum dtype type, int rank, const int64_t *dim)
{
	struct tensor t = {.type = type, .rank = rank, .dim = {1, 1, 1, 1}};

	for (int i = 0; i < rank; i++)
		t.dim[i] = dim[i];
	t.data = bench.ops->reserve(bench.device, tensor_bytes(&t));
	if (t.data == NULL)
		fail("memory", "the device has not enough");
	return t;
}

/* Numbers of the random checkpoint, over and over, times 50: deviation 1. */
static void
fill(struct tensor *t)
{
	int64_t piece[] = {1 << 20}, count = tensor_count(t);
	struct stored stored;
	struct tensor part = *t;

	checkpoint_tensor(bench.checkpoint, "input", 1, piece, &stored, NULL);
	part.rank = 1;
	for (int64_t at = 0; at < count; at += piece[0]) {
		part.dim[0] = count - at < piece[0] ? count - at : piece[0];
		part.data = (char *)t->data + (size_t)at * dtype_size(t->type);
		bench.ops->copy_in(bench.device, &part, stored.data, stored.type);
		bench.ops->affine(bench.device, &part, &part, 50.0f, 0.0f);
	}
}

static struct tensor
make(enum dtype type, int rank, const int64_t *dim)
{
	struct tensor t = reserve(type, rank, dim);

	fill(&t);
	return t;
}

#define DIM(...) ((int64_t[]){__VA_ARGS__})

/* ---- single operations: up to eight tensors and a weight */

struct single {
	struct tensor t[TENSORS];
	struct weight *w;
	struct attention_shape shape;
	int form; /* of attention or conv2d */
	struct conv_shape conv;
	struct group_norm norm;
	int groups;
};

/* What is still being filled must not be freed: a device may, but need not, wait by itself. */
static void
release(struct single *s)
{
	wait_for_device("filling");
	for (int i = 0; i < TENSORS; i++)
		bench.ops->release(bench.device, s->t[i].data);
}

static struct weight *
random_weight(enum weight_use use, int rank, const int64_t *dim)
{
	struct stored stored;
	struct weight *w;

	if (checkpoint_tensor(bench.checkpoint, "weight", rank, dim, &stored, NULL) != 0)
		fail("weight", "it is too large");
	w = bench.ops->weight_load(bench.device, use, &stored, 1);
	if (w == NULL)
		fail("weight", device_error(bench.device));
	return w;
}

static void
run_linear(void *arg)
{
	struct single *s = arg;

	bench.ops->linear(bench.device, &s->t[0], &s->t[1], s->w, NULL);
}

/* x (rows, k) W^T, W (n, k). Returns its time. */
static double
time_linear(const char *name, int64_t rows, int64_t n, int64_t k)
{
	enum dtype act = device_act_type(bench.device);
	struct single s = {.t = {reserve(act, 2, DIM(rows, n)), make(act, 2, DIM(rows, k))}};
	double ms;

	s.w = random_weight(WEIGHT_LINEAR, 2, DIM(n, k));
	ms = time_ms(name, run_linear, &s);
	release(&s);
	return ms;
}

static void
bench_linear(const char *name, int64_t rows, int64_t n, int64_t k)
{
	double bytes = 2.0 * (double)(rows * k + n * k + rows * n);

	if (is_wanted(name))
		report(name, time_linear(name, rows, n, k),
		    floor_of(2.0 * (double)rows * (double)n * (double)k, bytes));
}

static void
run_copy(void *arg)
{
	struct single *s = arg;

	bench.ops->copy(bench.device, &s->t[0], &s->t[1]);
}

/* The two rates that floors are made of. */
static void
measure_rates(void)
{
	int64_t side = options.small ? 256 : 8192, count = options.small ? 1 << 20 : 1 << 30;
	double ms = time_linear("matrix", side, side, side);
	struct single s = {.t = {reserve(DT_BF16, 1, &count), reserve(DT_BF16, 1, &count)}};

	bench.flops_per_ms = 2.0 * (double)side * (double)side * (double)side / ms;
	report("matrix", ms, ms);
	ms = time_ms("copy", run_copy, &s);
	bench.bytes_per_ms = 4.0 * (double)count / ms;
	report("copy", ms, ms);
	release(&s);
	printf("# %.0f TFLOP/s, %.2f TB/s\n", bench.flops_per_ms * 1e-9, bench.bytes_per_ms * 1e-9);
}

static void
run_attention(void *arg)
{
	struct single *s = arg;

	bench.ops->attention(bench.device, &s->t[0], &s->t[1], &s->t[2], &s->t[3], &s->shape);
}

static void
run_attention_form(void *arg)
{
	struct single *s = arg;

	cuda_attention_by(bench.device, s->form, &s->t[0], &s->t[1], &s->t[2], &s->t[3], &s->shape);
}

static void
time_flops(const char *name, void (*run)(void *arg), struct single *s, double flops, double bytes)
{
	double ms = time_ms(name, run, s);

	report(name, ms, floor_of(flops, bytes));
	printf("# %.0f TFLOP/s\n", flops / ms * 1e-9);
}

/* Side by side, the forms for tensor cores that this device has. The operation takes the first of them. */
static void
time_forms(const char *name, struct single *s, double flops)
{
	static const char *const rivals[] = {"wgmma", "mma"};
	const char *form;
	char line[NAME];

	for (s->form = 0; (form = cuda_attention_form(s->form)) != NULL; s->form++) {
		for (size_t i = 0; i < sizeof(rivals) / sizeof(rivals[0]); i++) {
			if (strcmp(form, rivals[i]) != 0 ||
			    !cuda_attention_takes(bench.device, s->form, &s->shape))
				continue;
			snprintf(line, sizeof(line), "%s-%s", name, form);
			time_flops(line, run_attention_form, s, flops, 0);
		}
	}
}

static void
bench_attention(const char *name, int64_t rows, int heads, int kv_heads, int width, bool causal)
{
	enum dtype act = device_act_type(bench.device);
	struct single s = {.shape = {heads, kv_heads, width, causal, (float)(1 / sqrt(width))}};
	double flops = 4.0 * heads * width * (double)rows * (double)rows / (causal ? 2 : 1);

	if (!is_wanted(name))
		return;
	for (int i = 0; i < 4; i++)
		s.t[i] = make(act, 3, DIM(rows, i < 2 ? heads : kv_heads, width));
	time_flops(name, run_attention, &s, flops, 0);
	time_forms(name, &s, flops);
	release(&s);
}

static void
run_rms_norm(void *arg)
{
	struct single *s = arg;

	bench.ops->rms_norm(bench.device, &s->t[0], &s->t[1], &s->t[2], &s->t[3], 1e-5f);
}

static void
run_norm_gate_add(void *arg)
{
	struct single *s = arg;

	bench.ops->norm_gate_add(bench.device, &s->t[0], &s->t[1], &s->t[2], &s->t[3], 1e-5f);
}

static void
run_tail(void *arg)
{
	struct single *s = arg;

	bench.ops->tail(
	    bench.device, &s->t[0], &s->t[1], &s->t[1], &s->t[2], &s->t[3], &s->t[2], &s->t[3], 1e-5f);
}

static void
run_swiglu(void *arg)
{
	struct single *s = arg;

	bench.ops->swiglu(bench.device, &s->t[0], &s->t[1]);
}

static void
run_qkv(void *arg)
{
	struct single *s = arg;

	bench.ops->qkv_norm_rope(bench.device, &s->t[0], &s->t[1], &s->t[2], &s->t[3], &s->t[4], &s->t[5],
	    &s->t[6], &s->t[7], &s->shape, ROPE_ADJACENT, 1e-5f);
}

/* An operation that moves so many bytes. */
static void
bench_bytes(const char *name, void (*run)(void *arg), struct single *s, double bytes)
{
	double ms;

	if (!is_wanted(name))
		return;
	ms = time_ms(name, run, s);
	report(name, ms, floor_of(0, bytes));
	printf("# %.0f GB/s\n", bytes / ms * 1e-6);
}

static void
bench_one(const char *name, void (*run)(void *arg), struct single *s, double bytes)
{
	bench_bytes(name, run, s, bytes);
	release(s);
}

/* The passes of one block over `rows` rows. */
static void
bench_elementwise(int64_t rows)
{
	const struct transformer_config *c = &bench.config->transformer;
	enum dtype act = device_act_type(bench.device);
	int64_t d = c->dim, f = c->ffn_dim, heads[] = {rows, c->heads, c->head_dim}, half = c->head_dim / 2;
	double size = (double)dtype_size(act), numbers = (double)(rows * d);
	struct single norm = {.t = {make(act, 2, DIM(rows, d)), make(act, 2, DIM(rows, d)),
				  make(DT_F32, 1, &d), make(DT_F32, 1, &d)}};
	struct single swiglu = {.t = {reserve(act, 2, DIM(rows, f)), make(act, 2, DIM(rows, 2 * f))}};
	struct single qkv = {.t = {reserve(act, 3, heads), reserve(act, 3, heads), reserve(act, 3, heads),
				 make(act, 2, DIM(rows, 3 * d)), make(DT_F32, 1, DIM(c->head_dim)),
				 make(DT_F32, 1, DIM(c->head_dim)), make(DT_F32, 2, DIM(rows, half)),
				 make(DT_F32, 2, DIM(rows, half))},
	    .shape = {c->heads, c->heads, c->head_dim, false, 1}};

	bench_bytes("rms-norm", run_rms_norm, &norm, 2 * size * numbers);
	bench_bytes("tail", run_tail, &norm, 4 * size * numbers);
	bench_one("norm-gate-add", run_norm_gate_add, &norm, 3 * size * numbers);
	bench_one("swiglu", run_swiglu, &swiglu, 3 * size * (double)(rows * f));
	bench_one("qkv-norm-rope", run_qkv, &qkv, 6 * size * numbers);
}

static void
run_conv(void *arg)
{
	struct single *s = arg;

	bench.ops->conv2d(bench.device, &s->t[0], &s->t[1], s->w, &s->t[2], NULL, &s->conv);
}

static void
run_group_norm(void *arg)
{
	struct single *s = arg;
	struct group_norm norm = {
	    .w = &s->t[2], .b = &s->t[3], .groups = s->groups, .eps = 1e-6f, .silu = true};

	bench.ops->group_norm(bench.device, &s->t[0], &s->t[1], &norm);
}

static void
bench_group_norm(const char *name, int64_t side, int64_t channels)
{
	enum dtype act = device_act_type(bench.device);
	struct single s = {
	    .t = {reserve(act, 3, DIM(side, side, channels)), make(act, 3, DIM(side, side, channels)),
		make(DT_F32, 1, &channels), make(DT_F32, 1, &channels)},
	    .groups = bench.config->vae.groups};

	bench_one(name, run_group_norm, &s, 2.0 * (double)tensor_bytes(&s.t[0]));
}

/* The decoder's largest convolutions at 1024x1024; side: of the picture that goes in. */
static const struct conv_line {
	const char *name;
	int64_t side, inputs, outputs;
	bool doubled, normed;
} conv_lines[] = {
    {"conv-512", 256, 512, 512, false, true},
    {"conv-256", 512, 256, 256, false, true},
    {"conv-up-256", 512, 256, 256, true, false},
    {"conv-128", 1024, 128, 128, false, true},
    {"conv-out", 1024, 128, 3, false, true},
};

static void
run_conv_form(void *arg)
{
	struct single *s = arg;

	cuda_conv_by(bench.device, s->form, &s->t[0], &s->t[1], s->w, &s->t[2], NULL, &s->conv);
}

/* The operation, and as remarks the forms for tensor cores that this device has. */
static void
time_conv(const struct conv_line *l, struct single *s, double flops, double bytes)
{
	const char *form;
	double ms;

	time_flops(l->name, run_conv, s, flops, bytes);
	for (s->form = 0; (form = cuda_conv_form(s->form)) != NULL; s->form++) {
		if (strcmp(form, "plain") == 0 ||
		    !cuda_conv_takes(bench.device, s->form, (int)s->t[1].dim[2], 3, 1))
			continue;
		ms = time_ms(l->name, run_conv_form, s);
		printf("# %s by %s: %.3f ms, %.0f TFLOP/s\n", l->name, form, ms, flops / ms * 1e-9);
	}
}

static void
bench_conv(const struct conv_line *l)
{
	enum dtype act = device_act_type(bench.device);
	int64_t side = options.small ? l->side / 32 : l->side, most = options.small ? 32 : INT64_MAX,
		inputs = l->inputs < most ? l->inputs : most, outputs = l->outputs < most ? l->outputs : most,
		out = l->doubled ? 2 * side : side;
	double flops = (l->doubled ? 32.0 : 18.0) * (double)(side * side * inputs * outputs);
	struct single s = {.conv = {1, 1, 1, l->doubled, NULL}};

	if (!is_wanted(l->name))
		return;
	s.t[0] = reserve(act, 3, DIM(out, out, outputs));
	s.t[1] = make(act, 3, DIM(side, side, inputs));
	s.t[2] = make(DT_F32, 1, &outputs);
	s.t[3] = make(DT_F32, 1, &inputs);
	s.t[4] = make(DT_F32, 1, &inputs);
	s.w = random_weight(WEIGHT_CONV, 4, DIM(outputs, inputs, 3, 3));
	s.norm = (struct group_norm){.w = &s.t[3],
	    .b = &s.t[4],
	    .groups = inputs < bench.config->vae.groups ? 1 : bench.config->vae.groups,
	    .eps = 1e-6f,
	    .silu = true};
	s.conv.norm = l->normed ? &s.norm : NULL;
	time_conv(l, &s, flops, (double)(tensor_bytes(&s.t[0]) + tensor_bytes(&s.t[1])));
	release(&s);
}

/* ---- whole networks */

/* Numbers of a block's matrices. */
static double
block_numbers(const struct transformer_config *c)
{
	return 4.0 * c->dim * c->dim + 3.0 * c->dim * c->ffn_dim;
}

static double
dit_flops(const struct transformer_config *c, double image, double caption)
{
	double all = image + caption;

	return c->layers * (2 * all * block_numbers(c) + 4.0 * all * all * c->dim) +
	       c->refiner_layers * (2 * image * block_numbers(c) + 4.0 * image * image * c->dim);
}

static double
text_numbers(const struct text_encoder_config *c)
{
	double q = (double)c->heads * c->head_dim, kv = (double)c->kv_heads * c->head_dim;

	return (c->layers - 1) * (c->hidden * (2 * q + 2 * kv) + 3.0 * c->hidden * c->intermediate);
}

/* Of a decoder whose upsamplers are four 2x2 convolutions; pixels: of the latent. */
static double
vae_flops(const struct vae_config *c, double pixels)
{
	double width = c->block_out_channels[c->blocks - 1], flops = 18 * pixels * c->latent_channels * width;

	flops += pixels * (72 * width * width + 8 * width * width + 4 * pixels * width);
	for (int i = 0; i < c->blocks; i++) {
		double next = c->block_out_channels[c->blocks - 1 - i];
		flops +=
		    pixels * (18 * (width * next + next * next) + (width != next ? 2 * width * next : 0));
		flops += pixels * c->layers_per_block * 36 * next * next;
		width = next;
		if (i + 1 < c->blocks) {
			pixels *= 4;
			flops += pixels * 8 * width * width;
		}
	}
	return flops + pixels * 18 * width * 3;
}

/* A picture's tensors and the arena that the networks work in. */
struct picture {
	struct tensor latent, velocity, caption, cos, sin, modulation, distance;
	struct arena arena;
	int32_t ids[MAX_PROMPT_TOKENS];
	int64_t tokens;
	float *noise; /* the host's sides of a picture's way */
	uint8_t *rgb;
};

/* Caption rows, in the arena. */
static struct tensor
encode_text(struct picture *p)
{
	struct tensor x;
	int layer = 0;

	arena_reset(&p->arena);
	x = arena_matrix(&p->arena, device_act_type(bench.device), p->tokens, bench.config->text.hidden);
	text_encoder_embed(bench.text, &x, p->ids);
	while (!text_encoder_is_done(bench.text, layer))
		layer = text_encoder_go_on(bench.text, &p->arena, &x, layer, NULL);
	return x;
}

static void
run_text(void *arg)
{
	encode_text(arg);
}

static void
walk_step(struct picture *p)
{
	arena_reset(&p->arena);
	dit_step(bench.dit, &p->arena, &p->velocity, &p->latent, &p->caption, &p->cos, &p->sin,
	    &p->modulation, NULL);
}

/* As generation.c does. */
static void
run_step(void *arg)
{
	struct picture *p = arg;
	struct recording_key key = {
	    (uintptr_t)p->latent.data, {p->latent.dim[1], p->latent.dim[2], p->tokens}};

	if (bench.ops->replay(bench.device, &key))
		return;
	walk_step(p);
	if (!bench.ops->recorded(bench.device))
		walk_step(p);
}

static void
run_decode(void *arg)
{
	struct picture *p = arg;

	arena_reset(&p->arena);
	vae_decode(bench.vae, &p->arena, &p->latent, NULL);
}

/* In as much memory as the last block in bands takes. */
static void
run_decode_in_bands(void *arg)
{
	struct picture *p = arg;
	struct arena less = p->arena;

	arena_reset(&less);
	less.size = vae_plan(bench.vae, p->latent.dim[1], p->latent.dim[2], 1);
	vae_decode(bench.vae, &less, &p->latent, NULL);
}

/* From ids to pixels in the host's memory, as a job does it; its tokens and its PNG are the host's. */
static void
run_all(void *arg)
{
	struct picture *p = arg;
	struct tensor hidden, cos, sin, pixels;
	int64_t caption = p->caption.dim[0], image = p->cos.dim[0] - caption;

	noise_fill(p->noise, (size_t)tensor_count(&p->latent), 1);
	bench.ops->copy_in(bench.device, &p->latent, p->noise, DT_F32);
	hidden = encode_text(p);
	cos = tensor_rows(&p->cos, image, caption);
	sin = tensor_rows(&p->sin, image, caption);
	dit_caption(bench.dit, &p->arena, &p->caption, &hidden, &cos, &sin, NULL);
	for (int i = 0; i < STEPS; i++) {
		run_step(p);
		bench.ops->axpy(bench.device, &p->latent, &p->distance, &p->velocity);
		wait_for_device("a step");
	}
	arena_reset(&p->arena);
	pixels = vae_decode(bench.vae, &p->arena, &p->latent, NULL);
	bench.ops->copy_out(bench.device, p->rgb, DT_U8, &pixels);
}

/* Bytes of the arena for every stage at this size. */
static size_t
plan(struct picture *p)
{
	struct arena a;
	struct tensor hidden;
	size_t decode;

	arena_plan(&a);
	hidden =
	    arena_matrix(&a, device_act_type(bench.device), MAX_PROMPT_TOKENS, bench.config->text.hidden);
	text_encoder_go_on(bench.text, &a, &hidden, 0, NULL); /* at every length there is */
	hidden = tensor_rows(&hidden, 0, p->tokens);
	dit_caption(bench.dit, &a, &p->caption, &hidden, &p->cos, &p->sin, NULL);
	arena_reset(&a);
	dit_step(
	    bench.dit, &a, &p->velocity, &p->latent, &p->caption, &p->cos, &p->sin, &p->modulation, NULL);
	decode = vae_plan(bench.vae, p->latent.dim[1], p->latent.dim[2], 0);
	return decode > a.peak ? decode : a.peak;
}

static void
picture_open(struct picture *p, int64_t side, int64_t tokens)
{
	const struct transformer_config *c = &bench.config->transformer;
	int64_t cells = side / bench.config->vae.scale, latent[] = {c->in_channels, cells, cells};
	int64_t caption = dit_padded(tokens), rows = dit_padded(cells / 2 * (cells / 2)) + caption;
	size_t angles = (size_t)(rows * c->head_dim / 2), bytes;
	float *host = malloc(2 * angles * sizeof(float));

	p->tokens = tokens;
	for (int i = 0; i < MAX_PROMPT_TOKENS; i++)
		p->ids[i] = i * 7 % bench.config->text.vocab;
	p->latent = make(DT_F32, 3, latent);
	p->noise = malloc((size_t)tensor_count(&p->latent) * sizeof(float));
	p->rgb = malloc((size_t)(side * side * 3));
	if (p->noise == NULL || p->rgb == NULL)
		fail("memory", "the host has not enough");
	p->velocity = reserve(DT_F32, 3, latent);
	p->caption = make(device_act_type(bench.device), 2, DIM(caption, c->dim));
	p->cos = reserve(DT_F32, 2, DIM(rows, c->head_dim / 2));
	p->sin = reserve(DT_F32, 2, DIM(rows, c->head_dim / 2));
	dit_rope(bench.dit, cells, cells, tokens, host, host + angles);
	bench.ops->copy_in(bench.device, &p->cos, host, DT_F32);
	bench.ops->copy_in(bench.device, &p->sin, host + angles, DT_F32);
	free(host);
	p->modulation = reserve(DT_F32, 2, DIM(dit_modulation_count(bench.dit) / c->dim, c->dim));
	p->distance = make(DT_F32, 1, DIM(1));
	bytes = plan(p);
	arena_use(&p->arena, bench.ops->reserve(bench.device, bytes), bytes);
	if (p->arena.memory == NULL)
		fail("memory", "the device has not enough for this picture");
	dit_modulation(bench.dit, &p->arena, 0.5f, &p->modulation, NULL);
	wait_for_device("modulation");
}

static void
picture_close(struct picture *p)
{
	struct tensor *all[] = {
	    &p->latent, &p->velocity, &p->caption, &p->cos, &p->sin, &p->modulation, &p->distance};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		bench.ops->release(bench.device, all[i]->data);
	bench.ops->release(bench.device, p->arena.memory);
	free(p->noise);
	free(p->rgb);
}

/* Forwards and decodes at one size, and at the usual one all that a picture takes. */
static void
bench_side(int64_t side, bool usual)
{
	const struct model_config *c = &bench.config[0];
	int64_t tokens = options.small ? 40 : 128, cells = side / c->vae.scale;
	double image = (double)dit_padded(cells / 2 * (cells / 2)), caption = (double)dit_padded(tokens);
	double step = dit_flops(&c->transformer, image, caption) / bench.flops_per_ms;
	double decode = vae_flops(&c->vae, (double)(cells * cells)) / bench.flops_per_ms;
	double text = floor_of(2 * text_numbers(&c->text) * (double)tokens, 2 * text_numbers(&c->text));
	struct picture p = {0};
	char name[NAME], decode_name[NAME], bands_name[NAME];

	snprintf(name, sizeof(name), "dit-%d", (int)side);
	snprintf(decode_name, sizeof(decode_name), "vae-%d", (int)side);
	snprintf(bands_name, sizeof(bands_name), "vae-%d-bands", (int)side);
	if (!is_wanted(name) && !is_wanted(decode_name) && !is_wanted(bands_name) &&
	    !(usual && (is_wanted("text") || is_wanted("picture"))))
		return;
	picture_open(&p, side, tokens);
	if (is_wanted(name))
		report(name, time_ms(name, run_step, &p), step);
	if (is_wanted(decode_name))
		report(decode_name, time_ms(decode_name, run_decode, &p), decode);
	if (is_wanted(bands_name) &&
	    vae_plan(bench.vae, cells, cells, 1) < vae_plan(bench.vae, cells, cells, 0))
		report(bands_name, time_ms(bands_name, run_decode_in_bands, &p), decode);
	if (usual && is_wanted("picture"))
		report("picture", time_ms("picture", run_all, &p), text + STEPS * step + decode);
	for (int64_t t = 32; t <= MAX_PROMPT_TOKENS && usual; t *= 4) {
		snprintf(name, sizeof(name), "text-%d", (int)t);
		p.tokens = t;
		if (is_wanted(name))
			report(name, time_ms(name, run_text, &p),
			    floor_of(2 * text_numbers(&c->text) * (double)t, 2 * text_numbers(&c->text)));
	}
	picture_close(&p);
}

/* ---- */

static void
load_networks(void)
{
	struct loader *l = &bench.loader;
	static struct err e;
	int64_t begin = clock_now_us();
	double bytes = 2 * (text_numbers(&bench.config->text) +
			       block_numbers(&bench.config->transformer) * bench.config->transformer.layers);

	*l = (struct loader){
	    .device = bench.device, .ops = bench.ops, .checkpoint = bench.checkpoint, .e = &e};
	bench.text = text_encoder_load(l, &bench.config->text, false);
	bench.dit = dit_load(l, &bench.config->transformer);
	bench.vae = vae_load(l, &bench.config->vae);
	if (l->status != 0)
		fail("loading", e.text);
	wait_for_device("loading");
	printf("# loaded about %.1f GB in %.2f s\n", bytes * 1e-9, (double)(clock_now_us() - begin) * 1e-6);
}

static void
open_device(void)
{
	struct device_options how = {.cache_dir = options.cache};
	char why[200];

	if (device_open(&bench.device, "cuda", &how, why, sizeof(why)) != 0) {
		printf("skipped: %s\n", why);
		exit(NO_DEVICE);
	}
	bench.ops = device_ops(bench.device);
	printf("# %s\n", device_name(bench.device));
}

static void
read_options(int argc, char **argv)
{
	static const struct option known[] = {{"rounds", required_argument, NULL, 'r'},
	    {"small", no_argument, NULL, 's'}, {"only", required_argument, NULL, 'o'},
	    {"cache", required_argument, NULL, 'c'}, {0}};
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (c == 'r')
			options.rounds = atoi(optarg);
		else if (c == 's')
			options.small = true;
		else if (c == 'o')
			options.only = optarg;
		else if (c == 'c')
			options.cache = optarg;
		else
			exit(64);
	}
	if (options.rounds < 1 || options.rounds > MAX_ROUNDS)
		fail("--rounds", "from 1 to 101");
}

int
main(int argc, char **argv)
{
	const struct transformer_config *c;
	int64_t rows;

	read_options(argc, argv);
	bench.config = options.small ? &small_size : &full_size;
	c = &bench.config->transformer;
	rows = options.small ? 96 : 4096 + 128;
	open_device();
	if (checkpoint_open(&bench.checkpoint, NULL, NULL, NULL) != 0)
		fail("random weights", "no memory");
	measure_rates();
	bench_linear("gemm-qkv", rows, 3 * (int64_t)c->dim, c->dim);
	bench_linear("gemm-out", rows, c->dim, c->dim);
	bench_linear("gemm-w13", rows, 2 * (int64_t)c->ffn_dim, c->dim);
	bench_linear("gemm-w2", rows, c->dim, c->ffn_dim);
	bench_attention("attention-dit", rows, c->heads, c->heads, c->head_dim, false);
	bench_attention("attention-text", options.small ? 64 : 512, bench.config->text.heads,
	    bench.config->text.kv_heads, bench.config->text.head_dim, true);
	bench_attention("attention-vae", options.small ? 64 : 16384, 1, 1, 512, false);
	bench_elementwise(rows);
	for (size_t i = 0; i < sizeof(conv_lines) / sizeof(conv_lines[0]); i++)
		bench_conv(&conv_lines[i]);
	bench_group_norm("group-norm-512", options.small ? 8 : 256, options.small ? 32 : 512);
	bench_group_norm("group-norm-128", options.small ? 16 : 1024, options.small ? 32 : 128);
	load_networks();
	bench_side(options.small ? 64 : 1024, true);
	bench_side(options.small ? 32 : 512, false);
	if (!options.small)
		bench_side(2048, false);
	text_encoder_free(&bench.text);
	dit_free(&bench.dit);
	vae_free(&bench.vae);
	for (int i = 0; i < bench.loader.chunk_count; i++)
		bench.ops->release(bench.device, bench.loader.chunks[i]);
	checkpoint_close(&bench.checkpoint);
	device_close(&bench.device);
	return 0;
}
