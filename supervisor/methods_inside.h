/*
 * What the files of the methods share: methods.c (jobs, runners, waiting) and methods_queue.c (turns, pauses,
 * usage). Nobody else includes this.
 */
#ifndef SUPERVISOR_METHODS_INSIDE_H
#define SUPERVISOR_METHODS_INSIDE_H

#include <jansson.h>

#include "ipc/api.h"
#include "supervisor/client.h"
#include "supervisor/daemon.h"

struct runner;

/* A request being handled. */
struct call {
	struct daemon *daemon;
	struct client *client;
	struct api_request *request;
	struct err e;
	json_t *data; /* details of the error, or NULL */
	struct attachment attachment;
};

bool call_is_admin(const struct call *call);
struct job *call_find_job(struct call *call, const char *id); /* NULL after filling the error */
/* Does `treat` to each job of the id or ids, and answers with their records. All are looked at before any job
 * is touched, by `may` too when it is not NULL, so that a wrong one changes nothing. */
json_t *call_treat_jobs(struct call *call, const json_t *given,
    bool (*may)(struct call *call, const struct job *job), void (*treat)(struct call *call, struct job *job));
/* Gives the order to the runner of that name, or all for NULL; their names. NULL after filling the error. */
json_t *call_order_runners(struct call *call, const char *name, void (*order)(struct runner *r));

/* methods_queue.c */
json_t *method_hold(struct call *call);
json_t *method_release(struct call *call);
json_t *method_move(struct call *call);
json_t *method_priority(struct call *call);
json_t *method_why(struct call *call);
json_t *method_usage(struct call *call);
json_t *method_pause(struct call *call);
json_t *method_resume(struct call *call);

#endif
