/*
 * supervisor/jobs/queue and supervisor/id: what is shown is what is picked, and ids sort by time.
 */
#include "tests/unit/test.h"

#include <math.h>

#include "ipc/clock.h"
#include "supervisor/jobs/queue.h"

static void
push(struct queue *q, struct job *job, enum job_class class, const char *client)
{
	*job = (struct job){.class = class, .cost_s = 1};
	snprintf(job->client, sizeof(job->client), "%s", client);
	assert_true(queue_push(q, job));
}

static bool
any(void *arg, const struct job *job)
{
	(void)arg;
	(void)job;
	return true;
}

/* What is shown is what would be picked, and looking at it changes nothing. */
static void
test_order_is_that_of_picking(void **state)
{
	static const char *const clients[] = {"a", "a", "a", "b", "a", "c", "b", "a"};
	struct job jobs[8], *shown[8], *job;
	struct queue q;
	int place = 0;

	(void)state;
	queue_init(&q);
	for (int i = 0; i < 8; i++)
		push(&q, &jobs[i], (enum job_class)(i % 3), clients[i]);
	assert_int_equal(queue_length(&q), 8);
	for (job = queue_next(&q, NULL); job != NULL; job = queue_next(&q, job)) {
		shown[place] = job;
		assert_int_equal(queue_spot(&q, job).place, ++place);
	}
	assert_int_equal(place, 8);
	for (place = 0; place < 8; place++) {
		assert_ptr_equal(queue_first(&q), shown[place]);
		job = queue_pick(&q, any, NULL);
		assert_ptr_equal(job, shown[place]);
		assert_int_equal(queue_spot(&q, job).place, 0);
		assert_false(job->in_queue);
	}
	assert_null(queue_pick(&q, any, NULL));
	queue_clear(&q);
}

static void
test_interrupted_goes_to_the_front_of_its_line(void **state)
{
	struct job jobs[3], *job;
	struct queue q;

	(void)state;
	queue_init(&q);
	for (int i = 0; i < 3; i++)
		push(&q, &jobs[i], CLASS_NORMAL, "a");
	job = queue_pick(&q, any, NULL);
	assert_ptr_equal(job, &jobs[0]);
	assert_true(job->charged_s == 1);
	assert_true(queue_push_front(&q, job));
	queue_settle(&q, job, 0.25);
	assert_true(job->charged_s == 0);
	assert_ptr_equal(queue_first(&q), &jobs[0]);
	queue_take(&q, &jobs[2]); /* out of turn */
	assert_int_equal(queue_length(&q), 2);
	queue_remove(&q, &jobs[1]);
	queue_remove(&q, &jobs[0]);
	assert_int_equal(queue_length(&q), 0);
	queue_clear(&q);
}

static void
test_ids_sort_by_time(void **state)
{
	int64_t now_us = 1700000000000000;
	char before[ID_SIZE] = "", id[ID_SIZE];

	(void)state;
	clock_replace(&now_us);
	for (int i = 0; i < 100; i++) {
		now_us += 1000;
		id_make(id);
		assert_int_equal(strlen(id), ID_SIZE - 1);
		assert_int_equal(strspn(id + 4, "0123456789abcdefghjkmnpqrstvwxyz"), 26);
		assert_true(strcmp(before, id) < 0);
		strcpy(before, id);
	}
	clock_replace(NULL);
}

/* ---- looks that take their time */

static int looks;

static int
counted_lines(void *arg, struct plan_line lines[PLAN_LINES])
{
	(void)arg;
	looks++;
	lines[0] = (struct plan_line){0};
	return 1;
}

static double
cost_of_one(void *arg, const struct job *job, int line, double *variance)
{
	(void)arg;
	(void)job;
	(void)line;
	*variance = 0.25;
	return 1;
}

static bool
always(void *arg, const struct job *job, double at_s, double *again_s)
{
	(void)arg;
	(void)job;
	(void)at_s;
	(void)again_s;
	return true;
}

static const struct queue_world counted_world = {NULL, counted_lines, cost_of_one, always};

/* An empty queue whose looks are counted, by this clock. */
static void
begin_counting(struct queue *q, int64_t *now_us)
{
	clock_replace(now_us);
	looks = 0;
	queue_init(q);
	q->world = &counted_world;
}

