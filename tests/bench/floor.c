#include "tests/bench/floor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { EVENTS = 128, MAX_ANSWER = 1024 };

_Noreturn void
floor_die(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int
listen_at(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(fd, 128) != 0)
		floor_die(path);
	return fd;
}

static void
watch(int epoll, int fd)
{
	struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};

	if (fd < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) != 0)
		floor_die("epoll_ctl");
}

_Noreturn void
floor_serve(const char *path, const int *own, int own_count, void (*take)(int fd), void (*turn)(void))
{
	struct epoll_event events[EVENTS];
	int epoll = epoll_create1(EPOLL_CLOEXEC), door = listen_at(path);

	watch(epoll, door);
	for (int i = 0; i < own_count; i++)
		watch(epoll, own[i]);
	for (;;) {
		int count = epoll_wait(epoll, events, EVENTS, -1);
		for (int i = 0; i < count; i++) {
			if (events[i].data.fd == door)
				watch(epoll, accept4(door, NULL, NULL, SOCK_CLOEXEC));
			else
				take(events[i].data.fd);
		}
		if (turn != NULL)
			turn();
	}
}

bool
floor_read(int client, char line[FLOOR_LINE + 1])
{
	ssize_t n = recv(client, line, FLOOR_LINE, 0);

	if (n <= 0) {
		close(client);
		return false;
	}
	line[n] = '\0';
	return true;
}

void
floor_answer(int client, const char *what, size_t bytes)
{
	static char line[MAX_ANSWER];
	size_t used = (size_t)snprintf(line, sizeof(line), "{\"job\":\"job_1\",%s,\"rest\":\"", what);

	memset(line + used, '.', bytes - used);
	memcpy(line + bytes - 3, "\"}\n", 3);
	(void)send(client, line, bytes, MSG_NOSIGNAL); /* one that has gone is closed when it is read */
}
