/*
 * The library's ways of making a product, and which is the fastest.
 *
 * They are timed on random normal numbers: a device runs faster on zeros, and faster again on what it has
 * just seen. The numbers come from a seed and go where the input was, for there is no other memory of that
 * size; so nothing is searched once results count.
 */
#include <math.h>

#include "kernels/cuda/gemm_inside.cuh"

enum {
	CANDIDATES = 32,
	TRIALS = 5, /* products in a row, for those that a first one showed to be near the fastest */
	THREADS = 256,
	RUN = 32,
	SEED = 20261126,
};

static const float NEAR = 1.125f;

/* ---- candidates */

/* At most `most` ways for this shape, best guess first; 0 after a failure, or when it is refused. */
static int
ask_candidates(
    struct cuda_device *c, struct gemm_product *p, cublasLtMatmulHeuristicResult_t *found, int most)
{
	cublasLtMatmulPreference_t preference;
	uint64_t workspace = WORKSPACE_BYTES;
	uint32_t alignment = (uint32_t)p->key.alignment;
	cublasStatus_t status;
	int count = 0;
	static const cublasLtMatmulPreferenceAttributes_t alignments[] = {
	    CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
	    CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};

	if (!gemm_check(c, cublasLtMatmulPreferenceCreate(&preference), "asking for candidates"))
		return 0;
	cublasLtMatmulPreferenceSetAttribute(
	    preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof(workspace));
	for (int i = 0; i < 4; i++)
		cublasLtMatmulPreferenceSetAttribute(
		    preference, alignments[i], &alignment, sizeof(alignment));
	status = cublasLtMatmulAlgoGetHeuristic(
	    c->gemm->handle, p->desc, p->w, p->x, p->y, p->y, preference, most, found, &count);
	p->refused = status == CUBLAS_STATUS_NOT_SUPPORTED || (status == CUBLAS_STATUS_SUCCESS && count == 0);
	if (p->refused || !gemm_check(c, status, "asking for candidates"))
		count = 0;
	cublasLtMatmulPreferenceDestroy(preference);
	return count;
}

bool
gemm_guess(struct cuda_device *c, struct gemm_product *p, cublasLtMatmulAlgo_t *algo)
{
	cublasLtMatmulHeuristicResult_t found;

	if (ask_candidates(c, p, &found, 1) == 0)
		return false;
	*algo = found.algo;
	return true;
}

/* ---- random normal numbers */

/* Numbers that look drawn by chance, from counting: the finisher of MurmurHash3. */
__device__ static inline uint32_t
mix(uint32_t x)
{
	x = (x ^ (x >> 16)) * 0x85ebca6bu;
	x = (x ^ (x >> 13)) * 0xc2b2ae35u;
	return x ^ (x >> 16);
}

/* In (0, 1). */
__device__ static inline float
uniform(uint64_t at, uint32_t seed)
{
	uint32_t bits = mix((uint32_t)at ^ mix((uint32_t)(at >> 32) ^ seed));

	return ((float)(bits >> 9) + 0.5f) * 0x1p-23f;
}

/* Box and Muller's way, half of it. */
__device__ static inline float
normal(uint64_t at)
{
	return sqrtf(-2.0f * logf(uniform(at, SEED))) * cosf(6.2831853f * uniform(at, SEED + 1));
}

/* a (batch, m, k) := N(0, 1), RUN numbers to a thread. */
template <typename T>
__global__ static void
normal_kernel(T *a, const struct gemm g)
{
	int64_t first = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * RUN, count = g.batch * g.m * g.k;

	for (int64_t at = first; at < first + RUN && at < count; at++) {
		int64_t row = at / g.k;
		a[row / g.m * g.stride_a + row % g.m * g.lda + at % g.k] =
		    from_float<T>(normal((uint64_t)at));
	}
}

static void
fill_normal(struct cuda_device *c, const struct gemm *g)
{
	WITH_TYPE(c->base.act_type, T, {
		launch(c, "random numbers", blocks_for(g->batch * g->m * g->k, RUN * THREADS), THREADS,
		    normal_kernel<T>, (T *)g->a, *g);
	});
}

/* ---- trials */

/* Milliseconds a product, of `trials` after one that is not timed; INFINITY where the way does not work. */
static float
time_candidate(struct cuda_device *c, struct gemm_product *p, const struct gemm *g,
    const cublasLtMatmulAlgo_t *algo, int trials)
{
	float ms = INFINITY;

	if (gemm_multiply(c, p, g, algo) != CUBLAS_STATUS_SUCCESS)
		return INFINITY;
	cuda_check(c, cudaEventRecord(c->gemm->begin, c->stream), "timing");
	for (int i = 0; i < trials; i++)
		gemm_multiply(c, p, g, algo);
	if (!cuda_check(c, cudaEventRecord(c->gemm->end, c->stream), "timing") ||
	    !cuda_check(c, cudaEventSynchronize(c->gemm->end), "timing") ||
	    !cuda_check(c, cudaEventElapsedTime(&ms, c->gemm->begin, c->gemm->end), "timing"))
		return INFINITY;
	return ms / (float)trials;
}

/* All once, then those that were near the fastest more often. */
bool
gemm_search(struct cuda_device *c, struct gemm_product *p, const struct gemm *g, cublasLtMatmulAlgo_t *algo)
{
	cublasLtMatmulHeuristicResult_t found[CANDIDATES];
	float ms[CANDIDATES], fastest = INFINITY, best = INFINITY;
	int count = ask_candidates(c, p, found, CANDIDATES);

	if (count > 0)
		fill_normal(c, g);
	for (int i = 0; i < count && !cuda_failed(c); i++) {
		ms[i] = found[i].state == CUBLAS_STATUS_SUCCESS ? time_candidate(c, p, g, &found[i].algo, 1)
								: INFINITY;
		fastest = fminf(fastest, ms[i]);
		device_worked(&c->base);
	}
	for (int i = 0; i < count && !cuda_failed(c); i++) {
		if (!(ms[i] <= NEAR * fastest) || isinf(ms[i]))
			continue;
		ms[i] = time_candidate(c, p, g, &found[i].algo, TRIALS);
		device_worked(&c->base);
		if (ms[i] < best) {
			best = ms[i];
			*algo = found[i].algo;
		}
	}
	return !cuda_failed(c) && !isinf(best);
}
