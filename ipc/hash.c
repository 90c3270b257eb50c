/*
 * Checksums.
 */
#include "ipc/hash.h"

#include <string.h>

/* FNV-1a, 64 bits. */
uint64_t
hash_bytes(uint64_t hash, const void *bytes, size_t count)
{
	const uint8_t *p = bytes;

	for (size_t i = 0; i < count; i++)
		hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
	return hash;
}

/* Other words give other results, and so do other hashes: what differs goes on differing to the end. */
static uint64_t
mix(uint64_t hash, uint64_t word)
{
	hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
	return hash ^ hash >> 32;
}

uint64_t
hash_words(const void *bytes, size_t count)
{
	const uint8_t *p = bytes, *end = p + count / sizeof(uint64_t) * sizeof(uint64_t);
	uint64_t hash = mix(HASH_START, count), word;

	for (; p < end; p += sizeof(word)) {
		memcpy(&word, p, sizeof(word)); /* little-endian, as is all that zit runs on */
		hash = mix(hash, word);
	}
	word = 0;
	memcpy(&word, p, count % sizeof(word));
	return mix(hash, word);
}
