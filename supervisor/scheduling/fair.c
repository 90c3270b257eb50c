/*
 * Two-level start-time fair queueing.
 *
 * At both levels the flow with the least tag has its turn: its last finish tag, but no less than the virtual
 * time at which it began to wait. Virtual time is the largest tag that had its turn. The accounts of a class
 * are kept sorted, so that a turn costs no look at all of them.
 */
#include "supervisor/scheduling/fair.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_ORDER (UINT64_C(1) << 32) /* with room for those that are put in front */

void
fair_init(struct fair *f)
{
	static const double weights[FAIR_CLASSES] = {16, 4, 1};

	memset(f, 0, sizeof(*f));
	f->arrivals = FIRST_ORDER;
	TAILQ_INIT(&f->clients);
	for (int i = 0; i < FAIR_CLASSES; i++) {
		f->classes[i].weight = weights[i];
		TAILQ_INIT(&f->classes[i].accounts);
	}
}

void
fair_clear(struct fair *f)
{
	struct fair_client *c;
	struct fair empty;

	while ((c = TAILQ_FIRST(&f->clients)) != NULL) {
		TAILQ_REMOVE(&f->clients, c, link);
		free(c);
	}
	fair_init(&empty);
	empty.introduce = f->introduce;
	empty.introduce_arg = f->introduce_arg;
	*f = empty;
	TAILQ_INIT(&f->clients);
	for (int i = 0; i < FAIR_CLASSES; i++)
		TAILQ_INIT(&f->classes[i].accounts);
}

void
fair_set_weight(struct fair *f, int class, double weight)
{
	f->classes[class].weight = weight;
}

/* ---- tags and their order */

double
fair_class_tag(const struct fair *f, int class)
{
	return fmax(f->classes[class].finish, f->classes[class].floor);
}

double
fair_account_tag(const struct fair_account *a)
{
	return fmax(a->finish, a->floor);
}

/* Of equals the one that has less waiting, then the one whose first item came first; those that were put in
 * front may be equal even in that. */
static bool
goes_first(const struct fair_account *a, const struct fair_account *b)
{
	double x = fair_account_tag(a), y = fair_account_tag(b);
	uint64_t i = TAILQ_FIRST(&a->items)->order, k = TAILQ_FIRST(&b->items)->order;

	if (x != y)
		return x < y;
	if (a->count != b->count)
		return a->count < b->count;
	return i != k ? i < k : strcmp(a->client->key, b->client->key) < 0;
}

/* From the front for those who begin to wait, whose tags are small, and from the end for those who had their
 * turn. */
static void
sort_in(struct fair_class *class, struct fair_account *a, bool from_front)
{
	struct fair_account *at;

	if (from_front) {
		TAILQ_FOREACH(at, &class->accounts, link)
		{
			if (goes_first(a, at)) {
				TAILQ_INSERT_BEFORE(at, a, link);
				return;
			}
		}
		TAILQ_INSERT_TAIL(&class->accounts, a, link);
		return;
	}
	TAILQ_FOREACH_REVERSE(at, &class->accounts, fair_accounts, link)
	{
		if (!goes_first(a, at)) {
			TAILQ_INSERT_AFTER(&class->accounts, at, a, link);
			return;
		}
	}
	TAILQ_INSERT_HEAD(&class->accounts, a, link);
}

static void
sort_again(struct fair_class *class, struct fair_account *a)
{
	TAILQ_REMOVE(&class->accounts, a, link);
	sort_in(class, a, false);
}

/* ---- in and out */

/* Lines are sorted by their items' order; newcomers have the largest. */
static void
line_up(struct fair_line *line, struct fair_item *item)
{
	struct fair_item *at = TAILQ_LAST(line, fair_line);

	while (at != NULL && at->order > item->order)
		at = TAILQ_PREV(at, fair_line, link);
	if (at != NULL)
		TAILQ_INSERT_AFTER(line, at, item, link);
	else
		TAILQ_INSERT_HEAD(line, item, link);
}

