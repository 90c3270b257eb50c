/*
 * What the methods of the public socket do, and the answers that come later.
 */
#ifndef SUPERVISOR_METHODS_H
#define SUPERVISOR_METHODS_H

#include <stddef.h>

struct client;
struct job;

/* One whole line from a client: parsed, done, answered now or later. */
void methods_line(struct client *c, const char *line, size_t bytes);
/* The client is gone: its waits end, and jobs that were to end with it do. */
void methods_client_gone(struct client *c);
/* The job has news for those who wait for it: progress, or its end. */
void methods_job_advanced(struct job *job);
void methods_job_ended(struct job *job);

#endif
