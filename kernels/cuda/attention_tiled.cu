/*
 * attention on CUDA, head widths 64 and 128, bf16: tiles on tensor cores, scores never in memory
 * (FlashAttention-2's order of work, on mma.sync, for sm_80 and later).
 *
 * A block has 128 query rows of one head, 16 to each of its 8 warps, and goes over the keys 64 at a time.
 * Shared memory at width 128: 32 KiB of q, and twice (the next tile arrives while this one is used) 16 KiB of
 * k and 16 of v: 96 KiB. A warp keeps its 16 rows of q (32 registers), 16 x 64 scores (32) and 16 x 128 sums
 * (64).
 *
 * Work at 30 heads of 4224 rows: 4 x 30 x 4224^2 x 128 = 274 GFLOP; q, k, v and o are 4 x 32 MB, and k and v
 * are read again by each of the 33 blocks of a head from the second-level cache, 33 x 2 x 32 MB = 2.1 GB.
 * From shared memory a warp takes 32 KiB for 0.52 MFLOP; at 128 bytes a cycle that bounds a processor to 2048
 * FLOP a cycle, what mma.sync gives on A100, and about half of what H100's wgmma would: there this form is
 * the second best.
 *
 * No two lanes of a load of tiles meet in a bank: the 16-byte pieces of row r lie in the order of
 * piece ^ (r % 8).
 */
#include <math.h>

#include "kernels/cuda/attention_rows.cuh"

enum {
	WARPS = 8,
	THREADS = WARPS * WARP,
	Q_ROWS = WARPS * 16,
	KEYS = 64,
	PIECE = 8 /* numbers in 16 bytes */
};

struct tiled_job {
	bf16 *o;
	const bf16 *q, *k, *v;
	int queries, keys, share; /* share: query heads to a head of k and v */
	int64_t q_row, kv_row;	  /* numbers from one row to the next */
	bool causal;
	float scale; /* of q.k, times log2 e */
};

/* Where piece `piece` of row `row` lies in a tile of rows of `width` numbers. */
template <int width>
__device__ static inline bf16 *
piece_at(bf16 *tile, int row, int piece)
{
	return tile + row * width + (piece ^ (row % 8)) * PIECE;
}

/* Begins to bring rows first .. first + rows - 1 of a matrix; rows from `end` on are zero. */
template <int width, int rows>
__device__ static inline void
bring_tile(bf16 *tile, const bf16 *from, int64_t stride, int first, int end)
{
	enum { PIECES = width / PIECE, TURNS = rows * PIECES / THREADS };

	static_assert(rows * PIECES == (int)TURNS * (int)THREADS, "as many turns for every thread");
#pragma unroll
	for (int turn = 0; turn < TURNS; turn++) {
		int i = threadIdx.x + turn * THREADS, row = i / PIECES, piece = i % PIECES, at = first + row;
		bool there = at < end;
		copy_begin(piece_at<width>(tile, row, piece),
		    from + (there ? at : 0) * stride + piece * PIECE, there);
	}
}

/* score (16, 64) := q (16, width) k^T, in the layout of multiply_tiles, 8 columns to an element of `score`.
 */
template <int width>
__device__ static inline void
score_tile(float score[KEYS / 8][4], const uint32_t q[width / 16][4], bf16 *k)
{
	int lane = threadIdx.x % WARP;

#pragma unroll
	for (int j = 0; j < KEYS / 8; j++)
		score[j][0] = score[j][1] = score[j][2] = score[j][3] = 0;
#pragma unroll
	for (int step = 0; step < width / 16; step++) {
#pragma unroll
		for (int pair = 0; pair < KEYS / 16; pair++) {
			uint32_t b[4]; /* keys 0..7: channels 0..7, 8..15; keys 8..15 alike */
			int key = pair * 16 + lane / 16 * 8 + lane % 8, piece = 2 * step + lane / 8 % 2;
			load_tiles(b, piece_at<width>(k, key, piece));
			multiply_tiles(score[2 * pair], q[step], b[0], b[1]);
			multiply_tiles(score[2 * pair + 1], q[step], b[2], b[3]);
		}
	}
}

/* sum (16, width) += weight (16, 64) v (64, width). A warp's scores have the layout that the product wants of
 * its left side, but for the rounding. */
template <int width>
__device__ static inline void
mix_tile(float (&sum)[width / 8][4], const float (&weight)[KEYS / 8][4], bf16 *v)
{
	int lane = threadIdx.x % WARP;
	uint32_t a[KEYS / 16][4];

	pack_weights(a, weight);
#pragma unroll
	for (int step = 0; step < KEYS / 16; step++) {
#pragma unroll
		for (int pair = 0; pair < width / 16; pair++) {
			uint32_t b[4]; /* channels 0..7: keys 0..7, 8..15; channels 8..15 alike */
			int key = step * 16 + lane % 16, piece = 2 * pair + lane / 16;
			load_tiles_transposed(b, piece_at<width>(v, key, piece));
			multiply_tiles(sum[2 * pair], a[step], b[0], b[1]);
			multiply_tiles(sum[2 * pair + 1], a[step], b[2], b[3]);
		}
	}
}

