/*
 * The step every command shares: open the socket, call one method, turn what went wrong into a line and an
 * exit code.
 */
#ifndef CTL_CALL_H
#define CTL_CALL_H

#include <jansson.h>

#include "ctl/client.h"
#include "ctl/ctl.h"

/* Connects as the options say; NULL after printing why, with the exit code in *status. */
struct client *call_open(const struct ctl *ctl, int *status);

/* What is left of --timeout for a command that connects again and again and began at begun_us, in seconds; 0:
 * there is no limit, below 0: it is over. */
double call_left_s(const struct ctl *ctl, int64_t begun_us);

/* Calls `method` on a fresh connection; `params` is stolen. The result (new reference), or NULL after
 * printing why, with the exit code in *status. */
json_t *call_once(const struct ctl *ctl, const char *method, json_t *params, int *status);

/* Prints what ended a call and returns the exit code for it; *e matters for CLIENT_ERROR alone. */
int call_failed(enum client_end end, const struct err *e);

/* The same for a request that zitd did not take, and for want of runners what is wrong with them. */
int call_refused(const struct ctl *ctl, enum client_end end, const struct err *e);

/* 0 for a final record of a job that is done; else prints its error and returns the exit code. */
int call_outcome(const json_t *record);

#endif
