/*
 * Texts that readers and writers of UTF-8 and JSON may stumble over, and what is well-formed, said plainly:
 * for tests that compare what is fast with what is obvious.
 */
#ifndef TESTS_UNIT_TEXTS_H
#define TESTS_UNIT_TEXTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* The length of the character at p[0], by what it says and by what it means; 0: it is none. */
static inline size_t
plain_utf8_length(const uint8_t *p, size_t count)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t length = p[0] < 0x80 ? 1 : p[0] < 0xc0 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	uint32_t value = length == 1   ? p[0]
			 : length == 2 ? p[0] & 0x1f
			 : length == 3 ? p[0] & 0x0f
				       : p[0] & 0x07;

	if (length > count || p[0] >= 0xf8)
		return 0;
	for (size_t i = 1; i < length; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		value = value << 6 | (p[i] & 0x3f);
	}
	if (value < least[length] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
		return 0;
	return length;
}

static inline bool
plain_utf8_valid(const char *text, size_t count)
{
	for (size_t at = 0, length; at < count; at += length) {
		length = plain_utf8_length((const uint8_t *)text + at, count - at);
		if (length == 0)
			return false;
	}
	return true;
}

/* The edges of every form of character, then what lies just beyond them. */
static const char *const odd_texts[] = {"\"\\\"", "\\\\", "\x1f ", "\x01\x02", "\"!#", "[\\]", "\xc2\x80",
    "\xc3\xa9", "\xdf\xbf", "\xe0\xa0\x80", "\xe7\x8c\xab", "\xec\xbf\xbf", "\xed\x9f\xbf", "\xee\x80\x80",
    "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf0\x9f\x98\xba", "\xf3\xbf\xbf\xbf", "\xf4\x8f\xbf\xbf",
    "\xc0\x80", "\xc1\xbf", "\xc2\x7f", "\xc2\xc0", "\xe0\x9f\xbf", "\xe7\x8c", "\xe7\x8c\x7f",
    "\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x8f\xbf\xbf", "\xf0\x9f\x98", "\xf0\x9f\x98\xc0",
    "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xf7\xbf\xbf\xbf", "\xf8\x88\x80\x80\x80", "\x7f\x80"};

enum { ODD_TEXTS = sizeof(odd_texts) / sizeof(odd_texts[0]), ODD_BUT_VALID = 19, LONGEST_TEXT = 40 };

typedef void text_check(const char *text, size_t count); /* a NUL follows it; its memory ends there */

static inline void
give_text(text_check *check, const char *text, size_t count)
{
	char *copy = malloc(count + 1);

	memcpy(copy, text, count);
	copy[count] = '\0';
	check(copy, count);
	free(copy);
}

/* `count` letters, those at `at` replaced. */
static inline void
give_letters(text_check *check, size_t count, size_t at, const char *odd, size_t bytes)
{
	char text[LONGEST_TEXT + 8];

	for (size_t i = 0; i < count; i++)
		text[i] = (char)('a' + i % 26);
	memcpy(text + at, odd, bytes);
	give_text(check, text, at + bytes > count ? at + bytes : count);
}

/* Every number of letters, with each odd text and each byte at every place. */
static inline void
give_texts_with_an_oddity(text_check *check)
{
	for (size_t count = 0; count <= LONGEST_TEXT; count++) {
		for (size_t at = 0; at <= count; at++) {
			for (size_t i = 0; i < ODD_TEXTS; i++)
				give_letters(check, count, at, odd_texts[i], strlen(odd_texts[i]));
			for (int byte = 0; byte < 256; byte++)
				give_letters(check, count, at, &(char){(char)byte}, 1);
		}
	}
}

/* So many mixtures of letters and oddities, the same in every run; half of them are valid. */
static inline void
give_mixed_texts(text_check *check, int times)
{
	static const char letters[] = "abcdefghijklm";
	unsigned short dice[3] = {1, 2, 3};

	for (int i = 0; i < times; i++) {
		char text[256] = "";

		for (long pieces = nrand48(dice) % 20; pieces > 0; pieces--) {
			size_t odd = (size_t)nrand48(dice) % (i % 2 == 0 ? ODD_BUT_VALID : ODD_TEXTS);

			strcat(text, nrand48(dice) % 2 == 0 ? odd_texts[odd] : letters + nrand48(dice) % 13);
		}
		give_text(check, text, strlen(text));
	}
}

#endif
