/*
 * ipc/fsm: moves, clocks, refusals, nested events, and the check of tables.
 */
#include "tests/unit/test.h"

#include "ipc/fsm.h"

enum { CLOSED, OPENING, OPEN, STATES };
enum { PUSH, OPENED, TIME_UP, EVENTS };

struct door {
	struct fsm fsm;
	int64_t armed_us;
	int moves, refusals, pushes;
};

static int64_t
opening_us(const void *object)
{
	(void)object;
	return 500;
}

static void
do_push(void *object, void *detail)
{
	struct door *door = object;

	door->pushes += *(int *)detail;
	if (door->pushes >= 10)
		fsm_event(&door->fsm, OPENED, NULL); /* an action may fire events */
}

static void
arm(void *object, int64_t clock_us)
{
	((struct door *)object)->armed_us = clock_us;
}

static void
moved(void *object, int from, int to, int event)
{
	(void)from;
	(void)to;
	(void)event;
	((struct door *)object)->moves++;
}

static void
refused(void *object, int state, int event)
{
	(void)state;
	(void)event;
	((struct door *)object)->refusals++;
}

static const struct fsm_state states[] = {
    {"closed", -1, NULL}, {"opening", TIME_UP, opening_us}, {"open", -1, NULL}};
static const char *const events[] = {"push", "opened", "time up"};
static const struct fsm_row rows[] = {
    {FSM_BIT(CLOSED), PUSH, OPENING, do_push},
    {FSM_BIT(OPENING), PUSH, FSM_SAME, do_push},
    {FSM_BIT(OPENING), OPENED, OPEN, NULL},
    {FSM_BIT(OPENING), TIME_UP, CLOSED, NULL},
};
static const struct fsm_kind kind = {"door", states, STATES, events, EVENTS, rows, 4, arm, moved, refused};

static void
test_life_of_a_door(void **state)
{
	struct door door = {0};
	int force = 1;

	(void)state;
	fsm_init(&door.fsm, &kind, &door, CLOSED);
	assert_int_equal(fsm_event(&door.fsm, OPENED, NULL), -32600);
	assert_int_equal(door.refusals, 1);
	assert_int_equal(door.fsm.state, CLOSED);
	fsm_event(&door.fsm, PUSH, &force);
	assert_int_equal(door.armed_us, 500);
	fsm_clock(&door.fsm);
	assert_string_equal(fsm_state_name(&door.fsm), "closed");
	assert_int_equal(door.armed_us, 0);
	fsm_event(&door.fsm, PUSH, &force);
	force = 20;
	fsm_event(&door.fsm, PUSH, &force);
	assert_string_equal(fsm_state_name(&door.fsm), "open");
	assert_int_equal(door.moves, 4);
	assert_int_equal(door.fsm.refusals, 1);
}

static void
test_faults_of_tables_are_found(void **state)
{
	static const struct fsm_row twice[] = {{FSM_BIT(CLOSED), PUSH, OPENING, NULL},
	    {FSM_BIT(CLOSED), PUSH, OPEN, NULL}, {FSM_BIT(OPENING), TIME_UP, CLOSED, NULL}};
	static const struct fsm_row no_clock[] = {
	    {FSM_BIT(CLOSED), PUSH, OPENING, NULL}, {FSM_BIT(OPENING), OPENED, OPEN, NULL}};
	static const struct fsm_row apart[] = {
	    {FSM_BIT(CLOSED), PUSH, OPENING, NULL}, {FSM_BIT(OPENING), TIME_UP, CLOSED, NULL}};
	struct fsm_kind bad = kind;
	char why[100] = "";

	(void)state;
	assert_int_equal(fsm_check(&kind, why, sizeof(why)), 0);
	bad.rows = twice;
	bad.row_count = 3;
	assert_true(fsm_check(&bad, why, sizeof(why)) < 0 && strstr(why, "two rows") != NULL);
	bad.rows = no_clock;
	bad.row_count = 2;
	assert_true(fsm_check(&bad, why, sizeof(why)) < 0 && strstr(why, "clock") != NULL);
	bad.rows = apart;
	assert_true(fsm_check(&bad, why, sizeof(why)) < 0 && strstr(why, "reachable") != NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_life_of_a_door), cmocka_unit_test(test_faults_of_tables_are_found)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
