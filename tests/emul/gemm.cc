/*
 * The products of kernels/cuda/gemm.cuh in plain loops, sums in float, put into the stream like any kernel.
 */
#include "kernels/cuda/gemm.cuh"

#include <vector>

enum { SMALL = 100000 };

extern "C" {
#include "kernels/convert.h"
}

int
cuda_gemm_open(struct cuda_device *c, const char *cache_dir)
{
	c->base.searches = cache_dir != NULL; /* it does not, but what follows from it is to be seen */
	return 0;
}

void
cuda_gemm_close(struct cuda_device *)
{
}

static float
number(const void *from, bool f32, int64_t at)
{
	return f32 ? ((const float *)from)[at] : float_of_bf16(((const uint16_t *)from)[at]);
}

/* b as rows of k floats, one for each of its n columns. */
static std::vector<float>
columns_of(const struct gemm &g, bool f32)
{
	std::vector<float> b((size_t)(g.n * g.k));

	for (int64_t j = 0; j < g.n; j++) {
		for (int64_t p = 0; p < g.k; p++)
			b[(size_t)(j * g.k + p)] =
			    number(g.b, f32, g.b_is_kn ? p * g.ldb + j : j * g.ldb + p);
	}
	return b;
}

static float
dot(const float *a, const float *b, int64_t k)
{
	float lanes[16] = {0}, sum = 0;
	int64_t p = 0;

	for (; p + 16 <= k; p += 16) {
		for (int l = 0; l < 16; l++)
			lanes[l] += a[p + l] * b[p + l];
	}
	for (int l = 0; l < 16; l++)
		sum += lanes[l];
	for (; p < k; p++)
		sum += a[p] * b[p];
	return sum;
}

static void
multiply_row(const struct gemm &g, bool f32, const float *b, int64_t batch, int64_t i)
{
	int64_t at = batch * g.stride_a + i * g.lda, y_at = batch * g.stride_y + i * g.ldy;
	std::vector<float> a((size_t)g.k);

	for (int64_t p = 0; p < g.k; p++)
		a[(size_t)p] = number(g.a, f32, at + p);
	for (int64_t j = 0; j < g.n; j++) {
		float v = g.alpha * dot(a.data(), b + j * g.k, g.k);
		v += g.bias != NULL ? number(g.bias, f32, j) : 0.0f;
		v += g.add != NULL ? number(g.add, f32, y_at + j) : 0.0f;
		if (g.y_type == DT_F32)
			((float *)g.y)[y_at + j] = v;
		else
			((uint16_t *)g.y)[y_at + j] = bf16_of_float(v);
	}
}

void
cuda_gemm(struct cuda_device *c, const struct gemm *g)
{
	bool f32 = c->base.act_type == DT_F32;
	struct gemm copy = *g;

	if (cuda_failed(c))
		return;
	if (g->m * g->n * g->k <= SMALL) { /* as where the library refuses */
		cuda_gemm_plain(c, g);
		return;
	}
	emul_put(c->stream, [copy, f32] {
		std::vector<float> b = columns_of(copy, f32);
#pragma omp parallel for schedule(static)
		for (int64_t row = 0; row < copy.batch * copy.m; row++)
			multiply_row(copy, f32, b.data(), row / copy.m, row % copy.m);
	});
}
