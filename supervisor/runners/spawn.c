/*
 * Starting a child's process. vfork, so that the cost does not grow with the daemon: the child shares our
 * memory until it executes, and touches nothing but its own stack and one errno of ours.
 */
#include "supervisor/runners/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Moves all descriptors to their places; they may stand in each other's way, so first all go beyond them. */
static bool
place_fds(const struct spawn *s, int null)
{
	int beyond = SPAWN_FIRST_FD + SPAWN_MAX_FDS, output, away[SPAWN_MAX_FDS];

	output = fcntl(s->output, F_DUPFD, beyond);
	for (int i = 0; i < s->fd_count; i++) {
		away[i] = fcntl(s->fds[i], F_DUPFD, beyond);
		if (away[i] < 0)
			return false;
	}
	if (output < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 ||
	    dup2(output, STDERR_FILENO) < 0)
		return false;
	for (int i = 0; i < s->fd_count; i++) {
		if (dup2(away[i], SPAWN_FIRST_FD + i) < 0)
			return false;
	}
	return close_range((unsigned)(SPAWN_FIRST_FD + s->fd_count), ~0U, 0) == 0;
}

/* Runs in the child; returns only when it failed, with errno. */
static void
become(const struct spawn *s, pid_t parent, int null)
{
	struct sigaction standard = {.sa_handler = SIG_DFL};
	sigset_t none;

	for (int number = 1; number < NSIG; number++)
		sigaction(number, &standard, NULL); /* ours would run code that is not there after exec */
	sigemptyset(&none);
	setsid();
	if (s->cgroup >= 0 && write(s->cgroup, "0", 1) != 1)
		return;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || !place_fds(s, null))
		return;
	if (getppid() != parent) { /* it died before the line above */
		errno = ESRCH;
		return;
	}
	sigprocmask(SIG_SETMASK, &none, NULL);
	execve(s->argv[0], s->argv, s->envp);
}

pid_t
spawn_process(const struct spawn *s, int *pidfd)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	volatile int error = 0;
	sigset_t all, before;
	pid_t pid, parent = getpid();

	if (null < 0)
		return -1;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = vfork();
	if (pid == 0) {
		become(s, parent, null);
		error = errno;
		_exit(127);
	}
	if (pid < 0)
		error = errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	close(null);
	if (pid > 0 && error == 0) {
		*pidfd = (int)syscall(SYS_pidfd_open, pid, 0); /* CLOEXEC by itself */
		if (*pidfd >= 0)
			return pid;
		error = errno;
		kill(pid, SIGKILL);
	}
	if (pid > 0)
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	errno = error;
	return -1;
}
