/*
 * A control group per runner, where zitd's own group was delegated to it (systemd's Delegate=yes): so that
 * one write ends a runner and all it started, whatever those did to hide.
 */
#ifndef SUPERVISOR_RUNNERS_CGROUP_H
#define SUPERVISOR_RUNNERS_CGROUP_H

#include <stdbool.h>

/* Finds zitd's group and moves zitd into a leaf of it. false: there is none that is ours; the others then do
 * nothing. */
bool cgroup_open(void);
/* The group of that runner, made if need be: its cgroup.procs, open for writing, the caller's; -1: there is
 * none. */
int cgroup_enter_fd(const char *runner);
/* SIGKILL to all in it. */
void cgroup_kill(const char *runner);
/* Removes it, if it is empty. */
void cgroup_remove(const char *runner);

#endif
