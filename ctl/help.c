/*
 * What --help and --version print: all commands, all options.
 */
#include "ctl/help.h"

#include <stdio.h>
#include <string.h>

#include "build_id.h"
#include "ctl/commands.h"
#include "ctl/options.h"

static void
print_option(int letter, const char *name, const char *arg, const char *help)
{
	char left[64], dash[8] = "    ";

	if (letter != 0)
		snprintf(dash, sizeof(dash), "-%c, ", letter);
	snprintf(
	    left, sizeof(left), "%s--%s%s%s", dash, name, arg != NULL ? " " : "", arg != NULL ? arg : "");
	if (strlen(left) > 26)
		printf("  %s\n  %-26s  %s\n", left, "", help);
	else
		printf("  %-26s  %s\n", left, help);
}

static void
print_options(bool of_submit)
{
	struct ctl_option o;

	for (size_t i = 0; options_at(i, &o); i++) {
		if (o.of_submit == of_submit)
			print_option(o.letter, o.name, o.arg, o.help);
	}
}

int
help_print(void)
{
	printf("usage: zitctl [options] COMMAND ...\n\ncommands:\n");
	for (size_t i = 0; command_at(i) != NULL; i++) {
		const struct ctl_command *c = command_at(i);
		char left[48];
		snprintf(left, sizeof(left), "%s %s", c->name, c->operands);
		printf("  %-26s  %s\n", left, c->help);
	}
	printf("\noptions:\n");
	print_options(false);
	printf("\noptions of the commands that draw (generate, submit, batch, replay):\n");
	print_options(true);
	printf("\nExit codes and examples: zitctl(1).\n");
	return CTL_OK;
}

int
help_print_version(void)
{
	printf("zitctl %s\n", ZIT_BUILD);
	return CTL_OK;
}
