/*
 * One end of a supervisor-runner socket: whole messages with their descriptors, non-blocking, no event loop
 * in it.
 */
#include "ipc/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/err.h"
#include "ipc/fds.h"

enum {
	MAX_QUEUED = 1000,
	SEND_BUFFER = 4 * PROTO_MAX_BYTES,
	BATCH = 16, /* packets that are received at once; of their room only what is used is ever touched */
};

/* A packet that the socket did not take yet. */
struct packet {
	STAILQ_ENTRY(packet) link;
	size_t bytes;
	int fds[PROTO_MAX_FDS]; /* duplicates, ours */
	int fd_count;
	uint8_t data[];
};

_Static_assert((int)PROTO_MAX_FDS <= (int)FDS_MAX_SENT, "a message takes all of its descriptors along");

struct channel {
	int fd;
	enum proto_sender self;
	STAILQ_HEAD(, packet) output;
	int queued;

	/* what was received: packets [next, got) have not been handed out */
	int next, got;
	bool took_all; /* they were fewer than there was room for, so no others were there */
	struct mmsghdr headers[BATCH];
	struct iovec parts[BATCH];
	union fds_control controls[BATCH];
	uint8_t input[BATCH][PROTO_MAX_BYTES];
};

struct channel *
channel_new(int fd, enum proto_sender self)
{
	struct channel *c = calloc(1, sizeof(*c));
	int flags = fcntl(fd, F_GETFL);

	if (c == NULL)
		return NULL;
	fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	c->fd = fd;
	c->self = self;
	STAILQ_INIT(&c->output);
	return c;
}

static void
close_all(int *fds, int count)
{
	for (int i = 0; i < count; i++)
		close(fds[i]);
}

static void
drop_first(struct channel *c)
{
	struct packet *p = STAILQ_FIRST(&c->output);

	STAILQ_REMOVE_HEAD(&c->output, link);
	c->queued--;
	close_all(p->fds, p->fd_count);
	free(p);
}

void
channel_free(struct channel **c)
{
	int fds[FDS_MAX_RECEIVED];

	if (*c == NULL)
		return;
	while (!STAILQ_EMPTY(&(*c)->output))
		drop_first(*c);
	for (; (*c)->next < (*c)->got; (*c)->next++)
		close_all(fds, fds_received(&(*c)->headers[(*c)->next].msg_hdr, fds));
	close((*c)->fd);
	free(*c);
	*c = NULL;
}

int
channel_fd(const struct channel *c)
{
	return c->fd;
}

bool
channel_has_output(const struct channel *c)
{
	return !STAILQ_EMPTY(&c->output);
}

/* ---- sending */

/* 1: sent. 0: the socket is full. -ERR_UNREACHABLE. */
static int
send_packet(struct channel *c, const void *data, size_t count, const int *fds, int fd_count)
{
	struct iovec part = {(void *)data, count};
	ssize_t n = fds_send(c->fd, &part, 1, fds, fd_count);

	if (n >= 0)
		return 1;
	return errno == EAGAIN || errno == ENOBUFS ? 0 : -ERR_UNREACHABLE;
}

int
channel_flush(struct channel *c)
{
	const struct packet *p;

	while ((p = STAILQ_FIRST(&c->output)) != NULL) {
		int status = send_packet(c, p->data, p->bytes, p->fds, p->fd_count);
		if (status <= 0)
			return status;
		drop_first(c);
	}
	return 0;
}

/* Duplicates of fds into the packet. 0 or -ERR_SYSTEM; what was duplicated is in fd_count either way. */
static int
take_fds(struct packet *p, const int *fds, int count)
{
	for (p->fd_count = 0; p->fd_count < count; p->fd_count++) {
		p->fds[p->fd_count] = fcntl(fds[p->fd_count], F_DUPFD_CLOEXEC, 0);
		if (p->fds[p->fd_count] < 0)
			return -ERR_SYSTEM;
	}
	return 0;
}

/* For when the socket takes packets again. */
static int
keep_packet(struct channel *c, const uint8_t *bytes, size_t count, const int *fds, int fd_count)
{
	struct packet *p = malloc(sizeof(*p) + count);

	if (p == NULL)
		return -ERR_SYSTEM;
	p->bytes = count;
	memcpy(p->data, bytes, count);
	if (take_fds(p, fds, fd_count) != 0) {
		close_all(p->fds, p->fd_count);
		free(p);
		return -ERR_SYSTEM;
	}
	STAILQ_INSERT_TAIL(&c->output, p, link);
	c->queued++;
	return 0;
}

int
channel_send(struct channel *c, const struct proto_msg *m, const int *fds)
{
	uint8_t bytes[PROTO_MAX_BYTES];
	int count = proto_pack(m, bytes, sizeof(bytes)), fd_count, status;

	if (count < 0)
		return count;
	if (c->queued >= MAX_QUEUED)
		return -ERR_QUEUE_FULL;
	fd_count = proto_fds(m->head.type);
	status = channel_flush(c);
	if (status == 0 && STAILQ_EMPTY(&c->output))
		status = send_packet(c, bytes, (size_t)count, fds, fd_count);
	if (status != 0)
		return status > 0 ? 0 : status;
	return keep_packet(c, bytes, (size_t)count, fds, fd_count);
}

/* ---- receiving */

/* 1: there are packets in the batch, 0: there are none for now, -ERR_UNREACHABLE. */
static int
receive_batch(struct channel *c)
{
	int n;

	if (c->took_all) {
		c->took_all = false;
		return 0;
	}
	for (int i = 0; i < BATCH; i++) {
		c->parts[i] = (struct iovec){c->input[i], sizeof(c->input[i])};
		c->headers[i].msg_hdr = (struct msghdr){.msg_iov = &c->parts[i],
		    .msg_iovlen = 1,
		    .msg_control = &c->controls[i],
		    .msg_controllen = sizeof(c->controls[i])};
	}
	do
		n = recvmmsg(c->fd, c->headers, BATCH, MSG_CMSG_CLOEXEC | MSG_DONTWAIT, NULL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? 0 : -ERR_UNREACHABLE;
	c->next = 0;
	c->got = n;
	c->took_all = n < BATCH;
	return 1;
}

int
channel_receive(struct channel *c, struct proto_msg *m, int fds[PROTO_MAX_FDS])
{
	enum proto_sender peer = c->self == PROTO_FROM_ZITD ? PROTO_FROM_RUNNER : PROTO_FROM_ZITD;
	int got[FDS_MAX_RECEIVED], count, status;
	struct mmsghdr *packet;

	if (c->next == c->got && (status = receive_batch(c)) <= 0)
		return status;
	packet = &c->headers[c->next++];
	count = fds_received(&packet->msg_hdr, got);
	if (packet->msg_len == 0) { /* the end, or an empty packet, which nobody of ours sends */
		close_all(got, count);
		return -ERR_UNREACHABLE;
	}
	if ((packet->msg_hdr.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 ||
	    proto_read(m, peer, c->input[c->next - 1], packet->msg_len) != 0 ||
	    count != proto_fds(m->head.type)) {
		close_all(got, count);
		return -ERR_PROTOCOL;
	}
	memcpy(fds, got, (size_t)count * sizeof(int));
	return 1;
}

int
channel_pair(int ends[2])
{
	int size = SEND_BUFFER;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
		return -ERR_SYSTEM;
	/* The kernel caps this at net.core.wmem_max, whose default (208 KiB) still takes one largest packet.
	 */
	setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	return 0;
}
