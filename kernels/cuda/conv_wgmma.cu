/*
 * conv2d on CUDA as an implicit product for sm_90a: bf16, stride 1, kernels up to 3x3. One warpgroup brings,
 * two compute 8 x 16 pixels each of 128 outputs (8 where there are no more), and a block goes on to its next
 * tile while the sums of the last are put: as many blocks as the device has processors.
 *
 * The left side is boxes of the picture: 64 channels of 16 columns and of 16 rows and the rows that the
 * kernel is higher than one, as hardware copies them, with zeros for what lies outside of the picture, so
 * that padding costs nothing. A box serves all taps of one column of the kernel: the tap below begins 16
 * pixels further on in it, 2 KiB, where the order of pieces is the same again (panels.cuh). The right side is
 * the filters, 64 channels of one tap at a time. Channels are brought 64 at a time whatever there are: those
 * beyond the last are zeros on both sides.
 *
 * Shared memory: three boxes of 36 KiB and six times 16 KiB of filters, 204 KiB. A computing thread has 128
 * sums of 168 registers at the launch, and takes 232.
 *
 * For 256 pixels and 64 channels of a 3x3 kernel a block brings 3 x 36 KiB of picture and 9 x 16 of filters,
 * 252 KiB for 38 MFLOP; without boxes that serve three taps it would be 432 KiB, more than the second-level
 * cache gives. From shared memory a product takes 2 KiB of pixels and 4 of filters in 64 cycles of the tensor
 * cores, 96 bytes of the 128 that a cycle can have.
 */
#include "kernels/cuda/boxes.cuh"
#include "kernels/cuda/conv_sums.cuh"
#include "kernels/cuda/wgmma.cuh"

enum {
	COMPUTING = 2, /* warpgroups, 0 and 1; the one after them brings */
	THREADS = (COMPUTING + 1) * WARPGROUP,
	COLUMNS = 16,  /* of a tile */
	HALVES = 2,    /* products of a warpgroup, one above the other, */
	HALF_ROWS = 4, /* of 64 pixels each: a row to a warp */
	GROUP_ROWS = HALVES * HALF_ROWS,
	ROWS = COMPUTING * GROUP_ROWS,
	MAX_K = 3,
	ROW_BYTES = COLUMNS * PANEL_ROW,
	BOX_BYTES = (ROWS + MAX_K - 1) * ROW_BYTES,
	BOXES = 3,  /* that are there or on their way, */
	TAPS = 6,   /* and filters of one tap */
	MANY = 128, /* outputs of a tile, */
	FEW = 8,    /* or so many */
	BRINGING_REGISTERS = 40,
	COMPUTING_REGISTERS = 232
};

static_assert((int)ROW_BYTES % (int)PANEL_REPEAT == 0, "the tap below must begin a pattern");

/* Goes by value to the kernel. */
struct wgmma_job {
	CUtensorMap picture, filters;
	struct conv_job conv;
	int across, down;   /* tiles of the picture */
	int output_tiles;   /* of a pixel */
	int blocks;	    /* of 64 channels */
	uint32_t box_bytes; /* of the picture */
};

template <int outputs> struct ring {
	unsigned char box[BOXES][BOX_BYTES];
	unsigned char tap[TAPS][outputs * PANEL_ROW];
	uint64_t box_full[BOXES], tap_full[TAPS]; /* mbarriers: it has been brought */
	uint64_t box_free[BOXES], tap_free[TAPS]; /* every computing warp has done with it */
};

#if HAS_WGMMA

/* A tile of the result: its first pixel's window, and its first output. */
struct tile {
	int row, column, output, phase;
};

/* Tiles of the same pixels follow each other, and find them in the cache. */
__device__ static inline struct tile
tile_of(const struct wgmma_job *j, int i, int outputs)
{
	struct tile t;

	t.output = i % j->output_tiles * outputs;
	i /= j->output_tiles;
	t.phase = i % j->conv.phases;
	i /= j->conv.phases;
	t.column = i % j->across * COLUMNS;
	t.row = i / j->across * ROWS;
	return t;
}

__device__ static inline int
tile_count(const struct wgmma_job *j)
{
	return j->output_tiles * j->conv.phases * j->across * j->down;
}

/* The i-th that is brought lies at place i % n, and is what the phase of this parity there is about. */
template <int n>
__device__ static inline uint32_t
parity_of(unsigned i)
{
	return i / n % 2;
}

/* ---- bringing, by one thread. A place is free at first, as after a phase of parity 1. */

template <int outputs>
__device__ static inline void
bring_box(struct ring<outputs> *r, const struct wgmma_job *j, unsigned i, int channel, int column, int row)
{
	int at = i % BOXES;

	barrier_wait(&r->box_free[at], parity_of<BOXES>(i) ^ 1);
	barrier_expect(&r->box_full[at], j->box_bytes);
	copy_box(r->box[at], &j->picture, channel, column, row, &r->box_full[at]);
}

