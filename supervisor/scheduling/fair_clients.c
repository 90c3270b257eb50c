/*
 * The clients of a queue by their keys: they come with their first item, and are forgotten when nothing is
 * left to remember of them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/scheduling/fair.h"

/* FNV-1a. */
static struct fair_client **
bucket_of(const struct fair *f, const char *key)
{
	uint32_t hash = 2166136261U;

	for (; *key != '\0'; key++)
		hash = (hash ^ (unsigned char)*key) * 16777619U;
	return (struct fair_client **)&f->buckets[hash % FAIR_BUCKETS];
}

struct fair_client *
fair_find_client(const struct fair *f, const char *key)
{
	struct fair_client *c = *bucket_of(f, key);

	while (c != NULL && strcmp(c->key, key) != 0)
		c = c->next_alike;
	return c;
}

struct fair_client *
fair_need_client(struct fair *f, const char *key)
{
	struct fair_client *c = fair_find_client(f, key), **bucket = bucket_of(f, key);

	if (c != NULL || (c = calloc(1, sizeof(*c))) == NULL)
		return c;
	snprintf(c->key, sizeof(c->key), "%s", key);
	c->weight = 1;
	for (int i = 0; i < FAIR_CLASSES; i++) {
		TAILQ_INIT(&c->accounts[i].items);
		c->accounts[i].client = c;
	}
	if (f->introduce != NULL)
		f->introduce(f->introduce_arg, c);
	TAILQ_INSERT_TAIL(&f->clients, c, link);
	c->next_alike = *bucket;
	*bucket = c;
	return c;
}

static void
forget(struct fair *f, struct fair_client *c)
{
	struct fair_client **at = bucket_of(f, c->key);

	while (*at != c)
		at = &(*at)->next_alike;
	*at = c->next_alike;
	TAILQ_REMOVE(&f->clients, c, link);
	free(c);
}

/* A client without items whose tags are all behind virtual time is the same as a new one. */
void
fair_forget_if_even(struct fair *f, struct fair_client *c)
{
	if (c->count > 0 || c->held > 0 || c->running > 0)
		return;
	for (int i = 0; i < FAIR_CLASSES; i++) {
		if (c->accounts[i].finish > f->classes[i].v)
			return;
	}
	forget(f, c);
}

void
fair_introduce(struct fair *f, void (*introduce)(void *arg, struct fair_client *c), void *arg)
{
	struct fair_client *c;

	f->introduce = introduce;
	f->introduce_arg = arg;
	TAILQ_FOREACH(c, &f->clients, link)
	introduce(arg, c);
}
