/*
 * Pauses and windows.
 */
#include "supervisor/scheduling/gate.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

bool
gate_parse_window(const char *text, struct gate_window *w)
{
	int from_h, from_m, to_h, to_m, used = 0;

	if (*text == '\0') {
		*w = (struct gate_window){0, 0};
		return true;
	}
	if (sscanf(text, "%2d:%2d-%2d:%2d%n", &from_h, &from_m, &to_h, &to_m, &used) != 4 ||
	    text[used] != '\0' || from_h < 0 || from_h > 23 || to_h < 0 || to_h > 23 || from_m < 0 ||
	    from_m > 59 || to_m < 0 || to_m > 59)
		return false;
	*w = (struct gate_window){(from_h * 60 + from_m) * 60, (to_h * 60 + to_m) * 60};
	return true;
}

/* ---- pauses */

void
gate_pause_all(struct gate *g, bool paused)
{
	g->all = paused;
}

void
gate_pause_class(struct gate *g, int class, bool paused)
{
	g->classes[class] = paused;
}

static int
find(const struct gate *g, const char *client)
{
	for (int i = 0; i < g->client_count; i++) {
		if (strcmp(g->clients[i], client) == 0)
			return i;
	}
	return -1;
}

bool
gate_pause_client(struct gate *g, const char *client, bool paused)
{
	int at = find(g, client);

	if (paused == (at >= 0))
		return true;
	if (!paused) {
		memmove(g->clients[at], g->clients[--g->client_count], FAIR_KEY);
		return true;
	}
	if (g->client_count == GATE_CLIENTS)
		return false;
	snprintf(g->clients[g->client_count++], FAIR_KEY, "%s", client);
	return true;
}

/* ---- looking */

bool
gate_has_window(const struct gate *g, int class)
{
	return g->windows[class].from_s != g->windows[class].to_s;
}

/* Seconds until it opens, by a clock that shows that time and is not set. */
static double
until_open(const struct gate_window *w, double shown_s)
{
	double since_s = fmod(fmod(shown_s - w->from_s, GATE_DAY_S) + GATE_DAY_S, GATE_DAY_S);
	double open_s = (w->to_s - w->from_s + GATE_DAY_S) % GATE_DAY_S;

	return since_s < open_s ? 0 : GATE_DAY_S - since_s;
}

double
gate_opens_in(const struct gate *g, int class, const struct gate_clock *clock, double at_s)
{
	const struct gate_window *w = &g->windows[class];
	double change_s = clock->change_s - at_s, wait_s;

	if (!gate_has_window(g, class))
		return 0;
	if (change_s <= 0)
		return until_open(w, clock->day_s + at_s + clock->shift_s);
	wait_s = until_open(w, clock->day_s + at_s);
	if (wait_s < change_s)
		return wait_s;
	return change_s + until_open(w, clock->day_s + clock->change_s + clock->shift_s);
}

enum gate_reason
gate_check(const struct gate *g, int class, const char *client, const struct gate_clock *clock, double at_s)
{
	if (g->all)
		return GATE_ALL_PAUSED;
	if (g->classes[class])
		return GATE_CLASS_PAUSED;
	if (g->client_count > 0 && find(g, client) >= 0)
		return GATE_CLIENT_PAUSED;
	return gate_opens_in(g, class, clock, at_s) > 0 ? GATE_WINDOW : GATE_OPEN;
}

/* ---- over a restart */

json_t *
gate_dump(const struct gate *g, const char *const class_names[FAIR_CLASSES])
{
	json_t *classes = json_array(), *clients = json_array();

	for (int k = 0; k < FAIR_CLASSES; k++) {
		if (g->classes[k])
			json_array_append_new(classes, json_string(class_names[k]));
	}
	for (int i = 0; i < g->client_count; i++)
		json_array_append_new(clients, json_string(g->clients[i]));
	return json_pack("{s:b, s:o, s:o}", "all", g->all, "classes", classes, "clients", clients);
}

bool
gate_restore(struct gate *g, const json_t *dump, const char *const class_names[FAIR_CLASSES])
{
	const json_t *classes = json_object_get(dump, "classes"), *clients = json_object_get(dump, "clients");
	size_t i;
	json_t *name;

	if (!json_is_array(classes) || !json_is_array(clients))
		return false;
	gate_pause_all(g, json_is_true(json_object_get(dump, "all")));
	json_array_foreach(classes, i, name)
	{
		for (int k = 0; k < FAIR_CLASSES && json_is_string(name); k++) {
			if (strcmp(json_string_value(name), class_names[k]) == 0)
				gate_pause_class(g, k, true);
		}
	}
	json_array_foreach(clients, i, name)
	{
		if (json_is_string(name) && !gate_pause_client(g, json_string_value(name), true))
			return false;
	}
	return true;
}
