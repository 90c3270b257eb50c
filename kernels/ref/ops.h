/*
 * The reference backend's operations by name. Another backend whose memory is the host's may use those that
 * need no weight.
 */
#ifndef KERNELS_REF_OPS_H
#define KERNELS_REF_OPS_H

#include "kernels/device.h"

/* One function per row of struct ops, in the file of its kind. */
void *ref_reserve(struct device *d, size_t bytes);
void ref_release(struct device *d, void *memory);
void ref_copy_in(struct device *d, struct tensor *to, const void *host, enum dtype host_type);
void ref_copy_out(struct device *d, void *host, enum dtype host_type, const struct tensor *from);
void ref_copy(struct device *d, struct tensor *to, const struct tensor *from);
void ref_repeat_row(struct device *d, struct tensor *to, const struct tensor *row);
void ref_pick_row(
    struct device *d, struct tensor *to, const struct tensor *table, const struct tensor *index);
struct weight *ref_weight_load(
    struct device *d, enum weight_use use, const struct stored *parts, int part_count);
void ref_weight_refill(struct device *d, struct weight *w, const struct stored *parts, int part_count);
int ref_sync(struct device *d);
bool ref_replay(struct device *d, const struct recording_key *key);
bool ref_recorded(struct device *d);
void ref_embed(struct device *d, struct tensor *y, const struct weight *table, const int32_t *ids);
void ref_linear(struct device *d, struct tensor *y, const struct tensor *x, const struct weight *w,
    const struct tensor *bias);
void ref_rms_norm(struct device *d, struct tensor *y, const struct tensor *x, const struct tensor *w,
    const struct tensor *scale, float eps);
void ref_layer_norm(
    struct device *d, struct tensor *y, const struct tensor *x, const struct tensor *scale, float eps);
void ref_norm_gate_add(struct device *d, struct tensor *x, const struct tensor *branch,
    const struct tensor *w, const struct tensor *gate, float eps);
void ref_tail(struct device *d, struct tensor *x, struct tensor *u, const struct tensor *branch,
    const struct tensor *w, const struct tensor *gate, const struct tensor *next_w,
    const struct tensor *next_scale, float eps);
void ref_add(struct device *d, struct tensor *x, const struct tensor *y);
void ref_qkv_norm_rope(struct device *d, struct tensor *q, struct tensor *k, struct tensor *v,
    const struct tensor *qkv, const struct tensor *norm_q, const struct tensor *norm_k,
    const struct tensor *cos, const struct tensor *sin, const struct attention_shape *shape,
    enum rope_pairs pairs, float eps);
void ref_attention(struct device *d, struct tensor *o, const struct tensor *q, const struct tensor *k,
    const struct tensor *v, const struct attention_shape *shape);
void ref_swiglu(struct device *d, struct tensor *y, const struct tensor *x);
void ref_activate(struct device *d, struct tensor *y, const struct tensor *x, enum activation f);
void ref_affine(struct device *d, struct tensor *y, const struct tensor *x, float mul, float add);
void ref_axpy(struct device *d, struct tensor *x, const struct tensor *a, const struct tensor *y);
void ref_patchify(struct device *d, struct tensor *rows, const struct tensor *latent);
void ref_unpatchify(struct device *d, struct tensor *latent, const struct tensor *rows, float sign);
void ref_to_channels_last(struct device *d, struct tensor *y, const struct tensor *x);
void ref_conv2d(struct device *d, struct tensor *y, const struct tensor *x, const struct weight *w,
    const struct tensor *bias, const struct tensor *add, const struct conv_shape *shape);
void ref_group_norm(
    struct device *d, struct tensor *y, const struct tensor *x, const struct group_norm *norm);
void ref_group_sums(
    struct device *d, struct tensor *sums, const struct tensor *x, int64_t first, int64_t height);
void ref_to_pixels(struct device *d, struct tensor *pixels, const struct tensor *x);

#endif
