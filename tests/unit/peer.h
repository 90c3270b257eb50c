/*
 * This program in zitd's place: starts a runner's program, talks to it and sees its end. For cmocka tests:
 * what takes too long, or is no message, fails the test.
 */
#ifndef TESTS_UNIT_PEER_H
#define TESTS_UNIT_PEER_H

#include <sys/types.h>

#include "ipc/channel.h"
#include "ipc/shm.h"

/* Generous: a sanitized build, for which an emulated picture can take a minute when others have the processors.
 * Nothing here waits that long when all is well. */
enum {
	PEER_PATIENCE_MS = 300 * 1000,
	PEER_GENERATION = 7,
	PEER_MAX_ARGUMENTS = 24,
	CHECKPOINT_BYTES = 256 * 1024
};

struct peer {
	struct channel *channel;
	const struct status_page *page;
	pid_t pid;
	int pidfd;
	int got_fd;	/* of the last PICTURE, or -1 */
	int checkpoint; /* that goes with each JOB; made at the first, or -1 */
};

/* The path of `name` in the build directory that this test's program lies in, for the process's life. */
const char *peer_program(const char *name);

/* Forks and executes with these two at descriptors 3 and 4 and nothing above; the process. */
pid_t peer_spawn(const char *program, int channel, int status, char **argv);
struct peer peer_start(const char *program, const char *device, const char *model);
/* With one option more. */
struct peer peer_start_with(
    const char *program, const char *device, const char *model, const char *option, const char *value);
/* The wait status of a process that ends by itself. The peer is cleared but for its page. */
int peer_wait(struct peer *p);

/* The next message's type, or 0 at the end of the channel. */
unsigned peer_next(struct peer *p, struct proto_msg *m);
/* channel_receive, after waiting so long if need be. */
int peer_receive(struct channel *c, struct proto_msg *m, int fds[PROTO_MAX_FDS], int patience_ms);
/* Sends m as message `type` about attempt 1 of `job` (0: about nobody). */
void peer_say(struct peer *p, unsigned type, uint64_t job, struct proto_msg m);
void peer_stop(struct peer *p, bool finish_jobs);

#endif
