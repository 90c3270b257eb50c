/*
 * The rows of commands.def.
 */
#include "ctl/commands.h"

#include <string.h>

#include "ctl/ctl.h" /* CTL_MAX_ARGS */

static const struct ctl_command commands[] = {
#define COMMAND(name, operands, min, max, params, saves, help) \
	{COMMAND_##name, #name, operands, min, max, params, saves, help},
#include "ctl/commands.def"
};

const struct ctl_command *
command_at(size_t index)
{
	return index < sizeof(commands) / sizeof(commands[0]) ? &commands[index] : NULL;
}

const struct ctl_command *
command_find(const char *name)
{
	for (size_t i = 0; command_at(i) != NULL; i++) {
		if (strcmp(command_at(i)->name, name) == 0)
			return command_at(i);
	}
	return NULL;
}
