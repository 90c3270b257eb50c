/*
 * Requests that kill runners, by a hash of what they ask for.
 */
#include "supervisor/jobs/quarantine.h"

#include <stddef.h>
#include <string.h>

#include "ipc/hash.h"

uint64_t
quarantine_fingerprint(const struct api_submit *p)
{
	const int64_t numbers[] = {p->has_width ? p->width : 0, p->has_height ? p->height : 0,
	    p->has_steps ? p->steps : 0, p->truncate};
	uint64_t hash = HASH_START; /* a collision refuses an innocent request for a while; one in 2^64 */

	hash = hash_bytes(hash, p->prompt, strlen(p->prompt) + 1);
	if (p->has_negative_prompt)
		hash = hash_bytes(hash, p->negative_prompt, strlen(p->negative_prompt) + 1);
	return hash_bytes(hash, numbers, sizeof(numbers));
}

/* Its index, or -1. */
static int
find(const struct quarantine *q, uint64_t fingerprint)
{
	for (int i = 0; i < QUARANTINE_ENTRIES; i++) {
		if (q->entries[i].until_us != 0 && q->entries[i].fingerprint == fingerprint)
			return i;
	}
	return -1;
}

enum verdict
quarantine_check(const struct quarantine *q, uint64_t fingerprint, int64_t now_us, bool force, double *left_s)
{
	int i = find(q, fingerprint);

	*left_s = 0;
	if (i < 0)
		return VERDICT_ADMIT;
	if (!q->entries[i].probing && (force || now_us >= q->entries[i].until_us))
		return VERDICT_PROBE;
	if (q->entries[i].until_us > now_us)
		*left_s = (double)(q->entries[i].until_us - now_us) * 1e-6;
	return VERDICT_REFUSE;
}

/* The one whose time is over first: a free one, if there is any. */
static int
first_to_end(const struct quarantine *q)
{
	int first = 0;

	for (int i = 1; i < QUARANTINE_ENTRIES; i++) {
		if (q->entries[i].until_us < q->entries[first].until_us)
			first = i;
	}
	return first;
}

void
quarantine_add(struct quarantine *q, uint64_t fingerprint, int64_t until_us)
{
	int at = find(q, fingerprint);

	if (at < 0)
		at = first_to_end(q);
	q->entries[at].fingerprint = fingerprint;
	q->entries[at].until_us = until_us;
	q->entries[at].probing = false;
}

void
quarantine_probe(struct quarantine *q, uint64_t fingerprint)
{
	int i = find(q, fingerprint);

	if (i >= 0)
		q->entries[i].probing = true;
}

void
quarantine_probed(struct quarantine *q, uint64_t fingerprint, bool good)
{
	int i = find(q, fingerprint);

	if (i < 0)
		return;
	q->entries[i].probing = false;
	if (good)
		q->entries[i].until_us = 0;
}

/* ---- over a restart */

json_t *
quarantine_dump(const struct quarantine *q, int64_t now_us, int64_t wall_us)
{
	json_t *entries = json_array();

	for (int i = 0; i < QUARANTINE_ENTRIES; i++) {
		if (q->entries[i].until_us != 0)
			json_array_append_new(entries,
			    json_pack("{s:I, s:I}", "fingerprint", (json_int_t)q->entries[i].fingerprint,
				"until_us", (json_int_t)(q->entries[i].until_us - now_us + wall_us)));
	}
	return entries;
}

bool
quarantine_restore(
    struct quarantine *q, const json_t *entries, int64_t now_us, int64_t wall_us, int64_t longest_us)
{
	const json_t *entry;
	size_t i;

	json_array_foreach(entries, i, entry)
	{
		const json_t *fingerprint = json_object_get(entry, "fingerprint");
		int64_t left_us = json_integer_value(json_object_get(entry, "until_us")) - wall_us;
		if (!json_is_integer(fingerprint) || i >= QUARANTINE_ENTRIES)
			return false;
		left_us = left_us < longest_us ? left_us : longest_us;
		quarantine_add(
		    q, (uint64_t)json_integer_value(fingerprint), now_us + (left_us > 0 ? left_us : 0));
	}
	return json_is_array(entries);
}
