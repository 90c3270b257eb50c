/*
 * Tensor views: sizes, rows, and strips of rows. No arithmetic.
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

/* Of 64 pixels at least, so that a narrow picture has not more strips than work. */
int64_t
group_strip_rows(int64_t height, int64_t w)
{
	int64_t rows = 1;

	while (rows * GROUP_STRIPS < height || (rows * w < 64 && rows < height))
		rows *= 2;
	return rows;
}

int64_t
group_strips(int64_t height, int64_t w)
{
	int64_t rows = group_strip_rows(height, w);

	return (height + rows - 1) / rows;
}

int64_t
stored_count(const struct stored *s)
{
	int64_t count = 1;

	for (int i = 0; i < s->rank; i++)
		count *= s->dim[i];
	return count;
}
