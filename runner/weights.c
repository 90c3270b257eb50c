/*
 * From named tensors of a checkpoint to weights on a device.
 */
#include "runner/weights.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "runner/fault.h"

enum { CHUNK = 4 * 1024 * 1024, ALIGNMENT = 256, IDENTITY_BYTES = 256 };

void
loader_prefix(struct loader *l, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(l->prefix, sizeof(l->prefix), format, arguments);
	va_end(arguments);
}

/* Of all its numbers in that type. */
static uint64_t
stored_bytes(const struct stored *s, enum dtype type)
{
	uint64_t bytes = dtype_size(type);

	for (int i = 0; i < s->rank; i++)
		bytes *= (uint64_t)s->dim[i];
	return bytes;
}

uint64_t
loader_planned(const struct loader *l)
{
	return l->weight_bytes + (l->vector_bytes + CHUNK - 1) / CHUNK * CHUNK;
}

/* The stored tensor prefix + name of exactly that shape; counts its bytes as read. false after a failure. */
static bool
fetch(struct loader *l, const char *name, int rank, const int64_t *dim, struct stored *out)
{
	char full[2 * WEIGHT_NAME];
	uint64_t bytes;

	if (l->status != 0)
		return false;
	snprintf(full, sizeof(full), "%s%s", l->prefix, name);
	l->status = checkpoint_tensor(l->checkpoint, full, rank, dim, out, l->e);
	if (l->status != 0)
		return false;
	bytes = stored_bytes(out, out->type);
	l->done_bytes += bytes;
	if (l->identity != NULL)
		sha256_feed(l->identity, out->data, bytes < IDENTITY_BYTES ? bytes : IDENTITY_BYTES);
	if (l->progress != NULL)
		l->progress(l->progress_arg, l->done_bytes, l->total_bytes);
	return true;
}

/* Says why the device did not take the tensor: its own failure, or else that there is no room. */
static void
not_taken(struct loader *l, const char *name)
{
	l->status = fault_check(l->device, l->e);
	if (l->status == 0)
		l->status =
		    err_set(l->e, ERR_OUT_OF_MEMORY, "no memory on the device for %s%s", l->prefix, name);
}

/* Pooled device memory; NULL after a failure. */
static void *
pooled(struct loader *l, const char *name, size_t bytes)
{
	size_t rounded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	char *memory;

	if (l->chunk_count == 0 || rounded > CHUNK - l->chunk_used) {
		memory = l->chunk_count < WEIGHT_MAX_CHUNKS && rounded <= CHUNK
			     ? l->ops->reserve(l->device, CHUNK)
			     : NULL;
		if (memory == NULL) {
			not_taken(l, name);
			return NULL;
		}
		l->chunks[l->chunk_count++] = memory;
		l->chunk_used = 0;
	}
	memory = (char *)l->chunks[l->chunk_count - 1] + l->chunk_used;
	l->chunk_used += rounded;
	return memory;
}

static void
put_vector(struct loader *l, struct tensor *out, const char *name, int64_t n, const struct stored *stored)
{
	void *memory;

	if (l->plans) {
		l->vector_bytes += ((uint64_t)n * sizeof(float) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
		return;
	}
	memory = pooled(l, name, (size_t)n * sizeof(float));
	if (memory == NULL)
		return;
	*out = (struct tensor){.data = memory, .type = DT_F32, .rank = 1, .dim = {n, 1, 1, 1}};
	l->ops->copy_in(l->device, out, stored->data, stored->type);
}

void
load_vector(struct loader *l, struct tensor *out, const char *name, int64_t n)
{
	struct stored stored;

	if (fetch(l, name, 1, &n, &stored))
		put_vector(l, out, name, n, &stored);
}

void
load_row(struct loader *l, struct tensor *out, const char *name, int64_t n)
{
	struct stored stored;

	if (fetch(l, name, 2, (int64_t[]){1, n}, &stored))
		put_vector(l, out, name, n, &stored);
}

/* Hands the parts to the backend. */
static void
put_weight(struct loader *l, struct weight **out, enum weight_use use, const char *name,
    const struct stored *parts, int count)
{
	if (l->plans) {
		for (int i = 0; i < count; i++)
			l->weight_bytes += stored_bytes(&parts[i], device_act_type(l->device));
		return;
	}
	*out = l->ops->weight_load(l->device, use, parts, count);
	if (*out == NULL)
		not_taken(l, name);
}

void
find_parts(
    struct loader *l, struct stored_parts *out, int64_t columns, const struct load_part *parts, size_t count)
{
	assert(count <= WEIGHT_MAX_PARTS);
	for (size_t i = 0; i < count; i++) {
		if (!fetch(l, parts[i].name, 2, (int64_t[]){parts[i].rows, columns}, &out->part[i]))
			return;
	}
	out->name = parts[0].name;
	out->count = (int)count;
}

void
load_found(struct loader *l, struct weight **out, const struct stored_parts *found)
{
	if (l->status == 0)
		put_weight(l, out, WEIGHT_LINEAR, found->name, found->part, found->count);
}

void
load_parts(
    struct loader *l, struct weight **out, int64_t columns, const struct load_part *parts, size_t count)
{
	struct stored_parts found;

	find_parts(l, &found, columns, parts, count);
	load_found(l, out, &found);
}

void
load_matrix(struct loader *l, struct weight **out, const char *name, int64_t rows, int64_t columns)
{
	load_parts(l, out, columns, &(struct load_part){name, rows}, 1);
}

void
find_table(struct loader *l, struct stored *out, const char *name, int64_t rows, int64_t columns)
{
	fetch(l, name, 2, (int64_t[]){rows, columns}, out);
}

void
load_table(struct loader *l, struct weight **out, const char *name, int64_t rows, int64_t columns)
{
	struct stored stored;

	if (fetch(l, name, 2, (int64_t[]){rows, columns}, &stored))
		put_weight(l, out, WEIGHT_TABLE, name, &stored, 1);
}

void
load_conv(struct loader *l, struct weight **out, struct tensor *bias, const char *name, int64_t outputs,
    int64_t inputs, int64_t k)
{
	char weight_name[WEIGHT_NAME], bias_name[WEIGHT_NAME];
	struct stored stored;

	snprintf(weight_name, sizeof(weight_name), "%s.weight", name);
	snprintf(bias_name, sizeof(bias_name), "%s.bias", name);
	if (fetch(l, weight_name, 4, (int64_t[]){outputs, inputs, k, k}, &stored))
		put_weight(l, out, WEIGHT_CONV, weight_name, &stored, 1);
	load_vector(l, bias, bias_name, outputs);
}
