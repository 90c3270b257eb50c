/*
 * The CPU backend's device: opening, closing, and the table of its operations.
 */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/cpu/cpu.h"
#include "kernels/ref/ops.h"

static const struct ops cpu_ops = {
    .name = "cpu",
    .reserve = ref_reserve,
    .release = ref_release,
    .copy_in = ref_copy_in,
    .copy_out = ref_copy_out,
    .copy = ref_copy,
    .repeat_row = ref_repeat_row,
    .pick_row = ref_pick_row,
    .weight_load = cpu_weight_load,
    .weight_refill = cpu_weight_refill,
    .sync = ref_sync,
    .replay = ref_replay,
    .recorded = ref_recorded,
    .embed = cpu_embed,
    .linear = cpu_linear,
    .rms_norm = cpu_rms_norm,
    .layer_norm = ref_layer_norm,
    .norm_gate_add = cpu_norm_gate_add,
    .tail = cpu_tail,
    .add = cpu_add,
    .qkv_norm_rope = cpu_qkv_norm_rope,
    .attention = cpu_attention,
    .swiglu = cpu_swiglu,
    .activate = ref_activate,
    .affine = ref_affine,
    .axpy = ref_axpy,
    .patchify = ref_patchify,
    .unpatchify = ref_unpatchify,
    .to_channels_last = ref_to_channels_last,
    .conv2d = cpu_conv2d,
    .group_norm = cpu_group_norm,
    .group_sums = cpu_group_sums,
    .to_pixels = ref_to_pixels,
};

/* ---- opening */

static bool
has_bf16(void)
{
	return __builtin_cpu_supports("avx512bf16");
}

static void
name_device(struct cpu_device *c)
{
	const dnnl_version_t *v = dnnl_version();
	const char *vectors = __builtin_cpu_supports("avx512f") ? "AVX-512" : "AVX2";

	snprintf(c->base.name, sizeof(c->base.name), "cpu (%d threads, %s, %s, oneDNN %d.%d.%d)", c->threads,
	    c->base.precision == PRECISION_BF16 ? "bf16" : "f32", vectors, v->major, v->minor, v->patch);
}

static void
free_weight(struct weight *w)
{
	for (int i = 0; i < 4; i++)
		free(w->packed_folded[i].data);
	free(w->folded);
	free(w->packed.data);
	free(w->data);
	free(w);
}

static void
cpu_close(struct device *d)
{
	struct cpu_device *c = (struct cpu_device *)d;

	cpu_free_products(c);
	cpu_free_convolutions(c);
	while (c->weights != NULL) {
		struct weight *next = c->weights->next;
		free_weight(c->weights);
		c->weights = next;
	}
	for (int i = 0; i < SCRATCH_COUNT; i++)
		free(c->scratch[i]);
	dnnl_stream_destroy(c->stream);
	dnnl_engine_destroy(c->engine);
	free(c);
}

int
cpu_open(struct device **d, const struct device_options *options, char *why, size_t why_size)
{
	struct cpu_device *c;
	bool bf16 =
	    options->precision == PRECISION_BF16 || (options->precision == PRECISION_AUTO && has_bf16());

	if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
		snprintf(
		    why, why_size, "the cpu backend needs AVX2 and FMA; set device = ref, which is slow");
		return -1;
	}
	if (options->precision == PRECISION_BF16 && !__builtin_cpu_supports("avx512bw")) {
		snprintf(
		    why, why_size, "this processor has no AVX-512, so no bf16; set precision to f32 or auto");
		return -1;
	}
	c = calloc(1, sizeof(*c));
	if (c == NULL || dnnl_engine_create(&c->engine, dnnl_cpu, 0) != dnnl_success ||
	    dnnl_stream_create(&c->stream, c->engine, dnnl_stream_default_flags) != dnnl_success) {
		snprintf(why, why_size, "oneDNN cannot be started, or there is no memory");
		free(c);
		return -1;
	}
	c->threads = options->threads > 0 ? options->threads : omp_get_num_procs();
	omp_set_num_threads(c->threads);
	c->base = (struct device){.ops = &cpu_ops,
	    .act_type = DT_F32,
	    .precision = bf16 ? PRECISION_BF16 : PRECISION_F32,
	    .close = cpu_close};
	name_device(c);
	*d = &c->base;
	return 0;
}
