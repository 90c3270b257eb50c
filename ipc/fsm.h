/*
 * One engine for all state machines: rows {states, event, next, action} and a row per state with its clock.
 *
 * The engine alone writes the state field. Entering a state arms the object's one timer with the state's
 * clock and leaving disarms it. An event without a row is refused, counted and reported, never dropped
 * silently.
 */
#ifndef IPC_FSM_H
#define IPC_FSM_H

#include <stddef.h>
#include <stdint.h>

#define FSM_BIT(state) (UINT32_C(1) << (state))
enum {
	FSM_SAME = -1
}; /* `next` of a row that stays in the state without re-entering it (the timer goes on) */

struct fsm_row {
	uint32_t states; /* set of FSM_BIT(state) */
	int event;
	int next; /* a state or FSM_SAME */
	void (*action)(
	    void *object, void *detail); /* after the move; may fire further events; NULL: nothing */
};

struct fsm_state {
	const char *name;
	int clock_event; /* event that the clock fires, or -1: the state waits for nobody */
	int64_t (*clock_us)(const void *object); /* length of the clock, or <= 0: not armed */
};

struct fsm_kind {
	const char *what; /* "job", "runner" */
	const struct fsm_state *states;
	int state_count; /* at most 32 */
	const char *const *event_names;
	int event_count;
	const struct fsm_row *rows;
	size_t row_count;
	void (*arm)(
	    void *object, int64_t clock_us); /* <= 0 disarms; when it ends the owner calls fsm_clock */
	void (*moved)(
	    void *object, int from, int to, int event);	     /* after each change of state; may be NULL */
	void (*refused)(void *object, int state, int event); /* an event that no row allows */
};

struct fsm {
	const struct fsm_kind *kind;
	void *object;
	int state; /* read freely, written by the engine only */
	uint64_t refusals;
};

void fsm_init(struct fsm *f, const struct fsm_kind *kind, void *object, int state); /* arms the first clock */
/* As it was in another process: in that state, with so much left of its clock (<= 0: it was not armed). */
void fsm_resume(struct fsm *f, const struct fsm_kind *kind, void *object, int state, int64_t clock_us);
/* 0, or -ERR_INVALID_REQUEST when no row allows the event here (it was counted and `refused` called). */
int fsm_event(struct fsm *f, int event, void *detail);
void fsm_clock(struct fsm *f); /* the armed clock ended: fires the state's clock_event */

const char *fsm_state_name(const struct fsm *f);

/* Tests: every state and event named, at most one row per cell, every clock_event has its row, every state
 * reachable. 0, or -ERR_INTERNAL with the first fault in `why`. */
int fsm_check(const struct fsm_kind *kind, char *why, size_t why_size);

#endif
