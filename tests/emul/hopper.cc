/*
 * Barriers in shared memory, barriers with names, copies of boxes and the registers of warpgroups, as the PTX
 * manual (9.0) has them, in the sections
 *   "Contents of the mbarrier object", "Phase completion of the mbarrier object", "Tracking asynchronous
 *   operations by the mbarrier object"; mbarrier.init, .arrive (.expect_tx), .test_wait and .try_wait
 *   membar / fence (.mbarrier_init, .proxy.async)
 *   "Swizzling Modes", "Out of Boundary Access"; cp.async.bulk.tensor, cp.async.bulk.prefetch
 *   bar / barrier
 *   setmaxnreg
 * and what the driver's cuda.h says at cuTensorMapEncodeTiled.
 */
#include "tests/emul/hopper.h"

#include <stdlib.h>
#include <string.h>

#include <map>
#include <vector>

#include "cuda_runtime.h"
#include "tests/emul/block.h"

enum {
	NAMES = 16,
	ALL_REGISTERS = 65536,
	BOX_RANK = 3,
	MAX_BOX = 256,
	PIECE = 16, /* bytes that a swizzle moves together */
	MAX_COUNT = 1 << 20,
	MAX_BYTES = 1 << 20 /* of a phase, on their way at a time */
};

static const uint64_t MAP_MARK = 0x70616d5f6c756d65, BARRIER_MARK = 0x6d62617272696572;

struct mbarrier {
	uint32_t count, pending; /* arrivals: of each phase, and still missing in this one */
	int64_t bytes;		 /* announced and not yet come */
	uint32_t phase;
	unsigned maker;
	bool known; /* its making has been made known to the hardware that copies */
	std::vector<unsigned> waiting;
};

/* What a tensor map has in it. */
struct box_map {
	uint64_t mark;
	const unsigned char *address;
	uint64_t dim[BOX_RANK], stride[BOX_RANK]; /* bytes */
	uint32_t box[BOX_RANK];
	uint32_t element; /* bytes */
	bool swizzled;
};

struct box_copy {
	unsigned char *to;
	box_map map;
	int64_t at[BOX_RANK];
	uint64_t *barrier;
};

struct named_barrier {
	uint32_t expected;
	std::vector<unsigned> came, waiting;
};

static std::map<uint64_t *, mbarrier> barriers;
static std::vector<box_copy> copies; /* under way, oldest first */
static bool in_order;		     /* they end as they began, so that what is young comes late */
static named_barrier names[NAMES];
static int registers[EMUL_MAX_THREADS]; /* 0: as launched */
uint64_t emul_prefetched;

/* ---- mbarriers. Their state is not in shared memory, only a mark, so that one that is overwritten or moved
 * is noticed. */

static mbarrier *
find_barrier(uint64_t *at)
{
	if (barriers.count(at) == 0)
		emul_fault("there is no barrier at %#x", emul_shared_address(at));
	if (*at != BARRIER_MARK)
		emul_fault("the barrier at %#x has been overwritten", emul_shared_address(at));
	return &barriers[at];
}

void
emul_mbarrier_init(uint64_t *at, uint32_t count)
{
	emul_shared_pointer(emul_shared_address(at), sizeof(*at), "a barrier");
	if ((uintptr_t)at % sizeof(*at) != 0 || count == 0 || count >= MAX_COUNT)
		emul_fault("a barrier at %#x for %u", emul_shared_address(at), count);
	if (barriers.count(at) > 0)
		emul_fault("the barrier at %#x is made twice", emul_shared_address(at));
	barriers[at] = {count, count, 0, 0, emul_thread(), false, {}};
	*at = BARRIER_MARK;
}

void
emul_mbarrier_fence(void)
{
	for (auto &b : barriers)
		b.second.known = b.second.known || b.second.maker == emul_thread();
}

static void
end_phase(mbarrier *b)
{
	if (b->pending > 0 || b->bytes > 0)
		return;
	if (b->bytes < 0)
		emul_fault(
		    "a phase of a barrier ends with %lld bytes more than announced", -(long long)b->bytes);
	b->phase++;
	b->pending = b->count;
	for (unsigned thread : b->waiting)
		emul_wake(thread);
	b->waiting.clear();
}

void
emul_mbarrier_arrive(uint64_t *at, uint32_t bytes)
{
	mbarrier *b = find_barrier(at);

	if (b->pending == 0)
		emul_fault("more arrive at the barrier at %#x than it is for", emul_shared_address(at));
	b->bytes += bytes;
	if (b->bytes >= MAX_BYTES)
		emul_fault("%lld bytes are more than a barrier counts", (long long)b->bytes);
	b->pending--;
	end_phase(b);
	emul_let_woken_run();
}

