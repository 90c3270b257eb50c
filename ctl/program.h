/*
 * Other programs that zitctl asks: zitd about a configuration, systemctl about the unit.
 */
#ifndef CTL_PROGRAM_H
#define CTL_PROGRAM_H

#include <limits.h>
#include <stddef.h>

/* The zitd beside us; without one there "zitd", to be looked for on the PATH. */
void program_zitd(char out[PATH_MAX]);

/* Runs argv[0], looked for on the PATH, with nothing to read, and waits for its end; what it writes to both
 * its outputs goes to `out` as far as there is room. It is killed after timeout_s. *status is of waitpid. 0,
 * or an errno when it could not be started. */
int program_run(char *const argv[], double timeout_s, char *out, size_t size, int *status);

#endif
