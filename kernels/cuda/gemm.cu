/*
 * Matrix products through cuBLASLt. Row-major y = a b^T is column-major y^T = b a^T: the weights are its
 * first matrix, transposed, and the rows of x its second (TN), the form that fp8 wants too.
 *
 * A product of a new shape is set up once: the library is asked for its candidates, each is timed on the data
 * at hand, and the fastest is written to the cache directory, under the library's version and the device's
 * name. A choice decides the order of sums, so it must outlive the process: what is used is what the file
 * says, first line first, once this device is found to take it. Without a file there is no search, and the
 * library's own first guess is used: always the same one. Shapes are met at the warm-up, before READY.
 */
#include "kernels/cuda/gemm.cuh"

#include <cublasLt.h>
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	WORKSPACE_BYTES = 32 << 20,
	CANDIDATES = 32,
	TRIALS = 5,
	MAX_PRODUCTS = 1024,
	MANY_ROWS = 1024,
	ALGO_BYTES = sizeof(cublasLtMatmulAlgo_t),
	LINE = 2 * ALGO_BYTES + 256,
};

/* All that a choice depends on. */
struct key {
	int64_t m, n, k, lda, ldb, ldy, stride_a, stride_y;
	int batch, alignment;
	bool f32, y_f32, b_is_kn, bias, add;
};

struct product {
	struct product *next;
	struct key key;
	cublasLtMatmulDesc_t desc;
	cublasLtMatrixLayout_t w, x, y; /* column-major: w first, then x */
	cublasLtMatmulAlgo_t algo;
	bool chosen, refused; /* refused: the library has no way */
};

struct gemm_engine {
	cublasLtHandle_t handle;
	void *workspace;
	cudaEvent_t begin, end;
	struct product *products;
	char path[CACHE_PATH]; /* of the choices; empty: they are not kept */
};

/* ---- errors */

static bool
check(struct cuda_device *c, cublasStatus_t status, const char *what)
{
	cudaError_t error;

	if (status == CUBLAS_STATUS_SUCCESS)
		return true;
	error = cudaPeekAtLastError();
	if (error != cudaSuccess)
		return cuda_check(c, error, what);
	device_fail(&c->base,
	    status == CUBLAS_STATUS_ALLOC_FAILED       ? DEVICE_OUT_OF_MEMORY
	    : status == CUBLAS_STATUS_EXECUTION_FAILED ? DEVICE_POISONED
						       : DEVICE_INTERNAL,
	    "cuda:%d: cuBLASLt: %s: %s", c->index, what, cublasLtGetStatusString(status));
	return false;
}

/* ---- a product of a shape */

/* The largest power of two up to 256 that divides both. */
static int
common_alignment(uintptr_t a, int64_t stride_bytes, int so_far)
{
	while (so_far > 1 && (a % (uintptr_t)so_far != 0 || stride_bytes % so_far != 0))
		so_far /= 2;
	return so_far;
}

static struct key
key_of(const struct cuda_device *c, const struct gemm *g)
{
	struct key key;
	size_t size = dtype_size(c->base.act_type), y_size = dtype_size(g->y_type);

	memset(&key, 0, sizeof(key)); /* keys are compared as bytes */
	key.m = g->m;
	key.n = g->n;
	key.k = g->k;
	key.lda = g->lda;
	key.ldb = g->ldb;
	key.ldy = g->ldy;
	key.batch = g->batch;
	key.stride_a = g->batch > 1 ? g->stride_a : 0;
	key.stride_y = g->batch > 1 ? g->stride_y : 0;
	key.f32 = size == sizeof(float);
	key.y_f32 = y_size == sizeof(float);
	key.b_is_kn = g->b_is_kn;
	key.bias = g->bias != NULL;
	key.add = g->add != NULL;
	key.alignment = common_alignment((uintptr_t)g->a, g->lda * (int64_t)size, 256);
	key.alignment = common_alignment((uintptr_t)g->b, g->ldb * (int64_t)size, key.alignment);
	key.alignment = common_alignment((uintptr_t)g->y, g->ldy * (int64_t)y_size, key.alignment);
	key.alignment = common_alignment((uintptr_t)g->add, 0, key.alignment);
	return key;
}

static void
free_product(struct product *p)
{
	cublasLtMatmulDescDestroy(p->desc);
	cublasLtMatrixLayoutDestroy(p->w);
	cublasLtMatrixLayoutDestroy(p->x);
	cublasLtMatrixLayoutDestroy(p->y);
	free(p);
}

