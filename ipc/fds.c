/*
 * Descriptors that travel with bytes over a Unix socket.
 */
#include "ipc/fds.h"

#include <errno.h>
#include <string.h>

ssize_t
fds_send(int socket, struct iovec *parts, size_t part_count, const int *fds, int fd_count)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(FDS_MAX_SENT * sizeof(int))];
	} control = {0};
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = part_count};
	ssize_t n;

	if (fd_count > 0) {
		size_t bytes = (size_t)fd_count * sizeof(int);
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(bytes);
		*CMSG_FIRSTHDR(&message) = (struct cmsghdr){
		    .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(bytes)};
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), fds, bytes);
	}
	do
		n = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	return n;
}

int
fds_received(struct msghdr *message, int fds[FDS_MAX_RECEIVED])
{
	int total = 0;

	for (struct cmsghdr *h = CMSG_FIRSTHDR(message); h != NULL; h = CMSG_NXTHDR(message, h)) {
		size_t count = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		memcpy(fds + total, CMSG_DATA(h), count * sizeof(int));
		total += (int)count;
	}
	return total;
}
