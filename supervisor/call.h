/*
 * A request being handled: what methods.c, lookup.c and waiters.c share.
 *
 * A handler returns the result, or NULL after filling `e`, or NULL with `e` left empty when the answer comes
 * later: then it has left a waiter at a job, or a lookup at the store.
 */
#ifndef SUPERVISOR_CALL_H
#define SUPERVISOR_CALL_H

#include <jansson.h>

#include "ipc/api.h"
#include "supervisor/client.h"

struct job;

enum deliver { DELIVER_PATH, DELIVER_BASE64, DELIVER_FD }; /* order of api.def */

struct call {
	struct daemon *daemon;
	struct client *client;
	struct api_request *request;
	struct err e;
	json_t *data; /* details of the error, or NULL */
	struct attachment attachment;
};

/* The record with position and outlook; new reference. */
json_t *call_record(struct daemon *d, const struct job *job);
/* The final one, with its pictures as they were asked for; *a is filled. */
json_t *call_final_record(
    const struct daemon *d, const struct job *job, enum deliver deliver, struct attachment *a);
/* Opens what `deliver` wants of pictures first .. last into the attachment, and says so in their objects. */
void call_attach_pictures(const struct daemon *d, const struct job *job, json_t *pictures, int first,
    int last, enum deliver deliver, struct attachment *a);

#endif
