/*
 * ipc/buf: what goes in comes out, and never more than the limit.
 */
#include "tests/unit/test.h"

#include "ipc/buf.h"
#include "ipc/err.h"

static void
test_random_adds_and_drains(void **state)
{
	enum { LIMIT = 5000, ROUNDS = 20000 };
	uint8_t in = 0, out = 0;
	struct buf b;

	(void)state;
	srandom(1);
	buf_init(&b, LIMIT);
	for (int round = 0; round < ROUNDS; round++) {
		size_t count = (size_t)(random() % 700), drained;
		char bytes[700];
		for (size_t i = 0; i < count; i++)
			bytes[i] = (char)(in + i);
		if (buf_add(&b, bytes, count) == 0)
			in = (uint8_t)(in + count);
		else
			assert_true(buf_length(&b) + count > LIMIT);
		assert_in_range(buf_length(&b), 0, LIMIT);
		drained = buf_length(&b) > 0 ? (size_t)random() % (buf_length(&b) + 1) : 0;
		for (size_t i = 0; i < drained; i++)
			assert_int_equal((uint8_t)buf_bytes(&b)[i], (uint8_t)(out + i));
		out = (uint8_t)(out + drained);
		buf_drain(&b, drained);
	}
	buf_clear(&b);
	assert_int_equal(buf_length(&b), 0);
}

static void
test_limit_is_exact(void **state)
{
	struct buf b;
	char *room;

	(void)state;
	buf_init(&b, 10);
	assert_int_equal(buf_add(&b, "0123456789", 10), 0);
	assert_int_equal(buf_add(&b, "x", 1), -ERR_FRAME_TOO_LARGE);
	assert_int_equal(buf_reserve(&b, SIZE_MAX, &room), -ERR_FRAME_TOO_LARGE);
	buf_drain(&b, 10);
	assert_null(b.data); /* an empty buffer costs nothing */
	assert_int_equal(buf_reserve(&b, 10, &room), 0);
	buf_clear(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_random_adds_and_drains), cmocka_unit_test(test_limit_is_exact)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
