/*
 * Clients that wait for something to become of a job: that it is on disk, or that it has ended.
 */
#ifndef SUPERVISOR_METHODS_WAITERS_H
#define SUPERVISOR_METHODS_WAITERS_H

#include "supervisor/methods/call.h"
#include "supervisor/jobs/job.h"

enum until { UNTIL_SAVED, UNTIL_ENDED };

struct waiter_wishes {
	enum until until;
	enum deliver deliver; /* of its pictures, when it has ended */
	bool events;	      /* progress as notifications before the answer */
	bool owner;	      /* it submitted the job, which ends with the last such one unless it is kept */
};

/* The call is answered later. false after filling its error. */
bool waiters_add(struct call *call, struct job *job, const struct waiter_wishes *wishes);

/* What jobs tell, by way of the daemon. */
void waiters_job_advanced(struct job *job);
void waiters_job_saved(struct job *job); /* up to its saved_revision */
void waiters_job_ended(struct job *job);
void waiters_job_put_off(struct job *job); /* zitd ends first: it goes on in the next life */

/* Whether somebody wants the job's pictures as files, or may come for them later: not when all who wait want
 * the bytes themselves, and the job ends with their answers. */
bool waiters_need_files(const struct job *job);

/* A client has gone: its waits end, and with them the jobs that it owned. */
void waiters_client_gone(struct client *c);

/* From one zitd to the next: all of them, a new reference; and back, when clients and jobs are there. */
json_t *waiters_hand_over(void);
void waiters_take_over(struct daemon *d, struct clients *clients, const json_t *waiters);

#endif
