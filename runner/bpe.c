/*
 * Byte-pair encoding on ids: a table of merges, and one segment of bytes to its ids (model-spec section 4.2).
 *
 * The segment is a doubly linked list of symbols. A heap holds the pairs that can merge, least rank first,
 * leftmost first among equals; an entry whose symbols have changed since is skipped when it comes up.
 */
#include "runner/bpe.h"

#include <stdbool.h>
#include <stdlib.h>

struct merge {
	int32_t left, right; /* left -1: the slot is free */
	int32_t merged;
	int32_t rank;
};

struct bpe {
	int32_t byte_ids[256];
	struct merge *slots; /* open addressing */
	size_t mask;	     /* slots - 1, a power of two */
	int32_t next_rank;
};

struct bpe *
bpe_new(const int32_t byte_ids[256], size_t merges)
{
	struct bpe *b = calloc(1, sizeof(*b));
	size_t slots = 16;

	while (slots < 2 * merges)
		slots *= 2;
	if (b == NULL || (b->slots = malloc(slots * sizeof(*b->slots))) == NULL) {
		free(b);
		return NULL;
	}
	for (int i = 0; i < 256; i++)
		b->byte_ids[i] = byte_ids[i];
	for (size_t i = 0; i < slots; i++)
		b->slots[i].left = -1;
	b->mask = slots - 1;
	return b;
}

void
bpe_free(struct bpe **b)
{
	if (*b != NULL)
		free((*b)->slots);
	free(*b);
	*b = NULL;
}

/* The slot of the pair, or the free one where it would go. */
static struct merge *
find_slot(const struct bpe *b, int32_t left, int32_t right)
{
	uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
	size_t i = (size_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 20) & b->mask;

	while (b->slots[i].left >= 0 && (b->slots[i].left != left || b->slots[i].right != right))
		i = (i + 1) & b->mask;
	return &b->slots[i];
}

void
bpe_add(struct bpe *b, int32_t left, int32_t right, int32_t merged)
{
	struct merge *slot = find_slot(b, left, right);

	if (slot->left < 0)
		*slot = (struct merge){left, right, merged, b->next_rank};
	b->next_rank++;
}

/* ---- the heap of possible merges */

struct candidate {
	int32_t rank, at; /* at: index of the left symbol */
	int32_t left, right;
};

struct work {
	int32_t *id, *previous, *next; /* symbols; next -1 at the end; id -1: merged away */
	struct candidate *heap;
	size_t heap_count;
};

static bool
comes_before(const struct candidate *a, const struct candidate *b)
{
	return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void
heap_push(struct work *w, struct candidate c)
{
	size_t i = w->heap_count++;

	for (; i > 0 && comes_before(&c, &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
		w->heap[i] = w->heap[(i - 1) / 2];
	w->heap[i] = c;
}

static struct candidate
heap_pop(struct work *w)
{
	struct candidate top = w->heap[0], last = w->heap[--w->heap_count];
	size_t i = 0, child;

	while ((child = 2 * i + 1) < w->heap_count) {
		if (child + 1 < w->heap_count && comes_before(&w->heap[child + 1], &w->heap[child]))
			child++;
		if (!comes_before(&w->heap[child], &last))
			break;
		w->heap[i] = w->heap[child];
		i = child;
	}
	w->heap[i] = last;
	return top;
}

/* Puts the pair that starts at symbol `at` into the heap if it is a merge. */
static void
consider(const struct bpe *b, struct work *w, int32_t at)
{
	const struct merge *m;

	if (at < 0 || w->next[at] < 0)
		return;
	m = find_slot(b, w->id[at], w->id[w->next[at]]);
	if (m->left >= 0)
		heap_push(w, (struct candidate){m->rank, at, m->left, m->right});
}

static void
apply(const struct bpe *b, struct work *w, const struct candidate *c)
{
	int32_t gone = w->next[c->at];

	if (w->id[c->at] != c->left || gone < 0 || w->id[gone] != c->right)
		return; /* one of the two has merged since */
	w->id[c->at] = find_slot(b, c->left, c->right)->merged;
	w->id[gone] = -1;
	w->next[c->at] = w->next[gone];
	if (w->next[gone] >= 0)
		w->previous[w->next[gone]] = c->at;
	consider(b, w, w->previous[c->at]);
	consider(b, w, c->at);
}

ptrdiff_t
bpe_encode(const struct bpe *b, const char *segment, size_t bytes, int32_t *ids)
{
	struct work w = {0};
	ptrdiff_t count = 0;
	int32_t n = (int32_t)bytes;

	if (bytes > INT32_MAX / 4)
		return -1;
	w.id = malloc((size_t)n * (3 * sizeof(int32_t) + 3 * sizeof(struct candidate)) + 1);
	if (w.id == NULL)
		return -1;
	w.previous = w.id + n;
	w.next = w.previous + n;
	w.heap = (struct candidate *)(w.next + n); /* one entry a pair at first, two more a merge: below 3n */
	for (int32_t i = 0; i < n; i++) {
		w.id[i] = b->byte_ids[(unsigned char)segment[i]];
		w.previous[i] = i - 1;
		w.next[i] = i + 1 < n ? i + 1 : -1;
	}
	for (int32_t i = 0; i < n; i++)
		consider(b, &w, i);
	while (w.heap_count > 0) {
		struct candidate c = heap_pop(&w);
		apply(b, &w, &c);
	}
	for (int32_t i = 0; i >= 0 && i < n; i = w.next[i])
		ids[count++] = w.id[i];
	free(w.id);
	return count;
}
