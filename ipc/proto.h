/*
 * Messages between zitd and a runner: structs, packing and strict reading, all expanded from proto.def.
 * Knows nothing of sockets (channel.h) and nothing of what messages mean.
 */
#ifndef IPC_PROTO_H
#define IPC_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PROTO_VERSION = 5, PROTO_MAX_BYTES = 160 * 1024, PROTO_MAX_FDS = 4 };

/* The first 24 bytes of every packet: u16 type, u16 zero, u32 payload bytes, u64 job, u32 attempt, u32
 * generation. */
struct proto_header {
	uint16_t type;
	uint64_t job;	     /* zitd's number of the job; 0 when about NOBODY */
	uint32_t attempt;    /* 1.. */
	uint32_t generation; /* of the runner process; grows with each spawn */
};

/* struct proto_hello, proto_loading, ... : STR fields are `const char *` that point into the packet that was
 * read (valid until it is overwritten) or, when packing, into the caller's memory. Never NULL after reading.
 */
#define U32(x, help) uint32_t x;
#define U64(x, help) uint64_t x;
#define F64(x, help) double x;
#define STR(x, max, help) const char *x;
#define MSG(NAME, number, sender, fds, about, fields, help) \
	struct proto_##NAME { \
		fields \
	};
#include "ipc/proto.def"

enum proto_type {
#define MSG(NAME, number, sender, fds, about, fields, help) PROTO_##NAME = (number),
#include "ipc/proto.def"
};

enum proto_sender { PROTO_FROM_ZITD, PROTO_FROM_RUNNER };

struct proto_msg {
	struct proto_header head;
	union {
#define MSG(NAME, number, sender, fds, about, fields, help) struct proto_##NAME NAME;
#include "ipc/proto.def"
	};
};

/* "PROGRESS"; "?" for a number without a row. */
const char *proto_name(unsigned type);
/* Exactly how many descriptors a message of this type carries; 0 for an unknown one. */
int proto_fds(unsigned type);

/* Writes m into out; returns the packet's bytes, or -ERR_PROTOCOL if a string is too long or does not fit. */
int proto_pack(const struct proto_msg *m, uint8_t *out, size_t size);

/* Reads one packet from `sender`. 0, or -ERR_PROTOCOL for anything but a row's exact shape: unknown type,
 * wrong side, a byte too few or too many, a string that is too long, not UTF-8 or holds a NUL inside. Strings
 * of *m point into `packet`: on the wire a string is u32 bytes, the bytes, and one NUL. */
int proto_read(struct proto_msg *m, enum proto_sender sender, const uint8_t *packet, size_t bytes);

#endif
