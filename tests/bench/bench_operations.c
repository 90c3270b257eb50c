/*
 * Single operations of a full-size model, by bench_gpu.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/conv.h"
#include "tests/bench/bench_gpu.h"

enum { TENSORS = 8 };

/* Up to eight tensors and a weight. */
struct single {
	struct tensor t[TENSORS];
	struct weight *w;
	struct attention_shape shape;
	int form; /* of attention or conv2d */
	struct conv_shape conv;
	bool adds;
	struct group_norm norm;
	int groups;
};

/* What is still being filled must not be freed: a device may, but need not, wait by itself. */
static void
single_release(struct single *s)
{
	bench_wait("filling");
	for (int i = 0; i < TENSORS; i++)
		bench()->ops->release(bench()->device, s->t[i].data);
}

static struct weight *
random_weight(enum weight_use use, int rank, const int64_t *dim)
{
	struct stored stored;
	struct weight *w;

	if (checkpoint_tensor(bench()->checkpoint, "weight", rank, dim, &stored, NULL) != 0)
		bench_fail("weight", "it is too large");
	w = bench()->ops->weight_load(bench()->device, use, &stored, 1);
	if (w == NULL)
		bench_fail("weight", device_error(bench()->device));
	return w;
}

static void
run_linear(void *arg)
{
	struct single *s = arg;

	bench()->ops->linear(bench()->device, &s->t[0], &s->t[1], s->w, NULL);
}

/* x (rows, k) W^T, W (n, k). Returns its time. */
static double
time_linear(const char *name, int64_t rows, int64_t n, int64_t k)
{
	enum dtype act = device_act_type(bench()->device);
	struct single s = {.t = {bench_reserve(act, 2, DIM(rows, n)), bench_make(act, 2, DIM(rows, k))}};
	double ms;

	s.w = random_weight(WEIGHT_LINEAR, 2, DIM(n, k));
	ms = bench_time_ms(name, run_linear, &s);
	single_release(&s);
	return ms;
}

void
bench_linear(const char *name, int64_t rows, int64_t n, int64_t k)
{
	double bytes = 2.0 * (double)(rows * k + n * k + rows * n);

	if (bench_wants(name))
		bench_report(name, time_linear(name, rows, n, k),
		    bench_floor_ms(2.0 * (double)rows * (double)n * (double)k, bytes));
}

static void
run_copy(void *arg)
{
	struct single *s = arg;

	bench()->ops->copy(bench()->device, &s->t[0], &s->t[1]);
}

/* The two rates that floors are made of. */
void
bench_rates(void)
{
	int64_t side = bench()->small ? 256 : 8192, count = bench()->small ? 1 << 20 : 1 << 30;
	double ms = time_linear("matrix", side, side, side);
	struct single s = {.t = {bench_reserve(DT_BF16, 1, &count), bench_reserve(DT_BF16, 1, &count)}};

	bench()->flops_per_ms = 2.0 * (double)side * (double)side * (double)side / ms;
	bench_report("matrix", ms, ms);
	ms = bench_time_ms("copy", run_copy, &s);
	bench()->bytes_per_ms = 4.0 * (double)count / ms;
	bench_report("copy", ms, ms);
	single_release(&s);
	printf("# %.0f TFLOP/s, %.2f TB/s\n", bench()->flops_per_ms * 1e-9, bench()->bytes_per_ms * 1e-9);
}

static void
run_attention(void *arg)
{
	struct single *s = arg;

	bench()->ops->attention(bench()->device, &s->t[0], &s->t[1], &s->t[2], &s->t[3], &s->shape);
}

static void
run_attention_form(void *arg)
{
	struct single *s = arg;

	cuda_attention_by(bench()->device, s->form, &s->t[0], &s->t[1], &s->t[2], &s->t[3], &s->shape);
}

static void
time_flops(const char *name, void (*run)(void *arg), struct single *s, double flops, double bytes)
{
	double ms = bench_time_ms(name, run, s);

	bench_report(name, ms, bench_floor_ms(flops, bytes));
	printf("# %.0f TFLOP/s\n", flops / ms * 1e-9);
}

