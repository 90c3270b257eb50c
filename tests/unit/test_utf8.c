/*
 * ipc/utf8: what is quick says the same as what is plain.
 */
#include "tests/unit/test.h"

#include "ipc/utf8.h"
#include "tests/unit/texts.h"

static void
show_and_fail(const char *what, const char *text, size_t count)
{
	char shown[1024] = "";

	for (size_t i = 0; i < count; i++)
		sprintf(shown + strlen(shown), " %02x", (uint8_t)text[i]);
	fail_msg("%s:%s", what, shown);
}

static void
check_validity(const char *text, size_t count)
{
	if (utf8_valid(text, count) != plain_utf8_valid(text, count))
		show_and_fail(utf8_valid(text, count) ? "taken for valid" : "taken for invalid", text, count);
}

static void
check_plain(const char *text, size_t count)
{
	size_t expected = 0;

	while (expected < count && text[expected] >= ' ' && text[expected] <= '~' && text[expected] != '"' &&
	       text[expected] != '\\')
		expected++;
	if (utf8_plain(text, count) != expected)
		show_and_fail("not as plain as it was said to be", text, count);
}

/* Whether more bytes than are left were announced, and what is left follows the first. */
static bool
is_cut_off(const uint8_t *p, size_t left)
{
	size_t announced = p[0] < 0xc2 || p[0] > 0xf4 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;

	for (size_t i = 1; i < left && announced > left; i++)
		announced = (p[i] & 0xc0) == 0x80 ? announced : 0;
	return announced > left;
}

/* What utf8_make_line says of itself, character by character. */
static void
check_line(const char *text, size_t count)
{
	char made[300], expected[300], *out = expected;
	size_t length;

	memcpy(made, text, count + 1);
	utf8_make_line(made);
	for (const uint8_t *p = (const uint8_t *)text; *p != 0; p += length) {
		size_t left = strlen((const char *)p);

		length = plain_utf8_length(p, left);
		if (length == 0 && is_cut_off(p, left))
			break;
		if (length == 0 || *p < ' ' || *p == 0x7f) {
			*out++ = '?';
			length = 1;
		} else
			out = mempcpy(out, p, length);
	}
	*out = '\0';
	if (strcmp(made, expected) != 0)
		show_and_fail("another line", made, strlen(made));
}

static void
test_validity(void **state)
{
	(void)state;
	give_texts_with_an_oddity(check_validity);
	give_mixed_texts(check_validity, 100000);
}

static void
test_plain(void **state)
{
	(void)state;
	give_texts_with_an_oddity(check_plain);
	give_mixed_texts(check_plain, 100000);
}

static void
test_lines(void **state)
{
	(void)state;
	give_texts_with_an_oddity(check_line);
	give_mixed_texts(check_line, 100000);
}

/* Every beginning of three bytes, and four-byte characters by the edges of each byte. */
static void
test_length(void **state)
{
	static const uint8_t edges[] = {0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xff};
	uint8_t text[4];

	(void)state;
	for (uint32_t first = 0; first < 1 << 24; first++) {
		memcpy(text, &first, 3);
		text[3] = edges[first % sizeof(edges)];
		for (size_t count = 1; count <= 4; count++) {
			if (utf8_length((const char *)text, count) != plain_utf8_length(text, count))
				show_and_fail("of another length", (const char *)text, count);
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_validity), cmocka_unit_test(test_plain),
	    cmocka_unit_test(test_lines), cmocka_unit_test(test_length)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
