/*
 * Matrix products without a library: a number of y to a thread. For shapes that cuBLASLt refuses, rows of odd
 * lengths that start anywhere, as tests and tiny models have; slow, and right for every shape.
 */
#include "kernels/cuda/gemm.cuh"

enum { THREADS = 128 };

template <typename T, typename Y>
__global__ static void
plain_product_kernel(const struct gemm g)
{
	int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, j = at % g.n, i = at / g.n % g.m,
		batch = at / g.n / g.m;
	int64_t place = batch * g.stride_y + i * g.ldy + j;
	const T *a = (const T *)g.a + batch * g.stride_a + i * g.lda, *b = (const T *)g.b;
	float sum = 0;

	if (batch >= g.batch)
		return;
	for (int64_t p = 0; p < g.k; p++)
		sum = fmaf(to_float(a[p]), to_float(g.b_is_kn ? b[p * g.ldb + j] : b[j * g.ldb + p]), sum);
	sum *= g.alpha;
	if (g.bias != NULL)
		sum += to_float(((const T *)g.bias)[j]);
	if (g.add != NULL)
		sum += to_float(((const T *)g.add)[place]);
	((Y *)g.y)[place] = from_float<Y>(sum);
}

void
cuda_gemm_plain(struct cuda_device *c, const struct gemm *g)
{
	dim3 grid = blocks_for(g->batch * g->m * g->n, THREADS);

	WITH_TYPE(c->base.act_type, T, {
		WITH_TYPE(g->y_type, Y,
		    { launch(c, "a plain product", grid, THREADS, plain_product_kernel<T, Y>, *g); });
	});
}
