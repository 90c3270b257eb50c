/*
 * What zitd's work costs without zitd: the same bytes over the same kinds of socket between the same three
 * processes, and nothing else. No JSON is read, no queue is kept, no job is remembered.
 *
 *   queue_floor SOCKET          serves until it is killed
 *
 * A line is answered with a line. One that wants its picture ("deliver") goes to a worker process first as a
 * message of a runner's size, which comes back with a sealed memfd, as runners send pictures.
 */
#include "tests/bench/floor.h"

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ORDER_BYTES = 98, PICTURE_BYTES = 67, ACK_BYTES = 200, RECORD_BYTES = 620 };

struct order {
	int client;
	char rest[ORDER_BYTES - sizeof(int)];
};

static int worker; /* socket to it */

/* A descriptor along with the order; -1: none. */
static void
send_order(int to, const struct order *o, int fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct iovec body = {(void *)o, sizeof(*o)};
	struct msghdr m = {.msg_iov = &body, .msg_iovlen = 1};

	if (fd >= 0) {
		m.msg_control = control.bytes;
		m.msg_controllen = sizeof(control.bytes);
		*CMSG_FIRSTHDR(&m) = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &fd, sizeof(fd));
	}
	if (sendmsg(to, &m, 0) != (ssize_t)sizeof(*o))
		floor_die("sendmsg");
}

/* false: the other side is gone. */
static bool
receive_order(int from, struct order *o, int *fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec body = {o, sizeof(*o)};
	struct msghdr m = {.msg_iov = &body,
	    .msg_iovlen = 1,
	    .msg_control = control.bytes,
	    .msg_controllen = sizeof(control)};

	if (recvmsg(from, &m, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof(*o))
		return false;
	*fd = -1;
	if (CMSG_FIRSTHDR(&m) != NULL)
		memcpy(fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(*fd));
	return true;
}

/* ---- the worker */

static void
work(int boss)
{
	const char picture[PICTURE_BYTES] = {0};
	struct order o;
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (receive_order(boss, &o, &fd)) {
		fd = memfd_create("picture", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		if (fd < 0 || write(fd, picture, sizeof(picture)) != (ssize_t)sizeof(picture) ||
		    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK) != 0)
			floor_die("picture");
		send_order(boss, &o, fd);
		close(fd);
	}
	exit(0);
}

static void
start_worker(void)
{
	int pair[2];
	pid_t child;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		floor_die("socketpair");
	child = fork();
	if (child < 0)
		floor_die("fork");
	if (child == 0) {
		close(pair[0]);
		work(pair[1]);
	}
	close(pair[1]);
	worker = pair[0];
}

/* ---- the server */

static void
take_picture(void)
{
	char picture[PICTURE_BYTES];
	struct order o;
	int fd;

	if (!receive_order(worker, &o, &fd) ||
	    pread(fd, picture, sizeof(picture), 0) != (ssize_t)sizeof(picture))
		floor_die("picture");
	close(fd);
	floor_answer(o.client, "\"state\":\"done\"", RECORD_BYTES);
}

static void
take_line(int client)
{
	char line[FLOOR_LINE + 1];
	struct order o = {.client = client};

	if (!floor_read(client, line))
		return;
	if (strstr(line, "\"deliver\"") != NULL)
		send_order(worker, &o, -1);
	else
		floor_answer(client, "\"state\":\"queued\"", ACK_BYTES);
}

static void
take(int fd)
{
	if (fd == worker)
		take_picture();
	else
		take_line(fd);
}

int
main(int argc, char **argv)
{
	if (argc != 2) {
		fputs("usage: queue_floor SOCKET\n", stderr);
		return 64;
	}
	start_worker();
	floor_serve(argv[1], &worker, 1, take, NULL);
}
