/*
 * What a connection still has to send.
 */
#include "supervisor/socket/outbox.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/err.h"
#include "ipc/fds.h"
#include "supervisor/handover.h"

enum {
	FILE_CHUNK = OUTBOX_SMALL,
	BASE64_CHUNK = FILE_CHUNK / 3 * 4,
	TURN = 1024 * 1024,
	FD_WEIGHT = 16 * 1024, /* zitd has few descriptors, and clients many requests */
	MAX_PASSED = 4 * FDS_MAX_SENT,
	PARTS = 8, /* pieces that go out with one call */
};

struct piece {
	STAILQ_ENTRY(piece) link;
	size_t start, end; /* of data */
	size_t weight;	   /* in the outbox's sum */
	int fds[FDS_MAX_SENT];
	int fd_count;
	int file; /* read for more base64 when data is sent; -1: none */
	off_t file_at, file_end;
	char *data; /* the text, or a chunk of the file: not there before its turn comes */
	char text[];
};

void
outbox_init(struct outbox *o)
{
	*o = (struct outbox){0};
	STAILQ_INIT(&o->pieces);
}

static void
drop_fds(struct piece *p)
{
	for (int i = 0; i < p->fd_count; i++)
		close(p->fds[i]);
	p->fd_count = 0;
}

static void
drop_first(struct outbox *o)
{
	struct piece *p = STAILQ_FIRST(&o->pieces);

	STAILQ_REMOVE_HEAD(&o->pieces, link);
	o->weight -= p->weight;
	drop_fds(p);
	if (p->file >= 0) {
		close(p->file);
		free(p->data);
	}
	free(p);
}

void
outbox_clear(struct outbox *o)
{
	while (!STAILQ_EMPTY(&o->pieces))
		drop_first(o);
	o->waits = false;
}

bool
outbox_is_empty(const struct outbox *o)
{
	return STAILQ_EMPTY(&o->pieces);
}

static struct piece *
add_piece(struct outbox *o, size_t bytes, int fd_count)
{
	struct piece *p = calloc(1, sizeof(*p) + bytes);

	if (p == NULL)
		return NULL;
	p->file = -1;
	p->weight = bytes + (size_t)fd_count * FD_WEIGHT;
	o->weight += p->weight;
	STAILQ_INSERT_TAIL(&o->pieces, p, link);
	return p;
}

static int
add_text(struct outbox *o, const char *text, size_t bytes, const char *end, const int *fds, int fd_count)
{
	size_t end_bytes = strlen(end);
	struct piece *p = add_piece(o, bytes + end_bytes, fd_count);

	if (p == NULL)
		return -ERR_SYSTEM;
	p->data = p->text;
	memcpy(p->text, text, bytes);
	memcpy(p->text + bytes, end, end_bytes);
	p->end = bytes + end_bytes;
	if (fd_count > 0)
		memcpy(p->fds, fds, (size_t)fd_count * sizeof(int));
	p->fd_count = fd_count;
	return 0;
}

int
outbox_text(struct outbox *o, const char *text, size_t bytes, const int *fds, int fd_count)
{
	return add_text(o, text, bytes, "", fds, fd_count);
}

int
outbox_line(struct outbox *o, const char *text, const int *fds, int fd_count)
{
	return add_text(o, text, strlen(text), "\n", fds, fd_count);
}

static int
add_file(struct outbox *o, int fd, off_t at)
{
	struct piece *p = add_piece(o, 0, 1);
	struct stat st;

	if (p == NULL)
		return -ERR_SYSTEM;
	p->file = fd;
	p->file_at = at;
	p->file_end = fstat(fd, &st) == 0 ? st.st_size : at;
	return 0;
}

int
outbox_base64(struct outbox *o, int fd)
{
	return add_file(o, fd, 0);
}

/* ---- base64 */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* The two characters of every twelve bits, in their order in memory. */
static const uint16_t *
pairs(void)
{
	static uint16_t made[4096];

	for (unsigned int bits = 0; bits < 4096 && made[bits] == 0; bits++)
		made[bits] = (uint16_t)(alphabet[bits >> 6] | alphabet[bits & 63] << 8); /* little-endian */
	return made;
}

/* RFC 4648; returns the characters written, 4 for every 3 bytes begun. */
static size_t
encode(char *out, const uint8_t *in, size_t count)
{
	const uint16_t *const of = pairs();
	uint8_t last[3] = {0};
	size_t n = 0, i = 0;

	for (; i < count; i += 3) {
		const uint8_t *three = count - i >= 3 ? in + i : memcpy(last, in + i, count - i);
		uint32_t bits = (uint32_t)three[0] << 16 | (uint32_t)three[1] << 8 | three[2];

		memcpy(out + n, &of[bits >> 12], 2);
		memcpy(out + n + 2, &of[bits & 0xfff], 2);
		n += 4;
	}
	memset(out + n - (i - count), '=', i - count);
	return n;
}

/* Up to `wanted` bytes from `at` on; fewer than that are all there are. */
static size_t
read_bytes(int file, uint8_t *out, size_t wanted, off_t at)
{
	size_t got = 0;

	while (got < wanted) {
		ssize_t n = pread(file, out + got, wanted - got, at + (off_t)got);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		got += (size_t)n;
	}
	return got;
}

/* The next chunk of the file into data. 0 or -ERR_SYSTEM. Chunks are whole threes, so no padding falls in
 * between. */
