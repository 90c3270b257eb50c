/*
 * What the files of matrix products share: gemm.cu (products of the shapes in use), gemm_search.cu (the
 * library's ways of making one, timed), gemm_choice.cu (which way is used for what, kept in a file). Nobody
 * else includes this.
 */
#ifndef KERNELS_CUDA_GEMM_INSIDE_CUH
#define KERNELS_CUDA_GEMM_INSIDE_CUH

#include "kernels/cuda/gemm.cuh"

#include <cublasLt.h>

/* All that a choice depends on, in the order of the file: the fields of struct gemm; strides are 0 without a
 * batch; alignment in bytes, of all operands and their rows; the rest is 0 or 1. */
#define GEMM_KEY(FIELD) \
	FIELD(m) \
	FIELD(n) \
	FIELD(k) \
	FIELD(lda) \
	FIELD(ldb) \
	FIELD(ldy) \
	FIELD(stride_a) \
	FIELD(stride_y) \
	FIELD(batch) \
	FIELD(alignment) \
	FIELD(f32) \
	FIELD(y_f32) \
	FIELD(b_is_kn) \
	FIELD(bias) \
	FIELD(add)

struct gemm_key { /* compared as bytes */
#define FIELD(name) int64_t name;
	GEMM_KEY(FIELD)
#undef FIELD
};

/* Whether a way works for the product that `arg` is about. */
typedef bool gemm_works(void *arg, const cublasLtMatmulAlgo_t *algo);

/* ---- gemm_choice.cu */

/* A way for all products of a key; its m is the largest of its kind. */
struct gemm_choice {
	struct gemm_key key;
	int64_t tried; /* 1: it was the fastest, 0: taken over, or guessed */
	cublasLtMatmulAlgo_t algo;
};

struct gemm_choices {
	char path[CACHE_PATH]; /* of the file; empty: there is none */
	long taken;	       /* bytes of it that are in the list */
	bool torn;	       /* what follows them is no whole line */
	struct gemm_choice *list;
	size_t count, room;
};

/* DIR/gemm-VERSION-DEVICE, which must be writable. dir may be NULL: no file, and nothing is kept. */
void gemm_choices_open(struct gemm_choices *s, const char *dir, size_t version, const char *device);
void gemm_choices_close(struct gemm_choices *s);
bool gemm_choices_are_kept(const struct gemm_choices *s);
/* The first choice in the file for that key that works, of this process or any other. false: none. */
bool gemm_choice_find(struct gemm_choices *s, const struct gemm_key *key, gemm_works *works, void *arg,
    cublasLtMatmulAlgo_t *algo);
/* The fastest way of a product that differs in its rows only, of the nearest number of rows whose way works.
 * false: none. */
bool gemm_choice_nearest(struct gemm_choices *s, const struct gemm_key *key, gemm_works *works, void *arg,
    cublasLtMatmulAlgo_t *algo);
/* Appends a choice to the file. It counts only once it is found there: another process may have been
 * faster, and the disk may be full. */
void gemm_choice_keep(
    struct gemm_choices *s, const struct gemm_key *key, bool tried, const cublasLtMatmulAlgo_t *algo);

/* ---- gemm.cu */

enum { WORKSPACE_BYTES = 32 << 20 };

struct gemm_product {
	struct gemm_product *next;
	struct gemm_key key;
	cublasLtMatmulDesc_t desc;
	cublasLtMatrixLayout_t w, x, y; /* column-major: w first, then x */
	cublasLtMatmulAlgo_t algo;
	bool chosen, refused; /* refused: the library has no way */
};

struct gemm_engine {
	cublasLtHandle_t handle;
	void *workspace;
	cudaEvent_t begin, end;
	struct gemm_product *products;
	struct gemm_choices choices;
};

/* false after failing the device. */
bool gemm_check(struct cuda_device *c, cublasStatus_t status, const char *what);
/* Puts the product into the stream. */
cublasStatus_t gemm_multiply(
    struct cuda_device *c, struct gemm_product *p, const struct gemm *g, const cublasLtMatmulAlgo_t *algo);

/* ---- gemm_search.cu */

/* The library's own first guess. false: it has no way, p is refused then, or the device failed. */
bool gemm_guess(struct cuda_device *c, struct gemm_product *p, cublasLtMatmulAlgo_t *algo);
/* The fastest way for random normal numbers, which a (g->a) is overwritten with; y is garbage afterwards.
 * false: as above. */
bool gemm_search(
    struct cuda_device *c, struct gemm_product *p, const struct gemm *g, cublasLtMatmulAlgo_t *algo);

#endif