void
emul_mbarrier_wait(uint64_t *at, uint32_t parity)
{
	if (parity > 1)
		emul_fault("a parity of %u", parity);
	while (find_barrier(at)->phase % 2 == parity) {
		find_barrier(at)->waiting.push_back(emul_thread());
		emul_sleep("barrier_wait");
	}
}

/* ---- tensor maps and copies of boxes */

static bool
is_map_of_boxes(const void *address, const cuuint64_t *dims, const cuuint64_t *strides, const cuuint32_t *box,
    const cuuint32_t *steps)
{
	if ((uintptr_t)address % 16 != 0)
		return false;
	for (int i = 0; i < BOX_RANK; i++) {
		uint64_t stride = i > 0 ? strides[i - 1] : 0;
		if (dims[i] == 0 || dims[i] > (uint64_t)1 << 32 || box[i] == 0 || box[i] > MAX_BOX ||
		    steps[i] != 1 || stride % 16 != 0 || stride >= (uint64_t)1 << 40)
			return false;
		if (i > 1 && stride % strides[i - 2] != 0) /* "includes previous dimension stride" */
			return false;
	}
	return true;
}

CUresult
cuTensorMapEncodeTiled(CUtensorMap *map, CUtensorMapDataType type, cuuint32_t rank, void *address,
    const cuuint64_t *dims, const cuuint64_t *strides, const cuuint32_t *box, const cuuint32_t *steps,
    CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle, CUtensorMapL2promotion,
    CUtensorMapFloatOOBfill fill)
{
	box_map m = {};

	static_assert(sizeof(m) <= sizeof(*map), "");
	if ((uintptr_t)map % 64 != 0 || type != CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 || rank != BOX_RANK ||
	    interleave != CU_TENSOR_MAP_INTERLEAVE_NONE || fill != CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE ||
	    !is_map_of_boxes(address, dims, strides, box, steps))
		return CUDA_ERROR_INVALID_VALUE;
	m.mark = MAP_MARK;
	m.address = (const unsigned char *)address;
	m.element = sizeof(uint16_t);
	m.swizzled = swizzle == CU_TENSOR_MAP_SWIZZLE_128B;
	for (int i = 0; i < BOX_RANK; i++) {
		m.dim[i] = dims[i];
		m.stride[i] = i == 0 ? m.element : strides[i - 1];
		m.box[i] = box[i];
	}
	if (m.box[0] * m.element % PIECE != 0 || (m.swizzled && m.box[0] * m.element > 8 * PIECE))
		return CUDA_ERROR_INVALID_VALUE;
	memset(map, 0, sizeof(*map));
	memcpy(map, &m, sizeof(m));
	return CUDA_SUCCESS;
}

static size_t
box_bytes(const box_map *m)
{
	return (size_t)m->box[0] * m->box[1] * m->box[2] * m->element;
}

void
emul_copy_box(void *to, const CUtensorMap *map, int x, int y, int z, uint64_t *barrier)
{
	const box_map *m = (const box_map *)map;
	size_t bytes = box_bytes(m);

	if ((uintptr_t)map % 64 != 0 || m->mark != MAP_MARK)
		emul_fault("a copy by what is no tensor map");
	emul_shared_pointer(emul_shared_address(to), bytes, "a copy of a box");
	if (emul_shared_address(to) % 128 != 0)
		emul_fault("a copy of a box to %#x", emul_shared_address(to));
	if (!find_barrier(barrier)->known)
		emul_fault("a copy with a barrier that was made without a fence");
	memset(to, 0xff, bytes);
	copies.push_back({(unsigned char *)to, *m, {x, y, z}, barrier});
}

/* Where byte `at` of a box lies: the pieces of a row of 128 bytes change places by bits 7 .. 9 of the
 * address. */
static unsigned char *
place_of(const box_copy *c, size_t at)
{
	uint32_t address = emul_shared_address(c->to + at);

	if (c->map.swizzled)
		address ^= (address >> 7 & 7) << 4;
	return (unsigned char *)emul_shared_pointer(address, 1, "a copy of a box");
}

