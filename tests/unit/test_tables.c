/*
 * The state tables of job and runner against design.md section 6 as written out here: every cell of both is
 * looked at, what is not listed must be refused.
 */
#include "tests/unit/test.h"

#include "supervisor/jobs/job.h"
#include "supervisor/runners/runner.h"

struct cell {
	int state, event, next; /* next: FSM_SAME, or a state */
};

#define J(state, event, next) \
	{ \
		JOB_##state, JOB_EVENT_##event, JOB_##next \
	}
#define J_SAME(state, event) \
	{ \
		JOB_##state, JOB_EVENT_##event, FSM_SAME \
	}

static const struct cell job_cells[] = {
    J(QUEUED, CLAIMED, CLAIMED),
    J(QUEUED, GIVE_UP, DEAD),
    J(CLAIMED, PICKED, DISPATCHED),
    J(CLAIMED, RETRY, QUEUED),
    J(CLAIMED, QUEUE_CLOCK, EXPIRED),
    J(CLAIMED, CANCEL, CANCELLED),
    J(CLAIMED, FAULT, FAILED),
    J(QUEUED, QUEUE_CLOCK, EXPIRED),
    J(QUEUED, CANCEL, CANCELLED),
    J(QUEUED, FAULT, FAILED),
    J(QUEUED, EVICT, EVICTED),
    J(QUEUED, HOLD, HELD),
    J(HELD, RELEASE, QUEUED),
    J(HELD, QUEUE_CLOCK, EXPIRED),
    J(HELD, CANCEL, CANCELLED),
    J(HELD, FAULT, FAILED),
    J(DISPATCHED, ACKNOWLEDGED, RUNNING),
    J(DISPATCHED, ACK_CLOCK, DISPATCHED),
    J(DISPATCHED, CANCEL, CANCELLED),
    J(DISPATCHED, FAULT, FAILED),
    J(DISPATCHED, RETRY, QUEUED),
    J(DISPATCHED, GIVE_UP, DEAD),
    J_SAME(RUNNING, ADVANCED),
    J(RUNNING, EXEC_CLOCK, TIMED_OUT),
    J(RUNNING, SUSPENDED, SUSPENDED),
    J(RUNNING, CANCEL, CANCELLED),
    J(RUNNING, RESULT, STORED),
    J(RUNNING, FAULT, FAILED),
    J(RUNNING, RETRY, QUEUED),
    J(RUNNING, GIVE_UP, DEAD),
    J(SUSPENDED, RESUMED, RUNNING),
    J_SAME(SUSPENDED, SUSPENSION_CLOCK),
    J(SUSPENDED, EXEC_CLOCK, TIMED_OUT),
    J(SUSPENDED, CANCEL, CANCELLED),
    J(SUSPENDED, FAULT, FAILED),
    J(SUSPENDED, RETRY, QUEUED),
    J(STORED, WRITTEN, DONE),
    J(STORED, FAULT, FAILED),
    J(STORED, WRITE_CLOCK, FAILED),
    J_SAME(STORED, CANCEL),
};

#define R(state, event, next) \
	{ \
		RUNNER_##state, RUNNER_EVENT_##event, RUNNER_##next \
	}
#define R_SAME(state, event) \
	{ \
		RUNNER_##state, RUNNER_EVENT_##event, FSM_SAME \
	}
#define R_DEATHS(state) \
	R(state, DIED, BACKOFF), R(state, DIED_FOR_GOOD, FAILED), R(state, DIED_STOPPED, STOPPED)

