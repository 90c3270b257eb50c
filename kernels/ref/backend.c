/*
 * The reference backend's device: opening, closing, and the table of its operations.
 */
#include <stdio.h>
#include <stdlib.h>

#include "kernels/ref/ref.h"

static const struct ops ref_ops = {
    .name = "ref",
    .reserve = ref_reserve,
    .release = ref_release,
    .copy_in = ref_copy_in,
    .copy_out = ref_copy_out,
    .copy = ref_copy,
    .repeat_row = ref_repeat_row,
    .pick_row = ref_pick_row,
    .weight_load = ref_weight_load,
    .weight_refill = ref_weight_refill,
    .sync = ref_sync,
    .replay = ref_replay,
    .recorded = ref_recorded,
    .embed = ref_embed,
    .linear = ref_linear,
    .rms_norm = ref_rms_norm,
    .layer_norm = ref_layer_norm,
    .norm_gate_add = ref_norm_gate_add,
    .tail = ref_tail,
    .add = ref_add,
    .qkv_norm_rope = ref_qkv_norm_rope,
    .attention = ref_attention,
    .swiglu = ref_swiglu,
    .activate = ref_activate,
    .affine = ref_affine,
    .axpy = ref_axpy,
    .patchify = ref_patchify,
    .unpatchify = ref_unpatchify,
    .to_channels_last = ref_to_channels_last,
    .conv2d = ref_conv2d,
    .group_norm = ref_group_norm,
    .group_sums = ref_group_sums,
    .to_pixels = ref_to_pixels,
};

static void
ref_close(struct device *d)
{
	struct ref_device *ref = (struct ref_device *)d;

	while (ref->weights != NULL) {
		struct weight *next = ref->weights->next;
		free(ref->weights);
		ref->weights = next;
	}
	free(ref);
}

int
ref_open(struct device **d, const struct device_options *options, char *why, size_t why_size)
{
	struct ref_device *ref;

	if (options->precision == PRECISION_BF16) {
		snprintf(why, why_size, "the ref backend computes in f32 only; set precision to f32 or auto");
		return -1;
	}
	ref = calloc(1, sizeof(*ref));
	if (ref == NULL) {
		snprintf(why, why_size, "out of memory");
		return -1;
	}
	ref->base = (struct device){
	    .ops = &ref_ops, .act_type = DT_F32, .precision = PRECISION_F32, .close = ref_close};
	snprintf(ref->base.name, sizeof(ref->base.name), "ref (1 thread, f32, sums in double)");
	*d = &ref->base;
	return 0;
}
