/*
 * Descriptors that travel with bytes over a Unix socket (SCM_RIGHTS): sending them, and finding what came.
 */
#ifndef IPC_FDS_H
#define IPC_FDS_H

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

enum {
	FDS_MAX_SENT = 16,
	FDS_MAX_RECEIVED = 253, /* SCM_MAX_FD: what a peer can attach to one message */
};

/* Sends the parts as one message, and with its first byte fds[0 .. fd_count-1], FDS_MAX_SENT at most, which
 * stay the caller's. Does not block. Bytes sent, or -1 with errno. */
ssize_t fds_send(int socket, struct iovec *parts, size_t part_count, const int *fds, int fd_count);

/* The control buffer of a message that is to be received: whatever comes can be closed. */
union fds_control {
	struct cmsghdr align;
	char space[CMSG_SPACE(FDS_MAX_RECEIVED * sizeof(int))];
};

/* All that came with a received message, the caller's now; their number. */
int fds_received(struct msghdr *message, int fds[FDS_MAX_RECEIVED]);

#endif
