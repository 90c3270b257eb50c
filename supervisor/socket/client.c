/*
 * Connections to the public socket: whole lines in, answers out, clocks on both.
 *
 * One timer a connection. Until the first whole line it is the connect clock; after that it is the stall
 * clock, pushed on by every byte that moves. When it ends, the connection ends with it, unless it merely
 * waits for a job.
 *
 * No client gets more of the loop, of memory or of descriptors than its share: its requests are taken for a
 * millisecond in a turn, and not at all while the answers to earlier ones pile up.
 *
 * Who sends to a client may hold it, and others, so that sending ends nobody: one that is over ends by its
 * clock, in a turn of its own, and only then those who wait for it hear of it.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/api.h"
#include "ipc/clock.h"
#include "ipc/log.h"
#include "supervisor/socket/attachment.h"
#include "supervisor/socket/client_inside.h"
#include "supervisor/timer.h"

enum {
	READ_CHUNK = 16 * 1024,
	TURN_US = 1000,		 /* that one's requests may take in one turn of the loop */
	OUT_ENOUGH = 256 * 1024, /* waiting to leave: no further requests are taken until it is less */
	MAX_PENDING = 1000,	 /* waits of one connection: likewise */
	MAX_PENDING_FDS = 128,	 /* that their answers will bring: likewise */
	MAX_PENDING_BYTES = 1024 * 1024, /* likewise */
	RECHECK_US = 10 * 1000,		 /* whether descriptors have been taken */
	GONE_CHECK_US = 1000 * 1000,	 /* how often one that is not read is looked at */
	LINGER_US = 2000 * 1000,	 /* for one that was cut off to read why */
};

static struct ev_loop *
loop_of(const struct client *c)
{
	return c->all->loop;
}

/* ---- ending */

void
client_drop(struct client *c)
{
	c->all->world->gone(c->all->world->arg, c);
	TAILQ_REMOVE(&c->all->list, c, link);
	c->all->count--;
	c->all->left(c->all);
	ev_io_stop(loop_of(c), &c->read_io);
	ev_io_stop(loop_of(c), &c->write_io);
	ev_timer_stop(loop_of(c), &c->clock);
	ev_timer_stop(loop_of(c), &c->recheck);
	buf_clear(&c->in);
	outbox_clear(&c->out);
	close(c->fd);
	free(c);
}

/* Nothing more is sent to it or taken from it. */
static void
end_soon(struct client *c)
{
	c->over = true;
	outbox_clear(&c->out);
	timer_arm(loop_of(c), &c->clock, 1);
	client_watch(c);
}

/* ---- clocks */

/* Whether both directions are closed: a client that only sends no more is not gone. */
static bool
is_gone(const struct client *c)
{
	struct pollfd p = {.fd = c->fd};

	return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR)) != 0;
}

static int64_t
stall_clock_us(const struct client *c)
{
	return (int64_t)(c->all->limits.stall_timeout_s * 1e6);
}

/* The end of one that is not read is not told by the loop: it is looked for. A clock that ends earlier stays:
 * when it does, it is seen how much is left. */
static void
arm_clock(struct client *c)
{
	int64_t left_us = c->moved_us + stall_clock_us(c) - clock_now_us();

	if (c->over)
		return;
	if (c->pending > 0 && (c->half_closed || c->lines_left) && left_us > GONE_CHECK_US)
		left_us = GONE_CHECK_US;
	if (c->lingering)
		left_us = LINGER_US;
	if (!ev_is_active(&c->clock) || ev_timer_remaining(loop_of(c), &c->clock) > (double)left_us * 1e-6)
		timer_arm(loop_of(c), &c->clock, left_us > 0 ? left_us : 1);
}

static void
push_clock(struct client *c)
{
	c->moved_us = clock_now_us();
	arm_clock(c);
}

static void
on_clock(struct ev_loop *loop, struct ev_timer *w, int events)
{
	struct client *c = w->data;
	bool half_a_line = !c->lines_left && buf_length(&c->in) > 0;
	bool only_waits = c->pending > 0 && outbox_is_empty(&c->out) && !half_a_line;
	bool in_time = clock_now_us() - c->moved_us < stall_clock_us(c);

	(void)loop;
	(void)events;
	if (c->over) {
		client_drop(c);
		return;
	}
	if (!c->introduced || (!c->lingering && !only_waits && !in_time))
		c->all->world->timed_out(c->all->world->arg, c->introduced);
	if (!c->introduced || c->lingering || is_gone(c) || (!only_waits && !in_time)) {
		log_debug("client %d: gone, or nothing moved in time: closed", (int)c->peer.pid);
		client_drop(c);
	} else if (only_waits)
		push_clock(c);
	else
		arm_clock(c);
}

