/*
 * All values of a configuration, and the differences of two: what a reload changes, and what it takes over.
 */
#include <stdio.h>
#include <string.h>

#include "supervisor/conf_inside.h"

/* ---- sections */

/* One of a configuration. */
struct part {
	enum conf_section section;
	const char *name; /* of [runner:NAME] or [client:NAME], else NULL */
	const void *values;
};

/* The i-th of all there are; false past the last. */
static bool
part_at(const struct conf *c, int i, struct part *out)
{
	const struct part alone[] = {{SECTION_ZITD, NULL, &c->zitd}, {SECTION_QUEUE, NULL, &c->queue},
	    {SECTION_RESULTS, NULL, &c->results}, {SECTION_CLIENT, NULL, &c->any_client}};
	const int alone_count = sizeof(alone) / sizeof(alone[0]);
	int client = i - alone_count, runner = client - c->client_count;

	if (i < alone_count)
		*out = alone[i];
	else if (client < c->client_count)
		*out = (struct part){SECTION_CLIENT, c->clients[client].section_name, &c->clients[client]};
	else if (runner < c->runner_count)
		*out = (struct part){SECTION_RUNNER, c->runners[runner].section_name, &c->runners[runner]};
	else
		return false;
	return true;
}

/* That section of another configuration; NULL: it has none. */
static const void *
same_part(const struct conf *c, const struct part *part)
{
	struct part each;

	for (int i = 0; part_at(c, i, &each); i++) {
		if (each.section != part->section || (each.name == NULL) != (part->name == NULL))
			continue;
		if (each.name == NULL || strcmp(each.name, part->name) == 0)
			return each.values;
	}
	return NULL;
}

static void
make_key(const struct part *part, const char *option, char out[CONF_KEY])
{
	if (part->name == NULL)
		snprintf(out, CONF_KEY, "%s.%s", conf_section_alone(part->section), option);
	else
		snprintf(out, CONF_KEY, "%s:%s%s%s", conf_section_named(part->section), part->name,
		    option != NULL ? "." : "", option != NULL ? option : "");
}

static const char *
runner_of(const struct part *part)
{
	return part->section == SECTION_RUNNER ? part->name : NULL;
}

/* ---- all values */

void
conf_each(const struct conf *c, void (*look)(void *arg, const struct conf_value *value), void *arg)
{
	struct part part;
	const struct conf_row *row;

	for (int i = 0; part_at(c, i, &part); i++) {
		for (int k = 0; (row = conf_row_at(k)) != NULL; k++) {
			struct conf_value value = {.option = row->name,
			    .when = row->when,
			    .row = row,
			    .member = conf_member(row, part.values),
			    .origin = conf_origin(row, part.values)};
			if (row->section != part.section)
				continue;
			make_key(&part, row->name, value.key);
			look(arg, &value);
		}
	}
}

void
conf_origin_text(const struct conf *c, const struct conf_origin *origin, char out[CONF_ORIGIN])
{
	static const char *const texts[] = {[CONF_DEFAULT] = "default",
	    [CONF_COMMAND_LINE] = "command line",
	    [CONF_EARLIER] = "read earlier"};

	if (origin->source == CONF_FILE)
		snprintf(out, CONF_ORIGIN, "%s:%d", c->files[origin->file], origin->line);
	else
		snprintf(out, CONF_ORIGIN, "%s", texts[origin->source]);
}

/* ---- differences */

struct comparison {
	void (*change)(void *arg, const struct conf_change *change);
	void *arg;
};

static void
compare_part(const struct comparison *c, const struct part *part, const void *before, const void *after)
{
	const struct conf_row *row;

	for (int k = 0; (row = conf_row_at(k)) != NULL; k++) {
		struct conf_change change = {.runner = runner_of(part), .when = row->when, .row = row};
		if (row->section != part->section)
			continue;
		change.before = conf_member(row, before);
		change.after = conf_member(row, after);
		if (conf_same(row, change.before, change.after))
			continue;
		make_key(part, row->name, change.key);
		c->change(c->arg, &change);
	}
}

/* A client without a section of its own has what [clients] says; a runner without one is none. */
static const void *
values_of(const struct conf *c, const struct part *part)
{
	const void *own = same_part(c, part);

	return own == NULL && part->section == SECTION_CLIENT ? &c->any_client : own;
}