static bool
set_attribute(struct cuda_device *c, struct product *p, cublasLtMatmulDescAttributes_t which,
    const void *value, size_t size)
{
	return check(c, cublasLtMatmulDescSetAttribute(p->desc, which, value, size), "describing a product");
}

static bool
make_layout(struct cuda_device *c, cublasLtMatrixLayout_t *layout, cudaDataType_t type, int64_t rows,
    int64_t columns, int64_t ld, int batch, int64_t stride)
{
	if (!check(c, cublasLtMatrixLayoutCreate(layout, type, (uint64_t)rows, (uint64_t)columns, ld),
		"describing a matrix"))
		return false;
	if (batch == 1)
		return true;
	return check(c,
		   cublasLtMatrixLayoutSetAttribute(
		       *layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch, sizeof(batch)),
		   "describing a batch") &&
	       check(c,
		   cublasLtMatrixLayoutSetAttribute(
		       *layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof(stride)),
		   "describing a batch");
}

/* Float products are true float32 (no TF32): the f32 mode is there to compare with. */
static bool
describe(struct cuda_device *c, struct product *p)
{
	const struct key *k = &p->key;
	cudaDataType_t type = k->f32 ? CUDA_R_32F : CUDA_R_16BF, y_type = k->y_f32 ? CUDA_R_32F : CUDA_R_16BF;
	cublasOperation_t transposed = CUBLAS_OP_T;
	cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;

	if (!check(c, cublasLtMatmulDescCreate(&p->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F),
		"describing a product"))
		return false;
	if (!k->b_is_kn && !set_attribute(c, p, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof(transposed)))
		return false;
	if (k->bias &&
	    (!set_attribute(c, p, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof(epilogue)) ||
		!set_attribute(c, p, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &y_type, sizeof(y_type))))
		return false;
	return (k->b_is_kn ? make_layout(c, &p->w, type, k->n, k->k, k->ldb, k->batch, 0)
			   : make_layout(c, &p->w, type, k->k, k->n, k->ldb, k->batch, 0)) &&
	       make_layout(c, &p->x, type, k->k, k->m, k->lda, k->batch, k->stride_a) &&
	       make_layout(c, &p->y, y_type, k->n, k->m, k->ldy, k->batch, k->stride_y);
}

static cublasStatus_t
multiply(struct cuda_device *c, struct product *p, const struct gemm *g, const cublasLtMatmulAlgo_t *algo)
{
	float beta = g->add != NULL ? 1.0f : 0.0f;

	return cublasLtMatmul(c->gemm->handle, p->desc, &g->alpha, g->b, p->w, g->a, p->x, &beta,
	    g->add != NULL ? g->add : g->y, p->y, g->y, p->y, algo, c->gemm->workspace, WORKSPACE_BYTES,
	    c->stream);
}

/* ---- the choice */

/* The candidates for this shape, best guess first; 0 after a failure, or when it is refused. */
static int
ask_candidates(struct cuda_device *c, struct product *p, cublasLtMatmulHeuristicResult_t found[CANDIDATES])
{
	cublasLtMatmulPreference_t preference;
	uint64_t workspace = WORKSPACE_BYTES;
	uint32_t alignment = (uint32_t)p->key.alignment;
	cublasStatus_t status;
	int count = 0;
	static const cublasLtMatmulPreferenceAttributes_t alignments[] = {
	    CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
	    CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};

	if (!check(c, cublasLtMatmulPreferenceCreate(&preference), "asking for candidates"))
		return 0;
	cublasLtMatmulPreferenceSetAttribute(
	    preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof(workspace));
	for (int i = 0; i < 4; i++)
		cublasLtMatmulPreferenceSetAttribute(
		    preference, alignments[i], &alignment, sizeof(alignment));
	status = cublasLtMatmulAlgoGetHeuristic(
	    c->gemm->handle, p->desc, p->w, p->x, p->y, p->y, preference, CANDIDATES, found, &count);
	p->refused = status == CUBLAS_STATUS_NOT_SUPPORTED || (status == CUBLAS_STATUS_SUCCESS && count == 0);
	if (p->refused || !check(c, status, "asking for candidates"))
		count = 0;
	cublasLtMatmulPreferenceDestroy(preference);
	return count;
}

