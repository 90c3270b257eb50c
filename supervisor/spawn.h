/*
 * Starting a runner's process: an exact list of descriptors, its own session, death with its parent.
 */
#ifndef SUPERVISOR_SPAWN_H
#define SUPERVISOR_SPAWN_H

#include <sys/types.h>

enum { SPAWN_CHANNEL_FD = 3, SPAWN_STATUS_FD = 4 };

/* Starts argv[0] with the environment `envp`; the child has stdin /dev/null, our stdout and stderr, `channel`
 * as fd 3 and `status` as fd 4, and nothing else. Returns its pid and a pidfd (CLOEXEC); or -1 with errno,
 * that of exec included. */
pid_t spawn_runner(char *const argv[], char *const envp[], int channel, int status, int *pidfd);

#endif