/* Side by side, the forms for tensor cores that this device has. The operation takes the first of them. */
static void
time_forms(const char *name, struct single *s, double flops)
{
	static const char *const rivals[] = {"wgmma", "mma"};
	const char *form;
	char line[BENCH_NAME];

	for (s->form = 0; (form = cuda_attention_form(s->form)) != NULL; s->form++) {
		for (size_t i = 0; i < sizeof(rivals) / sizeof(rivals[0]); i++) {
			if (strcmp(form, rivals[i]) != 0 ||
			    !cuda_attention_takes(bench()->device, s->form, &s->shape))
				continue;
			snprintf(line, sizeof(line), "%s-%s", name, form);
			time_flops(line, run_attention_form, s, flops, 0);
		}
	}
}

void
bench_attention(const char *name, int64_t rows, int heads, int kv_heads, int width, bool causal)
{
	enum dtype act = device_act_type(bench()->device);
	struct single s = {.shape = {heads, kv_heads, width, causal, (float)(1 / sqrt(width))}};
	double flops = 4.0 * heads * width * (double)rows * (double)rows / (causal ? 2 : 1);

	if (!bench_wants(name))
		return;
	for (int i = 0; i < 4; i++)
		s.t[i] = bench_make(act, 3, DIM(rows, i < 2 ? heads : kv_heads, width));
	time_flops(name, run_attention, &s, flops, 0);
	time_forms(name, &s, flops);
	single_release(&s);
}

static void
run_rms_norm(void *arg)
{
	struct single *s = arg;

	bench()->ops->rms_norm(bench()->device, &s->t[0], &s->t[1], &s->t[2], &s->t[3], 1e-5f);
}

static void
run_norm_gate_add(void *arg)
{
	struct single *s = arg;

	bench()->ops->norm_gate_add(bench()->device, &s->t[0], &s->t[1], &s->t[2], &s->t[3], 1e-5f);
}

static void
run_tail(void *arg)
{
	struct single *s = arg;

	bench()->ops->tail(
	    bench()->device, &s->t[0], &s->t[1], &s->t[1], &s->t[2], &s->t[3], &s->t[2], &s->t[3], 1e-5f);
}

static void
run_swiglu(void *arg)
{
	struct single *s = arg;

	bench()->ops->swiglu(bench()->device, &s->t[0], &s->t[1]);
}

static void
run_qkv(void *arg)
{
	struct single *s = arg;

	bench()->ops->qkv_norm_rope(bench()->device, &s->t[0], &s->t[1], &s->t[2], &s->t[3], &s->t[4],
	    &s->t[5], &s->t[6], &s->t[7], &s->shape, ROPE_ADJACENT, 1e-5f);
}

/* An operation that moves so many bytes. */
static void
bench_bytes(const char *name, void (*run)(void *arg), struct single *s, double bytes)
{
	double ms;

	if (!bench_wants(name))
		return;
	ms = bench_time_ms(name, run, s);
	bench_report(name, ms, bench_floor_ms(0, bytes));
	printf("# %.0f GB/s\n", bytes / ms * 1e-6);
}

static void
bench_one(const char *name, void (*run)(void *arg), struct single *s, double bytes)
{
	bench_bytes(name, run, s, bytes);
	single_release(s);
}

