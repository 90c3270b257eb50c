/*
 * Which program a runner is.
 */
#ifndef SUPERVISOR_RUNNERS_RUNNER_PROGRAM_H
#define SUPERVISOR_RUNNERS_RUNNER_PROGRAM_H

/* The configured command; else the runner beside zitd, and for a device that is not the host's ("cuda:N",
 * "auto") the one with -cuda at the end of its name, where it is there. The text lives until the next call.
 */
const char *runner_program(const char *command, const char *device, const char *beside);

#endif
