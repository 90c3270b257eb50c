/*
 * A checkpoint without files, in runner/checkpoint.c's place: any tensor of any shape, of random normal
 * numbers from one pool, in bf16. Zeros would be faster than the truth (a device at less power clocks
 * higher), and numbers of one size would hide what spreads.
 *
 * Matrices have deviation 0.02, which keeps what flows through 3840 columns near 1; the weights of norms
 * are 1.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/convert.h"
#include "runner/checkpoint.h"

/* The largest tensor is w1 and w3 of a full-size block in one, 79 million numbers. Places of tensors are in
 * the pool's first quarter. */
enum { POOL = 1 << 28, PLACES = POOL / 4, ONES = 1 << 17, STRIDE = 64 * 7919 /* from place to place */ };

#define DEVIATION 0.02f

struct checkpoint {
	uint16_t *normals, *ones; /* POOL and ONES numbers */
	int64_t made;		  /* of the normals: as many as were asked for */
	int64_t next;
};

static uint64_t
scramble(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

/* Box and Muller's, from a counter. */
static void
make_normals(struct checkpoint *c, int64_t count)
{
	uint16_t *to = c->normals;

#pragma omp parallel for schedule(static)
	for (int64_t i = c->made; i < count; i += 2) {
		uint64_t bits = scramble((uint64_t)i + 0x9e3779b97f4a7c15);
		float u = (float)((bits >> 40) + 1) * 0x1p-24f, angle = (float)(bits & 0xffffff) * 0x1p-24f;
		float radius = DEVIATION * sqrtf(-2.0f * logf(u));
		to[i] = bf16_of_float(radius * cosf(6.2831853f * angle));
		to[i + 1] = bf16_of_float(radius * sinf(6.2831853f * angle));
	}
	if (count > c->made)
		c->made = (count + 1) / 2 * 2;
}

int
checkpoint_open(struct checkpoint **out, const char *dir, const char *stem, struct err *e)
{
	struct checkpoint *c = calloc(1, sizeof(*c));

	(void)dir;
	(void)stem;
	if (c != NULL) {
		c->normals = malloc(POOL * sizeof(uint16_t));
		c->ones = malloc(ONES * sizeof(uint16_t));
	}
	if (c == NULL || c->normals == NULL || c->ones == NULL)
		return err_set(e, ERR_SYSTEM, "no memory for random weights");
	for (int i = 0; i < ONES; i++)
		c->ones[i] = bf16_of_float(1.0f);
	*out = c;
	return 0;
}

void
checkpoint_close(struct checkpoint **c)
{
	if (*c == NULL)
		return;
	free((*c)->normals);
	free((*c)->ones);
	free(*c);
	*c = NULL;
}

int
checkpoint_tensor(const struct checkpoint *c, const char *name, int rank, const int64_t *dim,
    struct stored *out, struct err *e)
{
	struct checkpoint *mine = (struct checkpoint *)c; /* whose next place moves */
	bool norm = rank == 1 && strstr(name, "norm") != NULL && strstr(name, "bias") == NULL;
	int64_t count = 1;

	*out = (struct stored){.type = DT_BF16, .rank = rank, .dim = {1, 1, 1, 1}};
	for (int i = 0; i < rank; i++) {
		out->dim[i] = dim[i];
		count *= dim[i];
	}
	if (count > POOL - PLACES || (norm && count > ONES))
		return err_set(e, ERR_INTERNAL, "%s is larger than the pool", name);
	out->data = norm ? c->ones : c->normals + mine->next;
	make_normals(mine, mine->next + count);
	mine->next = (mine->next + STRIDE) % PLACES;
	return 0;
}

/* There are no files that could change. */
int
checkpoint_check(const struct checkpoint *c, struct err *e)
{
	(void)c;
	(void)e;
	return 0;
}

uint64_t
checkpoint_bytes(const struct checkpoint *c)
{
	(void)c;
	return 0;
}

void
checkpoint_identity(
    const struct checkpoint *c, void (*feed)(void *arg, const void *bytes, size_t count), void *arg)
{
	(void)c;
	(void)feed;
	(void)arg;
}
