/*
 * A kernel that interrupts and has no room, put before zitd with LD_PRELOAD: in a share of $FAULTY_CALLS (of
 * 1000) of the calls on sockets, EINTR, EAGAIN or, where a connection is accepted, ENOMEM. Other programs of
 * the same environment are left alone. And before zitctl: an interrupt at a bad time ($SIGNAL_BEFORE), a file
 * system without files that have no name ($NO_TMPFILE).
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* Whether this call fails, with one of the errors, by a fixed course of chance. */
static bool
fails(const int *errors, unsigned count)
{
	static uint64_t chance = UINT64_C(0x9e3779b97f4a7c15);
	static int share = -1;

	if (share < 0) {
		const char *given = getenv("FAULTY_CALLS");
		share = given != NULL && strcmp(program_invocation_short_name, "zitd") == 0 ? atoi(given) : 0;
	}
	chance ^= chance << 13;
	chance ^= chance >> 7;
	chance ^= chance << 17;
	if ((int)(chance >> 33) % 1000 >= share)
		return false;
	errno = errors[(chance >> 20) % count];
	return true;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define ON_SOCKETS ((const int[]){EINTR, EAGAIN}), 2

int
accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
	return fails((const int[]){EINTR, EAGAIN, ENOMEM}, 3) ? -1
							      : NEXT(accept4)(fd, address, length, flags);
}

ssize_t
recv(int fd, void *bytes, size_t count, int flags)
{
	return fails(ON_SOCKETS) ? -1 : NEXT(recv)(fd, bytes, count, flags);
}

ssize_t
recvmsg(int fd, struct msghdr *message, int flags)
{
	return fails(ON_SOCKETS) ? -1 : NEXT(recvmsg)(fd, message, flags);
}

ssize_t
send(int fd, const void *bytes, size_t count, int flags)
{
	return fails(ON_SOCKETS) ? -1 : NEXT(send)(fd, bytes, count, flags);
}

ssize_t
sendmsg(int fd, const struct msghdr *message, int flags)
{
	return fails(ON_SOCKETS) ? -1 : NEXT(sendmsg)(fd, message, flags);
}

int
epoll_wait(int fd, struct epoll_event *events, int count, int timeout_ms)
{
	return fails((const int[]){EINTR}, 1) ? -1 : NEXT(epoll_wait)(fd, events, count, timeout_ms);
}

/* In zitctl, an interrupt right before the $SIGNAL_BEFORE-th wait: too late for who looks whether one has
 * come, too early for who waits. */
static void
interrupt_in_time(void)
{
	static int waits;
	const char *given = getenv("SIGNAL_BEFORE");

	if (given != NULL && strcmp(program_invocation_short_name, "zitctl") == 0 && ++waits == atoi(given))
		raise(SIGINT);
}

int
poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
	interrupt_in_time();
	return NEXT(poll)(fds, count, timeout_ms);
}

int
ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
	interrupt_in_time();
	return NEXT(ppoll)(fds, count, timeout, mask);
}

int
open(const char *path, int flags, ...)
{
	va_list rest;
	mode_t mode;

	va_start(rest, flags);
	mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(rest, mode_t) : 0;
	va_end(rest);
	if ((flags & O_TMPFILE) != O_TMPFILE || getenv("NO_TMPFILE") == NULL)
		return NEXT(open)(path, flags, mode);
	errno = EOPNOTSUPP;
	return -1;
}
