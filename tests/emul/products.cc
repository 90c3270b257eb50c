/*
 * wgmma.mma_async, m64 n k16, bf16 into float, as the PTX manual (9.0) has it: "Matrix Fragments for
 * wgmma.mma_async.m64nNk16" (registers), "Major-ness supported by Strides", "Canonical Layouts" and "Matrix
 * Descriptor Format" (memory), wgmma.fence, .commit_group and .wait_group. CUTLASS has the same fragments as
 * formulas (include/cute/atom/mma_traits_sm90_gmma.hpp: CLayout_64xN, ALayout_64x16) and descriptors
 * (make_gmma_desc). Every warp does its own 16 rows, when they begin or when it waits for them; the four
 * warps of a group must begin the same products.
 */
#include "tests/emul/hopper.h"

#include <string.h>

#include <deque>
#include <vector>

#include "cuda_runtime.h"
#include "tests/emul/block.h"

extern "C" {
#include "kernels/convert.h"
}

enum { K = 16, ROWS = 16, MAX_N = 256, MAX_WARPS = EMUL_MAX_THREADS / EMUL_WARP };

static const uint32_t UNDER_WAY = 0x7fc0b5e5; /* a NaN: what d is until the product is done */

/* The place of a matrix in shared memory, from its descriptor. */
struct operand {
	uint32_t start, leading, stride; /* bytes */
	uint32_t swizzle;		 /* 16 (none), 32, 64 or 128 */
};

/* The sums of 16 rows while products into them are under way. */
struct sums {
	int n, products;
	float *d[EMUL_WARP];
	float value[ROWS][MAX_N];
};

struct product {
	emul_operands what;
	sums *into;
	const uint32_t *a[EMUL_WARP]; /* registers, and what was in them */
	uint32_t a_was[EMUL_WARP][4];
	bool done;
};

struct warp_products {
	std::deque<std::vector<product>> groups; /* oldest first */
	std::vector<product> open;		 /* not yet a group */
	std::vector<sums *> sums_open;
	uint64_t begun; /* products so far in this block */
};

/* The registers of a thread, that is its stack, at its last fence; none after a wait. */
struct fence {
	const char *low;
	std::vector<char> was;
};

static warp_products warps[MAX_WARPS];
static fence fences[EMUL_MAX_THREADS];
static std::vector<emul_operands> begun[MAX_WARPS / 4]; /* by the first warp of a group to begin it */

static unsigned
this_warp(void)
{
	return emul_thread() / EMUL_WARP;
}

/* ---- operands in memory */

static operand
decode(uint64_t descriptor)
{
	static const uint32_t swizzles[] = {16, 128, 64, 32};
	const uint64_t unused =
	    (uint64_t)3 << 14 | (uint64_t)3 << 30 | (uint64_t)7 << 46 | (uint64_t)0x3ff << 52;
	operand o = {(uint32_t)(descriptor & 0x3fff) << 4, (uint32_t)(descriptor >> 16 & 0x3fff) << 4,
	    (uint32_t)(descriptor >> 32 & 0x3fff) << 4, swizzles[descriptor >> 62]};

	if ((descriptor & unused) != 0)
		emul_fault("descriptor %#llx has bits that mean nothing", (unsigned long long)descriptor);
	if ((descriptor >> 49 & 7) != 0)
		emul_fault("descriptor %#llx has a base offset", (unsigned long long)descriptor);
	if (o.start % (8 * o.swizzle) >= o.swizzle) /* rows of the pattern, from the first one on */
		emul_fault("an operand at %#x does not begin with the pattern of its swizzle", o.start);
	return o;
}

/* Byte offset of element (mn, k); `transposed`: rows are k, of consecutive mn. */
static uint32_t
offset_of(const operand *o, bool transposed, uint32_t mn, uint32_t k)
{
	uint32_t per_row = o->swizzle / 2; /* numbers */

	if (!transposed && o->swizzle == 16)
		return mn % 8 * 16 + mn / 8 * o->stride + k / 8 * o->leading + k % 8 * 2;
	if (!transposed)
		return mn % 8 * o->swizzle + mn / 8 * o->stride + k * 2;
	if (o->swizzle == 16)
		return mn % 8 * 2 + mn / 8 * o->stride + k % 8 * 16 + k / 8 * o->leading;
	return mn % per_row * 2 + mn / per_row * o->leading + k % 8 * o->swizzle + k / 8 * o->stride;
}

static float
number_at(const operand *o, bool transposed, uint32_t mn, uint32_t k)
{
	uint32_t address = o->start + offset_of(o, transposed, mn, k);

	address ^= (address >> 7 & (o->swizzle / 16 - 1)) << 4;
	return float_of_bf16(*(uint16_t *)emul_shared_pointer(address, 2, "a product's operand"));
}

