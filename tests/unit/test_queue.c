/*
 * supervisor/queue and supervisor/id: order, positions, and ids that sort by time.
 */
#include "tests/unit/test.h"

#include "ipc/clock.h"
#include "supervisor/queue.h"

static void
test_order_and_positions(void **state)
{
	static const enum job_class classes[] = {
	    CLASS_LOW, CLASS_NORMAL, CLASS_HIGH, CLASS_NORMAL, CLASS_LOW};
	static const int order[] = {2, 5, 1, 3, 0, 4}; /* 5: a normal one put to the front */
	struct job jobs[6] = {0};
	struct queue q;
	struct job *job;
	int place = 0;

	(void)state;
	queue_init(&q);
	for (int i = 0; i < 5; i++) {
		jobs[i].class = classes[i];
		queue_push(&q, &jobs[i]);
	}
	jobs[5].class = CLASS_NORMAL;
	queue_push_front(&q, &jobs[5]);
	assert_int_equal(queue_length(&q), 6);
	for (job = queue_next(&q, NULL); job != NULL; job = queue_next(&q, job)) {
		assert_ptr_equal(job, &jobs[order[place]]);
		assert_int_equal(queue_position(&q, job), ++place);
	}
	assert_int_equal(place, 6);
	queue_remove(&q, &jobs[2]);
	assert_ptr_equal(queue_first(&q), &jobs[5]);
	assert_int_equal(queue_position(&q, &jobs[2]), 0);
	assert_false(jobs[2].in_queue);
	assert_int_equal(queue_length(&q), 5);
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
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_order_and_positions), cmocka_unit_test(test_ids_sort_by_time)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
