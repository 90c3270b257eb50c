/*
 * Which program a runner is. The one for CUDA devices is another program, because it is linked with libraries
 * that a machine without such a device does not have; it has the host's backends too, so auto is in its
 * hands.
 */
#include "supervisor/runners/runner_program.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const char *
runner_program(const char *command, const char *device, const char *beside)
{
	static char path[PATH_MAX + 8];

	if (command[0] != '\0')
		return command;
	if (strcmp(device, "cpu") == 0 || strcmp(device, "ref") == 0)
		return beside;
	snprintf(path, sizeof(path), "%s-cuda", beside);
	return access(path, X_OK) == 0 ? path : beside;
}
