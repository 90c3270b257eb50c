/*
 * Public job ids: "job_" and a UUIDv7 in lower-case Crockford base32, so that they sort by time.
 */
#include "supervisor/id.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "ipc/clock.h"
#include "ipc/random.h"

enum { UUID_BYTES = 16, DIGITS = 26 };

/* RFC 9562: 48 bits of milliseconds, version 7, 74 random bits around the variant. */
static void
make_uuid(uint8_t uuid[UUID_BYTES])
{
	uint64_t ms = (uint64_t)(clock_wall_us() / 1000);

	random_bytes(uuid, UUID_BYTES);
	for (int i = 0; i < 6; i++)
		uuid[i] = (uint8_t)(ms >> (40 - 8 * i));
	uuid[6] = (uint8_t)(0x70 | (uuid[6] & 0x0f));
	uuid[8] = (uint8_t)(0x80 | (uuid[8] & 0x3f));
}

void
id_make(char id[ID_SIZE])
{
	static const char alphabet[] = "0123456789abcdefghjkmnpqrstvwxyz";
	uint8_t uuid[UUID_BYTES];
	unsigned __int128 value = 0;

	make_uuid(uuid);
	for (int i = 0; i < UUID_BYTES; i++)
		value = value << 8 | uuid[i];
	memcpy(id, "job_", 4);
	for (int i = DIGITS - 1; i >= 0; i--, value >>= 5)
		id[4 + i] = alphabet[value & 31];
	id[ID_SIZE - 1] = '\0';
}