template <int outputs>
__device__ static inline void
bring_tap(struct ring<outputs> *r, const struct wgmma_job *j, unsigned i, int channel, int tap, int output)
{
	int at = i % TAPS;

	barrier_wait(&r->tap_free[at], parity_of<TAPS>(i) ^ 1);
	barrier_expect(&r->tap_full[at], sizeof(r->tap[at]));
	copy_box(r->tap[at], &j->filters, channel, tap, output, &r->tap_full[at]);
}

/* What is added to a tile's pixels, all of their outputs, comes to the second-level cache while they are
 * multiplied. Of the tiles of the same pixels, which are made at the same time, the first one asks. */
__device__ static inline void
ask_for_addend(const struct conv_job &v, const struct tile &t)
{
	int columns = v.out_w - t.column < COLUMNS ? v.out_w - t.column : (int)COLUMNS;

	if (v.add == NULL || !v.wide || v.phases > 1 || t.output > 0)
		return;
	for (int row = t.row; row < t.row + ROWS && row < v.out_h; row++)
		prefetch((const bf16 *)v.add + result_at(v, 0, row, t.column),
		    (uint32_t)(columns * v.outputs) * sizeof(bf16));
}

template <int outputs>
__device__ static inline void
bring_all(struct ring<outputs> *r, const struct wgmma_job *j)
{
	const struct conv_job *v = &j->conv;
	unsigned boxes = 0, taps = 0;

	for (int i = blockIdx.x; i < tile_count(j); i += gridDim.x) {
		struct tile t = tile_of(j, i, outputs);
		int row = t.row - v->top + t.phase / 2, column = t.column - v->left + t.phase % 2;
		ask_for_addend(*v, t);
		for (int channel = 0; channel < v->channels; channel += PANEL_NUMBERS) {
			for (int dx = 0; dx < v->k; dx++) {
				bring_box(r, j, boxes++, channel, column + dx, row);
				for (int dy = 0; dy < v->k; dy++)
					bring_tap(r, j, taps++, channel, dy * v->k + dx,
					    t.phase * v->outputs + t.output);
			}
		}
	}
}

/* ---- computing, by a warpgroup */

template <int outputs> struct sums {
	float half[HALVES][outputs / 8][4];
};

/* A warp says that it has read what is in a place: waiting for products tells it about its own, not about
 * those of the other warps. */
__device__ static inline void
set_free(uint64_t *free)
{
	if (threadIdx.x % WARP == 0)
		barrier_arrive(free);
}

template <int outputs>
__device__ static inline void
keep_sums(struct sums<outputs> &s)
{
#pragma unroll
	for (int half = 0; half < HALVES; half++)
		keep_registers(s.half[half]);
}

/* Begins the products of one tap: 64 channels of both, along the rows of panels, 16 of them in 32 bytes. */
template <int outputs>
__device__ static inline void
begin_tap(struct sums<outputs> &s, uint32_t pixels, uint32_t filters, bool add)
{
#pragma unroll
	for (int step = 0; step < PANEL_NUMBERS / 16; step++) {
#pragma unroll
		for (int half = 0; half < HALVES; half++)
			product_begin(s.half[half],
			    panel_operand(pixels + half * HALF_ROWS * ROW_BYTES + step * 32, 16),
			    panel_operand(filters + step * 32, 16), add || step > 0);
	}
	product_group();
}

/* All products of a tile, at most those of one tap under way while the next tap's begin. `boxes` and `taps`
 * count what was brought so far, over all tiles. */
template <int outputs>
__device__ static inline void
multiply_tile(struct sums<outputs> &s, struct ring<outputs> *r, const struct wgmma_job *j, int group,
    unsigned &boxes, unsigned &taps)
{
	int k = j->conv.k, columns = j->blocks * k;
	unsigned first = taps;

	for (int i = 0; i < columns; i++, boxes++) {
		uint32_t pixels = shared_address(r->box[boxes % BOXES]) + group * GROUP_ROWS * ROW_BYTES;
		barrier_wait(&r->box_full[boxes % BOXES], parity_of<BOXES>(boxes));
		for (int dy = 0; dy < k; dy++, taps++) {
			barrier_wait(&r->tap_full[taps % TAPS], parity_of<TAPS>(taps));
			keep_sums(s);
			product_fence();
			begin_tap(
			    s, pixels + dy * ROW_BYTES, shared_address(r->tap[taps % TAPS]), taps > first);
			product_wait<1>();
			keep_sums(s);
			if (taps > first)
				set_free(&r->tap_free[(taps - 1) % TAPS]);
			if (i > 0 && dy == 0)
				set_free(&r->box_free[(boxes - 1) % BOXES]);
		}
	}
	product_wait<0>();
	keep_sums(s);
	set_free(&r->tap_free[(taps - 1) % TAPS]);
	set_free(&r->box_free[(boxes - 1) % BOXES]);
}

/* The number of y that the result of a window begins at; -1: there is no such window. */
__device__ static inline int64_t
place_of(const struct conv_job &v, const struct tile &t, int row, int column)
{
	return row < v.out_h && column < v.out_w ? result_at(v, t.phase, row, column) : -1;
}

