/*
 * Matrix products through cuBLASLt. Row-major y = a b^T is column-major y^T = b a^T: the weights are its
 * first matrix, transposed, and the rows of x its second (TN), the form that fp8 wants too.
 *
 * A product of a new shape is set up once. Which of the library's ways it takes is what the file of choices
 * says (gemm_choice.cu). What is not in there: until the device is told to settle, the fastest of all, which
 * takes a second for a size; afterwards that of the nearest number of rows that works, or else the library's
 * first guess, which takes no time. Either way it is kept, so that this shape has the same bits ever after.
 * Without a file nothing could be kept, so there is no search: always the first guess.
 */
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/gemm_inside.cuh"

enum { MAX_PRODUCTS = 1024 };

/* ---- errors */

bool
gemm_check(struct cuda_device *c, cublasStatus_t status, const char *what)
{
	cudaError_t error;

	if (status == CUBLAS_STATUS_SUCCESS)
		return true;
	error = cudaPeekAtLastError();
	if (error != cudaSuccess)
		return cuda_check(c, error, what);
	/* not initialized: the runtime is, so it is memory that the library did not get */
	device_fail(&c->base,
	    status == CUBLAS_STATUS_ALLOC_FAILED || status == CUBLAS_STATUS_NOT_INITIALIZED
		? DEVICE_OUT_OF_MEMORY
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

static struct gemm_key
key_of(const struct cuda_device *c, const struct gemm *g)
{
	struct gemm_key key;
	size_t size = dtype_size(c->base.act_type), y_size = dtype_size(g->y_type);

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
free_product(struct gemm_product *p)
{
	cublasLtMatmulDescDestroy(p->desc);
	cublasLtMatrixLayoutDestroy(p->w);
	cublasLtMatrixLayoutDestroy(p->x);
	cublasLtMatrixLayoutDestroy(p->y);
	free(p);
}

static bool
set_attribute(struct cuda_device *c, struct gemm_product *p, cublasLtMatmulDescAttributes_t which,
    const void *value, size_t size)
{
	return gemm_check(
	    c, cublasLtMatmulDescSetAttribute(p->desc, which, value, size), "describing a product");
}

static bool
make_layout(struct cuda_device *c, cublasLtMatrixLayout_t *layout, cudaDataType_t type, int64_t rows,
    int64_t columns, int64_t ld, int batch, int64_t stride)
{
	if (!gemm_check(c, cublasLtMatrixLayoutCreate(layout, type, (uint64_t)rows, (uint64_t)columns, ld),
		"describing a matrix"))
		return false;
	if (batch == 1)
		return true;
	return gemm_check(c,
		   cublasLtMatrixLayoutSetAttribute(
		       *layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch, sizeof(batch)),
		   "describing a batch") &&
	       gemm_check(c,
		   cublasLtMatrixLayoutSetAttribute(
		       *layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof(stride)),
		   "describing a batch");
}

/* Float products are true float32 (no TF32): the f32 mode is there to compare with. */
static bool
describe(struct cuda_device *c, struct gemm_product *p)
{
	const struct gemm_key *k = &p->key;
	cudaDataType_t type = k->f32 ? CUDA_R_32F : CUDA_R_16BF, y_type = k->y_f32 ? CUDA_R_32F : CUDA_R_16BF;
	cublasOperation_t transposed = CUBLAS_OP_T;
	cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;

	if (!gemm_check(c, cublasLtMatmulDescCreate(&p->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F),
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

cublasStatus_t
gemm_multiply(
    struct cuda_device *c, struct gemm_product *p, const struct gemm *g, const cublasLtMatmulAlgo_t *algo)
{
	float beta = g->add != NULL ? 1.0f : 0.0f;

	return cublasLtMatmul(c->gemm->handle, p->desc, &g->alpha, g->b, p->w, g->a, p->x, &beta,
	    g->add != NULL ? g->add : g->y, p->y, g->y, p->y, algo, c->gemm->workspace, WORKSPACE_BYTES,
	    c->stream);
}

/* ---- the choice */

struct attempt {
	struct cuda_device *c;
	struct gemm_product *p;
};

/* As gemm_works: the library says so, of this shape on this device. */
static bool
works(void *arg, const cublasLtMatmulAlgo_t *algo)
{
	struct attempt *a = (struct attempt *)arg;
	cublasLtMatmulHeuristicResult_t result;

	return cublasLtMatmulAlgoCheck(a->c->gemm->handle, a->p->desc, a->p->w, a->p->x, a->p->y, a->p->y,
		   algo, &result) == CUBLAS_STATUS_SUCCESS &&
	       result.workspaceSize <= WORKSPACE_BYTES;
}

/* What the file says, or makes it say something. A search whose result could not be kept counts for nothing:
 * another one may end differently. */
static void
choose(struct cuda_device *c, struct gemm_product *p, const struct gemm *g)
{
	struct gemm_choices *s = &c->gemm->choices;
	struct attempt a = {c, p};
	cublasLtMatmulAlgo_t algo;

	p->chosen = gemm_choice_find(s, &p->key, works, &a, &p->algo);
	if (!p->chosen && c->base.searches && gemm_search(c, p, g, &algo)) {
		gemm_choice_keep(s, &p->key, true, &algo);
		p->chosen = gemm_choice_find(s, &p->key, works, &a, &p->algo);
	}
	if (p->chosen || p->refused || cuda_failed(c))
		return;
	if (!gemm_choice_nearest(s, &p->key, works, &a, &algo) && !gemm_guess(c, p, &algo))
		return;
	gemm_choice_keep(s, &p->key, false, &algo);
	p->chosen = true;
	if (!gemm_choice_find(s, &p->key, works, &a, &p->algo))
		p->algo = algo;
}

/* ---- products in use */

static void
forget_products(struct gemm_engine *e)
{
	while (e->products != NULL) {
		struct gemm_product *p = e->products;
		e->products = p->next;
		free_product(p);
	}
}

static struct gemm_product *
find_product(struct cuda_device *c, const struct gemm *g)
{
	struct gemm_key key = key_of(c, g);
	struct gemm_product *p;
	int count = 0;

	for (p = c->gemm->products; p != NULL; p = p->next, count++) {
		if (memcmp(&p->key, &key, sizeof(key)) == 0)
			return p;
	}
	if (count >= MAX_PRODUCTS)
		forget_products(c->gemm);
	p = (struct gemm_product *)calloc(1, sizeof(*p));
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
	struct gemm_product *p;

	if (cuda_failed(c) || g->m == 0)
		return;
	p = find_product(c, g);
	if (p == NULL)
		return;
	if (g->bias != NULL &&
	    !set_attribute(c, p, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &g->bias, sizeof(g->bias)))
		return;
	if (!p->chosen && !p->refused)
		choose(c, p, g);
	if (p->refused)
		cuda_gemm_plain(c, g);
	else if (p->chosen)
		gemm_check(c, gemm_multiply(c, p, g, &p->algo), "a product");
}

/* What was tried is not what will be asked for, and shapes are looked for one by one. */
void
cuda_gemm_settle(struct cuda_device *c)
{
	forget_products(c->gemm);
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
	if (!gemm_check(c, cublasLtCreate(&e->handle), "opening") ||
	    !cuda_check(c, cudaEventCreate(&e->begin), "an event") ||
	    !cuda_check(c, cudaEventCreate(&e->end), "an event") ||
	    !cuda_check(c, cudaGetDeviceProperties(&properties, c->index), "its properties"))
		return -1;
	gemm_choices_open(&e->choices, cache_dir, cublasLtGetVersion(), properties.name);
	c->base.searches = gemm_choices_are_kept(&e->choices);
	return 0;
}

void
cuda_gemm_close(struct cuda_device *c)
{
	struct gemm_engine *e = c->gemm;

	if (e == NULL)
		return;
	forget_products(e);
	gemm_choices_close(&e->choices);
	cuda_release(&c->base, e->workspace);
	if (!cuda_failed(c)) {
		cublasLtDestroy(e->handle);
		cudaEventDestroy(e->begin);
		cudaEventDestroy(e->end);
	}
	free(e);
	c->gemm = NULL;
}
