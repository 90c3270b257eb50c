/*
 * attention on CUDA, head widths 64 and 128, bf16, for sm_90a: FlashAttention-3's division of labour. One
 * warpgroup brings tiles, three compute, 64 query rows of one head each, and take turns: while one has the
 * tensor cores the others have the exponentials.
 *
 * A block has 192 query rows: 30 heads of 4224 rows are 660 blocks, five times the 132 processors of an H100.
 * Shared memory at width 128: 48 KiB of q, and four times 20 KiB of k and 20 of v (80 keys), 208 KiB. All of
 * it lies in panels (panels.cuh).
 *
 * A computing thread has 160 registers: 64 of sums, 40 of scores, 20 of weights, so that the scores of the
 * next tile are computed while the sums of this one still read the weights. With 96 keys ptxas finds too few
 * and makes every product wait for the one before (its remark C7512: look for it after a change here).
 *
 * From shared memory a product of scores takes 2 KiB of q and 2.5 of k in 40 cycles of the tensor cores, 115
 * bytes of the 128 that a cycle can have; one of sums has its left side in registers and takes 64 a cycle.
 */
#include <math.h>

#include "kernels/cuda/attention_rows.cuh"
#include "kernels/cuda/boxes.cuh"
#include "kernels/cuda/wgmma.cuh"

enum {
	COMPUTING = 3, /* warpgroups, 0 and on; the one after them brings */
	THREADS = (COMPUTING + 1) * WARPGROUP,
	GROUP_ROWS = 64, /* of a product */
	Q_ROWS = COMPUTING * GROUP_ROWS,
	KEYS = 80,  /* of a tile; in products, a multiple of 16 */
	STAGES = 4, /* tiles that are there or on their way */
	BRINGING_REGISTERS = 32,
	COMPUTING_REGISTERS = 160, /* 32 + 3 x 160 = 512: the processor's 65536, for 128 threads each */
	FIRST_TURN = 1		   /* named barrier of the turns of group 0; the others' follow */
};

/* Goes by value to the kernel, so a graph that was recorded has maps of its own. */
struct wgmma_job {
	CUtensorMap q, k, v;
	bf16 *o;
	int queries, keys, share; /* share: query heads to a head of k and v */
	int64_t q_row;		  /* numbers from one row to the next */
	bool causal;
	float scale; /* of q.k, times log2 e */
};

template <int width> struct tiles {
	enum { PANELS = width / PANEL_NUMBERS };

	unsigned char q[COMPUTING][PANELS][GROUP_ROWS * PANEL_ROW];
	unsigned char k[STAGES][PANELS][KEYS * PANEL_ROW];
	unsigned char v[STAGES][PANELS][KEYS * PANEL_ROW];
	uint64_t q_full, k_full[STAGES], v_full[STAGES]; /* mbarriers: it has been brought */
	uint64_t k_free[STAGES], v_free[STAGES];	 /* every computing warp has done with it */
};

#if HAS_WGMMA

/* What a computing thread has: of two rows, `row` and the one 8 below. */
template <int width> struct rows {
	int row;
	float score[KEYS / 8][4], sum[width / 8][4], largest[2], total[2];
	uint32_t weight[KEYS / 16][4];
};

/* Tile t lies at place t % STAGES, and is what the phase of this parity there is about. */
__device__ static inline uint32_t
parity_of(int tile)
{
	return tile / STAGES % 2;
}

/* ---- bringing, by one thread */

template <int panels, int bytes>
__device__ static inline void
bring_panels(unsigned char (&to)[panels][bytes], const CUtensorMap *map, int head, int first, uint64_t *full)
{
#pragma unroll
	for (int panel = 0; panel < panels; panel++)
		copy_box(to[panel], map, panel * PANEL_NUMBERS, head, first, full);
}

/* Waits until the place is free (at first it is, as after a phase of parity 1), and has it filled. */
template <int panels, int bytes>
__device__ static inline void
bring_tile(unsigned char (&to)[panels][bytes], const CUtensorMap *map, int head, int tile, uint64_t *free,
    uint64_t *full)
{
	barrier_wait(free, parity_of(tile) ^ 1);
	barrier_expect(full, panels * bytes);
	bring_panels(to, map, head, tile * KEYS, full);
}

template <int width>
__device__ static inline void
bring_all(struct tiles<width> *t, const struct wgmma_job *j, int first_row, int count)
{
	int head = blockIdx.y, kv = head / j->share;

	barrier_expect(&t->q_full, sizeof(t->q));
	for (int i = 0; i < COMPUTING; i++)
		bring_panels(t->q[i], &j->q, head, first_row + i * GROUP_ROWS, &t->q_full);
	for (int tile = 0; tile < count; tile++) {
		int at = tile % STAGES;
		bring_tile(t->k[at], &j->k, kv, tile, &t->k_free[at], &t->k_full[at]);
		bring_tile(t->v[at], &j->v, kv, tile, &t->v_free[at], &t->v_full[at]);
	}
}

