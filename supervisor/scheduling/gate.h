/*
 * Who may not start now whatever the queue's order: what an administrator has paused, and classes outside
 * their window of the day.
 *
 * Pure: no clock, no I/O. Times of day are local, in seconds since midnight.
 */
#ifndef SUPERVISOR_SCHEDULING_GATE_H
#define SUPERVISOR_SCHEDULING_GATE_H

#include <jansson.h>
#include <stdbool.h>

#include "supervisor/scheduling/fair.h"

enum { GATE_CLIENTS = 256, GATE_DAY_S = 86400 };

enum gate_reason { GATE_OPEN, GATE_ALL_PAUSED, GATE_CLASS_PAUSED, GATE_CLIENT_PAUSED, GATE_WINDOW };

/* Open from the one time to the other, over midnight if it must; both the same: always. */
struct gate_window {
	int from_s, to_s;
};

struct gate {
	bool all, classes[FAIR_CLASSES];
	char clients[GATE_CLIENTS][FAIR_KEY];
	int client_count;
	struct gate_window windows[FAIR_CLASSES];
};

/* "22:00-06:00", or "" for always. false: it is neither, and nothing is changed. */
bool gate_parse_window(const char *text, struct gate_window *w);

void gate_pause_all(struct gate *g, bool paused);
void gate_pause_class(struct gate *g, int class, bool paused);
/* false: more clients are paused than there is room for. */
bool gate_pause_client(struct gate *g, const char *client, bool paused);

bool gate_has_window(const struct gate *g, int class);
enum gate_reason gate_check(const struct gate *g, int class, const char *client, double day_s);
/* Seconds until the class's window opens; 0: it is open. */
double gate_opens_in(const struct gate *g, int class, double day_s);

/* {"all", "classes", "clients"}: what is paused, a new reference; and back, false when it is no such thing.
 */
json_t *gate_dump(const struct gate *g, const char *const class_names[FAIR_CLASSES]);
bool gate_restore(struct gate *g, const json_t *dump, const char *const class_names[FAIR_CLASSES]);

#endif
