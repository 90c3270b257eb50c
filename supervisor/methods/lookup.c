/*
 * Requests that wait for the store.
 */
#include "supervisor/methods/lookup.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "supervisor/daemon.h"
#include "supervisor/disk.h"
#include "supervisor/jobs/job_row.h"
#include "supervisor/methods/methods.h"

enum { MAX_ASKED = 3 };

struct lookup {
	TAILQ_ENTRY(lookup) link;
	struct daemon *daemon;
	struct client *client; /* NULL: it has gone, nobody wants the answer */
	struct api_request request;
	struct store_query query;
	lookup_then *then;
	bool sent;
	int asked; /* times */
};

static TAILQ_HEAD(, lookup) lookups = TAILQ_HEAD_INITIALIZER(lookups);

static void
free_lookup(struct lookup *l)
{
	json_t *id = l->request.id;

	TAILQ_REMOVE(&lookups, l, link);
	store_query_clear(&l->query);
	api_request_clear(&l->request);
	json_decref(id);
	free(l);
}

/* ---- what was found */

/* In memory it counts while it is open; ended, it is told from disk, unless it cannot get there. */
static struct job *
find_in_memory(const struct daemon *d, const char *id)
{
	struct job *job = daemon_find_job(d, id);

	return job != NULL && (!job_is_final(job) || daemon_store_error(d) != 0) ? job : NULL;
}

static struct found
from_row(struct daemon *d, const struct store_row *row)
{
	struct found f = {0};
	bool was_with_runner;

	if (row->number == 0)
		return f;
	if (row->body != NULL)
		f.job = job_from_row(d, row->body, &was_with_runner);
	f.damaged = f.job == NULL;
	f.loaded = f.job != NULL;
	if (f.loaded)
		f.job->expired = f.job->picture_count > 0 && row->bytes == 0;
	return f;
}

static struct found
resolve(const struct lookup *l, int at)
{
	const struct store_query *q = &l->query;
	struct found f = {0};

	if (q->wanted == STORE_IDS)
		f.job = find_in_memory(l->daemon, q->texts[at]);
	if (f.job == NULL && at < q->count)
		f = from_row(l->daemon, &q->rows[at]);
	f.id = q->wanted == STORE_IDS ? q->texts[at] : NULL;
	return f;
}

/* Whether the answer is the same without the store: all that was asked for is in memory. */
static bool
is_independent(struct daemon *d, const struct store_query *q)
{
	bool all = q->wanted == STORE_IDS;

	for (int i = 0; i < q->text_count && all; i++)
		all = find_in_memory(d, q->texts[i]) != NULL;
	return all;
}

/* `error`: of the query, or 0. What cannot be read is not unknown. */
static void
answer(struct lookup *l, int error)
{
	int count = l->query.wanted == STORE_IDS ? l->query.text_count : l->query.count;
	struct found *found = calloc((size_t)count + 1, sizeof(*found));
	struct call call = {.daemon = l->daemon, .client = l->client, .request = &l->request};
	json_t *result = NULL;

	for (int i = 0; i < count && found != NULL; i++)
		found[i] = resolve(l, i);
	if (error != 0 && !is_independent(l->daemon, &l->query))
		err_set(&call.e, ERR_SYSTEM, "the queue on disk cannot be read now: %s; try again",
		    strerror(error));
	else if (found != NULL)
		result = l->then(&call, found, count);
	else
		err_set(&call.e, ERR_SYSTEM, "out of memory");
	methods_answer_later(&call, result);
	for (int i = 0; i < count && found != NULL; i++) {
		if (found[i].loaded)
			job_free(&found[i].job);
	}
	free(found);
}

/* Whether the end of one of the jobs that were asked for is on its way to the disk: it is there when the
 * store is asked again. */
static bool
came_too_early(const struct lookup *l)
{
	const struct store_query *q = &l->query;
	const struct job *job;

	for (int i = 0; q->wanted == STORE_IDS && i < q->text_count; i++) {
		job = daemon_find_job(l->daemon, q->texts[i]);
		if (job != NULL && daemon_end_is_pending(l->daemon, job) &&
		    (i >= q->count || q->rows[i].number == 0))
			return true;
	}
	return false;
}