/* ---- computing, by a warpgroup */

/* Begins score (64, KEYS) := q (64, width) k^T. The channels of both lie along the rows of panels, 16 of them
 * in 32 bytes. */
template <int width, int panels, int q_bytes, int k_bytes>
__device__ static inline void
begin_scores(struct rows<width> &r, const unsigned char (&q)[panels][q_bytes],
    const unsigned char (&k)[panels][k_bytes])
{
	uint32_t q_at = shared_address(q), k_at = shared_address(k);

#pragma unroll
	for (int step = 0; step < width / 16; step++) {
		int panel = step / 4, along = step % 4 * 32;
		product_begin(r.score, panel_operand(q_at + panel * q_bytes + along, 16),
		    panel_operand(k_at + panel * k_bytes + along, 16), step > 0);
	}
	product_group();
}

/* Begins sum (64, width) += weight (64, KEYS) v (KEYS, width). The rows of v are rows of panels. */
template <int width, int panels, int v_bytes>
__device__ static inline void
begin_sums(struct rows<width> &r, const unsigned char (&v)[panels][v_bytes])
{
	uint32_t v_at = shared_address(v);

#pragma unroll
	for (int step = 0; step < KEYS / 16; step++)
		product_begin(r.sum, r.weight[step], panel_operand(v_at + step * 16 * PANEL_ROW, v_bytes));
	product_group();
}

/* A warp says that it has read what is in a place: waiting for products tells it about its own, not about
 * those of the group's other warps. */
__device__ static inline void
set_free(uint64_t *free)
{
	if (threadIdx.x % WARP == 0)
		barrier_arrive(free);
}

/* The groups begin products one after the other. Group 0 is let in by the last one. */
__device__ static inline void
wait_for_turn(int group)
{
	named_wait(FIRST_TURN + group, 2 * WARPGROUP);
}

__device__ static inline void
pass_turn(int group)
{
	named_arrive(FIRST_TURN + (group + 1) % COMPUTING, 2 * WARPGROUP);
}

template <int width>
__device__ static inline void
soften(struct rows<width> &r, const struct wgmma_job *j, int tile, bool masked)
{
	if (masked)
		mask_scores(r.score, tile * KEYS, j->keys, j->causal, r.row);
	soften_scores(r.score, r.largest, r.total, r.sum, j->scale);
	pack_weights(r.weight, r.score);
}

/* The sums of this tile and the scores of the next, which has been brought, in one turn. */
template <int width>
__device__ static inline void
mix_and_score(struct rows<width> &r, struct tiles<width> *t, int group, int tile)
{
	int at = tile % STAGES, next = (tile + 1) % STAGES;

	barrier_wait(&t->v_full[at], parity_of(tile));
	barrier_wait(&t->k_full[next], parity_of(tile + 1));
	wait_for_turn(group);
	keep_registers(r.sum);
	keep_registers(r.weight);
	keep_registers(r.score);
	product_fence();
	begin_sums(r, t->v[at]);
	begin_scores(r, t->q[group], t->k[next]);
	pass_turn(group);
	product_wait<1>();
	keep_registers(r.sum);
	keep_registers(r.weight);
	set_free(&t->v_free[at]);
	product_wait<0>();
	keep_registers(r.score);
	set_free(&t->k_free[next]);
}

/* The sums of the last tile. The last turn is nobody's to wait for. */
template <int width>
__device__ static inline void
mix_last(struct rows<width> &r, struct tiles<width> *t, int group, int tile)
{
	int at = tile % STAGES;

	barrier_wait(&t->v_full[at], parity_of(tile));
	wait_for_turn(group);
	keep_registers(r.sum);
	keep_registers(r.weight);
	product_fence();
	begin_sums(r, t->v[at]);
	if (group < COMPUTING - 1)
		pass_turn(group);
	product_wait<0>();
	keep_registers(r.sum);
	keep_registers(r.weight);
}

