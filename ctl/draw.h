/*
 * Waiting for a picture, with progress.
 */
#ifndef CTL_DRAW_H
#define CTL_DRAW_H

#include <jansson.h>

#include "ctl/client.h"
#include "ctl/ctl.h"

enum {
	DRAW_OWN = 1,	  /* the job dies with the command, unless on_disconnect is keep */
	DRAW_PICTURES = 2 /* its pictures come as descriptors (client_take_fd) */
};

/* Calls a method that answers with a final record, showing progress; `params` is stolen. When zitd ends
 * before the job, which it keeps, it is waited for (client_reopen). The record (new reference) of a job that
 * ended in whatever way, or NULL after printing why, with the exit code in *status. *client is the connection
 * that it came over, the caller's to close, or NULL. */
json_t *draw_call(const struct ctl *ctl, struct client **client, const char *method, json_t *params,
    int flags, int *status);

#endif
