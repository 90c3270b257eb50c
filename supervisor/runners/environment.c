/*
 * The environment of a child's process. The first of two variables of one name counts.
 */
#include "supervisor/runners/environment.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Systemd's words to us alone, and what we say ourselves. */
static bool
is_private(const char *variable)
{
	static const char *const names[] = {"NOTIFY_SOCKET=", "WATCHDOG_", "LISTEN_", "JOURNAL_STREAM="};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strncmp(variable, names[i], strlen(names[i])) == 0)
			return true;
	}
	return false;
}

void
environment_make(struct environment *e, const char *configured, const char *gpu_uuid)
{
	int count = 0;

	e->variables[count++] = "JOURNAL_STREAM=zitd"; /* its lines come to us with their level */
	if (gpu_uuid != NULL) {
		snprintf(e->gpu, sizeof(e->gpu), "CUDA_VISIBLE_DEVICES=%s", gpu_uuid);
		e->variables[count++] = e->gpu;
	}
	snprintf(e->text, sizeof(e->text), "%s", configured);
	for (char *at = strtok(e->text, ","); at != NULL && count < ENVIRONMENT_MAX / 2;
	     at = strtok(NULL, ","))
		e->variables[count++] = at;
	for (char **own = environ; *own != NULL && count < ENVIRONMENT_MAX - 1; own++) {
		if (!is_private(*own))
			e->variables[count++] = *own;
	}
	e->variables[count] = NULL;
}