/* Likewise for lists, where some job may always be ending: not for ever. */
static bool
list_came_too_early(const struct lookup *l)
{
	const struct job *job = NULL;

	if (l->query.wanted != STORE_ENDED || l->asked > MAX_ASKED)
		return false;
	while ((job = daemon_next_job(l->daemon, job)) != NULL) {
		if (daemon_end_is_pending(l->daemon, job))
			return true;
	}
	return false;
}

static void
on_found(struct disk_task *task)
{
	struct lookup *l = task->arg;

	if (l->client != NULL && (came_too_early(l) || list_came_too_early(l))) {
		store_query_forget(&l->query);
		l->sent = false;
		daemon_changed(l->daemon);
		return;
	}
	if (l->client != NULL)
		answer(l, task->error);
	free_lookup(l);
}

/* ---- asking */

/* All in memory: no need to ask. *result is the answer then. */
static bool
answer_at_once(struct call *call, const struct store_query *q, lookup_then *then, json_t **result)
{
	struct found *found = NULL;

	if (is_independent(call->daemon, q))
		found = calloc((size_t)q->text_count + 1, sizeof(*found));
	if (found == NULL)
		return false;
	for (int i = 0; i < q->text_count; i++) {
		found[i].id = q->texts[i];
		found[i].job = find_in_memory(call->daemon, q->texts[i]);
	}
	*result = then(call, found, q->text_count);
	free(found);
	return true;
}

json_t *
lookup_query(struct call *call, struct store_query *query, lookup_then *then)
{
	json_t *result = NULL;
	struct lookup *l;

	if (answer_at_once(call, query, then, &result)) {
		store_query_clear(query);
		return result;
	}
	l = calloc(1, sizeof(*l));
	if (l == NULL) {
		store_query_clear(query);
		err_set(&call->e, ERR_SYSTEM, "out of memory");
		return NULL;
	}
	*l = (struct lookup){.daemon = call->daemon,
	    .client = call->client,
	    .request = *call->request,
	    .query = *query,
	    .then = then};
	json_incref(l->request.id);
	call->request->json = NULL; /* it is the lookup's now */
	TAILQ_INSERT_TAIL(&lookups, l, link);
	client_hold_in_turn(call->client);
	daemon_changed(call->daemon);
	return NULL;
}

json_t *
lookup_text(struct call *call, struct store_query *q, const char *text, lookup_then *then)
{
	q->texts = calloc(1, sizeof(char *));
	if (q->texts != NULL)
		q->texts[0] = strdup(text);
	q->text_count = q->texts != NULL && q->texts[0] != NULL;
	if (q->text_count == 1)
		return lookup_query(call, q, then);
	store_query_clear(q);
	err_set(&call->e, ERR_SYSTEM, "out of memory");
	return NULL;
}

json_t *
lookup_ids(struct call *call, const json_t *ids, lookup_then *then)
{
	size_t count = json_is_array(ids) ? json_array_size(ids) : 1;
	struct store_query q = {.wanted = STORE_IDS, .texts = calloc(count + 1, sizeof(char *))};

	for (size_t i = 0; i < count && q.texts != NULL; i++) {
		const json_t *id = json_is_array(ids) ? json_array_get(ids, i) : ids;
		q.texts[i] = strdup(json_string_value(id));
		q.text_count += q.texts[i] != NULL;
	}
	if (q.text_count == (int)count)
		return lookup_query(call, &q, then);
	store_query_clear(&q);
	err_set(&call->e, ERR_SYSTEM, "out of memory");
	return NULL;
}

json_t *
lookup_id(struct call *call, const char *id, lookup_then *then)
{
	json_t *text = json_string(id), *result = lookup_ids(call, text, then);

	json_decref(text);
	return result;
}

void
lookups_send(struct daemon *d)
{
	struct lookup *l;

	TAILQ_FOREACH(l, &lookups, link)
	{
		struct disk_task task = {.kind = DISK_FIND, .done = on_found, .arg = l, .query = &l->query};
		if (l->sent)
			continue;
		l->sent = disk_put(daemon_disk(d), &task) == 0; /* without memory: the next turn */
		l->asked += l->sent;
	}
}

bool
lookups_are_done(void)
{
	return TAILQ_EMPTY(&lookups);
}

void
lookups_client_gone(const struct client *c)
{
	struct lookup *l;

	TAILQ_FOREACH(l, &lookups, link)
	{
		if (l->client == c)
			l->client = NULL;
	}
}

void
lookups_clear(void)
{
	struct lookup *l;

	while ((l = TAILQ_FIRST(&lookups)) != NULL)
		free_lookup(l);
}
