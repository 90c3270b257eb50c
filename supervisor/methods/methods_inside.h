/*
 * The methods of the public socket: each row of api.def is a function here, in one of the files methods_*.c.
 * What a handler returns is said in call.h. Nobody else includes this.
 */
#ifndef SUPERVISOR_METHODS_METHODS_INSIDE_H
#define SUPERVISOR_METHODS_METHODS_INSIDE_H

#include "supervisor/methods/call.h"
#include "supervisor/daemon.h"
#include "supervisor/methods/lookup.h"

struct runner;

#define METHOD(name, role, when, fields, help) json_t *method_##name(struct call *call);
#include "ipc/api.def"

bool call_is_admin(const struct call *call);
/* The one job that was asked for, or NULL after filling the call's error. */
struct job *call_the_job(struct call *call, const struct found *found);
bool call_may_touch(const struct call *call, const struct job *job);
bool call_may_touch_or_complain(struct call *call, const struct job *job);
/* Before a job is treated: that of another user is an administrator's action, and logged. */
void call_note_touch(const struct call *call, const struct job *job);

/* {"jobs":[...]}, written to the call's text; what is more than the limit is left out. */
struct listing {
	struct call *call;
	int64_t left;
};

void call_begin_list(struct listing *l, struct call *call, int64_t limit);
void call_list_job(struct listing *l, const struct job *job); /* with its outlook */
void call_list_found(
    struct listing *l, const struct found *found, int count); /* what the store knows of them */
json_t *call_end_list(struct listing *l);		      /* NULL, as a handler then returns */

/* Does `treat` to each job that was found, open or ended, and answers with their records. All are looked at
 * before any is touched, by `may` too when it is not NULL, so that a wrong one changes nothing. */
json_t *call_treat(struct call *call, const struct found *found, int count,
    bool (*may)(struct call *call, const struct job *job), void (*treat)(struct call *call, struct job *job));
/* Gives the order to the runner of that name, or all for NULL; their names. NULL after filling the error. */
json_t *call_order_runners(struct call *call, const char *name, void (*order)(struct runner *r));

#endif
