/*
 * The commands' names and what they take (commands.def). What they do is main.c's to know.
 */
#ifndef CTL_COMMANDS_H
#define CTL_COMMANDS_H

#include <stdbool.h>
#include <stddef.h>

enum command_number {
#define COMMAND(name, operands, min, max, params, saves, help) COMMAND_##name,
#include "ctl/commands.def"
};

struct ctl_command {
	enum command_number number;
	const char *name;
	const char *operands; /* for the usage line */
	int min_args, max_args;
	bool takes_params; /* accepts the options that are members of `submit` */
	bool saves;	   /* accepts --save */
	const char *help;
};

/* The row of commands.def with that name, or NULL; and rows in order, NULL past the end. */
const struct ctl_command *command_find(const char *name);
const struct ctl_command *command_at(size_t index);

#endif
