/*
 * Groups: a name that jobs are submitted under, to be listed and cancelled together. A group is nothing but
 * its jobs: it begins with the first one and is forgotten with the last.
 */
#ifndef IPC_GROUP_H
#define IPC_GROUP_H

#include "ipc/err.h"

enum { GROUP_SIZE = 65 }; /* with its end; api.def bounds the name */

/* Whether it is a name: 1 to 64 letters, digits, - _ .. 0, or -ERR_INVALID_PARAM. */
int group_check(const char *name, struct err *e);

#endif
