/*
 * A request being handled: what methods.c, lookup.c and waiters.c share.
 *
 * A handler returns the result, or NULL after writing it to `text`, which is how records are told, or NULL
 * after filling `e`, or NULL with all left empty when the answer comes later: then it has left a waiter at a
 * job, or a lookup at the store.
 */
#ifndef SUPERVISOR_METHODS_CALL_H
#define SUPERVISOR_METHODS_CALL_H

#include <jansson.h>

#include "ipc/api.h"
#include "ipc/json_text.h"
#include "supervisor/socket/attachment.h"
#include "supervisor/socket/client.h"

struct job;

enum deliver { DELIVER_PATH, DELIVER_BASE64, DELIVER_FD }; /* order of api.def */

struct call {
	struct daemon *daemon;
	struct client *client;
	struct api_request *request;
	struct err e;
	json_t *data; /* details of the error, or NULL */
	struct attachment attachment;
	struct json_text text;
};

/* A job's record, as the next value of the text: with position and outlook, or a final one with its pictures
 * as they are wanted, for which *a is filled. */
void call_put_record(struct json_text *t, struct daemon *d, const struct job *job);
void call_put_final_record(struct json_text *t, const struct daemon *d, const struct job *job,
    enum deliver deliver, struct attachment *a);
/* Opens what `deliver` wants of pictures first .. last into the attachment. */
void call_attach_pictures(const struct daemon *d, const struct job *job, int first, int last,
    enum deliver deliver, struct attachment *a);

#endif