/* ---- sending */

/* Whether answers to earlier requests pile up, or nobody is to be answered for now. */
static bool
has_enough(const struct client *c)
{
	return c->out.weight + c->in_line_bytes > OUT_ENOUGH || c->pending >= MAX_PENDING ||
	       c->pending_fds >= MAX_PENDING_FDS || c->pending_bytes >= MAX_PENDING_BYTES || c->in_turn ||
	       c->all->paused;
}

static void
watch(struct client *c, struct ev_io *io, bool wanted)
{
	if (wanted)
		ev_io_start(loop_of(c), io);
	else
		ev_io_stop(loop_of(c), io);
}

/* One that was cut off is read to be discarded. Lines that are left go on when it can be written to: with
 * nothing to write that is the next turn, else when it has taken some of its answers. */
void
client_watch(struct client *c)
{
	bool takes = !c->over && !c->closing && !has_enough(c);
	bool discards = !c->over && c->closing;

	watch(c, &c->read_io, !c->half_closed && (discards || (takes && !c->lines_left)));
	watch(c, &c->write_io, !c->out.waits && (!outbox_is_empty(&c->out) || (takes && c->lines_left)));
	timer_arm(loop_of(c), &c->recheck, c->out.waits ? RECHECK_US : 0);
}

/* All is said. Closing at once on one that was cut off would discard what it has not read yet: it is told the
 * end and gets a moment. */
static void
end_if_finished(struct client *c)
{
	if (c->over || !outbox_is_empty(&c->out) || c->in_line > 0)
		return;
	if (c->half_closed && (c->closing || c->pending == 0)) {
		end_soon(c);
	} else if (c->closing && !c->lingering) {
		c->lingering = true;
		shutdown(c->fd, SHUT_WR);
		push_clock(c);
	}
}

static void
flush(struct client *c)
{
	bool was_behind = client_is_behind(c);
	long sent = outbox_send(&c->out, c->fd);

	if (sent < 0) {
		end_soon(c);
		return;
	}
	if (sent > 0 && c->introduced)
		push_clock(c);
	if (was_behind && !client_is_behind(c))
		c->all->world->caught_up(c->all->world->arg, c);
	end_if_finished(c);
}

void
client_send(struct client *c, char *line, struct attachment *a)
{
	if (c->over)
		attachment_drop(a);
	else if (attachment_queue(&c->out, line, a))
		flush(c);
	else
		end_soon(c); /* half an answer is worse than none */
	free(line);
	client_watch(c);
}

/* ---- reading */

static void
refuse_long_line(struct client *c)
{
	struct err e;

	err_set(&e, ERR_FRAME_TOO_LARGE, "%s", err_row(ERR_FRAME_TOO_LARGE)->text);
	c->closing = true;
	client_send(c, api_error(NULL, &e, NULL, NULL), NULL);
}

/* Whole lines, until answers pile up or its time in this turn is over. A blank one is nothing. */
static void
take_lines(struct client *c)
{
	int64_t end_us = clock_now_us() + TURN_US;
	const char *newline;

	c->lines_left = false;
	while (!c->over && !c->closing && buf_length(&c->in) > 0 &&
	       (newline = memchr(buf_bytes(&c->in), '\n', buf_length(&c->in))) != NULL) {
		size_t bytes = (size_t)(newline - buf_bytes(&c->in));

		c->lines_left = has_enough(c) || clock_now_us() > end_us;
		if (c->lines_left)
			return;
		if (bytes > API_MAX_LINE)
			break;
		c->introduced = true;
		if (bytes > 0)
			c->all->world->line(c->all->world->arg, c, buf_bytes(&c->in), bytes);
		buf_drain(&c->in, bytes + 1);
	}
	if (!c->over && !c->closing && buf_length(&c->in) > API_MAX_LINE)
		refuse_long_line(c);
}

