/*
 * The command line of zitctl: what may be on it, and reading it.
 */
#ifndef CTL_OPTIONS_H
#define CTL_OPTIONS_H

#include "ctl/commands.h"
#include "ctl/ctl.h"

/* The options, of options.def and then of `submit`; false past the end. Works once options_parse was called.
 */
struct ctl_option {
	const char *name, *arg, *help; /* arg: NULL for none */
	int letter;		       /* or 0 */
	bool of_submit;
	const char *commands; /* that take it, " a b ", or NULL: all */
};
bool options_at(size_t index, struct ctl_option *out);
bool options_taken(const struct ctl_option *o, const struct ctl_command *c); /* by that command */

/* Fills *ctl from the command line: with a command that it fits, or with help or version, whichever was asked
 * for first. 0, or an exit code after saying on stderr what is wrong. */
int options_parse(struct ctl *ctl, int argc, char **argv);

#endif