/* ---- one product of one warp */

/* 16 rows of the left side. */
static void
read_left(const product *p, unsigned warp, float a[ROWS][K])
{
	operand o;

	if (p->what.a_registers != NULL) {
		for (int l = 0; l < EMUL_WARP; l++) {
			for (int i = 0; i < 8; i++) { /* register i / 2: rows, then columns */
				int row = l / 4 + i / 2 % 2 * 8, k = l % 4 * 2 + i % 2 + i / 4 * 8;
				a[row][k] = float_of_bf16((uint16_t)(p->a_was[l][i / 2] >> i % 2 * 16));
			}
		}
		return;
	}
	o = decode(p->what.a);
	for (uint32_t row = 0; row < ROWS; row++) {
		for (uint32_t k = 0; k < K; k++)
			a[row][k] = number_at(&o, false, warp % 4 * ROWS + row, k);
	}
}

static void
multiply(product *p, unsigned warp)
{
	static float a[ROWS][K], b[K][MAX_N];
	operand o = decode(p->what.b);
	int n = p->what.n;

	read_left(p, warp, a);
	for (int k = 0; k < K; k++) {
		for (int j = 0; j < n; j++)
			b[k][j] = number_at(&o, p->what.transposed, (uint32_t)j, (uint32_t)k);
	}
	for (int row = 0; row < ROWS; row++) {
		float *sum = p->into->value[row];
		if (!p->what.add)
			memset(sum, 0, (size_t)n * sizeof(float));
		for (int k = 0; k < K; k++) {
			for (int j = 0; j < n; j++)
				sum[j] += a[row][k] * b[k][j];
		}
	}
	p->done = true;
}

/* Where element i of lane l lies in 16 rows. */
static float *
element_of(sums *s, int l, int i)
{
	return &s->value[l / 4 + i / 2 % 2 * 8][i / 4 * 8 + l % 4 * 2 + i % 2];
}

/* ---- fences. The registers of products are arrays on the stacks of threads. */

typedef uint64_t word __attribute__((may_alias)); /* which stacks are whole numbers of */

__attribute__((no_sanitize("address"))) static void
remember_stack(fence *f, const char *low, size_t bytes)
{
	f->low = low;
	f->was.resize(bytes);
	for (size_t i = 0; i < bytes; i += sizeof(word))
		*(word *)(f->was.data() + i) = *(const word *)(low + i);
}

void
emul_product_fence(void)
{
	const char *low = (const char *)__builtin_frame_address(0);

	remember_stack(&fences[emul_thread()], low, emul_stack_above(low));
}

static void
check_fence(unsigned thread, const void *registers, size_t bytes)
{
	const fence *f = &fences[thread];
	ptrdiff_t at = (const char *)registers - f->low;

	if (f->was.empty())
		emul_fault("a product begins without a fence since the last wait");
	if (at < 0 || (size_t)at + bytes > f->was.size())
		emul_fault("a product's registers were not there at the fence");
	if (memcmp(f->was.data() + at, registers, bytes) != 0)
		emul_fault("a product's registers have been written since the fence");
}

/* ---- beginning */

static sums *
find_sums(warp_products *w, float *d, int n)
{
	for (sums *s : w->sums_open) {
		if (s->d[0] < d + n / 2 && d < s->d[0] + s->n / 2) {
			if (s->d[0] != d || s->n != n)
				emul_fault("products of different shapes into the same registers");
			return s;
		}
	}
	return NULL;
}

/* Takes the sums out of the registers of a warp. */
static sums *
open_sums(warp_products *w, unsigned first, void *lanes[EMUL_WARP], int n)
{
	sums *s = new sums();

	s->n = n;
	for (int l = 0; l < EMUL_WARP; l++) {
		s->d[l] = ((emul_operands *)lanes[l])->d;
		check_fence(first + l, s->d[l], (size_t)n / 2 * sizeof(float));
		for (int i = 0; i < n / 2; i++) {
			*element_of(s, l, i) = s->d[l][i];
			memcpy(&s->d[l][i], &UNDER_WAY, sizeof(float));
		}
	}
	w->sums_open.push_back(s);
	return s;
}

static bool
same(const emul_operands *x, const emul_operands *y)
{
	return x->n == y->n && x->a == y->a && x->b == y->b && x->add == y->add &&
	       x->transposed == y->transposed && (x->a_registers == NULL) == (y->a_registers == NULL);
}

