/*
 * What the files of clients share: clients.c (who may come in), client.c (lines in, answers out),
 * client_handover.c (from one zitd to the next). Nobody else includes this.
 */
#ifndef SUPERVISOR_SOCKET_CLIENT_INSIDE_H
#define SUPERVISOR_SOCKET_CLIENT_INSIDE_H

#include <ev.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "ipc/buf.h"
#include "supervisor/socket/client.h"
#include "supervisor/socket/outbox.h"

struct client {
	TAILQ_ENTRY(client) link;
	struct clients *all;
	int fd;
	struct ev_io read_io, write_io;
	struct ev_timer clock, recheck;
	struct buf in;
	struct outbox out;
	struct ucred peer;
	int pending, pending_fds; /* answers to come, and what they will bring */
	size_t pending_bytes;
	int in_line;		  /* of those, that are made */
	size_t in_line_bytes;
	int64_t moved_us; /* when a byte of it moved last */
	bool in_turn;	  /* no further request is taken before one of them */
	bool introduced;  /* has sent a whole line */
	bool lines_left;  /* whole lines of it wait for another turn */
	bool half_closed; /* it sends no more */
	bool closing;	  /* cut off: ends when its output has left and it has seen the end */
	bool lingering;	  /* and we have said that we send no more */
	bool over;	  /* nothing goes in or out any more: its clock ends it */
};

struct clients {
	struct ev_loop *loop;
	struct clients_limits limits;
	const struct clients_world *world;
	int fd;
	struct ev_io accept_io;
	struct ev_timer pause;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* that goes with the socket; "": none */
	TAILQ_HEAD(, client) list;
	int count;
	void (*left)(struct clients *all); /* one is freed */
	bool full;   /* somebody waits who cannot be accepted, and it has been said why */
	bool paused; /* nobody is accepted, nobody's requests are taken */
};

/* A new one at that socket, which is taken, its clock not armed yet; NULL: it cannot be had. */
struct client *client_new(struct clients *all, int fd);
/* Has the loop watch for what it can do now. */
void client_watch(struct client *c);
/* Ends the connection at once. */
void client_drop(struct client *c);

#endif
