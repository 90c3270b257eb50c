/*
 * The public socket: who connects comes in while there is room and a descriptor to spare, and waits in the
 * kernel else. What a connection does then is client.c's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "supervisor/socket/client_inside.h"
#include "supervisor/journal.h"
#include "supervisor/timer.h"

enum {
	ACCEPTS = 64,	       /* in one turn of the loop */
	RESERVED_FDS = 64,     /* that clients leave to runners and results */
	PAUSE_US = 200 * 1000, /* of accepting when there are too many, or no descriptors */
};

/* One of those who wait may come in. */
static void
let_in(struct clients *all)
{
	if (all->fd < 0 || all->paused)
		return;
	timer_arm(all->loop, &all->pause, 0);
	ev_io_start(all->loop, &all->accept_io);
}

static void
add_client(struct clients *all, int fd)
{
	struct client *c = client_new(all, fd);

	if (c == NULL)
		return;
	client_watch(c);
	timer_arm(all->loop, &c->clock, (int64_t)(all->limits.connect_timeout_s * 1e6));
}

static void
on_pause_over(struct ev_loop *loop, struct ev_timer *w, int events)
{
	(void)loop;
	(void)events;
	let_in(w->data);
}

/* Whether fewer than so many times the reserve are left from fd on. */
static bool
is_among_last(int fd, unsigned times)
{
	struct rlimit limit;
	rlim_t reserve;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return false;
	reserve = limit.rlim_cur / 8 < RESERVED_FDS ? limit.rlim_cur / 8 : RESERVED_FDS;
	return (rlim_t)fd + times * reserve >= limit.rlim_cur;
}

bool
client_fd_is_reserved(int fd)
{
	return is_among_last(fd, 1);
}

/* Why nobody can be accepted, or NULL. */
static const char *
reason_to_wait(const struct clients *all)
{
	int fd;

	if (all->count >= all->limits.max_clients)
		return "max_clients are here";
	fd = fcntl(all->fd, F_DUPFD_CLOEXEC, 0); /* the one that the next client would have */
	if (fd < 0)
		return strerror(errno);
	close(fd);
	return is_among_last(fd, 2) ? "the last descriptors are kept for answers and runners" : NULL;
}

/* Those who come wait in the backlog, and we do not spin. Said once, until nobody waits there any more. */
static void
pause_accepting(struct clients *all, const char *why)
{
	if (!all->full)
		journal(EVENT_CLIENTS_FULL, .detail = why);
	all->full = true;
	ev_io_stop(all->loop, &all->accept_io);
	timer_arm(all->loop, &all->pause, PAUSE_US);
}

/* One more, if there is one. false: no more in this turn. */
static bool
accept_client(struct clients *all)
{
	const char *why = reason_to_wait(all);
	int fd = why == NULL ? accept4(all->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC) : -1;

	if (fd >= 0) {
		add_client(all, fd);
		return true;
	}
	if (why == NULL && (errno == ENFILE || errno == EMFILE || errno == ENOBUFS || errno == ENOMEM))
		why = strerror(errno);
	if (why != NULL)
		pause_accepting(all, why);
	else
		all->full = false;
	return false;
}

static void
on_connection(struct ev_loop *loop, struct ev_io *w, int events)
{
	(void)loop;
	(void)events;
	for (int i = 0; i < ACCEPTS && accept_client(w->data); i++)
		;
}

struct clients *
clients_new(struct ev_loop *loop, int listener, const char *path, const struct clients_limits *limits,
    const struct clients_world *world)
{
	struct clients *all = calloc(1, sizeof(*all));

	if (all == NULL)
		return NULL;
	all->loop = loop;
	all->limits = *limits;
	all->world = world;
	all->left = let_in;
	all->fd = listener;
	snprintf(all->path, sizeof(all->path), "%s", path != NULL ? path : "");
	TAILQ_INIT(&all->list);
	ev_io_init(&all->accept_io, on_connection, all->fd, EV_READ);
	ev_init(&all->pause, on_pause_over);
	all->accept_io.data = all->pause.data = all;
	ev_io_start(loop, &all->accept_io);
	return all;
}

void
clients_set_limits(struct clients *all, const struct clients_limits *limits)
{
	all->limits = *limits;
}

void
clients_close_listener(struct clients *all)
{
	if (all->fd < 0)
		return;
	ev_io_stop(all->loop, &all->accept_io);
	timer_arm(all->loop, &all->pause, 0);
	close(all->fd);
	all->fd = -1;
	if (all->path[0] != '\0')
		unlink(all->path);
}

void
clients_free(struct clients **all)
{
	struct client *c;

	if (*all == NULL)
		return;
	clients_close_listener(*all);
	while ((c = TAILQ_FIRST(&(*all)->list)) != NULL)
		client_drop(c);
	free(*all);
	*all = NULL;
}

void
clients_pause(struct clients *all, bool paused)
{
	struct client *c;

	all->paused = paused;
	if (paused)
		ev_io_stop(all->loop, &all->accept_io);
	else
		let_in(all);
	TAILQ_FOREACH(c, &all->list, link)
	client_watch(c);
}

int
clients_count(const struct clients *all)
{
	return all->count;
}

bool
clients_are_flushed(const struct clients *all)
{
	const struct client *c;

	TAILQ_FOREACH(c, &all->list, link)
	{
		if (!outbox_is_empty(&c->out))
			return false;
	}
	return true;
}
