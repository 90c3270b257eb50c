/*
 * Whole networks of full size, by bench_gpu: what they take by arithmetic, and what a picture takes of them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "runner/dit.h"
#include "runner/fault.h"
#include "runner/noise.h"
#include "runner/text_encoder.h"
#include "runner/vae.h"
#include "tests/bench/bench_gpu.h"

enum { STEPS = 8 };

static struct {
	struct loader loader;
	struct text_encoder *text;
	struct dit *dit;
	struct vae *vae;
} networks;

/* ---- what they take */

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

/* ---- a picture */

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
	x = arena_matrix(
	    &p->arena, device_act_type(bench()->device), p->tokens, bench()->config->text.hidden);
	text_encoder_embed(networks.text, &x, p->ids);
	while (!text_encoder_is_done(networks.text, layer))
		layer = text_encoder_go_on(networks.text, &p->arena, &x, layer, NULL);
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
	dit_step(networks.dit, &p->arena, &p->velocity, &p->latent, &p->caption, &p->cos, &p->sin,
	    &p->modulation, NULL);
}

/* As generation.c does. */
static void
run_step(void *arg)
{
	struct picture *p = arg;
	struct recording_key key = {
	    (uintptr_t)p->latent.data, {p->latent.dim[1], p->latent.dim[2], p->tokens}};

	if (bench()->ops->replay(bench()->device, &key))
		return;
	walk_step(p);
	if (!bench()->ops->recorded(bench()->device))
		walk_step(p);
}

static void
run_decode(void *arg)
{
	struct picture *p = arg;

	arena_reset(&p->arena);
	vae_decode(networks.vae, &p->arena, &p->latent, NULL);
}

/* In as much memory as the last block in bands takes. */
static void
run_decode_in_bands(void *arg)
{
	struct picture *p = arg;
	struct arena less = p->arena;

	arena_reset(&less);
	less.size = vae_plan(networks.vae, p->latent.dim[1], p->latent.dim[2], 1);
	vae_decode(networks.vae, &less, &p->latent, NULL);
}

/* From ids to pixels in the host's memory, as a job does it; its tokens and its PNG are the host's. */
static void
run_all(void *arg)
{
	struct picture *p = arg;
	struct tensor hidden, cos, sin, pixels;
	int64_t caption = p->caption.dim[0], image = p->cos.dim[0] - caption;

	hidden = encode_text(p);
	noise_fill(p->noise, (size_t)tensor_count(&p->latent), 1);
	bench()->ops->copy_in(bench()->device, &p->latent, p->noise, DT_F32);
	cos = tensor_rows(&p->cos, image, caption);
	sin = tensor_rows(&p->sin, image, caption);
	dit_caption(networks.dit, &p->arena, &p->caption, &hidden, &cos, &sin, NULL);
	for (int i = 0; i < STEPS; i++) {
		run_step(p);
		bench()->ops->axpy(bench()->device, &p->latent, &p->distance, &p->velocity);
		bench_wait("a step");
	}
	arena_reset(&p->arena);
	pixels = vae_decode(networks.vae, &p->arena, &p->latent, NULL);
	bench()->ops->copy_out(bench()->device, p->rgb, DT_U8, &pixels);
}

/* Bytes of the arena for every stage at this size. */
static size_t
plan(struct picture *p)
{
	struct arena a;
	struct tensor hidden;
	size_t decode;

	arena_plan(&a);
	hidden = arena_matrix(
	    &a, device_act_type(bench()->device), MAX_PROMPT_TOKENS, bench()->config->text.hidden);
	text_encoder_go_on(networks.text, &a, &hidden, 0, NULL); /* at every length there is */
	hidden = tensor_rows(&hidden, 0, p->tokens);
	dit_caption(networks.dit, &a, &p->caption, &hidden, &p->cos, &p->sin, NULL);
	arena_reset(&a);
	dit_step(
	    networks.dit, &a, &p->velocity, &p->latent, &p->caption, &p->cos, &p->sin, &p->modulation, NULL);
	decode = vae_plan(networks.vae, p->latent.dim[1], p->latent.dim[2], 0);
	return decode > a.peak ? decode : a.peak;
}

