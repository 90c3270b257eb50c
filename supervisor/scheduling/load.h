/*
 * When the queue is long, the lowest class gives way: on when normal jobs would wait over a minute for ten
 * seconds on end, off when they would wait less than half of one for half of one.
 *
 * Pure: the clock is given.
 */
#ifndef SUPERVISOR_SCHEDULING_LOAD_H
#define SUPERVISOR_SCHEDULING_LOAD_H

#include <stdbool.h>

#define LOAD_LOW_SHARE 0.25 /* what the lowest class keeps of its weight */

struct load {
	bool on;
	double since_s; /* since when it should be the other way; 0: it should not */
	double wait_s;	/* what it was told last */
};

/* wait_s: what 95 % of normal jobs will not wait longer than. Returns whether it is on. */
bool load_update(struct load *l, double now_s, double wait_s);

#endif
