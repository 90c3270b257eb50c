/*
 * What the methods of the public socket do, and the answers that come later.
 */
#ifndef SUPERVISOR_METHODS_METHODS_H
#define SUPERVISOR_METHODS_METHODS_H

#include <jansson.h>
#include <stddef.h>

struct call;
struct client;
struct daemon;

/* One whole line from a client: parsed, done, answered now or later. */
void methods_line(struct daemon *d, struct client *c, const char *line, size_t bytes);
/* The client is gone: its waits end, and jobs that were to end with it do. */
void methods_client_gone(struct daemon *d, struct client *c);
/* The answer to a call that was held: the result, or the call's error. */
void methods_answer_later(struct call *call, json_t *result);

#endif