/* Milliseconds of TRIALS products after a first one; INFINITY where the candidate does not work. */
static float
time_candidate(
    struct cuda_device *c, struct product *p, const struct gemm *g, const cublasLtMatmulAlgo_t *algo)
{
	float ms = INFINITY;

	if (multiply(c, p, g, algo) != CUBLAS_STATUS_SUCCESS)
		return INFINITY;
	cuda_check(c, cudaEventRecord(c->gemm->begin, c->stream), "timing");
	for (int i = 0; i < TRIALS; i++)
		multiply(c, p, g, algo);
	if (!cuda_check(c, cudaEventRecord(c->gemm->end, c->stream), "timing") ||
	    !cuda_check(c, cudaEventSynchronize(c->gemm->end), "timing") ||
	    !cuda_check(c, cudaEventElapsedTime(&ms, c->gemm->begin, c->gemm->end), "timing"))
		return INFINITY;
	return ms;
}

/* The fastest, or where choices are not kept the first. */
static void
choose(struct cuda_device *c, struct product *p, const struct gemm *g)
{
	cublasLtMatmulHeuristicResult_t found[CANDIDATES];
	int count = ask_candidates(c, p, found);
	float best = INFINITY;

	if (count == 0)
		return;
	p->algo = found[0].algo;
	for (int i = 0; i < count && c->gemm->path[0] != '\0' && !cuda_failed(c); i++) {
		float ms = found[i].state == CUBLAS_STATUS_SUCCESS ? time_candidate(c, p, g, &found[i].algo)
								   : INFINITY;
		if (ms < best) {
			best = ms;
			p->algo = found[i].algo;
		}
	}
	p->chosen = !cuda_failed(c);
}

/* ---- choices kept in a file: a line for each, the key in words and the choice in hexadecimal digits */

/* Rows differ by 32 from prompt to prompt, and all counts up to the next 128 fill the same tiles: they share
 * a choice. */
static void
key_text(char text[LINE], const struct key *k)
{
	int64_t m = k->m < MANY_ROWS ? k->m : (k->m + 127) / 128 * 128;

	snprintf(text, LINE, "%lld %lld %lld %lld %lld %lld %lld %lld %d %d %d%d%d%d%d", (long long)m,
	    (long long)k->n, (long long)k->k, (long long)k->lda, (long long)k->ldb, (long long)k->ldy,
	    (long long)k->stride_a, (long long)k->stride_y, k->batch, k->alignment, k->f32, k->y_f32,
	    k->b_is_kn, k->bias, k->add);
}

static bool
digits_to_algo(const char *digits, cublasLtMatmulAlgo_t *algo)
{
	for (size_t i = 0; i < ALGO_BYTES; i++) {
		unsigned byte;
		if (!isxdigit((unsigned char)digits[2 * i]) || !isxdigit((unsigned char)digits[2 * i + 1]) ||
		    sscanf(digits + 2 * i, "%2x", &byte) != 1)
			return false;
		((unsigned char *)algo)[i] = (unsigned char)byte;
	}
	return true;
}

/* The choice of an earlier process, if the library says that it works on this device. */
static void
recall(struct cuda_device *c, struct product *p)
{
	cublasLtMatmulHeuristicResult_t result;
	char text[LINE], line[LINE];
	size_t length;
	FILE *file = c->gemm->path[0] != '\0' ? fopen(c->gemm->path, "re") : NULL;

	if (file == NULL)
		return;
	key_text(text, &p->key);
	length = strlen(text);
	while (!p->chosen && fgets(line, sizeof(line), file) != NULL)
		p->chosen = strncmp(line, text, length) == 0 && line[length] == ':' &&
			    digits_to_algo(line + length + 1, &p->algo) &&
			    cublasLtMatmulAlgoCheck(c->gemm->handle, p->desc, p->w, p->x, p->y, p->y,
				&p->algo, &result) == CUBLAS_STATUS_SUCCESS &&
			    result.workspaceSize <= WORKSPACE_BYTES;
	fclose(file);
}

/* One write at the end of the file, so that lines of several processes do not mix; the first of two about one
 * shape counts. */
