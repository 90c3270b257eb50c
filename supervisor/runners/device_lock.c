/*
 * A lock per device, held by the process that computes on it.
 */
#include "supervisor/runners/device_lock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* "dir/device-cuda-0.lock": what is no letter, digit or dash becomes a dash. */
static void
make_path(char path[PATH_MAX], const char *dir, const char *name)
{
	int length = snprintf(path, PATH_MAX, "%.3900s/device-", dir);

	for (; *name != '\0' && length < PATH_MAX - 8; name++) {
		bool plain = (*name >= '0' && *name <= '9') || (*name >= 'a' && *name <= 'z') ||
			     (*name >= 'A' && *name <= 'Z') || *name == '_';
		path[length++] = plain ? *name : '-';
	}
	strcpy(path + length, ".lock");
}

int
device_lock_take(const char *dir, const char *name, pid_t *holder)
{
	char path[PATH_MAX], text[16] = "";
	int fd, error;

	*holder = 0;
	make_path(path, dir, name);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
	if (fd < 0)
		return -1;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return fd;
	error = errno;
	if (pread(fd, text, sizeof(text) - 1, 0) > 0)
		*holder = (pid_t)strtol(text, NULL, 10);
	close(fd);
	errno = error;
	return -1;
}

void
device_lock_note(int fd, pid_t pid)
{
	char text[16];
	int length = snprintf(text, sizeof(text), "%d\n", (int)pid);

	if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)length, 0) != length)
		return; /* it is a help for people only */
}

/* Whether the process has that file open: its number may be another's by now. */
static bool
has_open(pid_t pid, const char *path)
{
	char dir[40], link[48 + NAME_MAX];
	struct stat lock, st;
	struct dirent *entry;
	bool found = false;
	DIR *fds;

	snprintf(dir, sizeof(dir), "/proc/%d/fd", (int)pid);
	fds = stat(path, &lock) == 0 ? opendir(dir) : NULL;
	while (!found && fds != NULL && (entry = readdir(fds)) != NULL) {
		snprintf(link, sizeof(link), "%s/%s", dir, entry->d_name);
		found = stat(link, &st) == 0 && st.st_dev == lock.st_dev && st.st_ino == lock.st_ino;
	}
	if (fds != NULL)
		closedir(fds);
	return found;
}

int
device_lock_kill(const char *dir, const char *name, pid_t holder)
{
	char path[PATH_MAX];

	make_path(path, dir, name);
	if (holder <= 1 || !has_open(holder, path)) {
		errno = ESRCH;
		return -1;
	}
	return kill(holder, SIGKILL);
}
