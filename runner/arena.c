/*
 * A stack of tensors in one piece of device memory, reserved at start and never grown.
 */
#include "runner/arena.h"

#include <assert.h>

enum { ALIGNMENT = 256 };

void
arena_plan(struct arena *a)
{
	*a = (struct arena){.size = SIZE_MAX};
}

void
arena_use(struct arena *a, void *memory, size_t size)
{
	*a = (struct arena){.memory = memory, .size = size};
}

void
arena_reset(struct arena *a)
{
	a->used = 0;
}

size_t
arena_left(const struct arena *a)
{
	return (a->size - a->used) / ALIGNMENT * ALIGNMENT;
}

struct tensor
arena_tensor(struct arena *a, enum dtype type, int rank, const int64_t *dim)
{
	struct tensor t = {.type = type, .rank = rank};
	size_t bytes;

	for (int i = 0; i < TENSOR_MAX_RANK; i++)
		t.dim[i] = i < rank ? dim[i] : 1;
	bytes = (tensor_bytes(&t) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	assert(bytes <= a->size - a->used);
	if (a->memory != NULL)
		t.data = a->memory + a->used;
	a->used += bytes;
	a->peak = a->used > a->peak ? a->used : a->peak;
	return t;
}

struct tensor
arena_matrix(struct arena *a, enum dtype type, int64_t rows, int64_t columns)
{
	return arena_tensor(a, type, 2, (int64_t[]){rows, columns});
}
