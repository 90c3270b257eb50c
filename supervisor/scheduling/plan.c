/*
 * The queue played through.
 */
#include "supervisor/scheduling/plan.h"

#include <math.h>
#include <stdlib.h>

/* Least step of time when something is asked again, so that it ends. */
#define TICK_S 1e-6

struct play {
	struct fair copy;
	struct plan_line lines[PLAN_LINES];
	int count;
	const struct plan_rules *rules;
	double now_s, again_s;
	void (*tell)(void *arg, struct fair_item *item, const struct plan_spot *spot);
	void *arg;
	int places;
};

static struct fair_twin *
twin_of(const struct fair_item *item)
{
	return (struct fair_twin *)item; /* its first member */
}

static int
first_free(const struct play *p)
{
	int first = 0;

	for (int i = 1; i < p->count; i++)
		first = p->lines[i].free_s < p->lines[first].free_s ? i : first;
	return first;
}

static void
one_less(struct play *p, const char *key)
{
	struct fair_client *c = fair_find_client(&p->copy, key);

	if (c != NULL)
		c->running -= c->running > 0;
}

/* What lines had until now is done. */
static void
end_jobs(struct play *p)
{
	for (int i = 0; i < p->count; i++) {
		struct plan_line *line = &p->lines[i];
		if (line->free_s > p->now_s)
			continue;
		for (int k = 0; k < PLAN_HELD && line->running[k] != NULL; k++)
			one_less(p, line->running[k]);
		line->running[0] = NULL;
	}
}

static bool
may_start(void *arg, const struct fair_item *item)
{
	struct play *p = arg;
	double again_s = INFINITY;

	if (p->rules == NULL || p->rules->may_start == NULL ||
	    p->rules->may_start(p->rules->arg, twin_of(item)->original, p->now_s, &again_s))
		return true;
	p->again_s = fmin(p->again_s, again_s);
	return false;
}

/* The item starts there so long before the line is free. */
static void
start(struct play *p, struct plan_line *line, const struct fair_item *item, double earlier_s)
{
	struct fair_item *original = twin_of(item)->original;
	struct plan_spot spot = {++p->places, true, line->free_s - earlier_s, line->variance, 0, 0};
	double variance = 0, cost_s = item->cost;

	if (p->rules != NULL)
		cost_s = p->rules->cost(p->rules->arg, original, line->number, &variance);
	line->free_s += cost_s;
	line->variance += variance;
	line->running[0] = fair_find_client(&p->copy, original->client->key)->key;
	line->running[1] = NULL;
	spot.done_s = spot.start_s + cost_s;
	spot.done_variance = line->variance;
	p->tell(p->arg, original, &spot);
}

static bool
is_highest(void *arg, const struct fair_item *item)
{
	return item->class == 0 && may_start(arg, item);
}

/* Lines that make way for the highest class do so first. */
static void
make_way(struct play *p)
{
	const struct fair_item *item;

	for (int i = 0; i < p->count; i++) {
		struct plan_line *line = &p->lines[i];
		if (line->yields_s > 0 && (item = fair_pick(&p->copy, is_highest, p)) != NULL)
			start(p, line, item, line->yields_s);
	}
}

/* The next moment at which something may be different; INFINITY: there is none. */
static double
next_change(const struct play *p)
{
	double next_s = p->again_s;

	for (int i = 0; i < p->count; i++) {
		if (p->lines[i].running[0] != NULL && p->lines[i].free_s > p->now_s)
			next_s = fmin(next_s, p->lines[i].free_s);
	}
	return next_s;
}

/* One line takes an item, or waits until it can. false: none will ever. */
static bool
advance(struct play *p)
{
	struct plan_line *line = &p->lines[first_free(p)];
	struct fair_item *item;
	double next_s;

	p->now_s = line->free_s;
	p->again_s = INFINITY;
	end_jobs(p);
	item = fair_pick(&p->copy, may_start, p);
	if (item != NULL) {
		start(p, line, item, 0);
		return true;
	}
	next_s = next_change(p);
	if (isinf(next_s))
		return false;
	line->free_s = fmax(next_s, p->now_s + TICK_S);
	return true;
}

bool
plan_play(const struct fair *f, const struct plan_line *lines, int count, const struct plan_rules *rules,
    void (*tell)(void *arg, struct fair_item *item, const struct plan_spot *spot), void *arg)
{
	struct play p = {.count = count, .rules = rules, .tell = tell, .arg = arg};
	struct fair_twin *twins;
	struct fair_client *c;
	struct fair_item *item;

	if (!fair_copy(f, &p.copy, &twins))
		return false;
	for (int i = 0; i < count; i++)
		p.lines[i] = lines[i];
	make_way(&p);
	while (count > 0 && p.copy.count > 0 && advance(&p))
		;
	TAILQ_FOREACH(c, &p.copy.clients, link)
	c->max_running = 0;
	while ((item = fair_pick(&p.copy, NULL, NULL)) != NULL) {
		struct plan_spot spot = {.place = ++p.places};
		tell(arg, twin_of(item)->original, &spot);
	}
	fair_clear(&p.copy);
	free(twins);
	return true;
}