/* Who begins to wait has no credit for before. But a class that loses its first turn, to one that was even
 * with it, gets a job's worth back: else the lowest waits a fifth longer in the flood of zit-sim. */
static void
class_begins(struct fair_class *class, const struct fair_item *item, double v)
{
	if (!class->restored) {
		class->floor = v;
		class->consolation = item->cost / class->weight;
	}
	class->restored = false;
}

static void
account_begins(struct fair_account *a, double v)
{
	if (!a->restored)
		a->floor = v;
	a->restored = false;
}

/* Into the line of its client, which it knows. */
static void
enter(struct fair *f, struct fair_item *item)
{
	struct fair_class *class = &f->classes[item->class];
	struct fair_account *a = &item->client->accounts[item->class];

	if (class->count++ == 0)
		class_begins(class, item, f->v);
	line_up(&a->items, item);
	if (a->count++ == 0) {
		account_begins(a, class->v);
		sort_in(class, a, true);
	} else
		sort_again(class, a);
	item->client->count++;
	f->count++;
	f->waiting += item->cost;
}

static bool
name(struct fair *f, struct fair_item *item, const char *key, int class, double cost)
{
	item->client = fair_need_client(f, key);
	item->class = class;
	item->cost = cost;
	item->held = false;
	return item->client != NULL;
}

static bool
put(struct fair *f, struct fair_item *item, const char *key, int class, double cost)
{
	if (!name(f, item, key, class, cost))
		return false;
	enter(f, item);
	return true;
}

static void
stand_aside(struct fair *f, struct fair_item *item)
{
	item->held = true;
	item->client->held++;
	f->held++;
}

bool
fair_push(struct fair *f, struct fair_item *item, const char *key, int class, double cost)
{
	item->order = ++f->arrivals;
	return put(f, item, key, class, cost);
}

bool
fair_push_front(struct fair *f, struct fair_item *item, const char *key, int class, double cost)
{
	const struct fair_client *c = fair_find_client(f, key);
	const struct fair_item *first = c != NULL ? TAILQ_FIRST(&c->accounts[class].items) : NULL;

	if (first != NULL && item->order >= first->order)
		item->order = first->order - 1;
	return put(f, item, key, class, cost);
}

bool
fair_push_again(struct fair *f, struct fair_item *item, const char *key, int class, double cost)
{
	f->arrivals = item->order > f->arrivals ? item->order : f->arrivals;
	return put(f, item, key, class, cost);
}

bool
fair_hold_again(struct fair *f, struct fair_item *item, const char *key, int class, double cost)
{
	f->arrivals = item->order > f->arrivals ? item->order : f->arrivals;
	if (!name(f, item, key, class, cost))
		return false;
	stand_aside(f, item);
	return true;
}

static void
leave(struct fair *f, struct fair_item *item)
{
	struct fair_class *class = &f->classes[item->class];
	struct fair_account *a = &item->client->accounts[item->class];

	TAILQ_REMOVE(&a->items, item, link);
	if (--a->count == 0)
		TAILQ_REMOVE(&class->accounts, a, link);
	else
		sort_again(class, a);
	item->client->count--;
	class->count--;
	f->count--;
	f->waiting = f->count > 0 ? f->waiting - item->cost : 0;
}

void
fair_remove(struct fair *f, struct fair_item *item)
{
	struct fair_client *c = item->client;

	if (item->held) {
		c->held--;
		f->held--;
	} else
		leave(f, item);
	item->held = false;
	item->client = NULL;
	fair_forget_if_even(f, c);
}

void
fair_hold(struct fair *f, struct fair_item *item)
{
	leave(f, item);
	stand_aside(f, item);
}

void
fair_release(struct fair *f, struct fair_item *item)
{
	item->held = false;
	item->client->held--;
	f->held--;
	enter(f, item);
}

/* ---- turns */