/* Grid: blocks of query rows, the last ones first (a causal row has more keys the later it is), times heads.
 */
template <int width>
__global__ static void
__launch_bounds__(THREADS) tiled_kernel(const struct tiled_job j)
{
	int first = (gridDim.x - 1 - blockIdx.x) * Q_ROWS, warp = threadIdx.x / WARP,
	    lane = threadIdx.x % WARP;
	int row = first + warp * 16 + lane / 4; /* and the one 8 below */
	int end = j.causal && first + Q_ROWS < j.keys ? first + Q_ROWS : j.keys,
	    tiles = (end + KEYS - 1) / KEYS;
	const bf16 *k = j.k + blockIdx.y / j.share * width, *v = j.v + blockIdx.y / j.share * width;
	bf16 *q_tile = (bf16 *)dynamic_shared(), *k_tile = q_tile + Q_ROWS * width,
	     *v_tile = k_tile + 2 * KEYS * width;
	float sum[width / 8][4] = {}, score[KEYS / 8][4], largest[2] = {-INFINITY, -INFINITY},
			  total[2] = {0, 0};
	uint32_t q[width / 16][4];

	bring_tile<width, Q_ROWS>(q_tile, j.q + blockIdx.y * width, j.q_row, first, j.queries);
	bring_tile<width, KEYS>(k_tile, k, j.kv_row, 0, j.keys);
	bring_tile<width, KEYS>(v_tile, v, j.kv_row, 0, j.keys);
	copy_group();
	for (int tile = 0; tile < tiles; tile++) {
		int now = tile % 2 * KEYS * width, next = (tile + 1) % 2 * KEYS * width;
		if (tile + 1 < tiles) {
			bring_tile<width, KEYS>(k_tile + next, k, j.kv_row, (tile + 1) * KEYS, j.keys);
			bring_tile<width, KEYS>(v_tile + next, v, j.kv_row, (tile + 1) * KEYS, j.keys);
		}
		copy_group(); /* an empty one at the end, so that one may always be left */
		copy_wait<1>();
		__syncthreads(); /* this tile is there for all */
		if (tile == 0) {
#pragma unroll
			for (int step = 0; step < width / 16; step++)
				load_tiles(q[step],
				    piece_at<width>(q_tile, warp * 16 + lane % 16, 2 * step + lane / 16));
		}
		score_tile<width>(score, q, k_tile + now);
		if ((tile + 1) * KEYS > j.keys || (j.causal && (tile + 1) * KEYS > first + warp * 16))
			mask_scores(score, tile * KEYS, j.keys, j.causal, row);
		soften_scores(score, largest, total, sum, j.scale);
		mix_tile<width>(sum, score, v_tile + now);
		__syncthreads(); /* all have done with this tile: the one after the next may come into its
				    place */
	}
	put_rows(j.o + blockIdx.y * width, j.q_row, j.queries, sum, total, row);
}

template <int width>
static void
launch_tiled(struct cuda_device *c, const struct tiled_job &j, int heads)
{
	const size_t shared = (Q_ROWS + 4 * KEYS) * width * sizeof(bf16);
	dim3 grid(blocks_for(j.queries, Q_ROWS), (unsigned)heads);

	if (cuda_failed(c) || !cuda_check(c,
				  cudaFuncSetAttribute((const void *)tiled_kernel<width>,
				      cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared),
				  "attention's shared memory"))
		return;
	launch_shared(c, "attention", grid, THREADS, shared, tiled_kernel<width>, j);
}

bool
cuda_attention_tiled_takes(const struct cuda_device *c, const struct attention_shape *shape)
{
	return c->base.act_type == DT_BF16 && (shape->head_dim == 64 || shape->head_dim == 128);
}

void
cuda_attention_tiled(struct cuda_device *c, struct tensor *o, const struct tensor *q, const struct tensor *k,
    const struct tensor *v, const struct attention_shape *shape)
{
	struct tiled_job j = {};

	j.o = (bf16 *)o->data;
	j.q = (const bf16 *)q->data;
	j.k = (const bf16 *)k->data;
	j.v = (const bf16 *)v->data;
	j.queries = (int)q->dim[0];
	j.keys = (int)k->dim[0];
	j.share = shape->heads / shape->kv_heads;
	j.q_row = (int64_t)shape->heads * shape->head_dim;
	j.kv_row = (int64_t)shape->kv_heads * shape->head_dim;
	j.causal = shape->causal;
	j.scale = shape->scale * (float)M_LOG2E;
	if (shape->head_dim == 64)
		launch_tiled<64>(c, j, shape->heads);
	else
		launch_tiled<128>(c, j, shape->heads);
}
