/*
 * Who may not start now whatever the queue's order: what an administrator has paused, and classes outside
 * their window of the day.
 *
 * Pure: no clock, no I/O. A class is open while the local clock shows a time in its window. So on the days on
 * which that clock is set, a window's part that is skipped is not to be had, and one that is shown twice is
 * open twice.
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

/* The local clock as it goes on from now. */
struct gate_clock {
	double day_s;	 /* shown now, in seconds since midnight */
	double change_s; /* seconds from now until it is set; INFINITY: it is not */
	double shift_s;	 /* by so much forward then; negative: back */
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
/* What keeps the client's jobs of the class from being started at_s from now. */
enum gate_reason gate_check(
    const struct gate *g, int class, const char *client, const struct gate_clock *clock, double at_s);
/* Seconds from then until the class's window opens; 0: it is open. */
double gate_opens_in(const struct gate *g, int class, const struct gate_clock *clock, double at_s);

/* {"all", "classes", "clients"}: what is paused, a new reference; and back, false when it is no such thing.
 */
json_t *gate_dump(const struct gate *g, const char *const class_names[FAIR_CLASSES]);
bool gate_restore(struct gate *g, const json_t *dump, const char *const class_names[FAIR_CLASSES]);

#endif
