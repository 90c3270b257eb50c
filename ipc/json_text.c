/*
 * JSON as text.
 */
#include "ipc/json_text.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/utf8.h"

enum { SMALLEST = 1024, NUMBER_BYTES = 32, ESCAPE_BYTES = 6 };

#define EXACT 1e15	 /* whole numbers below it need no fraction's digits */
#define EXACT_MICROS 1e9 /* those below it, of which microseconds are all, need no others */

/* Room for `count` more bytes and the end; NULL: there is none. */
static char *
reserve(struct json_text *t, size_t count)
{
	size_t room = t->room > 0 ? t->room : SMALLEST;
	char *larger;

	if (t->failed)
		return NULL;
	while (room < t->used + count + 1)
		room *= 2;
	if (room > t->room) {
		larger = realloc(t->text, room);
		if (larger == NULL) {
			t->failed = true;
			return NULL;
		}
		t->text = larger;
		t->room = room;
	}
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

/* A comma where there is one, and the key. */
static void
begin_value(struct json_text *t, const char *key)
{
	size_t length = key != NULL ? strlen(key) : 0;
	char *at = reserve(t, length + 4);

	if (at == NULL)
		return;
	if (t->comma)
		*at++ = ',';
	if (key != NULL) {
		*at++ = '"';
		memcpy(at, key, length);
		at += length;
		*at++ = '"';
		*at++ = ':';
	}
	t->used = (size_t)(at - t->text);
	t->comma = true;
}

void
json_text_open(struct json_text *t, const char *key, char bracket)
{
	begin_value(t, key);
	json_text_raw(t, &bracket, 1);
	t->comma = false;
}

void
json_text_close(struct json_text *t, char bracket)
{
	json_text_raw(t, &bracket, 1);
	t->comma = true;
}

/* ---- values */

/* Returns where it goes on. */
static char *
put_character(char *out, unsigned char c)
{
	static const char letters[] = {['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r'};

	if (c >= 0x20 && c != '"' && c != '\\') {
		*out++ = (char)c;
		return out;
	}
	*out++ = '\\';
	if (c >= 0x20)
		*out++ = (char)c;
	else if (c < sizeof(letters) && letters[c] != '\0')
		*out++ = letters[c];
	else
		out += sprintf(out, "u%04x", c);
	return out;
}

void
json_text_string(struct json_text *t, const char *key, const char *value)
{
	size_t length = strlen(value);
	char *at;

	if (!utf8_valid(value, length))
		return;
	begin_value(t, key);
	at = reserve(t, ESCAPE_BYTES * length + 2);
	if (at == NULL)
		return;
	*at++ = '"';
	for (size_t i = 0; i < length; i++)
		at = put_character(at, (unsigned char)value[i]);
	*at++ = '"';
	t->used = (size_t)(at - t->text);
}

/* Ends before `end`; returns where it begins. */
static char *
put_digits(char *end, uint64_t value, int least)
{
	for (; value > 0 || least > 0; value /= 10, least--)
		*--end = (char)('0' + value % 10);
	return end;
}

void
json_text_integer(struct json_text *t, const char *key, int64_t value)
{
	char number[NUMBER_BYTES], *end = number + sizeof(number);
	char *at = put_digits(end, value < 0 ? -(uint64_t)value : (uint64_t)value, 1);

	if (value < 0)
		*--at = '-';
	begin_value(t, key);
	json_text_raw(t, at, (size_t)(end - at));
}

void
json_text_micros(struct json_text *t, const char *key, int64_t us)
{
	char number[NUMBER_BYTES], *end = number + sizeof(number);
	uint64_t value = us < 0 ? -(uint64_t)us : (uint64_t)us;
	char *at = put_digits(end, value % 1000000, 6);

	while (end - at > 1 && end[-1] == '0')
		end--;
	*--at = '.';
	at = put_digits(at, value / 1000000, 1);
	if (us < 0)
		*--at = '-';
	begin_value(t, key);
	json_text_raw(t, at, (size_t)(end - at));
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
	begin_value(t, key);
	snprintf(number, sizeof(number), "%.17g", value);
	json_text_raw(t, number, strlen(number));
	if (strpbrk(number, ".e") == NULL)
		json_text_raw(t, ".0", 2);
}

void
json_text_boolean(struct json_text *t, const char *key, bool value)
{
	begin_value(t, key);
	json_text_raw(t, value ? "true" : "false", value ? 4 : 5);
}

void
json_text_member(struct json_text *t, const char *key, const char *text)
{
	begin_value(t, key);
	if (text != NULL)
		json_text_raw(t, text, strlen(text));
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