/* Behind others of its client a newcomer is placed as they follow one another, and a look finds it there. */
static void
test_a_long_queue_is_looked_at_now_and_then(void **state)
{
	enum { MANY = 201 };
	struct job *jobs = calloc(MANY + 1, sizeof(*jobs)), lone;
	struct plan_spot guess, spot;
	int64_t now_us = 1000000;
	struct queue q;

	(void)state;
	begin_counting(&q, &now_us);
	for (int i = 0; i < MANY; i++)
		push(&q, &jobs[i], CLASS_NORMAL, i % 2 == 0 ? "a" : "b");
	assert_int_equal(queue_spot(&q, &jobs[MANY - 1]).place, MANY);
	assert_int_equal(looks, 1);
	push(&q, &jobs[MANY], CLASS_NORMAL, "a");
	assert_true(queue_guesses(&q, &jobs[MANY]));
	guess = queue_spot(&q, &jobs[MANY]);
	assert_int_equal(looks, 1);
	queue_look(&q);
	assert_false(queue_guesses(&q, &jobs[MANY]));
	spot = queue_spot(&q, &jobs[MANY]);
	assert_int_equal(looks, 2);
	assert_int_equal(guess.place, spot.place);
	assert_true(fabs(guess.start_s - spot.start_s) < 0.2 && fabs(guess.done_s - spot.done_s) < 0.2);
	assert_true(fabs(guess.done_variance - spot.done_variance) < 1e-9);

	/* who has nothing waiting is looked for */
	push(&q, &lone, CLASS_NORMAL, "c");
	assert_true(queue_spot(&q, &lone).place > 0);
	assert_int_equal(looks, 3);

	/* what has left is not in anybody's way */
	queue_remove(&q, &jobs[0]);
	assert_int_equal(queue_spot(&q, &jobs[0]).place, 0);
	assert_true(queue_spot(&q, &jobs[2]).place > 0);
	assert_int_equal(looks, 3);
	now_us += 5000; /* more than 200 are worth */
	assert_true(queue_spot(&q, &jobs[2]).place > 0);
	assert_int_equal(looks, 4);
	queue_remove(&q, &jobs[1]);
	assert_ptr_not_equal(queue_first(&q), &jobs[1]); /* who walks along it sees it as it is */
	assert_int_equal(looks, 5);
	queue_clear(&q);
	clock_replace(NULL);
	free(jobs);
}

/* Who is content with it gets a guess of a short one, too. */
static void
test_a_rough_spot_costs_no_look(void **state)
{
	struct job jobs[5];
	struct plan_spot rough;
	int64_t now_us = 1000000;
	struct queue q;

	(void)state;
	begin_counting(&q, &now_us);
	for (int i = 0; i < 4; i++)
		push(&q, &jobs[i], CLASS_NORMAL, i % 2 == 0 ? "a" : "b");
	assert_int_equal(queue_rough_spot(&q, &jobs[3]).place, 4);
	assert_int_equal(looks, 1);
	push(&q, &jobs[4], CLASS_NORMAL, "a");
	rough = queue_rough_spot(&q, &jobs[4]);
	assert_int_equal(looks, 1);
	assert_int_equal(rough.place, 5);
	assert_true(rough.runs && rough.done_s > rough.start_s);
	now_us += 1000;
	queue_rough_spot(&q, &jobs[4]);
	assert_int_equal(looks, 2);
	queue_clear(&q);
	clock_replace(NULL);
}

/* Of a short one everybody is told as it is. */
static void
test_a_short_queue_is_looked_at_always(void **state)
{
	struct job jobs[7];
	struct queue q;

	(void)state;
	looks = 0;
	queue_init(&q);
	q.world = &counted_world;
	for (int i = 0; i < 7; i++) {
		push(&q, &jobs[i], CLASS_NORMAL, i % 2 == 0 ? "a" : "b");
		assert_int_equal(queue_spot(&q, &jobs[i]).place, i + 1);
		assert_int_equal(looks, i + 1);
	}
	queue_clear(&q);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_order_is_that_of_picking),
	    cmocka_unit_test(test_interrupted_goes_to_the_front_of_its_line),
	    cmocka_unit_test(test_a_long_queue_is_looked_at_now_and_then),
	    cmocka_unit_test(test_a_short_queue_is_looked_at_always),
	    cmocka_unit_test(test_a_rough_spot_costs_no_look), cmocka_unit_test(test_ids_sort_by_time)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
