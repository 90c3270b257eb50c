/*
 * A blocking client of the public socket: one request at a time, its events, and the descriptors that come
 * with it.
 */
#ifndef CTL_CLIENT_H
#define CTL_CLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "ipc/err.h"

enum {
	CLIENT_MAX_FDS = 16,
	CLIENT_PATIENCE_S = 300, /* that zitd may be away */
};

struct client;

enum client_end {
	CLIENT_OK,
	CLIENT_ERROR,	    /* *e says what: zitd's answer, or that it cannot be reached */
	CLIENT_INTERRUPTED, /* SIGINT or SIGTERM arrived */
	CLIENT_TIMED_OUT,   /* the client's own time is over */
};

/* Connects to `path`; NULL: $ZIT_SOCKET, /run/zit/zitd.sock, $XDG_RUNTIME_DIR/zit/zitd.sock, the first that
 * exists. A directory means the zitd.sock in it. `timeout_s` counts from here over all calls; 0 is no limit.
 * On CLIENT_ERROR ERR_UNREACHABLE, or ERR_NOT_PERMITTED when the socket is there and may not be opened. */
enum client_end client_open(struct client **c, const char *path, double timeout_s, struct err *e);
/* That path; false when it does not fit. */
bool client_path(const char *given, char *out, size_t size);
/* A connection to it: *fd, the caller's. 0 or an errno: EAGAIN when a zitd that takes no connections, with
 * many waiting, did not within `timeout_s`, and EINTR when a signal arrived meanwhile. */
int client_connect(const char *path, double timeout_s, int *fd);
void client_close(struct client **c);

/* Whether a call ended because the connection did. */
bool client_is_lost(enum client_end end, const struct err *e);
/* Opens a connection that broke anew, however long zitd is away: until the end of its time, and for
 * CLIENT_PATIENCE_S at most. *c is the new one, with what is left of the old one's time, or NULL. */
enum client_end client_reopen(struct client **c, const char *path, struct err *e);
/* Reads until zitd closes the connection, as it does when it ends; CLIENT_OK then. */
enum client_end client_await_end(struct client *c, struct err *e);

/* Calls `method`; `params` is stolen and may be NULL. Events that arrive before the answer go to on_event,
 * which may be NULL. On CLIENT_OK *result is a new reference. Descriptors of the answer: client_take_fd. */
enum client_end client_call(struct client *c, const char *method, json_t *params,
    void (*on_event)(void *arg, const json_t *params), void *arg, json_t **result, struct err *e);

/* For poll: something may have come when it is readable. */
int client_fd(const struct client *c);

/* ---- several requests at a time, for who keeps count of them: not to be mixed with client_call */

/* Sends a request; `params` is stolen. Its number goes to *id. */
enum client_end client_send(
    struct client *c, const char *method, json_t *params, json_int_t *id, struct err *e);
/* The next line that zitd sends (new reference): the answer to any of them. *line is NULL when none has come
 * until until_us on the monotonic clock; 0 is no limit. Its descriptors are the next ones of
 * client_next_fd. */
enum client_end client_receive(struct client *c, int64_t until_us, json_t **line, struct err *e);
/* The descriptors in the order in which they came, now the caller's; -1 when there are no more. */
int client_next_fd(struct client *c);

/* The i-th descriptor of the last answer, now the caller's; -1 when there is none. */
int client_take_fd(struct client *c, int index);

/* From here on SIGINT and SIGTERM end a call instead of the process. */
void client_catch_signals(void);
/* The one that arrived has been heeded: calls work again, until the next one. */
void client_forget_signal(void);
/* Waits until fd can be read, for so many seconds at most (below 0: any time); CLIENT_OK for both, or
 * CLIENT_INTERRUPTED when a signal arrived before or meanwhile. */
enum client_end client_await(int fd, double seconds);
/* Sleeps that long; CLIENT_OK, or CLIENT_INTERRUPTED when a signal arrived before or meanwhile. */
enum client_end client_sleep(double seconds);

#endif
