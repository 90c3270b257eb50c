/*
 * What became of jobs, told to all who subscribed: each change of state that is written down has a number,
 * and is told once it is on disk. A subscriber that was away names the last one it saw and gets what it
 * missed, over restarts of zitd too; what is not kept any more is told as a gap.
 */
#ifndef SUPERVISOR_METHODS_EVENTS_H
#define SUPERVISOR_METHODS_EVENTS_H

#include "supervisor/methods/call.h"
#include "supervisor/jobs/job.h"
#include "supervisor/store/store.h"

/* The event that the job is in that state; false: no memory. */
bool events_make(struct store_event *event, int64_t seq, const struct job *job, enum job_state state);

/* From now on: events after `after`, of one job or all (job ""). false: no memory. `last` is the newest. */
bool events_subscribe(struct call *call, const char *job, int64_t after, int64_t last);
/* These are on disk now. */
void events_tell(const struct store_event *events, int count);

void events_client_gone(const struct client *c);
void events_client_caught_up(const struct client *c); /* what it was left out of is brought */
void events_clear(void); /* the disk thread is gone */

/* From one zitd to the next: those who subscribed, a new reference; and back, when clients are there. */
json_t *events_hand_over(void);
void events_take_over(struct daemon *d, struct clients *clients, const json_t *subscribers);

#endif