static int
refill(struct piece *p)
{
	uint8_t chunk[FILE_CHUNK];
	size_t got, left = (size_t)(p->file_end - p->file_at);
	size_t wanted = left < sizeof(chunk) ? left : sizeof(chunk);

	if (p->data == NULL)
		p->data = malloc(left < sizeof(chunk) ? (left + 2) / 3 * 4 : BASE64_CHUNK);
	if (p->data == NULL)
		return -ERR_SYSTEM;
	got = read_bytes(p->file, chunk, wanted, p->file_at);
	p->file_at += (off_t)got;
	if (got < wanted) /* it is shorter than it was */
		p->file_end = p->file_at;
	p->start = 0;
	p->end = encode(p->data, chunk, got);
	return 0;
}

int
outbox_base64_now(struct outbox *o, int fd, size_t bytes)
{
	uint8_t chunk[OUTBOX_SMALL];
	size_t got = read_bytes(fd, chunk, bytes < sizeof(chunk) ? bytes : sizeof(chunk), 0);
	struct piece *p = add_piece(o, (got + 2) / 3 * 4, 0);

	if (p == NULL)
		return -ERR_SYSTEM;
	p->data = p->text;
	p->end = encode(p->data, chunk, got);
	return 0;
}

/* Whether all of it is in data. */
static bool
is_all_there(const struct piece *p)
{
	return p->file < 0 || p->file_at >= p->file_end;
}

/* ---- sending */

/* What goes out next: pieces in a row, of which the first alone has descriptors, and the last alone more of
 * its file. Their number, or -ERR_SYSTEM. */
static int
gather(struct outbox *o, struct iovec parts[PARTS])
{
	struct piece *p;
	int count = 0, status;

	STAILQ_FOREACH(p, &o->pieces, link)
	{
		if (count == PARTS || (count > 0 && p->fd_count > 0))
			break;
		if (p->start == p->end && !is_all_there(p) && (status = refill(p)) != 0)
			return status;
		parts[count++] = (struct iovec){p->data + p->start, p->end - p->start};
		if (!is_all_there(p))
			break;
	}
	return count;
}

/* So many bytes have gone: pieces that have nothing left go too. */
static void
take_off(struct outbox *o, size_t bytes)
{
	struct piece *p;

	while ((p = STAILQ_FIRST(&o->pieces)) != NULL) {
		size_t part = p->end - p->start < bytes ? p->end - p->start : bytes;

		p->start += part;
		bytes -= part;
		if (p->start < p->end || !is_all_there(p))
			break;
		drop_first(o);
	}
}

static bool
may_pass(struct outbox *o, int count, int socket)
{
	int unread = 0;

	if (count == 0 || o->passed + count <= MAX_PASSED)
		return true;
	if (ioctl(socket, SIOCOUTQ, &unread) == 0 && unread > 0)
		return false;
	o->passed = 0;
	return true;
}

long
outbox_send(struct outbox *o, int socket)
{
	struct iovec parts[PARTS];
	long sent = 0;

	while (!STAILQ_EMPTY(&o->pieces) && sent < TURN) {
		struct piece *first = STAILQ_FIRST(&o->pieces);
		int count = gather(o, parts), fds = first->fd_count;
		ssize_t n;

		if (count < 0)
			return count;
		o->waits = !may_pass(o, fds, socket);
		if (o->waits)
			break;
		n = fds_send(socket, parts, (size_t)count, first->fds, fds);
		if (n < 0)
			return errno == EAGAIN || errno == ENOBUFS ? sent : -ERR_UNREACHABLE;
		if (n > 0) {
			drop_fds(first);
			o->passed += fds;
		}
		take_off(o, (size_t)n);
		sent += n;
	}
	return sent;
}

/* ---- from one zitd to the next. Of a file's chunk the rest goes as text, before the rest of the file. */

static json_t *
hand_over_piece(const struct piece *p, struct handover *h)
{
	json_t *fds = json_array();

	for (int i = 0; i < p->fd_count; i++)
		json_array_append_new(fds, handover_fd(h, p->fds[i]));
	return json_pack("{s:o, s:o, s:o, s:I}", "text",
	    handover_bytes(p->data != NULL ? p->data + p->start : "", p->end - p->start), "fds", fds, "file",
	    handover_fd(h, p->file), "at", (json_int_t)p->file_at);
}

json_t *
outbox_hand_over(const struct outbox *o, struct handover *h)
{
	json_t *pieces = json_array();
	const struct piece *p;

	STAILQ_FOREACH(p, &o->pieces, link)
	json_array_append_new(pieces, hand_over_piece(p, h));
	return json_pack("{s:i, s:o}", "passed", o->passed, "pieces", pieces);
}

static void
take_over_text(struct outbox *o, const json_t *piece)
{
	const json_t *list = json_object_get(piece, "fds");
	int fds[FDS_MAX_SENT], count = 0;
	size_t bytes = 0;
	char *text = handover_take_bytes(json_object_get(piece, "text"), &bytes);

	while (count < FDS_MAX_SENT && (size_t)count < json_array_size(list)) {
		fds[count] = handover_take_fd(json_array_get(list, (size_t)count));
		count++;
	}
	if (bytes > 0)
		outbox_text(o, text, bytes, fds, count);
	free(text);
}

static void
take_over_file(struct outbox *o, const json_t *piece)
{
	int file = handover_take_fd(json_object_get(piece, "file"));

	if (file >= 0 && add_file(o, file, (off_t)json_integer_value(json_object_get(piece, "at"))) != 0)
		close(file);
}

void
outbox_take_over(struct outbox *o, const json_t *from)
{
	const json_t *piece;
	size_t i;

	json_array_foreach(json_object_get(from, "pieces"), i, piece)
	{
		take_over_text(o, piece);
		take_over_file(o, piece);
	}
	o->passed = (int)json_integer_value(json_object_get(from, "passed"));
}