/* All lanes, and all four warps one after the other, begin the same product. */
static void
check_together(void *lanes[EMUL_WARP], warp_products *w, unsigned group)
{
	const emul_operands *what = (emul_operands *)lanes[0];

	for (int l = 1; l < EMUL_WARP; l++) {
		if (!same(what, (emul_operands *)lanes[l]))
			emul_fault("lanes of one warp begin different products");
	}
	if (w->begun == begun[group].size())
		begun[group].push_back(*what);
	if (!same(what, &begun[group][w->begun]))
		emul_fault("warps of one group begin different products");
	w->begun++;
}

static void
begin(void *lanes[EMUL_WARP])
{
	unsigned warp = this_warp(), first = warp * EMUL_WARP;
	warp_products *w = &warps[warp];
	product p = {*(emul_operands *)lanes[0], NULL, {}, {}, false};
	bool at_once = emul_draw(2) == 0;

	check_together(lanes, w, warp / 4);
	if (p.what.n % 8 != 0 || p.what.n < 8 || p.what.n > MAX_N)
		emul_fault("a product of %d columns", p.what.n);
	p.into = find_sums(w, p.what.d, p.what.n);
	if (p.into == NULL)
		p.into = open_sums(w, first, lanes, p.what.n);
	for (int l = 0; l < EMUL_WARP && p.what.a_registers != NULL; l++) {
		p.a[l] = ((emul_operands *)lanes[l])->a_registers;
		check_fence(first + l, p.a[l], sizeof(p.a_was[l]));
		memcpy(p.a_was[l], p.a[l], sizeof(p.a_was[l]));
	}
	p.into->products++;
	for (const std::vector<product> &g : w->groups) {
		for (const product &before : g)
			at_once = at_once && before.done;
	}
	for (const product &before : w->open)
		at_once = at_once && before.done;
	if (at_once)
		multiply(&p, warp);
	else
		(void)decode(p.what.b); /* what is wrong with it is better said now */
	w->open.push_back(p);
}

void
emul_product_begin(const emul_operands *what)
{
	emul_operands mine = *what;

	emul_warp("wgmma", 0xffffffffu, &mine, begin);
}

/* ---- groups and waiting: by whole warps */

struct waiting {
	int left;
};

void
emul_product_group(void)
{
	char nothing = 0;

	emul_warp("wgmma.commit_group", 0xffffffffu, &nothing, [](void **) {
		warp_products *w = &warps[this_warp()];
		w->groups.push_back(std::move(w->open));
		w->open.clear();
	});
}

/* Puts the sums back into the registers, which nobody has touched. */
static void
close_sums(warp_products *w, sums *s)
{
	for (int l = 0; l < EMUL_WARP; l++) {
		for (int i = 0; i < s->n / 2; i++) {
			if (memcmp(&s->d[l][i], &UNDER_WAY, sizeof(float)) != 0)
				emul_fault("registers of a product under way were written");
			s->d[l][i] = *element_of(s, l, i);
		}
	}
	for (size_t i = 0; i < w->sums_open.size(); i++) {
		if (w->sums_open[i] == s) {
			w->sums_open.erase(w->sums_open.begin() + (ptrdiff_t)i);
			break;
		}
	}
	delete s;
}

static void
finish(warp_products *w, product *p)
{
	if (!p->done)
		multiply(p, this_warp());
	for (int l = 0; l < EMUL_WARP && p->what.a_registers != NULL; l++) {
		if (memcmp(p->a_was[l], p->a[l], sizeof(p->a_was[l])) != 0)
			emul_fault("the left side of a product under way was written");
	}
	if (--p->into->products == 0)
		close_sums(w, p->into);
}

static void
wait_for_groups(void *lanes[EMUL_WARP])
{
	warp_products *w = &warps[this_warp()];

	while (w->groups.size() > (size_t)((waiting *)lanes[0])->left) {
		for (product &p : w->groups.front())
			finish(w, &p);
		w->groups.pop_front();
	}
	for (unsigned l = 0; l < EMUL_WARP; l++)
		fences[this_warp() * EMUL_WARP + l].was.clear();
}

void
emul_product_wait(int left)
{
	waiting mine = {left};

	emul_warp("wgmma.wait_group", 0xffffffffu, &mine, wait_for_groups);
}

/* ---- blocks */

void
emul_products_begin(void)
{
	for (warp_products &w : warps)
		w = {};
	for (fence &f : fences)
		f.was.clear();
	for (std::vector<emul_operands> &b : begun)
		b.clear();
}

void
emul_products_end(void)
{
	for (unsigned i = 0; i * EMUL_WARP < emul_threads(); i++) {
		bool left = !warps[i].open.empty() || !warps[i].sums_open.empty();
		for (const std::vector<product> &g : warps[i].groups)
			left = left || !g.empty();
		if (left)
			emul_fault("warp %u ends with products that nobody waited for", i);
		if (warps[i].begun != begun[i / 4].size())
			emul_fault("warp %u began fewer products than its group", i);
	}
}
