/*
 * Messages between zitd and a runner: packing and strict reading, expanded from proto.def. A string is u32
 * bytes, the bytes, and one NUL, so that what was read can be pointed at.
 */
#include "ipc/proto.h"

#include <endian.h>
#include <string.h>

#include "ipc/err.h"
#include "ipc/utf8.h"

enum { HEADER_BYTES = 24 };

enum about { NOBODY, JOB };

static const struct {
	const char *name; /* NULL: no message has this number */
	enum proto_sender sender;
	int fds;
	enum about about;
} rows[] = {
    /* by their numbers */
#define ZITD PROTO_FROM_ZITD
#define RUNNER PROTO_FROM_RUNNER
#define MSG(NAME, number, sender, fds, about, fields, help) [number] = {#NAME, sender, fds, about},
#include "ipc/proto.def"
};

static bool
is_known(unsigned type)
{
	return type < sizeof(rows) / sizeof(rows[0]) && rows[type].name != NULL;
}

const char *
proto_name(unsigned type)
{
	return is_known(type) ? rows[type].name : "?";
}

int
proto_fds(unsigned type)
{
	return is_known(type) ? rows[type].fds : 0;
}

/* ---- packing */

struct writer {
	uint8_t *at;
	size_t left;
	bool failed;
};

static void
put_bytes(struct writer *w, const void *bytes, size_t count)
{
	if (w->failed || count > w->left) {
		w->failed = true;
		return;
	}
	memcpy(w->at, bytes, count);
	w->at += count;
	w->left -= count;
}

static void
put_u16(struct writer *w, uint16_t value)
{
	uint16_t wire = htole16(value);

	put_bytes(w, &wire, sizeof(wire));
}

static void
put_u32(struct writer *w, uint32_t value)
{
	uint32_t wire = htole32(value);

	put_bytes(w, &wire, sizeof(wire));
}

static void
put_u64(struct writer *w, uint64_t value)
{
	uint64_t wire = htole64(value);

	put_bytes(w, &wire, sizeof(wire));
}

static void
put_f64(struct writer *w, double value)
{
	uint64_t bits;

	memcpy(&bits, &value, sizeof(bits));
	put_u64(w, bits);
}

static void
put_string(struct writer *w, const char *text, size_t max)
{
	size_t count = text != NULL ? strlen(text) : 0;

	if (count > max || !utf8_valid(text != NULL ? text : "", count))
		w->failed = true;
	put_u32(w, (uint32_t)count);
	put_bytes(w, text != NULL ? text : "", count + 1);
}

static void
put_fields(struct writer *w, const struct proto_msg *m)
{
	switch (m->head.type) {
#define U32(x, help) put_u32(w, f->x);
#define U64(x, help) put_u64(w, f->x);
#define F64(x, help) put_f64(w, f->x);
#define STR(x, max, help) put_string(w, f->x, max);
#define MSG(NAME, number, sender, fds, about, fields, help) \
	case PROTO_##NAME: { \
		const struct proto_##NAME *f = &m->NAME; \
		fields \
	} break;
#include "ipc/proto.def"
	default:
		w->failed = true;
	}
}

int
proto_pack(const struct proto_msg *m, uint8_t *out, size_t size)
{
	struct writer w = {out, size < PROTO_MAX_BYTES ? size : PROTO_MAX_BYTES, size < HEADER_BYTES};
	struct writer head = {out, HEADER_BYTES, w.failed};
	size_t total;

	if (w.failed)
		return -ERR_PROTOCOL;
	w.at += HEADER_BYTES;
	w.left -= HEADER_BYTES;
	put_fields(&w, m);
	total = (size_t)(w.at - out);
	put_u16(&head, m->head.type);
	put_u16(&head, 0);
	put_u32(&head, (uint32_t)(total - HEADER_BYTES));
	put_u64(&head, m->head.job);
	put_u32(&head, m->head.attempt);
	put_u32(&head, m->head.generation);
	return w.failed ? -ERR_PROTOCOL : (int)total;
}

/* ---- reading */

struct reader {
	const uint8_t *at;
	size_t left;
	bool failed;
};

static void
get_bytes(struct reader *r, void *out, size_t count)
{
	if (r->failed || count > r->left) {
		r->failed = true;
		memset(out, 0, count);
		return;
	}
	memcpy(out, r->at, count);
	r->at += count;
	r->left -= count;
}

static uint16_t
get_u16(struct reader *r)
{
	uint16_t wire;

	get_bytes(r, &wire, sizeof(wire));
	return le16toh(wire);
}

static uint32_t
get_u32(struct reader *r)
{
	uint32_t wire;

	get_bytes(r, &wire, sizeof(wire));
	return le32toh(wire);
}

static uint64_t
get_u64(struct reader *r)
{
	uint64_t wire;

	get_bytes(r, &wire, sizeof(wire));
	return le64toh(wire);
}

static double
get_f64(struct reader *r)
{
	uint64_t bits = get_u64(r);
	double value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

static const char *
get_string(struct reader *r, size_t max)
{
	size_t count = get_u32(r);
	const char *text = (const char *)r->at;

	if (r->failed || count > max || count >= r->left || text[count] != '\0' ||
	    memchr(text, '\0', count) != NULL || !utf8_valid(text, count)) {
		r->failed = true;
		return "";
	}
	r->at += count + 1;
	r->left -= count + 1;
	return text;
}

static void
get_fields(struct reader *r, struct proto_msg *m)
{
	switch (m->head.type) {
#define U32(x, help) f->x = get_u32(r);
#define U64(x, help) f->x = get_u64(r);
#define F64(x, help) f->x = get_f64(r);
#define STR(x, max, help) f->x = get_string(r, max);
#define MSG(NAME, number, sender, fds, about, fields, help) \
	case PROTO_##NAME: { \
		struct proto_##NAME *f = &m->NAME; \
		fields \
	} break;
#include "ipc/proto.def"
	default:
		r->failed = true;
	}
}

/* Whether the header names a row of that sender, and a job where the row is about one. */
static bool
header_is_legal(const struct proto_header *head, enum proto_sender sender)
{
	return is_known(head->type) && rows[head->type].sender == sender &&
	       (rows[head->type].about == JOB) == (head->job != 0);
}

int
proto_read(struct proto_msg *m, enum proto_sender sender, const uint8_t *packet, size_t bytes)
{
	struct reader r = {packet, bytes, bytes > PROTO_MAX_BYTES};
	uint16_t zero;
	uint32_t payload;

	m->head.type = get_u16(&r);
	zero = get_u16(&r);
	payload = get_u32(&r);
	m->head.job = get_u64(&r);
	m->head.attempt = get_u32(&r);
	m->head.generation = get_u32(&r);
	if (r.failed || zero != 0 || payload != r.left || !header_is_legal(&m->head, sender))
		return -ERR_PROTOCOL;
	get_fields(&r, m);
	return r.failed || r.left != 0 ? -ERR_PROTOCOL : 0;
}
