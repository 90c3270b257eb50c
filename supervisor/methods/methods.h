/*
 * What the methods of the public socket do, and the answers that come later.
 */
#ifndef SUPERVISOR_METHODS_METHODS_H
#define SUPERVISOR_METHODS_METHODS_H

#include <jansson.h>

struct call;
struct daemon_public;

/* For daemon_start: lines are parsed, done, answered now or later; when a client is gone its waits end, and
 * jobs that were to end with it do. */
extern const struct daemon_public methods_public;
/* The answer to a call that was held: the result, or the call's error. */
void methods_answer_later(struct call *call, json_t *result);

#endif