/* A warp's 16 rows of a product are the 16 columns of one row of pixels. */
template <int outputs>
__device__ static inline void
put_tile(const struct sums<outputs> &s, const struct conv_job &v, const struct tile &t, int group)
{
	int row = t.row + group * GROUP_ROWS + threadIdx.x % WARPGROUP / WARP,
	    column = t.column + threadIdx.x % WARP / 4;

#pragma unroll
	for (int half = 0; half < HALVES; half++, row += HALF_ROWS) {
		int64_t places[2] = {place_of(v, t, row, column), place_of(v, t, row, column + 8)};
		put_sums(v, s.half[half], places, t.output);
	}
}

template <int outputs>
__device__ static inline void
compute_all(struct ring<outputs> *r, const struct wgmma_job *j, int group)
{
	unsigned boxes = 0, taps = 0;

	for (int i = blockIdx.x; i < tile_count(j); i += gridDim.x) {
		struct sums<outputs> s;
		multiply_tile(s, r, j, group, boxes, taps);
		put_tile(s, j->conv, tile_of(j, i, outputs), group);
	}
}

/* The block's memory, and its barriers, which one thread makes. */
template <int outputs>
__device__ static inline struct ring<outputs> *
make_ring(void) {
	unsigned char *memory = dynamic_shared();
	struct ring<outputs> *r;

	memory += -shared_address(memory) % PANEL_REPEAT;
	r = (struct ring<outputs> *)memory;
	if (threadIdx.x == 0) {
		for (int i = 0; i < BOXES; i++) {
			barrier_init(&r->box_full[i], 1);
			barrier_init(&r->box_free[i], COMPUTING * WARPGROUP / WARP);
		}
		for (int i = 0; i < TAPS; i++) {
			barrier_init(&r->tap_full[i], 1);
			barrier_init(&r->tap_free[i], COMPUTING * WARPGROUP / WARP);
		}
		barrier_init_done();
	}
	__syncthreads();
	return r;
}

#endif

/* The job stays where the launch put it: maps are found by their address there. */
template <int outputs>
__global__ static void
__launch_bounds__(THREADS, 1) wgmma_kernel(const __grid_constant__ struct wgmma_job j)
{
#if HAS_WGMMA
	struct ring<outputs> *r = make_ring<outputs>();
	int group = threadIdx.x / WARPGROUP;

	if (group == COMPUTING) {
		give_registers<BRINGING_REGISTERS>();
		if (threadIdx.x % WARPGROUP == 0)
			bring_all(r, &j);
	} else {
		take_registers<COMPUTING_REGISTERS>();
		compute_all(r, &j, group);
	}
#endif
}

/* ---- the host's side */

template <int outputs>
static void
launch_wgmma(struct cuda_device *c, const struct conv_job *v)
{
	const size_t shared = sizeof(struct ring<outputs>) + PANEL_REPEAT; /* to begin at a multiple */
	const int64_t picture[] = {v->channels, v->w, v->h},
		      filters[] = {v->channels, (int64_t)v->k * v->k, (int64_t)v->phases * v->outputs};
	int box_rows = ROWS + v->k - 1;
	struct wgmma_job j = {};
	int64_t tiles;

	if (cuda_failed(c) || !cuda_map_boxes(c, &j.picture, v->x, picture, COLUMNS, box_rows) ||
	    !cuda_map_boxes(c, &j.filters, v->filters, filters, 1, outputs) ||
	    !cuda_check(c,
		cudaFuncSetAttribute((const void *)wgmma_kernel<outputs>,
		    cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared),
		"conv2d's shared memory"))
		return;
	j.conv = *v;
	j.across = (int)blocks_for(v->out_w, COLUMNS);
	j.down = (int)blocks_for(v->out_h, ROWS);
	j.output_tiles = (int)blocks_for(v->outputs, outputs);
	j.blocks = (int)blocks_for(v->channels, PANEL_NUMBERS);
	j.box_bytes = (uint32_t)box_rows * ROW_BYTES;
	tiles = (int64_t)j.across * j.down * j.output_tiles * v->phases;
	launch_shared(c, "conv2d", (unsigned)(tiles < c->processors ? tiles : c->processors), THREADS, shared,
	    wgmma_kernel<outputs>, j);
}

bool
cuda_conv_wgmma_takes(const struct cuda_device *c, const struct conv_job *v)
{
	return cuda_has_boxes(c) && c->base.act_type == DT_BF16 && v->stride == 1 && v->k <= MAX_K &&
	       is_wide(v->x, v->channels, sizeof(bf16)) && is_wide(v->filters, v->channels, sizeof(bf16));
}

void
cuda_conv_wgmma(struct cuda_device *c, const struct conv_job *v)
{
	if (v->outputs <= FEW)
		launch_wgmma<FEW>(c, v);
	else
		launch_wgmma<MANY>(c, v);
}