static void
copy_piece(const box_copy *c, uint32_t x, uint32_t y, uint32_t z)
{
	const box_map *m = &c->map;
	int64_t at[BOX_RANK] = {c->at[0] + x, c->at[1] + y, c->at[2] + z};
	const unsigned char *from = m->address;
	size_t to = ((z * (size_t)m->box[1] + y) * m->box[0] + x) * m->element;
	bool inside = true;

	for (int i = 0; i < BOX_RANK; i++) {
		inside = inside && at[i] >= 0 && (uint64_t)at[i] < m->dim[i];
		from += at[i] * (int64_t)m->stride[i];
	}
	if (inside)
		memcpy(place_of(c, to), from, m->element);
	else
		memset(place_of(c, to), 0, m->element);
}

static void
finish_copy(const box_copy *c)
{
	mbarrier *b = find_barrier(c->barrier);

	for (uint32_t z = 0; z < c->map.box[2]; z++) {
		for (uint32_t y = 0; y < c->map.box[1]; y++) {
			for (uint32_t x = 0; x < c->map.box[0]; x++)
				copy_piece(c, x, y, z);
		}
	}
	b->bytes -= (int64_t)box_bytes(&c->map);
	end_phase(b);
}

void
emul_prefetch(const void *from, uint32_t bytes)
{
	if ((uintptr_t)from % 16 != 0 || bytes % 16 != 0)
		emul_fault("a prefetch of %u bytes at %p", bytes, from);
	if (!emul_is_device_memory(from, bytes))
		emul_fault("a prefetch of %u bytes that are not the device's", bytes);
	emul_prefetched += bytes;
}

/* ---- named barriers: 1 .. 15, by whole warps, each phase for one number of threads */

void
emul_named(int number, int threads, bool wait)
{
	named_barrier *b;
	unsigned me = emul_thread();

	if (number <= 0 || number >= NAMES || threads <= 0 || threads % EMUL_WARP != 0)
		emul_fault("named barrier %d of %d threads", number, threads);
	b = &names[number];
	if (!b->came.empty() && b->expected != (uint32_t)threads)
		emul_fault("named barrier %d is of %u and of %d threads", number, b->expected, threads);
	for (unsigned other : b->came) {
		if (other == me)
			emul_fault("comes twice to named barrier %d", number);
	}
	b->expected = (uint32_t)threads;
	b->came.push_back(me);
	if (b->came.size() < b->expected) {
		if (wait) {
			b->waiting.push_back(me);
			emul_sleep("named_wait");
		}
		return;
	}
	for (unsigned other : b->waiting)
		emul_wake(other);
	b->came.clear();
	b->waiting.clear();
	emul_let_woken_run();
}

/* ---- registers of warpgroups. A block's pool is what it was launched with, and that is a multiple of
 * eight for each thread: less than all that the processor has where its threads are no power of two. */

static int
launched_registers(void)
{
	return ALL_REGISTERS / (int)emul_threads() / 8 * 8;
}

void
emul_registers(int count, bool give)
{
	int launched = launched_registers();

	if (count < 24 || count > 256 || count % 8 != 0)
		emul_fault("%d registers", count);
	if (registers[emul_thread()] != 0 || (give ? count > launched : count < launched))
		emul_fault("%d registers where there are %d", count, launched);
	registers[emul_thread()] = count;
}

static void
check_registers(void)
{
	int all = 0, changed = 0;

	for (unsigned i = 0; i < emul_threads(); i++) {
		if (registers[i] != registers[i / EMUL_GROUP * EMUL_GROUP])
			emul_fault("threads of one warpgroup have different registers");
		all += registers[i];
		changed += registers[i] != 0;
	}
	if (changed > 0 && (changed != (int)emul_threads() || all > launched_registers() * changed))
		emul_fault(
		    "%d threads have %d registers of %d", changed, all, launched_registers() * changed);
}

/* ---- blocks */

void
emul_hopper_begin(void)
{
	barriers.clear();
	copies.clear();
	in_order = emul_draw(2) == 0;
	for (named_barrier &b : names)
		b = {};
	memset(registers, 0, sizeof(registers));
}

bool
emul_hopper_step(void)
{
	size_t at;
	box_copy c;

	if (copies.empty())
		return false;
	at = in_order ? 0 : emul_draw((uint32_t)copies.size());
	c = copies[at];
	copies.erase(copies.begin() + (ptrdiff_t)at);
	finish_copy(&c);
	return true;
}

void
emul_hopper_end(void)
{
	if (!copies.empty())
		emul_fault("ends with copies of boxes under way");
	for (int i = 0; i < NAMES; i++) {
		if (!names[i].came.empty())
			emul_fault("ends with %d threads at named barrier %d", (int)names[i].came.size(), i);
	}
	check_registers();
}