static void
keep(struct cuda_device *c, struct product *p)
{
	FILE *file = p->chosen && c->gemm->path[0] != '\0' ? fopen(c->gemm->path, "ae") : NULL;
	char text[LINE];
	size_t length;

	if (file == NULL)
		return;
	key_text(text, &p->key);
	length = strlen(text);
	text[length++] = ':';
	for (size_t i = 0; i < ALGO_BYTES; i++)
		length += (size_t)snprintf(
		    text + length, sizeof(text) - length, "%02x", ((const unsigned char *)&p->algo)[i]);
	fprintf(file, "%s\n", text);
	if (fclose(file) == 0) {
		p->chosen = false;
		recall(c, p);
	}
}

/* ---- products in use */

static struct product *
find_product(struct cuda_device *c, const struct gemm *g)
{
	struct key key = key_of(c, g);
	struct product *p;
	int count = 0;

	for (p = c->gemm->products; p != NULL; p = p->next, count++) {
		if (memcmp(&p->key, &key, sizeof(key)) == 0)
			return p;
	}
	while (count >= MAX_PRODUCTS && (p = c->gemm->products) != NULL) {
		c->gemm->products = p->next;
		free_product(p);
	}
	p = (struct product *)calloc(1, sizeof(*p));
	if (p == NULL) {
		device_fail(&c->base, DEVICE_OUT_OF_MEMORY, "no memory for a product");
		return NULL;
	}
	p->key = key;
	p->next = c->gemm->products;
	c->gemm->products = p;
	if (!describe(c, p))
		return NULL;
	return p;
}

void
cuda_gemm(struct cuda_device *c, const struct gemm *g)
{
	struct product *p;

	if (cuda_failed(c) || g->m == 0)
		return;
	p = find_product(c, g);
	if (p == NULL)
		return;
	if (g->bias != NULL &&
	    !set_attribute(c, p, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &g->bias, sizeof(g->bias)))
		return;
	if (!p->chosen && !p->refused)
		recall(c, p);
	if (!p->chosen && !p->refused) {
		choose(c, p, g);
		keep(c, p);
	}
	if (p->refused)
		cuda_gemm_plain(c, g);
	else if (p->chosen)
		check(c, multiply(c, p, g, &p->algo), "a product");
}

/* DIR/gemm-VERSION-DEVICE, letters and digits only of the device's name; nothing where it cannot be written.
 */
static void
name_file(struct cuda_device *c, const char *dir, const char *device)
{
	char *path = c->gemm->path;
	int length = snprintf(path, CACHE_PATH, "%s/gemm-%zu-", dir, cublasLtGetVersion());
	FILE *file;

	if (length < 0 || length >= CACHE_PATH - 64) {
		path[0] = '\0';
		return;
	}
	for (int i = 0; device[i] != '\0' && i < 60; i++)
		path[length++] = isalnum((unsigned char)device[i]) ? device[i] : '-';
	path[length] = '\0';
	file = fopen(path, "ae");
	if (file == NULL)
		path[0] = '\0';
	else
		fclose(file);
}

int
cuda_gemm_open(struct cuda_device *c, const char *cache_dir)
{
	struct cudaDeviceProp properties;
	struct gemm_engine *e = (struct gemm_engine *)calloc(1, sizeof(*e));

	c->gemm = e;
	if (e == NULL) {
		device_fail(&c->base, DEVICE_OUT_OF_MEMORY, "out of memory");
		return -1;
	}
	e->workspace = cuda_allocate(c, WORKSPACE_BYTES);
	if (e->workspace == NULL) {
		device_fail(&c->base, DEVICE_OUT_OF_MEMORY, "cuda:%d: no memory for products", c->index);
		return -1;
	}
	if (!check(c, cublasLtCreate(&e->handle), "opening") ||
	    !cuda_check(c, cudaEventCreate(&e->begin), "an event") ||
	    !cuda_check(c, cudaEventCreate(&e->end), "an event") ||
	    !cuda_check(c, cudaGetDeviceProperties(&properties, c->index), "its properties"))
		return -1;
	if (cache_dir != NULL)
		name_file(c, cache_dir, properties.name);
	c->base.searches = e->path[0] != '\0';
	return 0;
}

void
cuda_gemm_close(struct cuda_device *c)
{
	struct gemm_engine *e = c->gemm;

	if (e == NULL)
		return;
	while (e->products != NULL) {
		struct product *next = e->products->next;
		free_product(e->products);
		e->products = next;
	}
	cuda_release(&c->base, e->workspace);
	if (!cuda_failed(c)) {
		cublasLtDestroy(e->handle);
		cudaEventDestroy(e->begin);
		cudaEventDestroy(e->end);
	}
	free(e);
	c->gemm = NULL;
}
