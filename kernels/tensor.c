/*
 * Tensor views: sizes and rows. No arithmetic.
 */
#include <assert.h>

#include "kernels/ops.h"

size_t
dtype_size(enum dtype type)
{
	static const size_t sizes[] = {[DT_F32] = 4, [DT_BF16] = 2, [DT_F16] = 2, [DT_U8] = 1, [DT_I32] = 4};

	return sizes[type];
}

int64_t
tensor_count(const struct tensor *t)
{
	int64_t count = 1;

	for (int i = 0; i < t->rank; i++)
		count *= t->dim[i];
	return count;
}

size_t
tensor_bytes(const struct tensor *t)
{
	return (size_t)tensor_count(t) * dtype_size(t->type);
}

struct tensor
tensor_rows(const struct tensor *t, int64_t first, int64_t count)
{
	struct tensor view = *t;
	size_t row_bytes = tensor_bytes(t) / (size_t)t->dim[0];

	assert(first >= 0 && count >= 0 && first <= t->dim[0] && count <= t->dim[0] - first);
	view.data = (char *)t->data + (size_t)first * row_bytes;
	view.dim[0] = count;
	return view;
}

int64_t
stored_count(const struct stored *s)
{
	int64_t count = 1;

	for (int i = 0; i < s->rank; i++)
		count *= s->dim[i];
	return count;
}
