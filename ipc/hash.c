/*
 * FNV-1a, 64 bits.
 */
#include "ipc/hash.h"

uint64_t
hash_bytes(uint64_t hash, const void *bytes, size_t count)
{
	const uint8_t *p = bytes;

	for (size_t i = 0; i < count; i++)
		hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
	return hash;
}
