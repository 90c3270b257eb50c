/*
 * zitctl: the command line of zit. It speaks the public socket's JSON and knows nothing else of zitd.
 */
#include <stdio.h>
#include <string.h>

#include "ctl/client.h"
#include "ctl/ctl.h"

static const struct ctl_command commands[] = {
#define COMMAND(name, operands, min, max, params, saves, help) \
	{#name, operands, min, max, params, saves, command_##name, help},
#include "ctl/commands.def"
#undef COMMAND
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

int
main(int argc, char **argv)
{
	struct ctl ctl = {.params = json_object()};
	bool done = false;
	int status = options_parse(&ctl, argc, argv, &done);

	if (status == 0 && !done) {
		client_catch_signals();
		status = ctl.command->run(&ctl);
	}
	json_decref(ctl.params);
	if (fflush(stdout) != 0 && status == 0) {
		perror("zitctl: standard output");
		status = CTL_FAILED;
	}
	return status;
}
