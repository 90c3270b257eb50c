/*
 * Connections to the public socket: whole lines in, answers out, clocks on both. What lines mean is the
 * matter of who takes them (struct clients_world).
 */
#ifndef SUPERVISOR_SOCKET_CLIENT_H
#define SUPERVISOR_SOCKET_CLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct attachment;
struct client;
struct clients;
struct ev_loop;
struct handover;

/* What clients may do; of the configuration. */
struct clients_limits {
	double connect_timeout_s; /* from connecting to the first whole line */
	double stall_timeout_s;	  /* without a byte that moves, unless it waits for an answer */
	long long max_clients;
};

/* Who hears of them. */
struct clients_world {
	void *arg;
	/* One whole line, without its newline; never empty. */
	void (*line)(void *arg, struct client *c, const char *line, size_t bytes);
	/* It is gone, once: no answer to it is wanted any more. */
	void (*gone)(void *arg, struct client *c);
	/* It was behind (client_is_behind), and is not any more. Called while something is sent to it. */
	void (*caught_up)(void *arg, struct client *c);
	/* Its clock ended it: that of stalling, or, when it never was `introduced`, that of connecting. */
	void (*timed_out)(void *arg, bool introduced);
};

/* Takes those who come to `listener`, which is taken over, and whose `path` goes with it (NULL: stays).
 * `world` stays the caller's, and there. NULL: no memory. */
struct clients *clients_new(struct ev_loop *loop, int listener, const char *path,
    const struct clients_limits *limits, const struct clients_world *world);
/* From now on. */
void clients_set_limits(struct clients *c, const struct clients_limits *limits);
void clients_free(struct clients **c); /* drops all */
int clients_count(const struct clients *c);
/* No new ones from here on. */
void clients_close_listener(struct clients *c);
/* Whether everything that was said to clients has left. */
bool clients_are_flushed(const struct clients *c);

/* No new ones, and no requests of those that are here, until it is undone: they wait in the kernel. Answers
 * go on leaving. */
void clients_pause(struct clients *c, bool paused);

/* ---- from one zitd to the next (client_handover.c) */

json_t *clients_hand_over(const struct clients *c, struct handover *h); /* new reference */
/* The listening socket of what was handed over, the caller's; -1: there is none. */
int clients_listener(const json_t *clients);
/* They go on, but for what they wait for, at `c` that listens there. */
void clients_take_over(struct clients *c, const json_t *clients, const char *path);
/* By the number of its socket, which exec does not change; NULL: it has gone. */
struct client *clients_find(const struct clients *c, int fd);
int client_fd(const struct client *c);

uid_t client_uid(const struct client *c);
gid_t client_gid(const struct client *c);
pid_t client_pid(const struct client *c);

/* Sends a line, given without its newline; it is stolen, and NULL, for there was no memory, ends the client.
 * `attachment` may be NULL. Whatever comes of it, the client is there until the loop's next turn: only then
 * the world is told that it has gone. So it is with all that is sent, below. */
void client_send(struct client *c, char *line, struct attachment *attachment);
/* It has not taken its answers: what it can do without is better not sent. */
bool client_is_behind(const struct client *c);
/* Whether fd is one of the last, which are not for clients. */
bool client_fd_is_reserved(int fd);

/* An answer to it is pending, with about so many bytes and descriptors: it is not idle, and half-closing does
 * not end it. client_answer, with the same numbers, sends that answer; NULL: nobody wants one. */
void client_hold(struct client *c, size_t bytes, int fds);
void client_answer(struct client *c, size_t bytes, int fds, char *line, struct attachment *attachment);
/* Likewise of an answer that waits for the store: until it is given, no further request is taken. */
void client_hold_in_turn(struct client *c);
void client_answer_in_turn(struct client *c, char *line, struct attachment *attachment);
/* Likewise of one that is made, with so many bytes, and has to wait: requests are taken meanwhile, whose
 * answers must leave behind it. That is its holder's matter; whether there is one to wait for is
 * client_has_line. */
void client_hold_in_line(struct client *c, size_t bytes, int fds);
void client_answer_in_line(
    struct client *c, size_t bytes, int fds, char *line, struct attachment *attachment);
bool client_has_line(const struct client *c);

#endif
