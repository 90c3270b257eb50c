/*
 * Answers that wait for the disk. An order may depend on an earlier one that is not on disk yet, a hold of a
 * job that was held a moment ago, say: so an answer waits for all that had changed by then, whoever changed
 * it.
 *
 * Meanwhile a client's next requests are taken, so that orders that follow one another share a transaction;
 * what there is to say to them lines up behind.
 *
 * What cannot be written down is answered by an error, though it is done: it is not promised to survive.
 */
#include "supervisor/methods/acks.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "supervisor/daemon.h"

struct ack {
	TAILQ_ENTRY(ack) link;
	struct client *client;
	char *line;
	size_t bytes;
	struct attachment attachment;
	json_t *id; /* of the request */
	enum api_method method;
	bool promises;	/* that something was done; else it merely follows one that does */
	int64_t change; /* that must be on disk */
};

static TAILQ_HEAD(ack_line, ack) acks = TAILQ_HEAD_INITIALIZER(acks); /* by their changes */

static bool
promises(const struct call *call)
{
	return call->e.code == ERR_NONE && api_when(call->request->method) != API_READY &&
	       daemon_saved_change(call->daemon) < daemon_change(call->daemon);
}

bool
acks_must_wait(const struct call *call)
{
	return client_has_line(call->client) || promises(call);
}

bool
acks_add(struct call *call, char **line)
{
	struct ack *a = *line != NULL ? calloc(1, sizeof(*a)) : NULL;
	struct err e;

	if (a == NULL || !attachment_own(&call->attachment)) { /* it may be done, and is not acknowledged */
		err_set(&e, ERR_SYSTEM, "out of %s", a == NULL ? "memory" : "descriptors");
		free(a);
		free(*line);
		attachment_drop(&call->attachment);
		*line = api_error(call->request->id, &e, NULL, NULL);
		return false;
	}
	*a = (struct ack){.client = call->client,
	    .line = *line,
	    .bytes = strlen(*line),
	    .attachment = call->attachment,
	    .id = json_incref(call->request->id),
	    .method = call->request->method,
	    .promises = promises(call),
	    .change = daemon_change(call->daemon)};
	*line = NULL;
	call->attachment = (struct attachment){0};
	TAILQ_INSERT_TAIL(&acks, a, link);
	client_hold_in_line(a->client, a->bytes, a->attachment.count);
	daemon_changed(call->daemon);
	return true;
}

static void
free_ack(struct ack *a)
{
	TAILQ_REMOVE(&acks, a, link);
	json_decref(a->id);
	free(a->line);
	attachment_drop(&a->attachment);
	free(a);
}

/* ---- answers */

static char *
not_kept(const struct ack *a, int error)
{
	struct err e;

	err_set(&e, ERR_DISK_FULL,
	    "%s is done, but cannot be written down (%s), so that zitd's end would undo it. Free some space.",
	    api_method_name(a->method), strerror(error));
	return api_error(a->id, &e, NULL, NULL);
}

/* The ack is gone afterwards. */
static void
answer(const struct daemon *d, struct ack *a)
{
	bool kept = !a->promises || a->change <= daemon_saved_change(d) || api_when(a->method) == API_ENDED;
	const struct ack was = *a;
	struct attachment attachment = a->attachment;
	char *line = kept ? a->line : not_kept(a, daemon_store_error(d));

	if (kept)
		a->line = NULL;
	a->attachment.count = 0; /* they are the client's */
	free_ack(a);
	client_answer_in_line(was.client, was.bytes, was.attachment.count, line, &attachment);
}

void
acks_send(struct daemon *d)
{
	struct ack *a;

	while ((a = TAILQ_FIRST(&acks)) != NULL &&
	       (a->change <= daemon_saved_change(d) || daemon_store_error(d) != 0))
		answer(d, a);
}

void
acks_client_gone(const struct client *c)
{
	struct ack *a, *next;

	for (a = TAILQ_FIRST(&acks); a != NULL; a = next) {
		next = TAILQ_NEXT(a, link);
		if (a->client == c)
			free_ack(a);
	}
}
