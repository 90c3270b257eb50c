/*
 * Starting a child's process: an exact list of descriptors, its own session, death with its parent.
 */
#ifndef SUPERVISOR_RUNNERS_SPAWN_H
#define SUPERVISOR_RUNNERS_SPAWN_H

#include <sys/types.h>

enum { SPAWN_FIRST_FD = 3, SPAWN_MAX_FDS = 4 };

struct spawn {
	char *const *argv; /* argv[0] is the program's path */
	char *const *envp;
	int output;		/* its stdout and stderr */
	int fds[SPAWN_MAX_FDS]; /* its descriptors from SPAWN_FIRST_FD on */
	int fd_count;
	int cgroup; /* cgroup.procs of the group it enters, open for writing, or -1 */
};

/* Starts the process; its stdin is /dev/null, and it has nothing that is not listed. All descriptors stay the
 * caller's. Returns its pid and a pidfd (CLOEXEC); or -1 with errno, that of exec included. */
pid_t spawn_process(const struct spawn *s, int *pidfd);

#endif