/* The passes of one block over `rows` rows. */
void
bench_elementwise(int64_t rows)
{
	const struct transformer_config *c = &bench()->config->transformer;
	enum dtype act = device_act_type(bench()->device);
	int64_t d = c->dim, f = c->ffn_dim, heads[] = {rows, c->heads, c->head_dim}, half = c->head_dim / 2;
	double size = (double)dtype_size(act), numbers = (double)(rows * d);
	struct single norm = {.t = {bench_make(act, 2, DIM(rows, d)), bench_make(act, 2, DIM(rows, d)),
				  bench_make(DT_F32, 1, &d), bench_make(DT_F32, 1, &d)}};
	struct single swiglu = {
	    .t = {bench_reserve(act, 2, DIM(rows, f)), bench_make(act, 2, DIM(rows, 2 * f))}};
	struct single qkv = {
	    .t = {bench_reserve(act, 3, heads), bench_reserve(act, 3, heads), bench_reserve(act, 3, heads),
		bench_make(act, 2, DIM(rows, 3 * d)), bench_make(DT_F32, 1, DIM(c->head_dim)),
		bench_make(DT_F32, 1, DIM(c->head_dim)), bench_make(DT_F32, 2, DIM(rows, half)),
		bench_make(DT_F32, 2, DIM(rows, half))},
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

	bench()->ops->conv2d(
	    bench()->device, &s->t[0], &s->t[1], s->w, &s->t[2], s->adds ? &s->t[0] : NULL, &s->conv);
}

static void
run_group_norm(void *arg)
{
	struct single *s = arg;
	struct group_norm norm = {
	    .w = &s->t[2], .b = &s->t[3], .groups = s->groups, .eps = 1e-6f, .silu = true};

	bench()->ops->group_norm(bench()->device, &s->t[0], &s->t[1], &norm);
}

void
bench_group_norm(const char *name, int64_t side, int64_t channels)
{
	enum dtype act = device_act_type(bench()->device);
	struct single s = {.t = {bench_reserve(act, 3, DIM(side, side, channels)),
			       bench_make(act, 3, DIM(side, side, channels)),
			       bench_make(DT_F32, 1, &channels), bench_make(DT_F32, 1, &channels)},
	    .groups = bench()->config->vae.groups};

	bench_one(name, run_group_norm, &s, 2.0 * (double)tensor_bytes(&s.t[0]));
}

/* The decoder's largest convolutions at 1024x1024; side: of the picture that goes in. */
static const struct conv_line {
	const char *name;
	int64_t side, inputs, outputs;
	bool doubled, normed, adds; /* adds: to what is there, as a resnet's second one */
} conv_lines[] = {
    {"conv-512", 256, 512, 512, false, true, false},
    {"conv-256", 512, 256, 256, false, true, false},
    {"conv-up-256", 512, 256, 256, true, false, false},
    {"conv-128", 1024, 128, 128, false, true, false},
    {"conv-128-add", 1024, 128, 128, false, true, true},
    {"conv-out", 1024, 128, 3, false, true, false},
};

static void
run_conv_form(void *arg)
{
	struct single *s = arg;

	cuda_conv_by(bench()->device, s->form, &s->t[0], &s->t[1], s->w, &s->t[2], s->adds ? &s->t[0] : NULL,
	    &s->conv);
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
		    !cuda_conv_takes(bench()->device, s->form, (int)s->t[1].dim[2], 3, 1))
			continue;
		ms = bench_time_ms(l->name, run_conv_form, s);
		printf("# %s by %s: %.3f ms, %.0f TFLOP/s\n", l->name, form, ms, flops / ms * 1e-9);
	}
}

static void
bench_conv(const struct conv_line *l)
{
	enum dtype act = device_act_type(bench()->device);
	int64_t side = bench()->small ? l->side / 32 : l->side, most = bench()->small ? 32 : INT64_MAX,
		inputs = l->inputs < most ? l->inputs : most, outputs = l->outputs < most ? l->outputs : most,
		out = l->doubled ? 2 * side : side;
	double flops = (l->doubled ? 32.0 : 18.0) * (double)(side * side * inputs * outputs);
	struct single s = {.conv = {1, 1, 1, l->doubled, NULL}, .adds = l->adds};

	if (!bench_wants(l->name))
		return;
	s.t[0] = bench_make(act, 3, DIM(out, out, outputs));
	s.t[1] = bench_make(act, 3, DIM(side, side, inputs));
	s.t[2] = bench_make(DT_F32, 1, &outputs);
	s.t[3] = bench_make(DT_F32, 1, &inputs);
	s.t[4] = bench_make(DT_F32, 1, &inputs);
	s.w = random_weight(WEIGHT_CONV, 4, DIM(outputs, inputs, 3, 3));
	s.norm = (struct group_norm){.w = &s.t[3],
	    .b = &s.t[4],
	    .groups = inputs < bench()->config->vae.groups ? 1 : bench()->config->vae.groups,
	    .eps = 1e-6f,
	    .silu = true};
	s.conv.norm = l->normed ? &s.norm : NULL;
	time_conv(l, &s, flops,
	    (l->adds ? 2.0 : 1.0) * (double)tensor_bytes(&s.t[0]) + (double)tensor_bytes(&s.t[1]));
	single_release(&s);
}

void
bench_convolutions(void)
{
	for (size_t i = 0; i < sizeof(conv_lines) / sizeof(conv_lines[0]); i++)
		bench_conv(&conv_lines[i]);
}
