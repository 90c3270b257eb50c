/*
 * conv2d on CUDA as an implicit product on mma.sync, for sm_80 and later: the windows of the picture are the
 * left side, and are gathered from the picture piece by piece, never made. bf16, any kernel, stride and
 * padding, channels that 16 bytes divide.
 *
 * A block has 128 windows, as they follow each other in the picture, and 128 outputs (32 where there are no
 * more), and goes over the taps' channels 64 at a time, the next 64 on their way (cp.async, zeros for what is
 * not in the picture): twice 32 KiB of shared memory, so two blocks to a processor with their 8 warps of
 * 64 x 32 sums each. From shared memory a warp takes 3 KiB for 65536 FLOP: at 128 bytes a cycle that bounds a
 * processor to 2730 FLOP a cycle, above the 2048 of mma.sync on A100.
 *
 * No two lanes of a load of tiles meet in a bank: the 16-byte pieces of row r lie in the order of
 * piece ^ (r % 8).
 */
#include "kernels/cuda/conv_sums.cuh"

enum {
	WARPS = 8,
	THREADS = WARPS * WARP,
	WINDOWS = 128,
	DEPTH = 64, /* numbers of a window at a time */
	PIECE = 8,  /* numbers in 16 bytes */
	PIECES = DEPTH / PIECE /* of a row */,
	WARP_OUTPUTS = 32,
	STAGES = 2
};

/* `outputs` of a block; the warps lie `down` by `across`. */
template <int outputs> struct layout {
	enum {
		ACROSS = outputs / WARP_OUTPUTS,
		DOWN = WARPS / ACROSS,
		WARP_WINDOWS = WINDOWS / DOWN,
		TILES = WARP_WINDOWS / 16, /* of a warp's products, one above the other */
		STAGE = ((int)WINDOWS + outputs) * (int)DEPTH
	};
};

/* Where the windows begin that a thread brings pieces of. */
struct corners {
	int y[WINDOWS * PIECES / THREADS], x[WINDOWS * PIECES / THREADS];
};

/* Which part of the work is the block's. */
struct share {
	int first_window, first_output, phase;
};

__device__ static inline bf16 *
piece_at(bf16 *tile, int row, int piece)
{
	return tile + row * DEPTH + (piece ^ (row % 8)) * PIECE;
}

/* Of a window behind the last one: far outside of the picture. */
__device__ static inline void
find_corners(struct corners *at, const struct conv_job &j, const struct share &s)
{
	int windows = j.out_h * j.out_w;

#pragma unroll
	for (int i = 0; i < WINDOWS * PIECES / THREADS; i++) {
		int window = s.first_window + ((int)threadIdx.x + i * THREADS) / PIECES;
		at->y[i] = window / j.out_w * j.stride - j.top + s.phase / 2;
		at->x[i] = window % j.out_w * j.stride - j.left + s.phase % 2;
		if (window >= windows)
			at->y[i] = -j.k;
	}
}

/* Begins to bring numbers first .. first + 63 of the block's windows. */
__device__ static inline void
bring_windows(bf16 *tile, const struct conv_job &j, const struct corners &at, int first)
{
	int piece = threadIdx.x % PIECES, number = first + piece * PIECE, tap = number / j.channels;
	int dy = tap / j.k, dx = tap % j.k, channel = number % j.channels;
	const bf16 *x = (const bf16 *)j.x;

#pragma unroll
	for (int i = 0; i < WINDOWS * PIECES / THREADS; i++) {
		int row = at.y[i] + dy, column = at.x[i] + dx;
		bool there = dy < j.k && row >= 0 && row < j.h && column >= 0 && column < j.w;
		copy_begin(piece_at(tile, ((int)threadIdx.x + i * THREADS) / PIECES, piece),
		    there ? x + ((int64_t)row * j.w + column) * j.channels + channel : x, there);
	}
}

/* The same numbers of the block's filters. */
template <int outputs>
__device__ static inline void
bring_filters(bf16 *tile, const struct conv_job &j, const struct share &s, int first)
{
	int piece = threadIdx.x % PIECES, number = first + piece * PIECE, all = j.k * j.k * j.channels;
	const bf16 *filters = (const bf16 *)j.filters;

#pragma unroll
	for (int i = 0; i < outputs * PIECES / THREADS; i++) {
		int row = ((int)threadIdx.x + i * THREADS) / PIECES, output = s.first_output + row;
		bool there = output < j.outputs && number < all;
		int64_t at = ((int64_t)s.phase * j.outputs + output) * all + number;
		copy_begin(piece_at(tile, row, piece), there ? filters + at : filters, there);
	}
}

