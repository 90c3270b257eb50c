/*
 * The environment of a child's process: what is configured for it, then ours, without what is for us alone.
 */
#ifndef SUPERVISOR_RUNNERS_ENVIRONMENT_H
#define SUPERVISOR_RUNNERS_ENVIRONMENT_H

#include "supervisor/conf.h"

enum { ENVIRONMENT_MAX = 256 };

struct environment {
	char *variables[ENVIRONMENT_MAX]; /* for execve; they live as long as this and our own environment */
	char text[CONF_TEXT];
	char gpu[80];
};

/* `configured`: "A=1,B=2". gpu_uuid: the only CUDA device that it shall see, whatever else is said of that;
 * NULL: what is said. */
void environment_make(struct environment *e, const char *configured, const char *gpu_uuid);

#endif
