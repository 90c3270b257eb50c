/*
 * A blocking client of the public socket: one request at a time, its events, and the descriptors that come
 * with it. It does not know what methods mean.
 */
#include "ctl/client.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "ipc/buf.h"
#include "ipc/clock.h"
#include "ipc/fds.h"

/* Pictures come as descriptors; the longest answer is a list of a thousand records. */
enum { MAX_REPLY = 256 * 1024 * 1024, READ_CHUNK = 64 * 1024 };

struct client {
	int fd;
	struct buf in;
	int64_t deadline_us; /* 0: none */
	json_int_t last_id;
	int fds[2 * CLIENT_MAX_FDS]; /* -1 once taken; one read brings those of one answer at most */
	int fd_count;
};

static volatile sig_atomic_t interrupted;

static void
on_signal(int number)
{
	interrupted = number;
}

void
client_catch_signals(void)
{
	struct sigaction action = {.sa_handler = on_signal}; /* no SA_RESTART: poll must come back */

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

void
client_forget_signal(void)
{
	interrupted = 0;
}

/* poll that a signal ends even when it arrives right before it: the signals are let in by ppoll only. -1 with
 * EINTR when one has arrived. */
static int
poll_or_signal(struct pollfd *p, nfds_t count, int64_t timeout_us)
{
	struct timespec time = {timeout_us / 1000000, timeout_us % 1000000 * 1000};
	sigset_t ours, before;
	int n = -1, error;

	sigemptyset(&ours);
	sigaddset(&ours, SIGINT);
	sigaddset(&ours, SIGTERM);
	sigprocmask(SIG_BLOCK, &ours, &before);
	errno = EINTR;
	if (!interrupted)
		n = ppoll(p, count, timeout_us >= 0 ? &time : NULL, &before);
	error = errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	errno = error;
	return n;
}

enum client_end
client_await(int fd, double seconds)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	poll_or_signal(&p, 1, seconds >= 0 ? (int64_t)(seconds * 1e6) : -1);
	return interrupted ? CLIENT_INTERRUPTED : CLIENT_OK;
}

enum client_end
client_sleep(double seconds)
{
	return client_await(-1, seconds);
}

/* ---- connecting */

bool
client_path(const char *given, char *out, size_t size)
{
	const char *env = getenv("ZIT_SOCKET"), *runtime = getenv("XDG_RUNTIME_DIR");
	struct stat st;
	int n;

	if (given == NULL && env != NULL && *env != '\0')
		given = env;
	if (given != NULL) {
		bool is_dir = stat(given, &st) == 0 && S_ISDIR(st.st_mode);
		n = snprintf(out, size, "%s%s", given, is_dir ? "/zitd.sock" : "");
		return n >= 0 && (size_t)n < size;
	}
	n = snprintf(out, size, "/run/zit/zitd.sock");
	if (stat(out, &st) != 0 && runtime != NULL) {
		char own[sizeof(((struct sockaddr_un *)0)->sun_path)];
		int m = snprintf(own, sizeof(own), "%s/zit/zitd.sock", runtime);
		if (m > 0 && (size_t)m < sizeof(own) && stat(own, &st) == 0)
			n = snprintf(out, size, "%s", own);
	}
	return n >= 0 && (size_t)n < size;
}

/* What to do about a socket that cannot be connected to. */
static enum client_end
unreachable(struct err *e, const char *path, int error)
{
	const char *start =
	    access("/run/systemd/system", F_OK) == 0 ? "systemctl start zitd" : "zitd --config FILE";

	if (error == EACCES)
		err_set(e, ERR_NOT_PERMITTED,
		    "you may not connect to %s; become a member of its group ('ls -l' names it, usually zit) "
		    "with 'usermod -aG zit USER' and log in again",
		    path);
	else if (error == ENAMETOOLONG)
		err_set(e, ERR_UNREACHABLE, "the socket's path is longer than %zu bytes; use a shorter one",
		    sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
	else
		err_set(e, ERR_UNREACHABLE,
		    "zitd cannot be reached at %s: %s; start it with '%s', or name another socket with -H",
		    path, strerror(error), start);
	return CLIENT_ERROR;
}

int
client_connect(const char *path, double timeout_s, int *out)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int64_t timeout_us = (int64_t)(timeout_s * 1e6);
	struct timeval time = {timeout_us / 1000000, timeout_us % 1000000};
	int fd, error;

	if (strlen(path) >= sizeof(address.sun_path))
		return ENAMETOOLONG;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return errno;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof(time));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
		error = errno;
		close(fd);
		return error;
	}
	*out = fd;
	return 0;
}

