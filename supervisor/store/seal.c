/*
 * Sealed texts. The seal is `,"sum":"0123456789abcdef"}`: no string inside can hold it, for its quotes would
 * be escaped there.
 */
#include "supervisor/store/seal.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/hash.h"

enum { SEAL_TAIL_BYTES = sizeof(SEAL_TAIL) - 1, SUM_BYTES = SEAL_TAIL_BYTES + 16 + 2 };

static void
write_seal(char out[SUM_BYTES], uint64_t sum)
{
	out = mempcpy(out, SEAL_TAIL, SEAL_TAIL_BYTES);
	for (int shift = 60; shift >= 0; shift -= 4)
		*out++ = "0123456789abcdef"[sum >> shift & 0xf];
	memcpy(out, "\"}", 2);
}

void
seal_begin(struct json_text *t, const char *kind)
{
	*t = (struct json_text){0};
	json_text_open(t, NULL, '{');
	json_text_string(t, "zit", kind);
}

char *
seal_end(struct json_text *t)
{
	char end[SUM_BYTES];

	write_seal(end, t->failed ? 0 : hash_words(t->text, t->used));
	json_text_raw(t, end, SUM_BYTES);
	return json_text_end(t);
}

char *
seal(const char *kind, json_t *members)
{
	struct json_text t;
	const char *key;
	json_t *value;
	char *text;

	seal_begin(&t, kind);
	t.failed |= members == NULL;
	json_object_foreach(members, key, value)
	{
		text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
		json_text_member(&t, key, text);
		free(text);
	}
	json_decref(members);
	return seal_end(&t);
}

static bool
has_sum(const char *end, uint64_t sum)
{
	char expected[SUM_BYTES];

	write_seal(expected, sum);
	return memcmp(end, expected, SUM_BYTES) == 0;
}

/* Whether the seal at `at` is that of the bytes before it. In the store's first version it was another sum,
 * and texts of that time are kept as they are. */
static bool
is_sealed(const char *text, size_t at)
{
	return has_sum(text + at, hash_words(text, at)) ||
	       has_sum(text + at, hash_bytes(HASH_START, text, at));
}

json_t *
unseal(const char *kind, const char *text, size_t bytes)
{
	json_t *whole;
	const char *found;

	if (bytes <= SUM_BYTES || !is_sealed(text, bytes - SUM_BYTES))
		return NULL;
	whole = json_loadb(text, bytes, 0, NULL);
	found = json_string_value(json_object_get(whole, "zit"));
	if (found != NULL && strcmp(found, kind) == 0)
		return whole;
	json_decref(whole);
	return NULL;
}

size_t
seal_length(const char *text, size_t bytes)
{
	const char *at = text;
	size_t before;

	if (bytes <= SUM_BYTES || memcmp(text, SEAL_HEAD, sizeof(SEAL_HEAD) - 1) != 0)
		return 0;
	while ((at = memmem(at, bytes - (size_t)(at - text), SEAL_TAIL, SEAL_TAIL_BYTES)) != NULL) {
		before = (size_t)(at - text);
		if (bytes - before < SUM_BYTES)
			return 0;
		if (is_sealed(text, before))
			return before + SUM_BYTES;
		at += SEAL_TAIL_BYTES;
	}
	return 0;
}
