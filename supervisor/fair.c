/*
 * Two-level start-time fair queueing.
 *
 * At both levels an item's start tag is its flow's last finish tag if the flow was backlogged all the time,
 * else at least the virtual time; the least tag is picked, and virtual time is the largest start tag that
 * was. A flow counts as backlogged when it was not empty at the last pick.
 */
#include "supervisor/fair.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- clients */

static struct fair_client *
find_client(const struct fair *f, const char *key)
{
	struct fair_client *c;

	TAILQ_FOREACH(c, &f->clients, link)
	{
		if (strcmp(c->key, key) == 0)
			return c;
	}
	return NULL;
}

static struct fair_client *
need_client(struct fair *f, const char *key)
{
	struct fair_client *c = find_client(f, key);

	if (c != NULL || (c = calloc(1, sizeof(*c))) == NULL)
		return c;
	snprintf(c->key, sizeof(c->key), "%s", key);
	for (int i = 0; i < FAIR_CLASSES; i++)
		TAILQ_INIT(&c->accounts[i].items);
	TAILQ_INSERT_TAIL(&f->clients, c, link);
	return c;
}

/* A client without items whose tags are all behind virtual time is the same as a new one. */
static void
forget_if_even(struct fair *f, struct fair_client *c)
{
	if (c->count > 0 || c->running > 0)
		return;
	for (int i = 0; i < FAIR_CLASSES; i++) {
		if (c->accounts[i].finish > f->classes[i].v)
			return;
	}
	TAILQ_REMOVE(&f->clients, c, link);
	free(c);
}

void
fair_init(struct fair *f)
{
	static const double weights[FAIR_CLASSES] = {16, 4, 1};

	memset(f, 0, sizeof(*f));
	TAILQ_INIT(&f->clients);
	for (int i = 0; i < FAIR_CLASSES; i++)
		f->classes[i].weight = weights[i];
}

void
fair_clear(struct fair *f)
{
	struct fair_client *c;

	while ((c = TAILQ_FIRST(&f->clients)) != NULL) {
		TAILQ_REMOVE(&f->clients, c, link);
		free(c);
	}
	fair_init(f);
}

void
fair_set_weight(struct fair *f, int class, double weight)
{
	f->classes[class].weight = weight;
}

/* ---- in and out */

static bool
put(struct fair *f, struct fair_item *item, const char *key, int class, double cost, bool front)
{
	struct fair_client *c = need_client(f, key);
	struct fair_account *a;

	if (c == NULL)
		return false;
	a = &c->accounts[class];
	item->client = c;
	item->class = class;
	item->cost = cost;
	if (a->count++ == 0)
		a->filled_at = f->picks;
	if (f->classes[class].count++ == 0)
		f->classes[class].filled_at = f->picks;
	if (front)
		TAILQ_INSERT_HEAD(&a->items, item, link);
	else
		TAILQ_INSERT_TAIL(&a->items, item, link);
	c->count++;
	f->count++;
	return true;
}

bool
fair_push(struct fair *f, struct fair_item *item, const char *key, int class, double cost)
{
	item->order = ++f->arrivals;
	return put(f, item, key, class, cost, false);
}

bool
fair_push_front(struct fair *f, struct fair_item *item, const char *key, int class, double cost)
{
	return put(f, item, key, class, cost, true);
}

static void
take_out(struct fair *f, struct fair_item *item)
{
	struct fair_client *c = item->client;

	TAILQ_REMOVE(&c->accounts[item->class].items, item, link);
	c->accounts[item->class].count--;
	c->count--;
	f->classes[item->class].count--;
	f->count--;
	item->client = NULL;
}

void
fair_remove(struct fair *f, struct fair_item *item)
{
	struct fair_client *c = item->client;

	take_out(f, item);
	forget_if_even(f, c);
}

/* ---- picking */

static double
class_tag(const struct fair *f, int class)
{
	bool backlogged = f->classes[class].filled_at < f->picks;

	return backlogged ? f->classes[class].finish : fmax(f->classes[class].finish, f->v);
}

static double
client_tag(const struct fair *f, const struct fair_account *a, int class)
{
	return a->filled_at < f->picks ? a->finish : fmax(a->finish, f->classes[class].v);
}

typedef bool may_run_fn(void *arg, const struct fair_item *item);

static struct fair_item *
first_runnable(const struct fair_account *a, may_run_fn *may_run, void *arg)
{
	struct fair_item *item;

	TAILQ_FOREACH(item, &a->items, link)
	{
		if (may_run == NULL || may_run(arg, item))
			return item;
	}
	return NULL;
}

/* The class's client with the least tag, the earlier arrival among equals; its item. */
static struct fair_item *
best_of_class(const struct fair *f, int class, may_run_fn *may_run, void *arg)
{
	struct fair_item *best = NULL, *item;
	const struct fair_client *c;
	double best_tag = INFINITY;

	TAILQ_FOREACH(c, &f->clients, link)
	{
		const struct fair_account *a = &c->accounts[class];
		double tag = client_tag(f, a, class);
		if (a->count == 0 || tag > best_tag)
			continue;
		item = first_runnable(a, may_run, arg);
		if (item == NULL || (tag == best_tag && best != NULL && item->order > best->order))
			continue;
		best = item;
		best_tag = tag;
	}
	return best;
}

