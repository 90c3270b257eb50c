/*
 * Starting a runner's process. vfork, so that the cost does not grow with the daemon: the child shares our
 * memory until it executes, and touches nothing but its own stack and one errno of ours.
 */
#include "supervisor/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct child {
	char *const *argv;
	char *const *envp;
	int channel, status, null;
	pid_t parent;
};

/* Moves the two descriptors to their places; they may stand in each other's way. */
static int
place_fds(const struct child *c)
{
	int channel = fcntl(c->channel, F_DUPFD, SPAWN_STATUS_FD + 1);
	int status = fcntl(c->status, F_DUPFD, SPAWN_STATUS_FD + 1);

	if (channel < 0 || status < 0 || dup2(c->null, STDIN_FILENO) < 0 ||
	    dup2(channel, SPAWN_CHANNEL_FD) < 0 || dup2(status, SPAWN_STATUS_FD) < 0)
		return -1;
	return close_range(SPAWN_STATUS_FD + 1, ~0U, 0);
}

/* Runs in the child; returns only when it failed, with errno. */
static void
become_runner(const struct child *c)
{
	struct sigaction standard = {.sa_handler = SIG_DFL};
	sigset_t none;

	for (int number = 1; number < NSIG; number++)
		sigaction(number, &standard, NULL); /* ours would run code that is not there after exec */
	sigemptyset(&none);
	setsid();
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || place_fds(c) != 0)
		return;
	if (getppid() != c->parent) { /* it died before the line above */
		errno = ESRCH;
		return;
	}
	sigprocmask(SIG_SETMASK, &none, NULL);
	execve(c->argv[0], c->argv, c->envp);
}

pid_t
spawn_runner(char *const argv[], char *const envp[], int channel, int status, int *pidfd)
{
	struct child c = {argv, envp, channel, status, open("/dev/null", O_RDONLY | O_CLOEXEC), getpid()};
	volatile int error = 0;
	sigset_t all, before;
	pid_t pid;

	if (c.null < 0)
		return -1;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = vfork();
	if (pid == 0) {
		become_runner(&c);
		error = errno;
		_exit(127);
	}
	if (pid < 0)
		error = errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	close(c.null);
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
