/*
 * supervisor/queue and supervisor/id: what is shown is what is picked, and ids sort by time.
 */
#include "tests/unit/test.h"

#include "ipc/clock.h"
#include "supervisor/queue.h"

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
		assert_int_equal(queue_position(&q, job), ++place);
	}
	assert_int_equal(place, 8);
	for (place = 0; place < 8; place++) {
		assert_ptr_equal(queue_first(&q), shown[place]);
		job = queue_pick(&q, any, NULL);
		assert_ptr_equal(job, shown[place]);
		assert_int_equal(queue_position(&q, job), 0);
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

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_order_is_that_of_picking),
	    cmocka_unit_test(test_interrupted_goes_to_the_front_of_its_line),
	    cmocka_unit_test(test_ids_sort_by_time)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
