/*
 * Who may enter when places are few, and who must go for it.
 */
#include "supervisor/scheduling/fair.h"

int
fair_places(const struct fair_limits *limits, int class)
{
	int room = class == 0 ? limits->max_size : limits->max_size - limits->reserved;
	bool limited = class == FAIR_CLASSES - 1 && limits->low_size > 0 && limits->low_size < room;

	return limited ? limits->low_size : room;
}

static int
places_of(const struct fair_client *c)
{
	return c->count + c->held;
}

/* Whether that item may be displaced by a newcomer of a client that has `mine` items. */
static bool
may_displace(const struct fair_item *item, int class, int mine)
{
	return item->class > class || (item->class == class && places_of(item->client) > mine + 1);
}

/* Of two items that may go: the one of the lower class, of the client with more, the newer. */
static bool
goes_before(const struct fair_item *a, const struct fair_item *b)
{
	if (a->class != b->class)
		return a->class > b->class;
	if (places_of(a->client) != places_of(b->client))
		return places_of(a->client) > places_of(b->client);
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
	const struct fair_client *c = fair_find_client(f, key);
	int mine = c != NULL ? places_of(c) : 0;
	int room = class == 0 ? limits->max_size : limits->max_size - limits->reserved;

	*victim = NULL;
	if (class == FAIR_CLASSES - 1 && limits->low_size > 0 && f->classes[class].count >= limits->low_size)
		return FAIR_FULL;
	if (f->count + f->held < room)
		return mine < limits->client_cap ? FAIR_ADMIT : FAIR_CLIENT_CAP;
	*victim = mine < limits->client_cap ? find_victim(f, class, mine) : NULL;
	return *victim != NULL ? FAIR_DISPLACE : FAIR_FULL;
}
