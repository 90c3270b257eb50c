/*
 * Other programs that zitctl asks: zitd about a configuration, systemctl about the unit.
 */
#include "ctl/program.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <spawn.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/clock.h"

void
program_zitd(char out[PATH_MAX])
{
	ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - sizeof("/zitd"));
	char *slash;

	out[n > 0 ? n : 0] = '\0';
	slash = strrchr(out, '/');
	if (slash != NULL)
		strcpy(slash, "/zitd");
	if (slash == NULL || access(out, X_OK) != 0)
		strcpy(out, "zitd");
}

/* Starts it with both outputs in a pipe: *from, to be closed. 0 or an errno. */
static int
start(char *const argv[], pid_t *pid, int *from)
{
	posix_spawn_file_actions_t actions;
	int ends[2], error;

	if (pipe2(ends, O_CLOEXEC) != 0)
		return errno;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
	error = posix_spawnp(pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(ends[1]);
	*from = ends[0];
	if (error != 0)
		close(ends[0]);
	return error;
}

/* Reads until the end or until_us; what does not fit is dropped. false: the time is over. */
static bool
read_output(int from, int64_t until_us, char *out, size_t size)
{
	char rest[4096];
	size_t used = 0;

	out[0] = '\0';
	for (;;) {
		struct pollfd p = {.fd = from, .events = POLLIN};
		int64_t left_ms = (until_us - clock_now_us()) / 1000;
		bool fits = used + 1 < size;
		ssize_t n;

		if (left_ms <= 0 || poll(&p, 1, left_ms < INT_MAX ? (int)left_ms : INT_MAX) == 0)
			return false;
		n = read(from, fits ? out + used : rest, fits ? size - 1 - used : sizeof(rest));
		if (n == 0 || (n < 0 && errno != EINTR))
			return true;
		if (n > 0 && fits)
			out[used += (size_t)n] = '\0';
	}
}

int
program_run(char *const argv[], double timeout_s, char *out, size_t size, int *status)
{
	int64_t until_us = clock_now_us() + (int64_t)(timeout_s * 1e6);
	pid_t pid;
	int from = -1, error = start(argv, &pid, &from);

	if (error != 0)
		return error;
	if (!read_output(from, until_us, out, size))
		kill(pid, SIGKILL);
	close(from);
	while (waitpid(pid, status, 0) != pid && errno == EINTR) {
	}
	return 0;
}
