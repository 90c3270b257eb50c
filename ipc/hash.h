/*
 * Checksums that find every single changed bit. They are no defence against malice.
 */
#ifndef IPC_HASH_H
#define IPC_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_START UINT64_C(0xcbf29ce484222325)

/* `hash` goes on over `count` more bytes; begin with HASH_START. */
uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t count);

/* Of what is there as a whole, eight bytes at a time: many times as fast. */
uint64_t hash_words(const void *bytes, size_t count);

#endif
