/*
 * ipc/hash: sums that are stored stay what they are, and one changed bit is always seen.
 */
#include "tests/unit/test.h"

#include "ipc/hash.h"

static const struct {
	const char *text;
	uint64_t by_bytes, by_words; /* computed elsewhere, from what the sums are said to be */
} sums[] = {
    {"", UINT64_C(0xcbf29ce484222325), UINT64_C(0x860389c57a9c1205)},
    {"a", UINT64_C(0xaf63dc4c8601ec8c), UINT64_C(0xa928bad1eb06e438)},
    {"12345678", UINT64_C(0x173932c41a90a42d), UINT64_C(0xae28e47999beb050)},
    {"{\"zit\":\"job\",\"number\":41,\"state\":\"queued\"", UINT64_C(0x8fe9483d39cd01e4),
	UINT64_C(0x4c1b0823fdb1b462)},
};

static void
test_known_sums(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(sums) / sizeof(sums[0]); i++) {
		size_t count = strlen(sums[i].text);

		assert_int_equal(hash_bytes(HASH_START, sums[i].text, count), sums[i].by_bytes);
		assert_int_equal(hash_words(sums[i].text, count), sums[i].by_words);
	}
}

/* In texts of every length around a word's, and in long ones. */
static void
test_a_changed_bit_changes_the_sum(void **state)
{
	static const size_t counts[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 16, 17, 23, 24, 25, 1000};
	uint8_t text[1000];

	(void)state;
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (uint8_t)(i * i);
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		uint64_t sum = hash_words(text, counts[i]);

		for (size_t bit = 0; bit < 8 * counts[i]; bit++) {
			text[bit / 8] ^= (uint8_t)(1 << bit % 8);
			if (hash_words(text, counts[i]) == sum)
				fail_msg("of %zu bytes, bit %zu is not in the sum", counts[i], bit);
			text[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
	}
}

/* What is missing or added at the end is seen even where it is nothing but zeros. */
static void
test_the_length_is_in_the_sum(void **state)
{
	const uint8_t zeros[40] = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(zeros); i++) {
		for (size_t k = 0; k < i; k++)
			assert_int_not_equal(hash_words(zeros, i), hash_words(zeros, k));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_known_sums),
	    cmocka_unit_test(test_a_changed_bit_changes_the_sum),
	    cmocka_unit_test(test_the_length_is_in_the_sum)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
