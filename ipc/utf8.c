/*
 * UTF-8 as strangers send it: checked once, here. Unicode's table 3-7 of well-formed sequences.
 */
#include "ipc/utf8.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* By the first byte: the length, and the range of the second byte; the rest are 80..BF. */
static const struct form {
	uint8_t length, low, high;
} forms[256] = {
    [0x00 ... 0x7f] = {1, 0, 0},
    [0xc2 ... 0xdf] = {2, 0x80, 0xbf},
    [0xe0] = {3, 0xa0, 0xbf},
    [0xe1 ... 0xec] = {3, 0x80, 0xbf},
    [0xed] = {3, 0x80, 0x9f},
    [0xee ... 0xef] = {3, 0x80, 0xbf},
    [0xf0] = {4, 0x90, 0xbf},
    [0xf1 ... 0xf3] = {4, 0x80, 0xbf},
    [0xf4] = {4, 0x80, 0x8f},
};

size_t
utf8_length(const char *text, size_t count)
{
	const uint8_t *p = (const uint8_t *)text;
	const struct form *form = &forms[p[0]];

	if (form->length > count || (form->length > 1 && (p[1] < form->low || p[1] > form->high)))
		return 0;
	for (size_t k = 2; k < form->length; k++) {
		if ((p[k] & 0xc0) != 0x80)
			return 0;
	}
	return form->length;
}

/* ---- plain text, a word of eight bytes at a time */

#define EVERY(byte) (UINT64_C(0x0101010101010101) * (byte))

/* The bytes before the first one that is not plain; 8: they all are. That byte is the lowest whose highest
 * bit is set in the end; bytes after it may be taken wrongly, by what was carried and borrowed. */
static size_t
plain_bytes(uint64_t word)
{
	uint64_t below_space = word - EVERY(' '), delete = word + EVERY(1);
	uint64_t quote = (word ^ EVERY('"')) - EVERY(1), backslash = (word ^ EVERY('\\')) - EVERY(1);
	uint64_t marks = (word | below_space | delete | quote | backslash) & EVERY(0x80);

	return marks != 0 ? (size_t)__builtin_ctzll(marks) / 8 : sizeof(word);
}

size_t
utf8_plain(const char *text, size_t count)
{
	uint64_t word = 0; /* little-endian, as is all that zit runs on */
	size_t last = count - sizeof(word), plain;

	if (count < sizeof(word)) {
		memcpy(&word, text, count);
		return plain_bytes(word); /* the zeros behind it are not */
	}
	for (size_t at = 0;; at = at + sizeof(word) < last ? at + sizeof(word) : last) {
		memcpy(&word, text + at, sizeof(word));
		plain = plain_bytes(word);
		if (plain < sizeof(word))
			return at + plain;
		if (at == last)
			return count;
	}
}

bool
utf8_valid(const char *text, size_t count)
{
	while (count > 0) {
		size_t length = utf8_plain(text, count);

		if (length == 0)
			length = utf8_length(text, count);
		if (length == 0)
			return false;
		text += length;
		count -= length;
	}
	return true;
}

/* Whether the bytes up to the end are the beginning of a character that was cut off. */
static bool
is_cut_off(const char *text, size_t count)
{
	if (count >= forms[(uint8_t)text[0]].length)
		return false;
	for (size_t k = 1; k < count; k++) {
		if (((uint8_t)text[k] & 0xc0) != 0x80)
			return false;
	}
	return true;
}

void
utf8_make_line(char *text)
{
	size_t count = strlen(text);

	while (count > 0) {
		size_t length = utf8_plain(text, count);

		if (length == 0)
			length = utf8_length(text, count);
		if (length == 0 && is_cut_off(text, count)) {
			*text = '\0';
			return;
		}
		if (length == 0 || (uint8_t)*text < ' ' || *text == 0x7f) {
			*text = '?';
			length = 1;
		}
		text += length;
		count -= length;
	}
}

/* ---- lines that are too long */

enum { LEAST_WORD = 48 }; /* bytes that a word keeps */

/* The longest one; its length to *length. */
static char *
longest_word(char *line, size_t *length)
{
	static const char between[] = " '\"(),";
	char *longest = line;

	*length = 0;
	while (*(line += strspn(line, between)) != '\0') {
		size_t count = strcspn(line, between);
		if (count > *length) {
			longest = line;
			*length = count;
		}
		line += count;
	}
	return longest;
}

void
utf8_fit_line(char *out, size_t size, char *line)
{
	static const char gap[] = {'.', '.', '.'};
	size_t all, length;

	while ((all = strlen(line)) >= size) {
		char *word = longest_word(line, &length), *rest;
		size_t excess = all - size + 1 + sizeof(gap);

		if (length <= LEAST_WORD + sizeof(gap))
			break;
		rest = word + (excess < length - LEAST_WORD ? excess : length - LEAST_WORD);
		while (((uint8_t)*rest & 0xc0) == 0x80)
			rest++;
		memcpy(word, gap, sizeof(gap));
		memmove(word + sizeof(gap), rest, strlen(rest) + 1);
	}
	snprintf(out, size, "%s", line);
	utf8_make_line(out);
}
