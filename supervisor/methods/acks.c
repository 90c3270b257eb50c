/*
 * Answers that wait for the disk. An order may depend on an earlier one that is not on disk yet, a hold of a
 * job that was held a moment ago, say: so an answer waits for all that had changed by then, whoever changed
 * it.
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
	json_t *id; /* of the request */
	enum api_method method;
	int64_t change; /* that must be on disk */
};

static TAILQ_HEAD(ack_line, ack) acks = TAILQ_HEAD_INITIALIZER(acks); /* by their changes */

bool
acks_must_wait(const struct call *call)
{
	return api_when(call->request->method) != API_READY && call->e.code == ERR_NONE &&
	       daemon_saved_change(call->daemon) < daemon_change(call->daemon);
}

void
acks_add(struct call *call, char *line)
{
	struct ack *a = calloc(1, sizeof(*a));
	struct err e;

	if (a == NULL) { /* done, and not acknowledged */
		free(line);
		err_set(&e, ERR_SYSTEM, "out of memory");
		client_answer_in_turn(call->client, api_error(call->request->id, &e, NULL, NULL), NULL);
		return;
	}
	*a = (struct ack){.client = call->client,
	    .line = line,
	    .id = json_incref(call->request->id),
	    .method = call->request->method,
	    .change = daemon_change(call->daemon)};
	TAILQ_INSERT_TAIL(&acks, a, link);
	daemon_changed(call->daemon);
}

static void
free_ack(struct ack *a)
{
	TAILQ_REMOVE(&acks, a, link);
	json_decref(a->id);
	free(a->line);
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
	bool kept = a->change <= daemon_saved_change(d) || api_when(a->method) == API_ENDED;
	struct client *client = a->client;
	char *line = a->line;

	if (kept)
		a->line = NULL;
	else
		line = not_kept(a, daemon_store_error(d));
	free_ack(a);
	client_answer_in_turn(client, line, NULL);
}

/* Sending may end clients, and take their acks: each look is a new one. */
static struct ack *
next_to_answer(const struct daemon *d)
{
	struct ack *a = TAILQ_FIRST(&acks);
	bool over = a != NULL && (a->change <= daemon_saved_change(d) || daemon_store_error(d) != 0);

	return over ? a : NULL;
}

void
acks_send(struct daemon *d)
{
	struct ack *a;

	while ((a = next_to_answer(d)) != NULL)
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
