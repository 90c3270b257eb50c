/*
 * Memory, copies and weights of the reference backend.
 */
#include <stdlib.h>
#include <string.h>

#include "kernels/convert.h"
#include "kernels/ref/ref.h"

enum { ALIGNMENT = 256 };

void *
ref_reserve(struct device *d, size_t bytes)
{
	(void)d;
	return aligned_alloc(ALIGNMENT, (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
}

void
ref_release(struct device *d, void *memory)
{
	(void)d;
	free(memory);
}

/* count numbers from one type to another, one at a time. */
static void
convert(void *to, enum dtype to_type, const void *from, enum dtype from_type, int64_t count)
{
	if (to_type == from_type) {
		memmove(to, from, (size_t)count * dtype_size(to_type));
		return;
	}
	for (int64_t i = 0; i < count; i++) {
		float value;
		convert_to_float(
		    &value, (const char *)from + (size_t)i * dtype_size(from_type), from_type, 1);
		convert_from_float((char *)to + (size_t)i * dtype_size(to_type), to_type, &value, 1);
	}
}

void
ref_copy_in(struct device *d, struct tensor *to, const void *host, enum dtype host_type)
{
	(void)d;
	convert(to->data, to->type, host, host_type, tensor_count(to));
}

void
ref_copy_out(struct device *d, void *host, enum dtype host_type, const struct tensor *from)
{
	(void)d;
	convert(host, host_type, from->data, from->type, tensor_count(from));
}

void
ref_copy(struct device *d, struct tensor *to, const struct tensor *from)
{
	(void)d;
	convert(to->data, to->type, from->data, from->type, tensor_count(to));
}

void
ref_repeat_row(struct device *d, struct tensor *to, const struct tensor *row)
{
	(void)d;
	for (int64_t i = 0; i < to->dim[0]; i++) {
		struct tensor one = tensor_rows(to, i, 1);
		convert(one.data, one.type, row->data, row->type, tensor_count(row));
	}
}

void
ref_pick_row(struct device *d, struct tensor *to, const struct tensor *table, const struct tensor *index)
{
	struct tensor row = tensor_rows(table, *(const int32_t *)index->data, 1);

	ref_copy(d, to, &row);
}

/* Parts one after another. */
static void
take_parts(struct weight *w, const struct stored *parts, int part_count)
{
	int64_t at = 0;

	for (int i = 0; i < part_count; i++) {
		convert_to_float(w->data + at, parts[i].data, parts[i].type, stored_count(&parts[i]));
		at += stored_count(&parts[i]);
	}
}

struct weight *
ref_weight_load(struct device *d, enum weight_use use, const struct stored *parts, int part_count)
{
	struct ref_device *ref = (struct ref_device *)d;
	int64_t total = 0;
	struct weight *w;

	(void)use;
	for (int i = 0; i < part_count; i++)
		total += stored_count(&parts[i]);
	w = malloc(sizeof(*w) + (size_t)total * sizeof(float));
	if (w == NULL) {
		device_fail(
		    d, DEVICE_OUT_OF_MEMORY, "no memory for a weight of %lld numbers", (long long)total);
		return NULL;
	}
	w->rank = parts[0].rank;
	for (int i = 0; i < TENSOR_MAX_RANK; i++)
		w->dim[i] = i < w->rank ? parts[0].dim[i] : 1;
	w->dim[0] = 0;
	for (int i = 0; i < part_count; i++)
		w->dim[0] += parts[i].dim[0];
	take_parts(w, parts, part_count);
	w->next = ref->weights;
	ref->weights = w;
	return w;
}

void
ref_weight_refill(struct device *d, struct weight *w, const struct stored *parts, int part_count)
{
	(void)d;
	take_parts(w, parts, part_count);
}

int
ref_sync(struct device *d)
{
	return d->fault;
}

/* Operations are calls here: there is nothing to be saved by remembering them. */
bool
ref_replay(struct device *d, const struct recording_key *key)
{
	(void)d;
	(void)key;
	return false;
}

bool
ref_recorded(struct device *d)
{
	(void)d;
	return true;
}