typedef bool may_run_fn(void *arg, const struct fair_item *item);

static struct fair_item *
first_runnable(const struct fair_account *a, may_run_fn *may_run, void *arg)
{
	const struct fair_client *c = a->client;
	struct fair_item *item;

	if (c->max_running > 0 && c->running >= c->max_running)
		return NULL;
	TAILQ_FOREACH(item, &a->items, link)
	{
		if (may_run == NULL || may_run(arg, item))
			return item;
	}
	return NULL;
}

static struct fair_item *
best_of_class(const struct fair_class *class, may_run_fn *may_run, void *arg)
{
	const struct fair_account *a;
	struct fair_item *item;

	TAILQ_FOREACH(a, &class->accounts, link)
	{
		if ((item = first_runnable(a, may_run, arg)) != NULL)
			return item;
	}
	return NULL;
}

/* *passed gets the classes that would have been first, by bit. */
static struct fair_item *
choose(const struct fair *f, may_run_fn *may_run, void *arg, unsigned *passed)
{
	*passed = 0;
	for (int i = 0; i < FAIR_CLASSES; i++) {
		struct fair_item *item;
		int least = -1;
		for (int k = 0; k < FAIR_CLASSES; k++) {
			if ((*passed >> k & 1) == 0 && f->classes[k].count > 0 &&
			    (least < 0 || fair_class_tag(f, k) < fair_class_tag(f, least)))
				least = k;
		}
		if (least < 0)
			return NULL;
		item = best_of_class(&f->classes[least], may_run, arg);
		if (item != NULL)
			return item;
		*passed |= 1U << least;
	}
	return NULL;
}

/* Its client and class pay for it, and it is out. */
static void
charge(struct fair *f, struct fair_item *item)
{
	struct fair_class *class = &f->classes[item->class];
	struct fair_client *c = item->client;
	struct fair_account *a = &c->accounts[item->class];

	class->finish = fair_class_tag(f, item->class) + item->cost / class->weight;
	a->finish = fair_account_tag(a) + item->cost / c->weight;
	c->running++;
	leave(f, item);
	item->client = NULL;
}

struct fair_item *
fair_pick(struct fair *f, may_run_fn *may_run, void *arg)
{
	unsigned passed;
	struct fair_item *item = choose(f, may_run, arg, &passed);
	struct fair_account *own, *a;
	struct fair_class *class;
	double tag;

	if (item == NULL)
		return NULL;
	class = &f->classes[item->class];
	own = &item->client->accounts[item->class];
	tag = fair_class_tag(f, item->class);
	f->v = fmax(f->v, tag);
	class->v = fmax(class->v, fair_account_tag(own));
	for (int k = 0; k < FAIR_CLASSES; k++) {
		f->classes[k].floor -= k != item->class ? f->classes[k].consolation : 0;
		f->classes[k].consolation = 0;
		if ((passed >> k & 1) != 0)
			f->classes[k].floor = fmax(f->classes[k].floor, tag);
	}
	/* They stay in front: none behind them has a tag below this one. */
	for (a = TAILQ_FIRST(&class->accounts); a != own; a = TAILQ_NEXT(a, link))
		a->floor = fmax(a->floor, fair_account_tag(own));
	charge(f, item);
	return item;
}

/* Virtual time stays: the item's tag may be far ahead of those that wait for their turn. */
void
fair_take(struct fair *f, struct fair_item *item)
{
	charge(f, item);
}

void
fair_done(struct fair *f, const char *key, int class, double charged, double actual)
{
	struct fair_client *c = fair_find_client(f, key);
	struct fair_account *a;

	f->classes[class].finish += (actual - charged) / f->classes[class].weight;
	if (c == NULL)
		return;
	a = &c->accounts[class];
	a->finish += (actual - charged) / c->weight;
	if (a->count > 0 && actual != charged)
		sort_again(&f->classes[class], a);
	c->running -= c->running > 0;
	fair_forget_if_even(f, c);
}
