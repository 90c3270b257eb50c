/*
 * Hysteresis: in height and in time.
 */
#include "supervisor/scheduling/load.h"

#define ON_S 60.0
#define ON_AFTER_S 10.0
#define OFF_S 30.0
#define OFF_AFTER_S 30.0

bool
load_update(struct load *l, double now_s, double wait_s)
{
	bool should_turn = l->on ? wait_s < OFF_S : wait_s > ON_S;

	l->wait_s = wait_s;
	if (!should_turn)
		l->since_s = 0;
	else if (l->since_s == 0)
		l->since_s = now_s;
	else if (now_s - l->since_s >= (l->on ? OFF_AFTER_S : ON_AFTER_S)) {
		l->on = !l->on;
		l->since_s = 0;
	}
	return l->on;
}
