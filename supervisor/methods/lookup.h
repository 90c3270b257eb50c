/*
 * Requests that wait for what the store finds: ended jobs are on disk, and the loop does not read there. What
 * is asked goes to the disk thread once all that happened before is on its way there, so that an answer is
 * never older than the question.
 */
#ifndef SUPERVISOR_METHODS_LOOKUP_H
#define SUPERVISOR_METHODS_LOOKUP_H

#include "supervisor/methods/call.h"
#include "supervisor/jobs/job.h"
#include "supervisor/store/store.h"

/* What the store had. A job that is still in memory takes the place of what is on disk. */
struct found {
	const char *id;	 /* that was asked for, the lookup's; NULL where no ids were */
	struct job *job; /* NULL: there is none, or it is damaged */
	bool damaged;
	bool loaded; /* from disk: it is lookup.c's and goes after the answer */
};

/* Makes the answer, as a method does. */
typedef json_t *lookup_then(struct call *call, const struct found *found, int count);

/* The call is answered later, by `then` with what the query finds; `query` is taken over. With ids all of
 * which are in memory it is done at once. The result, or NULL as a method's. */
json_t *lookup_query(struct call *call, struct store_query *query, lookup_then *then);
/* Likewise, with one text: a key, or a group. */
json_t *lookup_text(struct call *call, struct store_query *query, const char *text, lookup_then *then);
/* By ids: a JSON string, or an array of them. */
json_t *lookup_ids(struct call *call, const json_t *ids, lookup_then *then);
json_t *lookup_id(struct call *call, const char *id, lookup_then *then);

/* Hands over what may go. */
void lookups_send(struct daemon *d);
bool lookups_are_done(void); /* nobody waits for one */
void lookups_client_gone(const struct client *c);
void lookups_clear(void); /* the disk thread is gone: those that waited for it too */

#endif
