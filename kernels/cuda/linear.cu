/*
 * embed and linear on CUDA.
 */
#include <string.h>

#include "kernels/cuda/gemm.cuh"

enum { THREADS = 256 };

/* y (T, D), one number to a thread. */
template <typename T>
__global__ static void
embed_kernel(T *y, const T *table, const int32_t *ids, int64_t count, int64_t width)
{
	int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;

	if (i < count)
		y[i] = table[ids[i / width] * width + i % width];
}

void
cuda_embed(struct device *d, struct tensor *y, const struct weight *table, const int32_t *ids)
{
	struct cuda_device *c = (struct cuda_device *)d;
	int64_t width = table->dim[1], count = tensor_count(y);
	struct tensor on_device = {c->scratch, DT_I32, 1, {y->dim[0], 1, 1, 1}};

	cuda_copy_in(d, &on_device, ids, DT_I32);
	WITH_TYPE(y->type, T, {
		launch(c, "embed", blocks_for(count, THREADS), THREADS, embed_kernel<T>, (T *)y->data,
		    (const T *)table->data, (const int32_t *)c->scratch, count, width);
	});
}

void
cuda_linear(struct device *d, struct tensor *y, const struct tensor *x, const struct weight *w,
    const struct tensor *bias)
{
	struct cuda_device *c = (struct cuda_device *)d;
	int64_t rows = x->dim[0], k = tensor_count(x) / rows, n = w->dim[0];
	struct gemm g = {};

	g.m = rows;
	g.n = n;
	g.k = k;
	g.lda = g.ldb = k;
	g.ldy = n;
	g.a = x->data;
	g.b = w->data;
	g.bias = cuda_bias(c, bias);
	g.y = y->data;
	g.y_type = y->type;
	g.alpha = 1.0f;
	g.batch = 1;
	cuda_weight_use(c, w);
	cuda_gemm(c, &g);
	cuda_weight_used(c, w);
}