static struct fair_item *
choose(const struct fair *f, may_run_fn *may_run, void *arg)
{
	bool tried[FAIR_CLASSES] = {false};

	for (int i = 0; i < FAIR_CLASSES; i++) {
		struct fair_item *item;
		int least = -1;
		for (int k = 0; k < FAIR_CLASSES; k++) {
			if (!tried[k] && f->classes[k].count > 0 &&
			    (least < 0 || class_tag(f, k) < class_tag(f, least)))
				least = k;
		}
		if (least < 0)
			return NULL;
		tried[least] = true;
		item = best_of_class(f, least, may_run, arg);
		if (item != NULL)
			return item;
	}
	return NULL;
}

struct fair_item *
fair_pick(struct fair *f, may_run_fn *may_run, void *arg)
{
	struct fair_item *item = choose(f, may_run, arg);
	struct fair_account *a;
	struct fair_client *c;
	double start;
	int k;

	if (item == NULL)
		return NULL;
	k = item->class;
	c = item->client;
	a = &c->accounts[k];
	start = class_tag(f, k);
	f->v = fmax(f->v, start);
	f->classes[k].finish = start + item->cost / f->classes[k].weight;
	start = client_tag(f, a, k);
	f->classes[k].v = fmax(f->classes[k].v, start);
	a->finish = start + item->cost;
	c->running++;
	take_out(f, item);
	f->picks++;
	return item;
}

void
fair_done(struct fair *f, const char *key, int class, double charged, double actual)
{
	struct fair_client *c = find_client(f, key);

	f->classes[class].finish += (actual - charged) / f->classes[class].weight;
	if (c == NULL)
		return;
	c->accounts[class].finish += actual - charged;
	c->running -= c->running > 0;
	forget_if_even(f, c);
}

/* ---- admission */

/* Whether that item may be displaced by a newcomer of a client that has `mine` items. */
static bool
may_displace(const struct fair_item *item, int class, int mine)
{
	return item->class > class || (item->class == class && item->client->count > mine + 1);
}

/* Of two items that may go: the one of the lower class, of the client with more, the newer. */
static bool
goes_before(const struct fair_item *a, const struct fair_item *b)
{
	if (a->class != b->class)
		return a->class > b->class;
	if (a->client->count != b->client->count)
		return a->client->count > b->client->count;
	return a->order > b->order;
}

static struct fair_item *
find_victim(const struct fair *f, int class, int mine)
{
	struct fair_item *victim = NULL, *item;
	const struct fair_client *c;

	TAILQ_FOREACH(c, &f->clients, link)
	{
		for (int k = class; k < FAIR_CLASSES; k++) {
			item = TAILQ_LAST(&c->accounts[k].items, fair_line);
			if (item != NULL && may_displace(item, class, mine) &&
			    (victim == NULL || goes_before(item, victim)))
				victim = item;
		}
	}
	return victim;
}

enum fair_verdict
fair_admit(const struct fair *f, const struct fair_limits *limits, const char *key, int class,
    struct fair_item **victim)
{
	const struct fair_client *c = find_client(f, key);
	int mine = c != NULL ? c->count : 0;
	int room = class == 0 ? limits->max_size : limits->max_size - limits->reserved;

	*victim = NULL;
	if (f->count < room)
		return mine < limits->client_cap ? FAIR_ADMIT : FAIR_CLIENT_CAP;
	*victim = mine < limits->client_cap ? find_victim(f, class, mine) : NULL;
	return *victim != NULL ? FAIR_DISPLACE : FAIR_FULL;
}

/* ---- looking ahead */

/* An item of the copy, and the one that it stands for. */
struct twin {
	struct fair_item item;
	struct fair_item *original;
};

static bool
copy_client(struct fair *to, const struct fair_client *c, struct twin **next)
{
	struct fair_client *twin = need_client(to, c->key);
	struct fair_item *item;

	if (twin == NULL)
		return false;
	twin->count = c->count;
	twin->running = c->running;
	for (int k = 0; k < FAIR_CLASSES; k++) {
		twin->accounts[k].finish = c->accounts[k].finish;
		twin->accounts[k].filled_at = c->accounts[k].filled_at;
		twin->accounts[k].count = c->accounts[k].count;
		TAILQ_FOREACH(item, &c->accounts[k].items, link)
		{
			struct twin *t = (*next)++;
			t->item = *item;
			t->item.client = twin;
			t->original = item;
			TAILQ_INSERT_TAIL(&twin->accounts[k].items, &t->item, link);
		}
	}
	return true;
}

bool
fair_order(const struct fair *f, struct fair_item **out)
{
	struct twin *twins = calloc((size_t)f->count + 1, sizeof(*twins)), *next = twins;
	const struct fair_client *c;
	struct fair copy = *f;
	struct fair_item *item;
	bool good = twins != NULL;

	TAILQ_INIT(&copy.clients);
	TAILQ_FOREACH(c, &f->clients, link)
	good = good && copy_client(&copy, c, &next);
	while (good && (item = fair_pick(&copy, NULL, NULL)) != NULL)
		*out++ = ((struct twin *)item)->original;
	fair_clear(&copy);
	free(twins);
	return good;
}
