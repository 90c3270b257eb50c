/*
 * The softmax of attention's tiles, in the layout that products leave their results in: of a warp's 16 rows,
 * lane l has l / 4 and the one 8 below (elements 0, 1 and 2, 3 of everything), and of each 8 columns 2 (l %
 * 4) and the next.
 */
#ifndef KERNELS_CUDA_ATTENTION_ROWS_CUH
#define KERNELS_CUDA_ATTENTION_ROWS_CUH

#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/mma.cuh"

/* Scores of keys that the row does not see become -inf. first_key: of the tile; keys: how many there are. */
template <int n>
__device__ static inline void
mask_scores(float (&score)[n][4], int first_key, int keys, bool causal, int row)
{
	int column = first_key + threadIdx.x % 4 * 2;

#pragma unroll
	for (int i = 0; i < n; i++) {
#pragma unroll
		for (int j = 0; j < 4; j++) {
			int key = column + i * 8 + j % 2, query = row + j / 2 * 8;
			if (key >= keys || (causal && key > query))
				score[i][j] = -INFINITY;
		}
	}
}

/* Over the four lanes that share a row. */
__device__ static inline float
row_max(float x)
{
	x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
	return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

__device__ static inline float
row_sum(float x)
{
	x += __shfl_xor_sync(0xffffffffu, x, 1);
	return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

/* Scores become weights 2^(scale (score - largest)); largest, total and sum are brought up to date. A row
 * that has seen no key yet (its largest is -inf) has weights 0. total: of this lane's columns only, until the
 * end. */
template <int n, int m>
__device__ static inline void
soften_scores(float (&score)[n][4], float largest[2], float total[2], float (&sum)[m][4], float scale)
{
#pragma unroll
	for (int half = 0; half < 2; half++) {
		float before = largest[half], most = before, keep, base, added = 0;
#pragma unroll
		for (int i = 0; i < n; i++)
			most = fmaxf(most, fmaxf(score[i][2 * half], score[i][2 * half + 1]));
		most = row_max(most);
		base = most == -INFINITY ? 0.0f : most * scale;
		keep = fast_exp2(before * scale - base);
#pragma unroll
		for (int i = 0; i < n; i++) {
#pragma unroll
			for (int j = 2 * half; j < 2 * half + 2; j++) {
				score[i][j] = fast_exp2(fmaf(score[i][j], scale, -base));
				added += score[i][j];
			}
		}
		largest[half] = most;
		total[half] = total[half] * keep + added;
#pragma unroll
		for (int i = 0; i < m; i++) {
			sum[i][2 * half] *= keep;
			sum[i][2 * half + 1] *= keep;
		}
	}
}

/* Weights as the left operand of a product, 16 columns to an element. */
template <int n>
__device__ static inline void
pack_weights(uint32_t (&packed)[n / 2][4], const float (&weight)[n][4])
{
#pragma unroll
	for (int i = 0; i < n / 2; i++) {
		const float *left = weight[2 * i], *right = weight[2 * i + 1];
		packed[i][0] = pack_bf16(left[0], left[1]);
		packed[i][1] = pack_bf16(left[2], left[3]);
		packed[i][2] = pack_bf16(right[0], right[1]);
		packed[i][3] = pack_bf16(right[2], right[3]);
	}
}

/* o: this head's columns of row 0; stride: numbers from one row to the next. */
template <int m>
__device__ static inline void
put_rows(bf16 *o, int64_t stride, int queries, const float (&sum)[m][4], const float total[2], int row)
{
	int column = threadIdx.x % 4 * 2;

#pragma unroll
	for (int half = 0; half < 2; half++) {
		float inverse = 1.0f / row_sum(total[half]);
		int query = row + half * 8;
		if (query >= queries)
			continue;
#pragma unroll
		for (int i = 0; i < m; i++)
			*(uint32_t *)(o + query * stride + i * 8 + column) =
			    pack_bf16(sum[i][2 * half] * inverse, sum[i][2 * half + 1] * inverse);
	}
}

#endif