static void
picture_open(struct picture *p, int64_t side, int64_t tokens)
{
	const struct transformer_config *c = &bench()->config->transformer;
	int64_t cells = side / bench()->config->vae.scale, latent[] = {c->in_channels, cells, cells};
	int64_t caption = dit_padded(tokens), rows = dit_padded(cells / 2 * (cells / 2)) + caption;
	size_t angles = (size_t)(rows * c->head_dim / 2), bytes;
	float *host = malloc(2 * angles * sizeof(float));

	p->tokens = tokens;
	for (int i = 0; i < MAX_PROMPT_TOKENS; i++)
		p->ids[i] = i * 7 % bench()->config->text.vocab;
	p->latent = bench_make(DT_F32, 3, latent);
	p->noise = malloc((size_t)tensor_count(&p->latent) * sizeof(float));
	p->rgb = malloc((size_t)(side * side * 3));
	if (p->noise == NULL || p->rgb == NULL)
		bench_fail("memory", "the host has not enough");
	p->velocity = bench_reserve(DT_F32, 3, latent);
	p->caption = bench_make(device_act_type(bench()->device), 2, DIM(caption, c->dim));
	p->cos = bench_reserve(DT_F32, 2, DIM(rows, c->head_dim / 2));
	p->sin = bench_reserve(DT_F32, 2, DIM(rows, c->head_dim / 2));
	dit_rope(networks.dit, cells, cells, tokens, host, host + angles);
	bench()->ops->copy_in(bench()->device, &p->cos, host, DT_F32);
	bench()->ops->copy_in(bench()->device, &p->sin, host + angles, DT_F32);
	free(host);
	p->modulation = bench_reserve(DT_F32, 2, DIM(dit_modulation_count(networks.dit) / c->dim, c->dim));
	p->distance = bench_make(DT_F32, 1, DIM(1));
	bytes = plan(p);
	arena_use(&p->arena, bench()->ops->reserve(bench()->device, bytes), bytes);
	if (p->arena.memory == NULL)
		bench_fail("memory", "the device has not enough for this picture");
	dit_modulation(networks.dit, &p->arena, 0.5f, &p->modulation, NULL);
	bench_wait("modulation");
}

static void
picture_close(struct picture *p)
{
	struct tensor *all[] = {
	    &p->latent, &p->velocity, &p->caption, &p->cos, &p->sin, &p->modulation, &p->distance};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		bench()->ops->release(bench()->device, all[i]->data);
	bench()->ops->release(bench()->device, p->arena.memory);
	free(p->noise);
	free(p->rgb);
}

/* ---- for bench_gpu.c */

void
bench_load_networks(void)
{
	struct loader *l = &networks.loader;
	static struct err e;
	int64_t begin = clock_now_us();
	double bytes =
	    2 * (text_numbers(&bench()->config->text) +
		    block_numbers(&bench()->config->transformer) * bench()->config->transformer.layers);

	*l = (struct loader){
	    .device = bench()->device, .ops = bench()->ops, .checkpoint = bench()->checkpoint, .e = &e};
	networks.text = text_encoder_load(l, &bench()->config->text, false);
	networks.dit = dit_load(l, &bench()->config->transformer);
	networks.vae = vae_load(l, &bench()->config->vae);
	if (l->status != 0)
		bench_fail("loading", e.text);
	bench_wait("loading");
	printf("# loaded about %.1f GB in %.2f s\n", bytes * 1e-9, (double)(clock_now_us() - begin) * 1e-6);
}

void
bench_free_networks(void)
{
	text_encoder_free(&networks.text);
	dit_free(&networks.dit);
	vae_free(&networks.vae);
	for (int i = 0; i < networks.loader.chunk_count; i++)
		bench()->ops->release(bench()->device, networks.loader.chunks[i]);
}

/* Forwards and decodes at one size, and at the usual one all that a picture takes. */
void
bench_side(int64_t side, bool usual)
{
	const struct model_config *c = bench()->config;
	int64_t tokens = bench()->small ? 40 : 128, cells = side / c->vae.scale;
	double image = (double)dit_padded(cells / 2 * (cells / 2)), caption = (double)dit_padded(tokens);
	double step = dit_flops(&c->transformer, image, caption) / bench()->flops_per_ms;
	double decode = vae_flops(&c->vae, (double)(cells * cells)) / bench()->flops_per_ms;
	double text = bench_floor_ms(2 * text_numbers(&c->text) * (double)tokens, 2 * text_numbers(&c->text));
	struct picture p = {0};
	char name[BENCH_NAME], decode_name[BENCH_NAME], bands_name[BENCH_NAME];

	snprintf(name, sizeof(name), "dit-%d", (int)side);
	snprintf(decode_name, sizeof(decode_name), "vae-%d", (int)side);
	snprintf(bands_name, sizeof(bands_name), "vae-%d-bands", (int)side);
	if (!bench_wants(name) && !bench_wants(decode_name) && !bench_wants(bands_name) &&
	    !(usual && (strncmp(bench()->only, "text", 4) == 0 || bench_wants("picture"))))
		return;
	picture_open(&p, side, tokens);
	if (bench_wants(name))
		bench_report(name, bench_time_ms(name, run_step, &p), step);
	if (bench_wants(decode_name))
		bench_report(decode_name, bench_time_ms(decode_name, run_decode, &p), decode);
	if (bench_wants(bands_name) &&
	    vae_plan(networks.vae, cells, cells, 1) < vae_plan(networks.vae, cells, cells, 0))
		bench_report(bands_name, bench_time_ms(bands_name, run_decode_in_bands, &p), decode);
	if (usual && bench_wants("picture"))
		bench_report("picture", bench_time_ms("picture", run_all, &p), text + STEPS * step + decode);
	for (int64_t t = 32; t <= MAX_PROMPT_TOKENS && usual; t *= 4) {
		snprintf(name, sizeof(name), "text-%d", (int)t);
		p.tokens = t;
		if (bench_wants(name))
			bench_report(name, bench_time_ms(name, run_text, &p),
			    bench_floor_ms(
				2 * text_numbers(&c->text) * (double)t, 2 * text_numbers(&c->text)));
	}
	picture_close(&p);
}
