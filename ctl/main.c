/*
 * zitctl: the command line of zit. It speaks the public socket's JSON and knows nothing else of zitd.
 */
#include <stdio.h>

#include "ctl/client.h"
#include "ctl/ctl.h"
#include "ctl/help.h"
#include "ctl/options.h"

static int (*const runs[])(struct ctl *ctl) = {
#define COMMAND(name, operands, min, max, params, saves, help) [COMMAND_##name] = command_##name,
#include "ctl/commands.def"
};

static int
run(struct ctl *ctl)
{
	if (ctl->help)
		return help_print();
	if (ctl->version)
		return help_print_version();
	client_catch_signals();
	return runs[ctl->command->number](ctl);
}

int
main(int argc, char **argv)
{
	struct ctl ctl = {.params = json_object()};
	int status = options_parse(&ctl, argc, argv);

	if (status == 0)
		status = run(&ctl);
	json_decref(ctl.params);
	if ((ferror(stdout) || fflush(stdout) != 0) && status == 0) { /* before, or now */
		fprintf(stderr, "zitctl: not all could be written to standard output; is its disk full?\n");
		status = CTL_FAILED;
	}
	return status;
}
