/*
 * SHA-256 (FIPS 180-4), for the identity of models and prompts. Not for secrets: nothing here is
 * constant-time.
 */
#ifndef IPC_SHA256_H
#define IPC_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { SHA256_BYTES = 32, SHA256_BLOCK = 64 };

struct sha256 {
	uint32_t state[8];
	uint64_t bytes; /* fed so far */
	uint8_t block[SHA256_BLOCK];
};

void sha256_init(struct sha256 *s);
void sha256_feed(struct sha256 *s, const void *bytes, size_t count);
void sha256_end(struct sha256 *s, uint8_t digest[SHA256_BYTES]); /* s must be initialised again after it */

#endif
