/*
 * One engine for all state machines. An action runs after its move was written, so it may fire further
 * events: they see the new state and are done, with all their consequences, before fsm_event returns.
 */
#include "ipc/fsm.h"

#include <assert.h>
#include <stdio.h>

#include "ipc/err.h"

static void
enter(struct fsm *f, int state)
{
	const struct fsm_state *row = &f->kind->states[state];

	f->state = state;
	f->kind->arm(f->object, row->clock_us != NULL ? row->clock_us(f->object) : 0);
}

void
fsm_init(struct fsm *f, const struct fsm_kind *kind, void *object, int state)
{
	*f = (struct fsm){.kind = kind, .object = object};
	enter(f, state);
}

void
fsm_resume(struct fsm *f, const struct fsm_kind *kind, void *object, int state, int64_t clock_us)
{
	*f = (struct fsm){.kind = kind, .object = object, .state = state};
	kind->arm(object, clock_us);
}

static const struct fsm_row *
find_row(const struct fsm_kind *kind, int state, int event)
{
	for (size_t i = 0; i < kind->row_count; i++) {
		if (kind->rows[i].event == event && (kind->rows[i].states & FSM_BIT(state)) != 0)
			return &kind->rows[i];
	}
	return NULL;
}

int
fsm_event(struct fsm *f, int event, void *detail)
{
	const struct fsm_row *row = find_row(f->kind, f->state, event);
	int from = f->state;

	if (row == NULL) {
		f->refusals++;
		f->kind->refused(f->object, f->state, event);
		return -ERR_INVALID_REQUEST;
	}
	if (row->next != FSM_SAME) {
		enter(f, row->next);
		if (f->kind->moved != NULL)
			f->kind->moved(f->object, from, row->next, event);
	}
	if (row->action != NULL)
		row->action(f->object, detail);
	return 0;
}

void
fsm_clock(struct fsm *f)
{
	int event = f->kind->states[f->state].clock_event;

	assert(event >= 0); /* only armed where there is one */
	fsm_event(f, event, NULL);
}

const char *
fsm_state_name(const struct fsm *f)
{
	return f->kind->states[f->state].name;
}

/* ---- the tables themselves */

static int
fault(char *why, size_t size, const char *what, const char *state, const char *event)
{
	snprintf(why, size, "%s: state %s, event %s", what, state, event);
	return -ERR_INTERNAL;
}

static int
check_cell(const struct fsm_kind *kind, int state, int event, char *why, size_t size)
{
	int rows = 0;

	for (size_t i = 0; i < kind->row_count; i++)
		rows += kind->rows[i].event == event && (kind->rows[i].states & FSM_BIT(state)) != 0;
	if (rows > 1)
		return fault(
		    why, size, "two rows for one cell", kind->states[state].name, kind->event_names[event]);
	if (rows == 0 && kind->states[state].clock_event == event)
		return fault(
		    why, size, "a clock without its row", kind->states[state].name, kind->event_names[event]);
	return 0;
}

/* States that rows lead to, starting from state 0. */
static uint32_t
reachable(const struct fsm_kind *kind)
{
	uint32_t found = FSM_BIT(0), before;

	do {
		before = found;
		for (size_t i = 0; i < kind->row_count; i++) {
			if ((kind->rows[i].states & found) != 0 && kind->rows[i].next != FSM_SAME)
				found |= FSM_BIT(kind->rows[i].next);
		}
	} while (found != before);
	return found;
}

int
fsm_check(const struct fsm_kind *kind, char *why, size_t size)
{
	uint32_t found = reachable(kind);

	for (int event = 0; event < kind->event_count; event++) {
		if (kind->event_names[event] == NULL)
			return fault(why, size, "an event without a name", "any", "?");
	}
	for (int state = 0; state < kind->state_count; state++) {
		if (kind->states[state].name == NULL)
			return fault(why, size, "a state without a name", "?", "any");
		if ((found & FSM_BIT(state)) == 0)
			return fault(why, size, "not reachable", kind->states[state].name, "any");
		for (int event = 0; event < kind->event_count; event++) {
			if (check_cell(kind, state, event, why, size) != 0)
				return -ERR_INTERNAL;
		}
	}
	return 0;
}
