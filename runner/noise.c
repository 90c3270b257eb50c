/*
 * torch.randn on a CPU generator, float32 (model-spec section 7.3): MT19937 and the Box-Muller transform, in
 * torch's order of draws. Logarithm and sine are libm's in float: torch's vectorised ones differ by up to
 * about 5e-7.
 */
#include "runner/noise.h"

#include <math.h>

enum { STATE = 624, MIDDLE = 397, BLOCK = 16 };

struct mt19937 {
	uint32_t state[STATE];
	int next; /* index of the next word; STATE: twist first */
};

static void
mt_seed(struct mt19937 *g, uint32_t seed)
{
	g->state[0] = seed;
	for (uint32_t i = 1; i < STATE; i++)
		g->state[i] = 1812433253u * (g->state[i - 1] ^ g->state[i - 1] >> 30) + i;
	g->next = STATE;
}

static void
mt_twist(struct mt19937 *g)
{
	for (int i = 0; i < STATE; i++) {
		uint32_t y = (g->state[i] & 0x80000000u) | (g->state[(i + 1) % STATE] & 0x7fffffffu);
		g->state[i] = g->state[(i + MIDDLE) % STATE] ^ y >> 1 ^ ((y & 1) != 0 ? 0x9908b0dfu : 0);
	}
	g->next = 0;
}

static uint32_t
mt_draw(struct mt19937 *g)
{
	uint32_t y;

	if (g->next == STATE)
		mt_twist(g);
	y = g->state[g->next++];
	y ^= y >> 11;
	y ^= y << 7 & 0x9d2c5680u;
	y ^= y << 15 & 0xefc60000u;
	return y ^ y >> 18;
}

/* Uniform in [0, 1): 24 bits of one draw. */
static float
uniform_float(struct mt19937 *g)
{
	return (float)(mt_draw(g) & 0xffffff) * 0x1p-24f;
}

/* Uniform in [0, 1): 53 bits of two draws, the first one high. */
static double
uniform_double(struct mt19937 *g)
{
	uint64_t high = mt_draw(g), low = mt_draw(g);

	return (double)((high << 32 | low) & ((UINT64_C(1) << 53) - 1)) * 0x1p-53;
}

/* Sixteen uniforms into sixteen normals: the first eight give radii, the others angles. */
static void
transform_block(float *x)
{
	for (int j = 0; j < BLOCK / 2; j++) {
		float radius = sqrtf(-2.0f * logf(1.0f - x[j])),
		      angle = 2.0f * (float)M_PI * x[j + BLOCK / 2];
		x[j] = radius * cosf(angle);
		x[j + BLOCK / 2] = radius * sinf(angle);
	}
}

/* Sixteen numbers or more: uniforms for all of them first, then block by block; a rest redraws the last
 * sixteen. */
static void
fill_blocks(float *x, size_t count, struct mt19937 *g)
{
	for (size_t i = 0; i < count; i++)
		x[i] = uniform_float(g);
	for (size_t i = 0; i + BLOCK <= count; i += BLOCK)
		transform_block(x + i);
	if (count % BLOCK == 0)
		return;
	for (size_t i = count - BLOCK; i < count; i++)
		x[i] = uniform_float(g);
	transform_block(x + count - BLOCK);
}

/* Fewer than sixteen: in double, two at a time. */
static void
fill_pairs(float *x, size_t count, struct mt19937 *g)
{
	for (size_t i = 0; i < count; i += 2) {
		double u1 = uniform_double(g), u2 = uniform_double(g);
		double radius = sqrt(-2.0 * log1p(-u2)), angle = 2.0 * M_PI * u1;
		x[i] = (float)(radius * cos(angle));
		if (i + 1 < count)
			x[i + 1] = (float)(radius * sin(angle));
	}
}

void
noise_fill(float *x, size_t count, uint64_t seed)
{
	struct mt19937 g;

	mt_seed(&g, (uint32_t)seed);
	if (count >= BLOCK)
		fill_blocks(x, count, &g);
	else
		fill_pairs(x, count, &g);
}