enum client_end
client_open(struct client **out, const char *given, double timeout_s, struct err *e)
{
	int64_t begun_us = clock_now_us();
	char path[PATH_MAX];
	struct client *c;
	int fd, error;

	error = client_path(given, path, sizeof(path)) ? client_connect(path, timeout_s, &fd) : ENAMETOOLONG;
	if (error == EAGAIN || error == EINTR)
		return error == EAGAIN ? CLIENT_TIMED_OUT : CLIENT_INTERRUPTED;
	if (error != 0)
		return unreachable(e, path, error);
	c = calloc(1, sizeof(*c));
	if (c == NULL) {
		close(fd);
		err_set(e, ERR_SYSTEM, "out of memory");
		return CLIENT_ERROR;
	}
	c->fd = fd;
	c->deadline_us = timeout_s > 0 ? begun_us + (int64_t)(timeout_s * 1e6) : 0;
	buf_init(&c->in, MAX_REPLY);
	*out = c;
	return CLIENT_OK;
}

static void
drop_fds(struct client *c)
{
	for (int i = 0; i < c->fd_count; i++) {
		if (c->fds[i] >= 0)
			close(c->fds[i]);
	}
	c->fd_count = 0;
}

void
client_close(struct client **c)
{
	if (*c == NULL)
		return;
	drop_fds(*c);
	buf_clear(&(*c)->in);
	close((*c)->fd);
	free(*c);
	*c = NULL;
}

int
client_fd(const struct client *c)
{
	return c->fd;
}

int
client_take_fd(struct client *c, int index)
{
	int fd;

	if (index < 0 || index >= c->fd_count)
		return -1;
	fd = c->fds[index];
	c->fds[index] = -1;
	return fd;
}

bool
client_is_lost(enum client_end end, const struct err *e)
{
	return end == CLIENT_ERROR && e->code == ERR_UNREACHABLE;
}

enum client_end
client_reopen(struct client **c, const char *path, struct err *e)
{
	const int64_t deadline_us = (*c)->deadline_us;
	const int64_t give_up_us = clock_now_us() + CLIENT_PATIENCE_S * INT64_C(1000000);
	double pause_s = 0.05; /* before the first try too: zitd may take connections only to close them */
	enum client_end end;

	client_close(c);
	while ((end = client_sleep(pause_s)) == CLIENT_OK) {
		int64_t left_us = deadline_us != 0 ? deadline_us - clock_now_us() : 0;

		if (deadline_us != 0 && left_us <= 0)
			return CLIENT_TIMED_OUT;
		end = client_open(c, path, (double)left_us * 1e-6, e);
		if (!client_is_lost(end, e) || clock_now_us() > give_up_us)
			return end;
		pause_s = pause_s < 1 ? 2 * pause_s : pause_s;
	}
	return end;
}

/* ---- bytes */

static enum client_end
gone(struct err *e)
{
	err_set(e, ERR_UNREACHABLE, "zitd closed the connection; its log says why");
	return CLIENT_ERROR;
}

/* Waits until the socket is ready for `events`, the time is over, or a signal asks to stop. */
static enum client_end
wait_ready(struct client *c, short events, struct err *e)
{
	for (;;) {
		struct pollfd p = {.fd = c->fd, .events = events};
		int64_t left_us = c->deadline_us != 0 ? c->deadline_us - clock_now_us() : -1;
		int n = poll_or_signal(&p, 1, left_us > 0 || c->deadline_us == 0 ? left_us : 0);

		if (interrupted)
			return CLIENT_INTERRUPTED;
		if (n > 0)
			return CLIENT_OK;
		if (n == 0)
			return CLIENT_TIMED_OUT;
		if (errno != EINTR) {
			err_set(e, ERR_SYSTEM, "poll: %s", strerror(errno));
			return CLIENT_ERROR;
		}
	}
}