void
conf_compare(const struct conf *before, const struct conf *after,
    void (*change)(void *arg, const struct conf_change *change), void *arg)
{
	const struct comparison c = {change, arg};
	const struct conf *both[] = {after, before};
	struct part part;

	for (int k = 0; k < 2; k++) {
		for (int i = 0; part_at(both[k], i, &part); i++) {
			const void *old = values_of(before, &part), *new = values_of(after, &part);
			struct conf_change whole = {
			    .runner = runner_of(&part), .when = CONF_RESTART, .before = old, .after = new};
			if (k == 1 && same_part(after, &part) != NULL)
				continue; /* had its turn */
			if (old != NULL && new != NULL)
				compare_part(&c, &part, old, new);
			else {
				make_key(&part, NULL, whole.key);
				change(arg, &whole);
			}
		}
	}
}

/* ---- taking over */

/* Of a section that is gone: where its values were is not known any more. */
static void
age_part(enum conf_section section, void *values)
{
	const struct conf_row *row;

	for (int k = 0; (row = conf_row_at(k)) != NULL; k++) {
		if (row->section == section && conf_origin(row, values)->source == CONF_FILE)
			conf_origin(row, values)->source = CONF_EARLIER;
	}
}

/* Of one section; a value that differs and needs a restart stays. */
static void
take_part(enum conf_section section, void *to, const void *from)
{
	const struct conf_row *row;

	for (int k = 0; (row = conf_row_at(k)) != NULL; k++) {
		if (row->section != section)
			continue;
		if (row->when != CONF_RESTART || conf_same(row, conf_member(row, to), conf_member(row, from)))
			conf_copy(row, to, from);
		else
			conf_origin(row, to)->source = CONF_EARLIER;
	}
}

void
conf_take_over(struct conf *running, const struct conf *fresh)
{
	take_part(SECTION_ZITD, &running->zitd, &fresh->zitd);
	take_part(SECTION_QUEUE, &running->queue, &fresh->queue);
	take_part(SECTION_RESULTS, &running->results, &fresh->results);
	for (int i = 0; i < running->runner_count; i++) {
		const struct part part = {SECTION_RUNNER, running->runners[i].section_name, NULL};
		const struct conf_runner *new = same_part(fresh, &part);
		if (new != NULL) {
			take_part(SECTION_RUNNER, &running->runners[i], new);
			running->runners[i].each_device = new->each_device;
		} else
			age_part(SECTION_RUNNER, &running->runners[i]);
	}
	running->any_client = fresh->any_client;
	memcpy(running->clients, fresh->clients, sizeof(running->clients));
	running->client_count = fresh->client_count;
	memcpy(running->files, fresh->files, sizeof(running->files));
	running->file_count = fresh->file_count;
}

/* ---- what a runner's process was started with */

void
conf_runner_restore_started(struct conf_runner *to, const struct conf_runner *started)
{
	const struct conf_row *row;

	for (int k = 0; (row = conf_row_at(k)) != NULL; k++) {
		if (row->section != SECTION_RUNNER || row->when != CONF_RESPAWN ||
		    conf_same(row, conf_member(row, to), conf_member(row, started)))
			continue;
		conf_copy(row, to, started);
		conf_origin(row, to)->source = CONF_EARLIER;
	}
}

json_t *
conf_runner_dump(const struct conf_runner *c)
{
	json_t *dump = json_object();
	const struct conf_row *row;
	char text[CONF_TEXT];

	for (int k = 0; (row = conf_row_at(k)) != NULL; k++) {
		if (row->section != SECTION_RUNNER || row->when != CONF_RESPAWN)
			continue;
		conf_print(row, conf_member(row, c), text);
		json_object_set_new(dump, row->name, json_string(text));
	}
	return dump;
}

void
conf_runner_undump(struct conf_runner *c, const json_t *dump)
{
	const struct conf_row *row;

	for (int k = 0; (row = conf_row_at(k)) != NULL; k++) {
		const char *text = json_string_value(json_object_get(dump, row->name));
		if (row->section == SECTION_RUNNER && row->when == CONF_RESPAWN && text != NULL)
			conf_parse(row, conf_member(row, c), text, NULL);
	}
}