static void
on_writable(struct ev_loop *loop, struct ev_io *w, int events)
{
	struct client *c = w->data;

	(void)loop;
	(void)events;
	flush(c);
	if (!c->over && c->lines_left && !has_enough(c)) {
		take_lines(c);
		push_clock(c);
	}
	client_watch(c);
}

static void
on_recheck(struct ev_loop *loop, struct ev_timer *w, int events)
{
	struct client *c = w->data;

	on_writable(loop, &c->write_io, events);
}

/* The peer sends no more: its ids are finished and answered first, unless it is gone altogether. */
static void
half_close(struct client *c)
{
	c->half_closed = true;
	buf_clear(&c->in); /* half a line is no request */
	if (is_gone(c)) {
		end_soon(c);
		return;
	}
	push_clock(c);
	end_if_finished(c);
}

static void
take_bytes(struct client *c, const char *bytes, size_t count)
{
	if (buf_add(&c->in, bytes, count) != 0) {
		end_soon(c);
		return;
	}
	take_lines(c);
	if (c->introduced)
		push_clock(c);
}

static void
on_readable(struct ev_loop *loop, struct ev_io *w, int events)
{
	static char chunk[READ_CHUNK]; /* one for all: what a connection keeps is what came */
	struct client *c = w->data;
	ssize_t n = recv(c->fd, chunk, sizeof(chunk), MSG_DONTWAIT);

	(void)loop;
	(void)events;
	if (n > 0 && !c->closing) /* else it is discarded */
		take_bytes(c, chunk, (size_t)n);
	else if (n == 0)
		half_close(c);
	else if (n < 0 && errno != EAGAIN && errno != EINTR)
		end_soon(c);
	client_watch(c);
}

/* ---- holding */

void
client_hold(struct client *c, size_t bytes, int fds)
{
	c->pending++;
	c->pending_bytes += bytes;
	c->pending_fds += fds;
}

void
client_answer(struct client *c, size_t bytes, int fds, char *line, struct attachment *a)
{
	c->pending--;
	c->pending_bytes -= bytes;
	c->pending_fds -= fds;
	if (line != NULL)
		client_send(c, line, a);
	end_if_finished(c);
	client_watch(c);
}

void
client_hold_in_turn(struct client *c)
{
	c->in_turn = true;
	client_hold(c, 0, 0);
}

void
client_answer_in_turn(struct client *c, char *line, struct attachment *a)
{
	c->in_turn = false;
	client_answer(c, 0, 0, line, a);
}

void
client_hold_in_line(struct client *c, size_t bytes, int fds)
{
	c->in_line++;
	c->in_line_bytes += bytes;
	client_hold(c, 0, fds);
}

void
client_answer_in_line(struct client *c, size_t bytes, int fds, char *line, struct attachment *a)
{
	c->in_line--;
	c->in_line_bytes -= bytes;
	client_answer(c, 0, fds, line, a);
}

bool
client_has_line(const struct client *c)
{
	return c->in_line > 0;
}

bool
client_is_behind(const struct client *c)
{
	return c->out.weight > OUT_ENOUGH;
}

uid_t
client_uid(const struct client *c)
{
	return c->peer.uid;
}

gid_t
client_gid(const struct client *c)
{
	return c->peer.gid;
}

pid_t
client_pid(const struct client *c)
{
	return c->peer.pid;
}

/* ---- beginning */

struct client *
client_new(struct clients *all, int fd)
{
	struct client *c = calloc(1, sizeof(*c));
	socklen_t size = sizeof(c->peer);

	if (c == NULL || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c->peer, &size) != 0) {
		free(c);
		close(fd);
		return NULL;
	}
	c->all = all;
	c->fd = fd;
	buf_init(&c->in, API_MAX_LINE + 2 * READ_CHUNK);
	outbox_init(&c->out);
	ev_io_init(&c->read_io, on_readable, fd, EV_READ);
	ev_io_init(&c->write_io, on_writable, fd, EV_WRITE);
	ev_init(&c->clock, on_clock);
	ev_init(&c->recheck, on_recheck);
	c->read_io.data = c->write_io.data = c->clock.data = c->recheck.data = c;
	TAILQ_INSERT_TAIL(&all->list, c, link);
	all->count++;
	return c;
}