static enum client_end
send_all(struct client *c, const char *bytes, size_t count, struct err *e)
{
	while (count > 0) {
		enum client_end end = wait_ready(c, POLLOUT, e);
		ssize_t n;

		if (end != CLIENT_OK)
			return end;
		n = send(c->fd, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return gone(e);
		if (n > 0) {
			bytes += n;
			count -= (size_t)n;
		}
	}
	return CLIENT_OK;
}

static void
keep_fds(struct client *c, struct msghdr *message)
{
	int fds[FDS_MAX_RECEIVED], count = fds_received(message, fds);

	for (int i = 0; i < count; i++) {
		if (c->fd_count < 2 * CLIENT_MAX_FDS)
			c->fds[c->fd_count++] = fds[i];
		else
			close(fds[i]);
	}
}

/* Adds what has arrived to the input. */
static enum client_end
read_some(struct client *c, struct err *e)
{
	union fds_control control;
	enum client_end end = wait_ready(c, POLLIN, e);
	struct iovec part = {.iov_len = READ_CHUNK};
	struct msghdr message = {
	    .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	char *room;
	ssize_t n;

	if (end != CLIENT_OK)
		return end;
	if (buf_reserve(&c->in, READ_CHUNK, &room) != 0) {
		err_set(e, ERR_PROTOCOL, "zitd's answer is larger than %d MiB", MAX_REPLY / (1024 * 1024));
		return CLIENT_ERROR;
	}
	part.iov_base = room;
	n = recvmsg(c->fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return CLIENT_OK;
	if (n <= 0)
		return gone(e);
	keep_fds(c, &message);
	buf_commit(&c->in, (size_t)n);
	return CLIENT_OK;
}

/* ---- requests and answers */

/* The next whole line as JSON (new reference), reading until there is one. */
static enum client_end
read_line(struct client *c, json_t **line, struct err *e)
{
	size_t searched = 0;

	for (;;) {
		const char *bytes = buf_bytes(&c->in);
		size_t length = buf_length(&c->in);
		const char *newline =
		    length > searched ? memchr(bytes + searched, '\n', length - searched) : NULL;
		enum client_end end;

		if (newline != NULL) {
			size_t count = (size_t)(newline - bytes);
			*line = json_loadb(bytes, count, 0, NULL);
			buf_drain(&c->in, count + 1);
			if (json_is_object(*line))
				return CLIENT_OK;
			json_decref(*line);
			err_set(e, ERR_PROTOCOL, "zitd's answer is not a JSON object");
			return CLIENT_ERROR;
		}
		searched = length;
		end = read_some(c, e);
		if (end != CLIENT_OK)
			return end;
	}
}

/* The error object of an answer as a struct err. */
static enum client_end
answered_error(const json_t *object, struct err *e)
{
	const json_t *name = json_object_get(json_object_get(object, "data"), "name");
	const char *message = json_string_value(json_object_get(object, "message"));
	const struct err_row *row =
	    err_row_by_name(json_string_value(name) ? json_string_value(name) : "internal");

	err_set(e, row != NULL ? row->code : ERR_INTERNAL, "%s",
	    message != NULL ? message : "zitd reported an error");
	return CLIENT_ERROR;
}

static enum client_end
send_request(struct client *c, const char *method, json_t *params, struct err *e)
{
	json_t *request =
	    json_pack("{s:I, s:s, s:o*}", "id", (json_int_t)++c->last_id, "method", method, "params", params);
	char *text = request != NULL ? json_dumps(request, JSON_COMPACT) : NULL;
	enum client_end end = CLIENT_ERROR;

	if (text == NULL) {
		err_set(e, ERR_PARSE_ERROR, "the request is not valid UTF-8");
	} else {
		end = send_all(c, text, strlen(text), e);
		if (end == CLIENT_OK)
			end = send_all(c, "\n", 1, e);
	}
	free(text);
	json_decref(request);
	return end;
}

enum client_end
client_call(struct client *c, const char *method, json_t *params,
    void (*on_event)(void *arg, const json_t *params), void *arg, json_t **result, struct err *e)
{
	enum client_end end;

	drop_fds(c);
	end = send_request(c, method, params, e);
	while (end == CLIENT_OK) {
		json_t *line;
		const json_t *error;

		end = read_line(c, &line, e);
		if (end != CLIENT_OK)
			break;
		if (json_object_get(line, "method") != NULL) {
			if (on_event != NULL)
				on_event(arg, json_object_get(line, "params"));
			json_decref(line);
			continue;
		}
		error = json_object_get(line, "error");
		if (error == NULL && json_integer_value(json_object_get(line, "id")) != c->last_id) {
			json_decref(line); /* the answer to a request that was given up */
			continue;
		}
		if (error != NULL)
			end = answered_error(error, e);
		else
			*result = json_incref(json_object_get(line, "result"));
		json_decref(line);
		break;
	}
	return end;
}

enum client_end
client_await_end(struct client *c, struct err *e)
{
	enum client_end end;
	json_t *line;

	while ((end = read_line(c, &line, e)) == CLIENT_OK)
		json_decref(line);
	return client_is_lost(end, e) ? CLIENT_OK : end;
}

/* ---- several requests at a time */

enum client_end
client_send(struct client *c, const char *method, json_t *params, json_int_t *id, struct err *e)
{
	enum client_end end = send_request(c, method, params, e);

	*id = c->last_id;
	return end;
}

enum client_end
client_receive(struct client *c, int64_t until_us, json_t **line, struct err *e)
{
	int64_t deadline_us = c->deadline_us;
	bool sooner = until_us != 0 && (deadline_us == 0 || until_us < deadline_us);
	enum client_end end;

	*line = NULL;
	if (sooner)
		c->deadline_us = until_us;
	end = read_line(c, line, e);
	c->deadline_us = deadline_us;
	if (end != CLIENT_OK)
		*line = NULL;
	return end == CLIENT_TIMED_OUT && sooner ? CLIENT_OK : end;
}

int
client_next_fd(struct client *c)
{
	int fd = c->fd_count > 0 ? c->fds[0] : -1;

	if (c->fd_count > 0)
		memmove(c->fds, c->fds + 1, (size_t)--c->fd_count * sizeof(c->fds[0]));
	return fd;
}
