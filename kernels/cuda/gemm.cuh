/*
 * Matrix products, with cuBLASLt.
 */
#ifndef KERNELS_CUDA_GEMM_CUH
#define KERNELS_CUDA_GEMM_CUH

#include "kernels/cuda/cuda.cuh"

/* For each i below batch: y (m, n) := alpha a (m, k) b [+ bias (n)] [+ add (m, n)], rows lda, ldy numbers
 * apart, everything else row-major too; b is a weight's (n, k), rows ldb apart, or with b_is_kn a (k, n). a
 * and b are of the activations' type, and so are bias and add; y is of y_type, F32 only without bias and add.
 * Batch i of a, y and add begins stride_a or stride_y numbers later; b and bias are the same for all. */
struct gemm {
	int64_t m, n, k, lda, ldb, ldy;
	const void *a, *b, *bias, *add;
	void *y;
	enum dtype y_type;
	bool b_is_kn;
	float alpha;
	int batch;
	int64_t stride_a, stride_y;
};

/* 0, or -1 with the device failed. */
int cuda_gemm_open(struct cuda_device *c, const char *cache_dir);
void cuda_gemm_close(struct cuda_device *c);
/* Until cuda_gemm_settle a may be overwritten and y be garbage, where the shape is new and cache_dir was
 * given: the ways of making the product are tried on random numbers. */
void cuda_gemm(struct cuda_device *c, const struct gemm *g);
void cuda_gemm_settle(struct cuda_device *c);
/* The same without a library, for shapes that it refuses (gemm_plain.cu). */
void cuda_gemm_plain(struct cuda_device *c, const struct gemm *g);

#endif
