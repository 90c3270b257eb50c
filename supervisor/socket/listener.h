/*
 * The socket that clients connect to: systemd's (zitd.socket), the last life's that systemd has kept, or a
 * new one.
 */
#ifndef SUPERVISOR_SOCKET_LISTENER_H
#define SUPERVISOR_SOCKET_LISTENER_H

#include <stdbool.h>

struct listener {
	int fd;	   /* the caller's; listens, does not block, is closed by exec */
	bool ours; /* nobody else holds it: its name in the file system goes with it */
};

/* What was passed by systemd and is no such socket is closed, with a warning. A new one is made at `path`
 * with 0660, in place of whatever is there: who calls has the state directory's lock, so it is a dead one's.
 * systemd is given it to keep, if it listens to us. 0, or -1 with errno. */
int listener_open(struct listener *l, const char *path);

#endif
