/*
 * JSON as text.
 */
#include "ipc/json_text.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/decimal.h"
#include "ipc/utf8.h"

enum { SMALLEST = 1024, NUMBER_BYTES = 32, ESCAPE_BYTES = 6 };

#define EXACT 1e15	 /* whole numbers below it need no fraction's digits */
#define EXACT_MICROS 1e9 /* those below it, of which microseconds are all, need no others */

/* false: no memory. */
static bool
grow(struct json_text *t, size_t count)
{
	size_t room = t->room > 0 ? t->room : SMALLEST;
	char *larger;

	while (room < t->used + count + 1)
		room *= 2;
	larger = realloc(t->text, room);
	t->failed = larger == NULL;
	if (t->failed)
		return false;
	t->text = larger;
	t->room = room;
	return true;
}

/* Room for `count` more bytes and the end; NULL: there is none. */
static char *
reserve(struct json_text *t, size_t count)
{
	if (t->failed || (t->used + count >= t->room && !grow(t, count)))
		return NULL;
	return t->text + t->used;
}

void
json_text_raw(struct json_text *t, const char *bytes, size_t count)
{
	char *at = reserve(t, count);

	if (at == NULL)
		return;
	memcpy(at, bytes, count);
	t->used += count;
}

/* A comma where there is one, the key, and room for a value of `count` bytes: where that goes. All of it
 * counts from end_value on. NULL: no room. */
static char *
begin_value(struct json_text *t, const char *key, size_t count)
{
	size_t length = key != NULL ? strlen(key) : 0;
	char *at = reserve(t, length + 4 + count);

	if (at == NULL)
		return NULL;
	if (t->comma)
		*at++ = ',';
	if (key != NULL) {
		*at++ = '"';
		at = mempcpy(at, key, length);
		*at++ = '"';
		*at++ = ':';
	}
	return at;
}

static void
end_value(struct json_text *t, const char *end)
{
	t->used = (size_t)(end - t->text);
	t->comma = true;
}

static void
put_value(struct json_text *t, const char *key, const char *bytes, size_t count)
{
	char *at = begin_value(t, key, count);

	if (at != NULL)
		end_value(t, mempcpy(at, bytes, count));
}

void
json_text_open(struct json_text *t, const char *key, char bracket)
{
	put_value(t, key, &bracket, 1);
	t->comma = false;
}

void
json_text_close(struct json_text *t, char bracket)
{
	json_text_raw(t, &bracket, 1);
	t->comma = true;
}

/* ---- strings */

/* How many bytes from the beginning are well-formed, and go as they are. */
static size_t
unescaped(const char *text, size_t count)
{
	size_t at = 0, length;

	do {
		length = (uint8_t)text[at] > '~' ? utf8_length(text + at, count - at)
						 : utf8_plain(text + at, count - at);
		at += length;
	} while (length > 0 && at < count);
	return at;
}

/* Returns where it goes on. */
static char *
put_escaped(char *out, char c)
{
	static const char letters[] = {
	    ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r', ['"'] = '"', ['\\'] = '\\'};

	*out++ = '\\';
	if (letters[(int)c] == '\0')
		return out + sprintf(out, "u%04x", c);
	*out++ = letters[(int)c];
	return out;
}

/* Returns where it goes on; NULL: it is not UTF-8. */
static char *
put_characters(char *out, const char *text, size_t count)
{
	for (const char *end = text + count; text < end;) {
		size_t length = unescaped(text, (size_t)(end - text));

		if (length > 0) {
			out = mempcpy(out, text, length);
			text += length;
		} else if ((uint8_t)*text <= '~')
			out = put_escaped(out, *text++);
		else
			return NULL;
	}
	return out;
}

void
json_text_string(struct json_text *t, const char *key, const char *value)
{
	size_t length = strlen(value), plain = unescaped(value, length);
	char *at = begin_value(t, key, plain + ESCAPE_BYTES * (length - plain) + 2);

	if (at == NULL)
		return;
	*at++ = '"';
	at = mempcpy(at, value, plain);
	at = put_characters(at, value + plain, length - plain);
	if (at == NULL)
		return;
	*at++ = '"';
	end_value(t, at);
}

/* ---- other values */

void
json_text_integer(struct json_text *t, const char *key, int64_t value)
{
	char number[DECIMAL_BYTES], *end = number + sizeof(number);
	const char *at = decimal_put(end, value);

	put_value(t, key, at, (size_t)(end - at));
}

void
json_text_micros(struct json_text *t, const char *key, int64_t us)
{
	char number[NUMBER_BYTES], *end = number + sizeof(number);
	uint64_t value = us < 0 ? -(uint64_t)us : (uint64_t)us;
	char *at = decimal_digits(end, value % 1000000, 6);

	while (end - at > 1 && end[-1] == '0')
		end--;
	*--at = '.';
	at = decimal_digits(at, value / 1000000, 1);
	if (us < 0)
		*--at = '-';
	put_value(t, key, at, (size_t)(end - at));
}

void
json_text_real(struct json_text *t, const char *key, double value)
{
	char number[NUMBER_BYTES];
	int64_t us;

	if (!isfinite(value))
		return;
	if (fabs(value) < EXACT && value == (double)(int64_t)value) {
		json_text_integer(t, key, (int64_t)value);
		json_text_raw(t, ".0", 2);
		return;
	}
	us = (int64_t)(fabs(value) < EXACT_MICROS ? value * 1e6 + (value < 0 ? -0.5 : 0.5) : 0);
	if ((double)us / 1e6 == value) { /* 17 digits take ten times as long */
		json_text_micros(t, key, us);
		return;
	}
	snprintf(number, sizeof(number), "%.17g", value);
	put_value(t, key, number, strlen(number));
	if (strpbrk(number, ".e") == NULL)
		json_text_raw(t, ".0", 2);
}

void
json_text_boolean(struct json_text *t, const char *key, bool value)
{
	put_value(t, key, value ? "true" : "false", value ? 4 : 5);
}

void
json_text_member(struct json_text *t, const char *key, const char *text)
{
	if (text != NULL)
		put_value(t, key, text, strlen(text));
	else
		t->failed = true;
}

void
json_text_value(struct json_text *t, const char *key, const json_t *value)
{
	char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(16));

	json_text_member(t, key, text);
	free(text);
}

char *
json_text_end(struct json_text *t)
{
	char *text = reserve(t, 0) != NULL ? t->text : NULL;

	if (text != NULL)
		text[t->used] = '\0';
	else
		free(t->text);
	*t = (struct json_text){0};
	return text;
}
