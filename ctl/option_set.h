/*
 * What options of the command line do that do more than set a member of struct ctl: the rows of options.def
 * whose kind is CALL.
 */
#ifndef CTL_OPTION_SET_H
#define CTL_OPTION_SET_H

#include "ctl/ctl.h"

/* Says on stderr what is wrong; CTL_USAGE. */
int option_usage(const char *format, const char *a, const char *b);

/* 0, or an exit code after saying what is wrong. `text` is the option's value. */
#define CALL(name) int set_##name(struct ctl *ctl, const char *text);
#define OPTION(name, letter, arg, kind, max, commands, help) kind(name)
#include "ctl/options.def"

#endif
