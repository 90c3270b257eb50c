/*
 * Decoding: all of the picture at once, or its last and largest stages a band of rows at a time, where memory
 * says so. Both give the same picture. A band has its halo of rows that its neighbours make too, and the
 * stages in bands are walked once for each of their norms and once more (vae_canvas.h): with the last block
 * in bands a decode has three to four times the arithmetic and half the memory, which is still little beside
 * the steps before it. Bands are as high as there is memory for.
 */
#include "runner/vae_canvas.h"

enum {
	BAND_ROWS = 16, /* bands begin at multiples: so that strips of sums do (ops.h), whatever the size */
	MAX_THRIFT = 2	/* a third block is small, and its halo large: it would save nothing */
};

int
vae_max_thrift(const struct vae *v)
{
	return v->config.blocks - 1 < MAX_THRIFT ? v->config.blocks - 1 : MAX_THRIFT;
}

/* Rows of the picture before up block `block` that what is made of one of them sees on either side. Of each
 * block a doubling leaves one row of its own wrong, and a resnet two. */
static int64_t
halo_rows(const struct vae *v, int block)
{
	int64_t wrong = 0, scale = 1;

	for (int i = block; i < v->config.blocks; i++) {
		wrong = 2 * wrong + 1 + 2 * (v->config.layers_per_block + 1);
		scale *= 2;
	}
	wrong++; /* the last convolution */
	return (wrong + scale - 1) / scale;
}

static void
walk_up(struct canvas *c, int block, const struct tensor *pixels)
{
	for (int i = block; i < c->vae->config.blocks; i++)
		canvas_up(c, i);
	canvas_close(c, pixels);
}

/* The band with `count` rows of base from `first` on, in these buffers. */
static void
walk_band(struct vae *v, struct band *b, const struct tensor *base, const struct tensor memory[2], int block,
    int64_t halo, const struct tensor *pixels)
{
	struct canvas c = {.vae = v, .band = b};

	b->met = 0;
	b->begin = b->first > halo ? b->first - halo : 0;
	b->end = b->first + b->count + halo < b->height ? b->first + b->count + halo : b->height;
	for (int i = 0; i < 2; i++)
		arena_use(&c.buffer[i], memory[i].data, tensor_bytes(&memory[i]));
	c.picture = tensor_rows(base, b->begin, b->end - b->begin);
	walk_up(&c, block, pixels);
}

/* What bands are walked in. */
struct band_memory {
	struct tensor buffer[2];
	int64_t norms, strips; /* on the walk; of each of them at most */
	struct tensor sums;    /* (norms strips, groups, 4) */
};

/* For bands that see `walked` rows of base. */
static struct band_memory
plan_bands(struct vae *v, struct arena *arena, const struct tensor *base, int64_t walked, int block,
    const struct tensor *pixels)
{
	struct band b = {.height = base->dim[0], .end = walked};
	struct canvas c = {.vae = v, .band = &b, .picture = *base};
	struct band_memory m;

	c.picture.dim[0] = walked;
	for (int i = 0; i < 2; i++)
		arena_plan(&c.buffer[i]);
	walk_up(&c, block, pixels);
	for (int i = 0; i < 2; i++)
		m.buffer[i] = arena_tensor(arena, DT_U8, 1, &(int64_t){(int64_t)c.buffer[i].peak});
	m.norms = b.met;
	m.strips = group_strips(pixels->dim[0], pixels->dim[1]); /* a smaller picture has no more */
	m.sums = arena_tensor(arena, DT_F32, 3, (int64_t[]){m.norms * m.strips, v->config.groups, 4});
	return m;
}

/* Whether there is memory for bands that see so many rows. */
static bool
has_room(struct vae *v, const struct arena *beside, const struct tensor *base, int64_t walked, int block,
    const struct tensor *pixels)
{
	struct arena a;

	arena_plan(&a);
	plan_bands(v, &a, base, walked, block, pixels);
	return a.peak <= beside->size;
}

/* The picture before up block `block` to pixels, in bands. */
static void
walk_bands(struct canvas *c, int block, const struct tensor *pixels)
{
	struct vae *v = c->vae;
	const struct tensor *base = &c->picture;
	struct arena *beside = canvas_beside(c);
	int64_t h = base->dim[0], halo = halo_rows(v, block), rows = BAND_ROWS, most;
	struct band b = {.height = h};
	struct band_memory m;

	while (!canvas_is_plan(c) && rows < h &&
	       has_room(v, beside, base, rows + BAND_ROWS + 2 * halo, block, pixels))
		rows += BAND_ROWS;
	most = rows + 2 * halo < h ? rows + 2 * halo : h;
	m = plan_bands(v, beside, base, most, block, pixels);
	b.sums = m.sums;
	b.strips = m.strips;
	for (b.known = 0; b.known <= m.norms && !canvas_is_plan(c); b.known++) {
		for (b.first = 0; b.first < h; b.first += rows) {
			b.count = h - b.first < rows ? h - b.first : rows;
			walk_band(v, &b, base, m.buffer, block, halo, pixels);
		}
	}
}

static void
walk(struct canvas *c, const struct tensor *latent, int thrift, const struct tensor *pixels)
{
	int whole = c->vae->config.blocks - thrift;

	canvas_open(c, latent);
	canvas_mid(c);
	for (int i = 0; i < whole; i++)
		canvas_up(c, i);
	if (thrift > 0)
		walk_bands(c, whole, pixels);
	else
		canvas_close(c, pixels);
}

/* The pixels, and how much the two buffers take, in `arena`. What is left there is for bands. */
static struct tensor
plan(struct vae *v, struct arena *arena, const struct tensor *latent, int thrift, struct tensor memory[2])
{
	struct canvas c = {.vae = v};
	int64_t size[] = {latent->dim[1] * v->config.scale, latent->dim[2] * v->config.scale, 3};
	int64_t bytes[2];
	struct tensor pixels = arena_tensor(arena, DT_U8, 3, size);

	for (int i = 0; i < 2; i++)
		arena_plan(&c.buffer[i]);
	walk(&c, latent, thrift, &pixels);
	for (int i = 0; i < 2; i++)
		bytes[i] = (int64_t)c.buffer[i].peak;
	if (arena->memory != NULL && thrift > 0)
		bytes[1 - c.current] = (int64_t)arena_left(arena) - bytes[c.current];
	for (int i = 0; i < 2; i++)
		memory[i] = arena_tensor(arena, DT_U8, 1, &bytes[i]);
	return pixels;
}

size_t
vae_plan(struct vae *v, int64_t h, int64_t w, int thrift)
{
	struct tensor latent = {.type = DT_F32, .rank = 3, .dim = {v->config.latent_channels, h, w, 1}};
	struct tensor memory[2];
	struct arena arena;

	arena_plan(&arena);
	plan(v, &arena, &latent, thrift, memory);
	return arena.peak;
}

struct tensor
vae_decode(struct vae *v, struct arena *arena, const struct tensor *latent, const struct trace *trace)
{
	struct canvas c = {.vae = v, .trace = trace};
	struct tensor memory[2], pixels;
	int thrift = 0;

	while (vae_plan(v, latent->dim[1], latent->dim[2], thrift) > arena_left(arena) &&
	       thrift < vae_max_thrift(v))
		thrift++;
	pixels = plan(v, arena, latent, thrift, memory);
	for (int i = 0; i < 2; i++)
		arena_use(&c.buffer[i], memory[i].data, tensor_bytes(&memory[i]));
	walk(&c, latent, thrift, &pixels);
	return pixels;
}
