/*
 * The socket that clients connect to.
 */
#include "supervisor/socket/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "supervisor/journal.h"
#include "supervisor/notify.h"

#define KEPT_NAME "listener" /* of our own one, while systemd keeps it */

enum { BACKLOG = 512 };

/* ---- those that systemd passes */

/* Whether who connects to the path comes to this socket, as far as can be seen. */
static bool
stands_at(int fd, const char *path)
{
	struct stat s;

	return sd_is_socket_unix(fd, SOCK_STREAM, 1, path, 0) > 0 && stat(path, &s) == 0 &&
	       S_ISSOCK(s.st_mode);
}

/* One of a socket unit may be anywhere, that is the administrator's choice; ours must be where we would make
 * it. */
static bool
is_usable(int fd, const char *name, const char *path)
{
	return strcmp(name, KEPT_NAME) == 0 ? stands_at(fd, path)
					    : sd_is_socket_unix(fd, SOCK_STREAM, 1, NULL, 0) > 0;
}

static void
reject(int fd, const char *name, const char *why)
{
	journal(EVENT_DESCRIPTOR_UNUSED, .fd = fd, .fd_name = name, .detail = why);
	if (strcmp(name, KEPT_NAME) == 0)
		notify_forget(name);
	close(fd);
}

/* The first that can be used, or -1. */
static int
choose(char **names, int count, const char *path)
{
	int chosen = -1;

	for (int i = 0; i < count; i++) {
		int fd = SD_LISTEN_FDS_START + i;
		const char *name = names != NULL && names[i] != NULL ? names[i] : "unknown";
		if (!is_usable(fd, name, path))
			reject(fd, name, "it is no Unix stream socket that listens, or its path is gone");
		else if (chosen >= 0)
			reject(fd, name, "there is one already");
		else
			chosen = fd;
	}
	return chosen;
}

static int
inherited(const char *path)
{
	char **names = NULL;
	int count = sd_listen_fds_with_names(1, &names), fd = choose(names, count, path);

	for (int i = 0; names != NULL && i < count; i++)
		free(names[i]);
	free(names);
	if (fd >= 0)
		fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	return fd;
}

/* ---- a new one */

static int
bind_to(int fd, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	mode_t mask;
	int status;

	if ((size_t)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path) >=
	    sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	unlink(path);
	mask = umask(0117); /* 0660 from the first moment on */
	status = bind(fd, (struct sockaddr *)&address, sizeof(address));
	umask(mask);
	return status == 0 ? listen(fd, BACKLOG) : -1;
}

int
listener_open(struct listener *l, const char *path)
{
	int fd = inherited(path);

	if (fd >= 0) {
		*l = (struct listener){fd, false};
		return 0;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	if (bind_to(fd, path) != 0) {
		int error = errno;
		close(fd);
		errno = error;
		return -1;
	}
	*l = (struct listener){fd, !notify_store(fd, KEPT_NAME)};
	return 0;
}