static const struct cell runner_cells[] = {
    R(BACKOFF, START, SPAWNING),
    R(BACKOFF, REVIVE, BACKOFF),
    R(BACKOFF, STOP, STOPPED),
    R(FAILED, START, SPAWNING),
    R(FAILED, REVIVE, BACKOFF),
    R(FAILED, STOP, STOPPED),
    R(STOPPED, REVIVE, BACKOFF),
    R(STOPPED, STOP, STOPPED),
    R(SPAWNING, HELLO, LOADING),
    R(SPAWNING, START_CLOCK, REAPING),
    R(SPAWNING, STOP, STOPPING),
    R(SPAWNING, LIE, REAPING),
    R(SPAWNING, GONE, REAPING),
    R_DEATHS(SPAWNING),
    R(LOADING, LOADING, LOADING),
    R(LOADING, WARMING, WARMING),
    R(LOADING, START_CLOCK, REAPING),
    R(LOADING, STOP, STOPPING),
    R(LOADING, LIE, REAPING),
    R(LOADING, GONE, REAPING),
    R_DEATHS(LOADING),
    R(WARMING, READY, IDLE),
    R(WARMING, START_CLOCK, REAPING),
    R(WARMING, STOP, STOPPING),
    R(WARMING, LIE, REAPING),
    R(WARMING, GONE, REAPING),
    R_DEATHS(WARMING),
    R(IDLE, DISPATCH, BUSY),
    R(IDLE, TEST_CLOCK, TESTING),
    R(IDLE, STOP, STOPPING),
    R(IDLE, LIE, REAPING),
    R(IDLE, GONE, REAPING),
    R_DEATHS(IDLE),
    R(TESTING, TESTED, IDLE),
    R(TESTING, HANG_CLOCK, REAPING),
    R(TESTING, STOP, STOPPING),
    R(TESTING, LIE, REAPING),
    R(TESTING, GONE, REAPING),
    R_DEATHS(TESTING),
    R(BUSY, DISPATCH, BUSY),
    R(BUSY, ADVANCED, BUSY),
    R(BUSY, CANCEL, CANCELLING),
    R(BUSY, ALL_OVER, IDLE),
    R(BUSY, HANG_CLOCK, REAPING),
    R(BUSY, STOP, STOPPING),
    R(BUSY, LIE, REAPING),
    R(BUSY, GONE, REAPING),
    R_DEATHS(BUSY),
    R(CANCELLING, LET_GO, BUSY),
    R(CANCELLING, ALL_OVER, IDLE),
    R(CANCELLING, CANCEL_CLOCK, STOPPING),
    R(CANCELLING, HANG_CLOCK, REAPING),
    R(CANCELLING, STOP, STOPPING),
    R(CANCELLING, LIE, REAPING),
    R(CANCELLING, GONE, REAPING),
    R_SAME(CANCELLING, ADVANCED),
    R_SAME(CANCELLING, CANCEL),
    R_DEATHS(CANCELLING),
    R(STOPPING, STOP_CLOCK, REAPING),
    R(STOPPING, LIE, REAPING),
    R(STOPPING, GONE, REAPING),
    R_SAME(STOPPING, STOP),
    R_SAME(STOPPING, ADVANCED),
    R_SAME(STOPPING, HANG_CLOCK),
    R_SAME(STOPPING, HELLO),
    R_SAME(STOPPING, LOADING),
    R_SAME(STOPPING, WARMING),
    R_SAME(STOPPING, READY),
    R_SAME(STOPPING, TESTED),
    R_DEATHS(STOPPING),
    R(REAPING, REAP_CLOCK, WEDGED),
    R_SAME(REAPING, STOP),
    R_SAME(REAPING, GONE),
    R_SAME(REAPING, HANG_CLOCK),
    R_DEATHS(REAPING),
    R(WEDGED, ALARM_CLOCK, WEDGED),
    R_SAME(WEDGED, STOP),
    R_SAME(WEDGED, GONE),
    R_DEATHS(WEDGED),
};

/* The table walked without its actions: a machine of the same rows whose object is nothing. */
static void
nothing_armed(void *object, int64_t clock_us)
{
	(void)object;
	(void)clock_us;
}

static void
nothing_refused(void *object, int state, int event)
{
	(void)object;
	(void)state;
	(void)event;
}

static const struct cell *
find_cell(const struct cell *cells, size_t count, int state, int event)
{
	for (size_t i = 0; i < count; i++) {
		if (cells[i].state == state && cells[i].event == event)
			return &cells[i];
	}
	return NULL;
}

static void
drive_every_cell(const struct fsm_kind *kind, const struct cell *cells, size_t count)
{
	struct fsm_row rows[100];
	struct fsm_state states[32];
	struct fsm_kind bare = *kind;
	int driven = 0;

	assert_in_range(kind->row_count, 1, 100);
	for (size_t i = 0; i < kind->row_count; i++) {
		rows[i] = kind->rows[i];
		rows[i].action = NULL;
	}
	for (int i = 0; i < kind->state_count; i++)
		states[i] = (struct fsm_state){kind->states[i].name, kind->states[i].clock_event, NULL};
	bare.rows = rows;
	bare.states = states;
	bare.arm = nothing_armed;
	bare.moved = NULL;
	bare.refused = nothing_refused;
	for (int state = 0; state < kind->state_count; state++) {
		for (int event = 0; event < kind->event_count; event++, driven++) {
			const struct cell *cell = find_cell(cells, count, state, event);
			int wanted = cell == NULL || cell->next == FSM_SAME ? state : cell->next;
			struct fsm f;
			bool taken;
			fsm_init(&f, &bare, NULL, state);
			taken = fsm_event(&f, event, NULL) == 0;
			if (taken != (cell != NULL) || f.state != wanted)
				fail_msg("%s: %s on %s: %s, now %s", kind->what, states[state].name,
				    kind->event_names[event], taken ? "taken" : "refused",
				    states[f.state].name);
		}
	}
	print_message("%s: %d cells, %zu with a row\n", kind->what, driven, count);
}

static void
test_job_table(void **state)
{
	char why[120] = "";

	(void)state;
	if (fsm_check(&job_kind, why, sizeof(why)) != 0)
		fail_msg("%s", why);
	drive_every_cell(&job_kind, job_cells, sizeof(job_cells) / sizeof(job_cells[0]));
}

static void
test_runner_table(void **state)
{
	char why[120] = "";

	(void)state;
	if (fsm_check(&runner_kind, why, sizeof(why)) != 0)
		fail_msg("%s", why);
	drive_every_cell(&runner_kind, runner_cells, sizeof(runner_cells) / sizeof(runner_cells[0]));
}

/* A state that waits for somebody has a clock; those that do not are final, at rest, or wait for orders. */
static void
test_waiting_states_have_clocks(void **state)
{
	(void)state;
	for (int i = 0; i < JOB_STATE_COUNT; i++)
		assert_true((job_kind.states[i].clock_event >= 0) == (i < JOB_FIRST_FINAL));
	for (int i = 0; i < RUNNER_STATE_COUNT; i++)
		assert_true((runner_kind.states[i].clock_event >= 0) == (i != RUNNER_STOPPED));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_job_table),
	    cmocka_unit_test(test_runner_table),
	    cmocka_unit_test(test_waiting_states_have_clocks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
