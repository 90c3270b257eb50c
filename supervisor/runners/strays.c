/*
 * Children that we did not start.
 */
#include "supervisor/runners/strays.h"
#include "supervisor/journal.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

void
strays_open(void)
{
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
}

/* The parent of a process, or 0; the field after "(name) S" of /proc/PID/stat. */
static pid_t
parent_of(pid_t pid)
{
	char path[40], text[512], *end;
	ssize_t n = -1;
	int fd, parent;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, text, sizeof(text) - 1);
		close(fd);
	}
	if (n <= 0)
		return 0;
	text[n] = '\0';
	end = strrchr(text, ')');
	return end != NULL && sscanf(end + 1, " %*c %d", &parent) == 1 ? (pid_t)parent : 0;
}

static bool
have_children(void)
{
	siginfo_t info;

	return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

bool
strays_sweep(bool (*known)(void *arg, pid_t pid), void *arg)
{
	DIR *proc = have_children() ? opendir("/proc") : NULL;
	pid_t own = getpid(), pid;
	struct dirent *entry;
	bool left = false;

	while (proc != NULL && (entry = readdir(proc)) != NULL) {
		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		pid = (pid_t)atoi(entry->d_name);
		if (parent_of(pid) != own || known(arg, pid))
			continue;
		if (waitpid(pid, NULL, WNOHANG) == pid)
			continue;
		journal(EVENT_STRAY_KILLED, .pid = pid);
		kill(pid, SIGKILL);
		left = true;
	}
	if (proc != NULL)
		closedir(proc);
	return left;
}
