/*
 * cuBLASLt for the emulated device: products in plain loops, sums in float, put into the stream like any
 * kernel. Matrices are column-major, as the library's documentation has them; what kernels/cuda does not ask
 * for ends the program.
 */
#include "cublasLt.h"

#include <stdlib.h>

#include <vector>

#include "tests/emul/ways.h"

extern "C" {
#include "kernels/convert.h"
}

enum { MAGIC = 0x656d756c, REFUSED = 100000, ALIGNMENT = 16, ALIGNED_WORKSPACE = 1 << 20 };

struct emul_lt {
};

struct emul_product {
	bool transposed; /* a */
	bool has_bias;
	const void *bias;
	cudaDataType bias_type;
};

struct emul_layout {
	cudaDataType type;
	int64_t rows, columns, ld, batch, stride;
};

struct emul_preference {
	uint64_t workspace;
	uint32_t alignment; /* the least of all */
};

unsigned long emul_products[EMUL_WAYS], emul_askings;

/* ---- descriptions */

size_t
cublasLtGetVersion(void)
{
	return 130000;
}

const char *
cublasLtGetStatusString(cublasStatus_t)
{
	return "as the test wants it";
}

cublasStatus_t
cublasLtCreate(cublasLtHandle_t *handle)
{
	if (getenv("EMUL_LT_CREATE") != NULL)
		return (cublasStatus_t)atoi(getenv("EMUL_LT_CREATE"));
	*handle = new emul_lt();
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtDestroy(cublasLtHandle_t handle)
{
	delete handle;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *desc, cublasComputeType_t compute, cudaDataType_t scale)
{
	*desc = new emul_product();
	return compute == CUBLAS_COMPUTE_32F && scale == CUDA_R_32F ? CUBLAS_STATUS_SUCCESS
								    : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t
cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc)
{
	delete desc;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatmulDescSetAttribute(
    cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t which, const void *value, size_t size)
{
	switch (which) {
	case CUBLASLT_MATMUL_DESC_TRANSA:
		desc->transposed = *(const cublasOperation_t *)value == CUBLAS_OP_T;
		break;
	case CUBLASLT_MATMUL_DESC_EPILOGUE:
		desc->has_bias = *(const cublasLtEpilogue_t *)value == CUBLASLT_EPILOGUE_BIAS;
		break;
	case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
		desc->bias_type = *(const cudaDataType *)value;
		break;
	case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
		desc->bias = *(const void *const *)value;
		return size == sizeof(void *) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
	}
	return size == sizeof(int) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t
cublasLtMatrixLayoutCreate(
    cublasLtMatrixLayout_t *layout, cudaDataType type, uint64_t rows, uint64_t columns, int64_t ld)
{
	*layout = new emul_layout{type, (int64_t)rows, (int64_t)columns, ld, 1, 0};
	return (uint64_t)ld >= rows ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t
cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
	delete layout;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatrixLayoutSetAttribute(
    cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t which, const void *value, size_t size)
{
	bool batch = which == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT;

	if (size != (batch ? sizeof(int32_t) : sizeof(int64_t)))
		return CUBLAS_STATUS_INVALID_VALUE;
	if (batch)
		layout->batch = *(const int32_t *)value;
	else
		layout->stride = *(const int64_t *)value;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference)
{
	*preference = new emul_preference{0, 256};
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
	delete preference;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
    cublasLtMatmulPreferenceAttributes_t which, const void *value, size_t size)
{
	bool workspace = which == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;

	if (size != (workspace ? sizeof(uint64_t) : sizeof(uint32_t)))
		return CUBLAS_STATUS_INVALID_VALUE;
	if (workspace)
		preference->workspace = *(const uint64_t *)value;
	else if (*(const uint32_t *)value < preference->alignment)
		preference->alignment = *(const uint32_t *)value;
	return CUBLAS_STATUS_SUCCESS;
}

/* ---- ways */

static cublasLtMatmulAlgo_t
algo_of(int way)
{
	cublasLtMatmulAlgo_t algo = {{MAGIC, (uint64_t)way}};

	return algo;
}

/* -1: it is none of ours. */
static int
way_of(const cublasLtMatmulAlgo_t *algo)
{
	return algo->data[0] == MAGIC && algo->data[1] < EMUL_WAYS ? (int)algo->data[1] : -1;
}

static int64_t
refused_product(void)
{
	const char *largest = getenv("EMUL_REFUSED");

	return largest != NULL ? atoll(largest) : REFUSED;
}

static bool
describes_a_product(cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
    cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d)
{
	int64_t m = desc->transposed ? a->columns : a->rows, k = desc->transposed ? a->rows : a->columns;

	return c == d && a->type == b->type && b->rows == k && d->rows == m && d->columns == b->columns &&
	       a->batch == d->batch && b->batch == d->batch &&
	       (!desc->has_bias || desc->bias_type == d->type) && m * k * b->columns > refused_product();
}

cublasStatus_t
cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
    cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
    cublasLtMatmulPreference_t preference, int wanted, cublasLtMatmulHeuristicResult_t *found, int *count)
{
	emul_askings++;
	*count = 0;
	if (!describes_a_product(desc, a, b, c, d))
		return CUBLAS_STATUS_NOT_SUPPORTED;
	for (int way = 0; way < EMUL_WAYS && *count < wanted; way++) {
		cublasLtMatmulHeuristicResult_t result = {algo_of(way), 0, CUBLAS_STATUS_SUCCESS, 1, {0}};
		if (way == EMUL_ALIGNED &&
		    (preference->alignment < ALIGNMENT || preference->workspace < ALIGNED_WORKSPACE))
			continue;
		if (way == EMUL_BROKEN)
			result.state = CUBLAS_STATUS_NOT_SUPPORTED;
		found[(*count)++] = result;
	}
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t
cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
    cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
    const cublasLtMatmulAlgo_t *algo, cublasLtMatmulHeuristicResult_t *result)
{
	int way = way_of(algo);

	*result = {};
	if (way < 0)
		return CUBLAS_STATUS_INVALID_VALUE;
	if (way == EMUL_BROKEN || !describes_a_product(desc, a, b, c, d))
		return CUBLAS_STATUS_NOT_SUPPORTED;
	result->workspaceSize = way == EMUL_ALIGNED ? ALIGNED_WORKSPACE : 0;
	return CUBLAS_STATUS_SUCCESS;
}

/* ---- products */

struct task {
	emul_product desc;
	emul_layout a, b, d;
	const void *a_data, *b_data, *c_data;
	void *d_data;
	float alpha, beta;
	int way;
};

static float
number(const void *from, cudaDataType type, int64_t at)
{
	return type == CUDA_R_32F ? ((const float *)from)[at] : float_of_bf16(((const uint16_t *)from)[at]);
}

/* The rows of op(a) of one batch, each of k floats. */
static std::vector<float>
rows_of_a(const task &t, int64_t batch)
{
	int64_t m = t.d.rows, k = t.b.rows;
	std::vector<float> rows((size_t)(m * k));

	for (int64_t i = 0; i < m; i++) {
		for (int64_t p = 0; p < k; p++)
			rows[(size_t)(i * k + p)] = number(t.a_data, t.a.type,
			    batch * t.a.stride + (t.desc.transposed ? i * t.a.ld + p : p * t.a.ld + i));
	}
	return rows;
}

/* In the order of sums that is the way's own. */
static float
dot(const float *a, const float *b, int64_t k, int way)
{
	float lanes[16] = {0}, sum = 0;
	int64_t p = 0;

	for (; p + 16 <= k; p += 16) {
		for (int l = 0; l < 16; l++)
			lanes[l] += a[p + l] * b[p + l];
	}
	for (int l = 0; l < 16; l++)
		sum += lanes[way == EMUL_LIGHT ? 15 - l : way == EMUL_ALIGNED ? (l + 8) % 16 : l];
	for (; p < k; p++)
		sum += a[p] * b[p];
	return sum;
}

static void
multiply_column(const task &t, const float *a, int64_t batch, int64_t j)
{
	int64_t k = t.b.rows, at = batch * t.d.stride + j * t.d.ld;
	std::vector<float> b((size_t)k);

	for (int64_t p = 0; p < k; p++)
		b[(size_t)p] = number(t.b_data, t.b.type, batch * t.b.stride + j * t.b.ld + p);
	for (int64_t i = 0; i < t.d.rows; i++) {
		float v = t.alpha * dot(a + i * k, b.data(), k, t.way);
		v += t.desc.has_bias ? number(t.desc.bias, t.desc.bias_type, i) : 0.0f;
		v += t.beta != 0 ? t.beta * number(t.c_data, t.d.type, at + i) : 0.0f;
		if (t.d.type == CUDA_R_32F)
			((float *)t.d_data)[at + i] = v;
		else
			((uint16_t *)t.d_data)[at + i] = bf16_of_float(v);
	}
}

static void
multiply(const task &t)
{
	std::vector<float> a;

	for (int64_t batch = 0; batch < t.d.batch; batch++) {
		if (batch == 0 || t.a.stride != 0)
			a = rows_of_a(t, batch);
#pragma omp parallel for schedule(static)
		for (int64_t j = 0; j < t.d.columns; j++)
			multiply_column(t, a.data(), batch, j);
	}
}

static bool
is_aligned(const void *data, const emul_layout *l)
{
	size_t size = l->type == CUDA_R_32F ? 4 : 2;

	return (uintptr_t)data % ALIGNMENT == 0 && (size_t)l->ld * size % ALIGNMENT == 0;
}

static double
time_of(int way)
{
	static const double times[] = {1, 1.1, 2};
	const char *fastest = getenv("EMUL_FASTEST");

	return times[(way + EMUL_BROKEN - (fastest != NULL ? atoi(fastest) : EMUL_LIGHT)) % EMUL_BROKEN];
}

cublasStatus_t
cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void *alpha, const void *a,
    cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout, const void *beta,
    const void *c, cublasLtMatrixLayout_t c_layout, void *d, cublasLtMatrixLayout_t d_layout,
    const cublasLtMatmulAlgo_t *algo, void *, size_t workspace_bytes, cudaStream_t stream)
{
	int way = way_of(algo);
	task t = {*desc, *a_layout, *b_layout, *d_layout, a, b, c, d, *(const float *)alpha,
	    *(const float *)beta, way};
	double ms = time_of(way);

	if (way < 0 || way == EMUL_BROKEN ||
	    !describes_a_product(desc, a_layout, b_layout, c_layout, d_layout))
		return CUBLAS_STATUS_NOT_SUPPORTED;
	if (way == EMUL_ALIGNED && (!is_aligned(a, a_layout) || !is_aligned(b, b_layout) ||
				       !is_aligned(d, d_layout) || workspace_bytes < ALIGNED_WORKSPACE))
		return CUBLAS_STATUS_INVALID_VALUE;
	emul_products[way]++;
	emul_put(stream, [t, ms] {
		multiply(t);
		emul_device_ms += ms;
	});
	return CUBLAS_STATUS_SUCCESS;
}
