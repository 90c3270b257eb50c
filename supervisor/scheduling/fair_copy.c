/*
 * A copy of all that waits, to play with: what comes when is found out by having the turns.
 */
#include <stdlib.h>

#include "supervisor/scheduling/fair.h"

/* Its client and account of the copy, with the twins of its items. */
static bool
copy_account(struct fair *copy, const struct fair_account *a, int class, struct fair_twin **next)
{
	struct fair_client *c = fair_need_client(copy, a->client->key);
	struct fair_account *own;
	struct fair_item *item;

	if (c == NULL)
		return false;
	c->weight = a->client->weight;
	c->max_running = a->client->max_running;
	c->running = a->client->running;
	c->count += a->count;
	own = &c->accounts[class];
	own->finish = a->finish;
	own->floor = a->floor;
	own->count = a->count;
	TAILQ_FOREACH(item, &a->items, link)
	{
		struct fair_twin *t = (*next)++;
		t->item = *item;
		t->item.client = c;
		t->original = item;
		TAILQ_INSERT_TAIL(&own->items, &t->item, link);
	}
	TAILQ_INSERT_TAIL(&copy->classes[class].accounts, own, link);
	return true;
}

bool
fair_copy(const struct fair *f, struct fair *copy, struct fair_twin **twins)
{
	struct fair_twin *next;
	const struct fair_account *a;
	bool good;

	fair_init(copy);
	*twins = next = calloc((size_t)f->count + 1, sizeof(**twins));
	good = next != NULL;
	copy->v = f->v;
	copy->count = f->count;
	for (int k = 0; k < FAIR_CLASSES; k++) {
		struct fair_accounts none = copy->classes[k].accounts;
		copy->classes[k] = f->classes[k];
		copy->classes[k].accounts = none;
		TAILQ_INIT(&copy->classes[k].accounts);
		TAILQ_FOREACH(a, &f->classes[k].accounts, link)
		good = good && copy_account(copy, a, k, &next);
	}
	if (good)
		return true;
	fair_clear(copy);
	free(*twins);
	*twins = NULL;
	return false;
}
