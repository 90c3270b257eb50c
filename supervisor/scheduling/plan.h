/*
 * The queue played through: which waiting item starts when, and is done when, if nothing else comes. The
 * picker itself does it, on a copy, in virtual time.
 *
 * Pure: no clock, no I/O. Seconds are from now.
 */
#ifndef SUPERVISOR_SCHEDULING_PLAN_H
#define SUPERVISOR_SCHEDULING_PLAN_H

#include "supervisor/scheduling/fair.h"

enum { PLAN_LINES = 64, PLAN_HELD = 4 };

/* A device: when it is free, and how sure that is. Jobs on one runner share it, so it counts as one line. */
struct plan_line {
	double free_s, variance;
	double yields_s;		/* of that, what is put off for the first item of the highest class */
	int number;			/* for the owner */
	const char *running[PLAN_HELD]; /* whose jobs it has until then; NULL: no more */
};

struct plan_spot {
	int place; /* 1.. */
	bool runs; /* false: nobody knows when, something holds it back; then the rest is 0 */
	double start_s, start_variance, done_s, done_variance;
};

struct plan_rules {
	void *arg;
	/* Device seconds of the item on that line, and their variance. */
	double (*cost)(void *arg, const struct fair_item *item, int number, double *variance);
	/* Whether it may start then; if not, *again_s: when to ask again, INFINITY: not as far as is known.
	 */
	bool (*may_start)(void *arg, const struct fair_item *item, double at_s, double *again_s);
};

/* Tells every waiting item's spot. rules NULL: each costs what it is charged, and all may start. false: no
 * memory, and nobody was told anything. */
bool plan_play(const struct fair *f, const struct plan_line *lines, int count, const struct plan_rules *rules,
    void (*tell)(void *arg, struct fair_item *item, const struct plan_spot *spot), void *arg);

#endif
