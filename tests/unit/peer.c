/*
 * This program in zitd's place: starts a runner's program, talks to it and sees its end.
 */
#include "tests/unit/peer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/err.h"

const char *
peer_program(const char *name)
{
	static char path[PATH_MAX];
	char self[PATH_MAX] = "";

	/* build/tests/unit/test_X -> build/name */
	assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	for (int i = 0; i < 3; i++)
		dirname(self);
	snprintf(path, sizeof(path), "%.4000s/%.80s", self, name);
	return path;
}

static void
become_runner(const char *program, int channel, int status, char **argv)
{
	channel = fcntl(channel, F_DUPFD, 10); /* out of each other's way */
	status = fcntl(status, F_DUPFD, 10);
	dup2(channel, 3);
	dup2(status, 4);
	close_range(5, ~0U, 0);
	execv(program, argv);
	_exit(127);
}

pid_t
peer_spawn(const char *program, int channel, int status, char **argv)
{
	pid_t pid = fork();

	if (pid == 0)
		become_runner(program, channel, status, argv);
	assert_true(pid > 0);
	return pid;
}

struct peer
peer_start(const char *program, const char *device, const char *model)
{
	return peer_start_with(program, device, model, "--threads", "1");
}

struct peer
peer_start_with(
    const char *program, const char *device, const char *model, const char *option, const char *value)
{
	struct peer p = {.got_fd = -1, .checkpoint = -1};
	char generation[16];
	char *argv[PEER_MAX_ARGUMENTS] = {(char *)program, "--channel", "3", "--status", "4", "--name",
	    "test", "--generation", generation, "--device", (char *)device, "--model", (char *)model,
	    "--threads", "1", (char *)option, (char *)value, NULL};
	int ends[2], status = shm_create(&p.page);

	snprintf(generation, sizeof(generation), "%d", PEER_GENERATION);
	assert_true(status >= 0);
	assert_int_equal(channel_pair(ends), 0);
	p.pid = peer_spawn(program, ends[1], status, argv);
	p.pidfd = (int)syscall(SYS_pidfd_open, p.pid, 0);
	close(ends[1]);
	close(status);
	p.channel = channel_new(ends[0], PROTO_FROM_ZITD);
	assert_non_null(p.channel);
	return p;
}

int
peer_wait(struct peer *p)
{
	struct pollfd wait = {.fd = p->pidfd, .events = POLLIN};
	int status;

	if (poll(&wait, 1, PEER_PATIENCE_MS) != 1) {
		kill(p->pid, SIGKILL);
		fail_msg("process %d does not end", (int)p->pid);
	}
	assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
	close(p->pidfd);
	if (p->got_fd >= 0)
		close(p->got_fd);
	if (p->checkpoint >= 0)
		close(p->checkpoint);
	channel_free(&p->channel);
	return status;
}

int
peer_receive(struct channel *c, struct proto_msg *m, int fds[PROTO_MAX_FDS], int patience_ms)
{
	struct pollfd wait = {.fd = channel_fd(c), .events = POLLIN};
	int status = channel_receive(c, m, fds);

	return status == 0 && poll(&wait, 1, patience_ms) == 1 ? channel_receive(c, m, fds) : status;
}

unsigned
peer_next(struct peer *p, struct proto_msg *m)
{
	int fds[PROTO_MAX_FDS], status = peer_receive(p->channel, m, fds, PEER_PATIENCE_MS);

	if (status == 0)
		fail_msg("no message within %d ms", PEER_PATIENCE_MS);
	if (status == -ERR_UNREACHABLE)
		return 0;
	assert_int_equal(status, 1);
	if (m->head.type == PROTO_PICTURE) {
		if (p->got_fd >= 0)
			close(p->got_fd);
		p->got_fd = fds[0];
	}
	return m->head.type;
}

void
peer_say(struct peer *p, unsigned type, uint64_t job, struct proto_msg m)
{
	m.head.type = (uint16_t)type;
	m.head.job = job;
	m.head.attempt = job != 0 ? 1 : 0;
	if (m.head.generation == 0)
		m.head.generation = PEER_GENERATION;
	if (type == PROTO_JOB && p->checkpoint < 0)
		p->checkpoint = shm_create_checkpoint(CHECKPOINT_BYTES);
	assert_int_equal(channel_send(p->channel, &m, &p->checkpoint), 0);
}

void
peer_stop(struct peer *p, bool finish_jobs)
{
	peer_say(p, PROTO_STOP, 0, (struct proto_msg){.STOP = {finish_jobs}});
}
