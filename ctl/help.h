/*
 * What --help and --version print.
 */
#ifndef CTL_HELP_H
#define CTL_HELP_H

/* On standard output; CTL_OK. */
int help_print(void);
int help_print_version(void);

#endif
