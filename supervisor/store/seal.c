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
write_sum(char out[SUM_BYTES + 1], const char *text, size_t bytes)
{
	snprintf(out, SUM_BYTES + 1, SEAL_TAIL "%016llx\"}",
	    (unsigned long long)hash_bytes(HASH_START, text, bytes));
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
	char sum[SUM_BYTES + 1];

	if (!t->failed)
		write_sum(sum, t->text, t->used);
	json_text_raw(t, sum, SUM_BYTES);
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

/* Whether the seal at `at` is that of the bytes before it. */
static bool
is_sealed(const char *text, size_t at)
{
	char sum[SUM_BYTES + 1];

	write_sum(sum, text, at);
	return memcmp(text + at, sum, SUM_BYTES) == 0;
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