/* sum += windows filters^T, of 64 numbers of each; the tiles are this warp's. */
template <int tiles>
__device__ static inline void
multiply_stage(float (&sum)[tiles][WARP_OUTPUTS / 8][4], bf16 *windows, bf16 *filters)
{
	int lane = threadIdx.x % WARP;

#pragma unroll
	for (int step = 0; step < DEPTH / 16; step++) {
		uint32_t a[tiles][4], b[WARP_OUTPUTS / 16][4]; /* b: 8 outputs, both halves of 16 numbers; 8
								  more alike */
#pragma unroll
		for (int i = 0; i < tiles; i++)
			load_tiles(a[i], piece_at(windows, i * 16 + lane % 16, 2 * step + lane / 16));
#pragma unroll
		for (int i = 0; i < WARP_OUTPUTS / 16; i++)
			load_tiles(b[i],
			    piece_at(filters, i * 16 + lane / 16 * 8 + lane % 8, 2 * step + lane / 8 % 2));
#pragma unroll
		for (int i = 0; i < tiles; i++) {
#pragma unroll
			for (int n = 0; n < WARP_OUTPUTS / 8; n++)
				multiply_tiles(sum[i][n], a[i], b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1]);
		}
	}
}

/* The number of y that the result of the block's window `i` begins at; -1: there is no such window. */
__device__ static inline int64_t
place_of(const struct conv_job &j, const struct share &s, int i)
{
	int window = s.first_window + i;

	if (window >= j.out_h * j.out_w)
		return -1;
	return result_at(j, s.phase, window / j.out_w, window % j.out_w);
}

template <int outputs>
__global__ static void
__launch_bounds__(THREADS, 2) tiled_kernel(const struct conv_job j)
{
	typedef struct layout<outputs> layout;
	int across = (j.outputs + outputs - 1) / outputs, warp = threadIdx.x / WARP,
	    lane = threadIdx.x % WARP;
	struct share s = {(int)(blockIdx.x / across / j.phases) * WINDOWS,
	    (int)(blockIdx.x % across) * outputs, (int)(blockIdx.x / across % j.phases)};
	int first = warp / layout::ACROSS * layout::WARP_WINDOWS,
	    first_output = warp % layout::ACROSS * WARP_OUTPUTS;
	int stages = (j.k * j.k * j.channels + DEPTH - 1) / DEPTH;
	bf16 *memory = (bf16 *)dynamic_shared();
	float sum[layout::TILES][WARP_OUTPUTS / 8][4] = {};
	struct corners at;

	find_corners(&at, j, s);
	bring_windows(memory, j, at, 0);
	bring_filters<outputs>(memory + WINDOWS * DEPTH, j, s, 0);
	copy_group();
	for (int stage = 0; stage < stages; stage++) {
		bf16 *now = memory + stage % STAGES * layout::STAGE,
		     *next = memory + (stage + 1) % STAGES * layout::STAGE;
		if (stage + 1 < stages) {
			bring_windows(next, j, at, (stage + 1) * DEPTH);
			bring_filters<outputs>(next + WINDOWS * DEPTH, j, s, (stage + 1) * DEPTH);
		}
		copy_group(); /* an empty one at the end, so that one may always be left */
		copy_wait<1>();
		__syncthreads(); /* this stage is there for all */
		multiply_stage(sum, now + first * DEPTH, now + ((int)WINDOWS + first_output) * DEPTH);
		__syncthreads(); /* all have done with it */
	}
#pragma unroll
	for (int i = 0; i < layout::TILES; i++) {
		int row = first + i * 16 + lane / 4;
		int64_t places[2] = {place_of(j, s, row), place_of(j, s, row + 8)};
		put_sums(j, sum[i], places, s.first_output + first_output);
	}
}

template <int outputs>
static void
launch_tiled(struct cuda_device *c, const struct conv_job *j)
{
	const size_t shared = STAGES * sizeof(bf16) * layout<outputs>::STAGE;
	int64_t blocks = (int64_t)blocks_for((int64_t)j->out_h * j->out_w, WINDOWS) * j->phases;

	if (cuda_failed(c) || !cuda_check(c,
				  cudaFuncSetAttribute((const void *)tiled_kernel<outputs>,
				      cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared),
				  "conv2d's shared memory"))
		return;
	launch_shared(c, "conv2d", (unsigned)(blocks * blocks_for(j->outputs, outputs)), THREADS, shared,
	    tiled_kernel<outputs>, *j);
}

bool
cuda_conv_tiled_takes(const struct cuda_device *c, const struct conv_job *j)
{
	return c->base.act_type == DT_BF16 && is_wide(j->x, j->channels, sizeof(bf16)) &&
	       is_wide(j->filters, j->channels, sizeof(bf16));
}

void
cuda_conv_tiled(struct cuda_device *c, const struct conv_job *j)
{
	if (j->outputs <= WARP_OUTPUTS)
		launch_tiled<WARP_OUTPUTS>(c, j);
	else
		launch_tiled<4 * WARP_OUTPUTS>(c, j);
}
