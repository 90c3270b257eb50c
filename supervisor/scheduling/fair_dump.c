/*
 * The accounts of fair.c over a restart. A client that is even with virtual time is the same as a new one and
 * is left out.
 */
#include <math.h>
#include <string.h>

#include "supervisor/scheduling/fair.h"

static json_t *
dump_client(const struct fair_client *c)
{
	json_t *finish = json_array(), *floor = json_array();

	for (int k = 0; k < FAIR_CLASSES; k++) {
		json_array_append_new(finish, json_real(c->accounts[k].finish));
		json_array_append_new(
		    floor, c->accounts[k].count > 0 ? json_real(c->accounts[k].floor) : json_null());
	}
	return json_pack("{s:s, s:o, s:o}", "client", c->key, "finish", finish, "floor", floor);
}

static bool
is_even(const struct fair *f, const struct fair_client *c)
{
	for (int k = 0; k < FAIR_CLASSES; k++) {
		if (c->count > 0 || c->accounts[k].finish > f->classes[k].v)
			return false;
	}
	return true;
}

json_t *
fair_dump(const struct fair *f)
{
	json_t *classes = json_array(), *clients = json_array();
	const struct fair_client *c;

	for (int k = 0; k < FAIR_CLASSES; k++) {
		const struct fair_class *class = &f->classes[k];
		json_array_append_new(classes, json_pack("{s:f, s:f, s:f, s:o}", "v", class->v, "finish",
						   class->finish, "consolation", class->consolation, "floor",
						   class->count > 0 ? json_real(class->floor) : json_null()));
	}
	TAILQ_FOREACH(c, &f->clients, link)
	{
		if (!is_even(f, c))
			json_array_append_new(clients, dump_client(c));
	}
	return json_pack("{s:f, s:o, s:o}", "v", f->v, "classes", classes, "clients", clients);
}

/* ---- back */

static bool
is_time(const json_t *value)
{
	return json_is_number(value) && isfinite(json_number_value(value));
}

static bool
are_times(const json_t *list, bool or_null)
{
	size_t i;
	json_t *value;

	if (json_array_size(list) != FAIR_CLASSES)
		return false;
	json_array_foreach(list, i, value)
	{
		if (!is_time(value) && !(or_null && json_is_null(value)))
			return false;
	}
	return true;
}

static bool
is_client(const json_t *client)
{
	const char *key = json_string_value(json_object_get(client, "client"));

	return key != NULL && strlen(key) < FAIR_KEY && are_times(json_object_get(client, "finish"), false) &&
	       are_times(json_object_get(client, "floor"), true);
}

static bool
is_class(const json_t *class)
{
	const json_t *floor = json_object_get(class, "floor");

	return is_time(json_object_get(class, "v")) && is_time(json_object_get(class, "finish")) &&
	       is_time(json_object_get(class, "consolation")) && (is_time(floor) || json_is_null(floor));
}

static bool
is_dump(const json_t *dump)
{
	const json_t *classes = json_object_get(dump, "classes"), *clients = json_object_get(dump, "clients");
	size_t i;
	json_t *each;

	if (!is_time(json_object_get(dump, "v")) || json_array_size(classes) != FAIR_CLASSES ||
	    !json_is_array(clients))
		return false;
	json_array_foreach(classes, i, each)
	{
		if (!is_class(each))
			return false;
	}
	json_array_foreach(clients, i, each)
	{
		if (!is_client(each))
			return false;
	}
	return true;
}

/* The floor of what was waiting stays, when it waits again, what it was. */
static void
restore_floor(const json_t *value, double *floor, bool *restored)
{
	*restored = is_time(value);
	*floor = json_number_value(value);
}

static bool
restore_client(struct fair *f, const json_t *client)
{
	struct fair_client *c = fair_need_client(f, json_string_value(json_object_get(client, "client")));

	if (c == NULL)
		return false;
	for (size_t k = 0; k < FAIR_CLASSES; k++) {
		struct fair_account *a = &c->accounts[k];
		a->finish = json_number_value(json_array_get(json_object_get(client, "finish"), k));
		restore_floor(json_array_get(json_object_get(client, "floor"), k), &a->floor, &a->restored);
	}
	return true;
}

bool
fair_restore(struct fair *f, const json_t *dump)
{
	bool good = true;
	size_t i;
	json_t *client;

	if (!is_dump(dump))
		return false;
	f->v = json_number_value(json_object_get(dump, "v"));
	for (size_t k = 0; k < FAIR_CLASSES; k++) {
		const json_t *class = json_array_get(json_object_get(dump, "classes"), k);
		f->classes[k].v = json_number_value(json_object_get(class, "v"));
		f->classes[k].finish = json_number_value(json_object_get(class, "finish"));
		f->classes[k].consolation = json_number_value(json_object_get(class, "consolation"));
		restore_floor(json_object_get(class, "floor"), &f->classes[k].floor, &f->classes[k].restored);
	}
	json_array_foreach(json_object_get(dump, "clients"), i, client) good =
	    good && restore_client(f, client);
	return good;
}

bool
fair_out_again(struct fair *f, const char *key)
{
	struct fair_client *c = fair_need_client(f, key);

	if (c == NULL)
		return false;
	c->running++;
	return true;
}