/* One group's 64 rows from `first` on. */
template <int width>
__device__ static inline void
attend_rows(struct tiles<width> *t, const struct wgmma_job *j, int group, int first, int count)
{
	struct rows<width> r = {
	};
	int tile;

	r.row = first + threadIdx.x % WARPGROUP / WARP * 16 + threadIdx.x % WARP / 4;
	r.largest[0] = r.largest[1] = -INFINITY;
	if (group == COMPUTING - 1)
		pass_turn(group);
	barrier_wait(&t->q_full, 0);
	barrier_wait(&t->k_full[0], 0);
	keep_registers(r.score);
	product_fence();
	begin_scores(r, t->q[group], t->k[0]);
	product_wait<0>();
	keep_registers(r.score);
	set_free(&t->k_free[0]);
	for (tile = 0; tile + 1 < count; tile++) {
		soften(r, j, tile, j->causal && (tile + 1) * KEYS > first);
		mix_and_score(r, t, group, tile);
	}
	soften(r, j, tile, true);
	mix_last(r, t, group, tile);
	put_rows(j->o + blockIdx.y * width, j->q_row, j->queries, r.sum, r.total, r.row);
}

/* The block's memory, and its barriers, which one thread makes. */
template <int width>
__device__ static inline struct tiles<width> *
make_tiles(void) {
	unsigned char *memory = dynamic_shared();
	struct tiles<width> *t;

	memory += -shared_address(memory) % PANEL_REPEAT;
	t = (struct tiles<width> *)memory;
	if (threadIdx.x == 0) {
		barrier_init(&t->q_full, 1);
		for (int i = 0; i < STAGES; i++) {
			barrier_init(&t->k_full[i], 1);
			barrier_init(&t->v_full[i], 1);
			barrier_init(&t->k_free[i], COMPUTING * WARPGROUP / WARP);
			barrier_init(&t->v_free[i], COMPUTING * WARPGROUP / WARP);
		}
		barrier_init_done();
	}
	__syncthreads();
	return t;
}

#endif

/* Grid: blocks of query rows, the last ones first (a causal row has more keys the later it is), times heads.
 * The job stays where the launch put it: maps are found by their address there. */
template <int width>
__global__ static void
__launch_bounds__(THREADS, 1) wgmma_kernel(const __grid_constant__ struct wgmma_job j)
{
#if HAS_WGMMA
	struct tiles<width> *t = make_tiles<width>();
	int first = (gridDim.x - 1 - blockIdx.x) * Q_ROWS, group = threadIdx.x / WARPGROUP;
	int visible = j.causal && first + Q_ROWS < j.keys ? first + Q_ROWS : j.keys;
	int count = (visible + KEYS - 1) / KEYS;

	if (group == COMPUTING) {
		give_registers<BRINGING_REGISTERS>();
		if (threadIdx.x % WARPGROUP == 0)
			bring_all(t, &j, first, count);
	} else {
		take_registers<COMPUTING_REGISTERS>();
		attend_rows(t, &j, group, first + group * GROUP_ROWS, count);
	}
#endif
}

/* ---- the host's side */

/* The map of x (rows, heads, width): boxes of some rows of 64 channels of one head. */
static bool
map_tensor(struct cuda_device *c, CUtensorMap *map, const struct tensor *x, int box_rows)
{
	const int64_t dim[] = {x->dim[2], x->dim[1], x->dim[0]};

	return cuda_map_boxes(c, map, x->data, dim, 1, box_rows);
}

template <int width>
static void
launch_wgmma(struct cuda_device *c, const struct wgmma_job &j, int heads)
{
	const size_t shared = sizeof(struct tiles<width>) + PANEL_REPEAT; /* to begin at a multiple */
	dim3 grid(blocks_for(j.queries, Q_ROWS), (unsigned)heads);

	if (cuda_check(c,
		cudaFuncSetAttribute((const void *)wgmma_kernel<width>,
		    cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared),
		"attention's shared memory"))
		launch_shared(c, "attention", grid, THREADS, shared, wgmma_kernel<width>, j);
}

bool
cuda_attention_wgmma_takes(const struct cuda_device *c, const struct attention_shape *s)
{
	return cuda_has_boxes(c) && c->base.act_type == DT_BF16 && (s->head_dim == 64 || s->head_dim == 128);
}

void
cuda_attention_wgmma(struct cuda_device *c, struct tensor *o, const struct tensor *q, const struct tensor *k,
    const struct tensor *v, const struct attention_shape *s)
{
	struct wgmma_job j = {};

	if (cuda_failed(c) || !map_tensor(c, &j.q, q, GROUP_ROWS) || !map_tensor(c, &j.k, k, KEYS) ||
	    !map_tensor(c, &j.v, v, KEYS))
		return;
	j.o = (bf16 *)o->data;
	j.queries = (int)q->dim[0];
	j.keys = (int)k->dim[0];
	j.share = s->heads / s->kv_heads;
	j.q_row = (int64_t)s->heads * s->head_dim;
	j.causal = s->causal;
	j.scale = s->scale * (float)M_LOG2E;
	if (s->head_dim == 64)
		launch_wgmma<64>(c, j, s->heads);
	else
		launch_wgmma<128>(c, j, s->heads);
}
