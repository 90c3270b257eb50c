/*
 * Clients that wait for a job.
 */
#include "supervisor/methods/waiters.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "ipc/api.h"
#include "supervisor/daemon.h"
#include "supervisor/fields.h"
#include "supervisor/methods/job_record.h"
#include "supervisor/journal.h"

struct waiter {
	TAILQ_ENTRY(waiter) link;     /* of all */
	TAILQ_ENTRY(waiter) job_link; /* of those for its job */
	struct client *client;
	struct job *job;
	json_t *id; /* of the request */
	struct waiter_wishes wishes;
	int64_t revision; /* of the job that must be on disk before it hears anything */
	bool introduced;  /* has heard of it */
};

static TAILQ_HEAD(, waiter) waiters = TAILQ_HEAD_INITIALIZER(waiters);

/* Descriptors that its answer may need. */
static int
fds_of(const struct waiter *w)
{
	return w->wishes.until == UNTIL_ENDED && w->wishes.deliver != DELIVER_PATH ? w->job->count : 0;
}

/* Bytes of it: of what a record has, its prompt alone can be long. */
static size_t
bytes_of(const struct waiter *w)
{
	return strlen(w->job->prompt);
}

static void
line_up(struct waiter *w)
{
	TAILQ_INSERT_TAIL(&waiters, w, link);
	TAILQ_INSERT_TAIL(&w->job->waiters, w, job_link);
}

bool
waiters_add(struct call *call, struct job *job, const struct waiter_wishes *wishes)
{
	struct waiter *w = calloc(1, sizeof(*w));

	if (w == NULL) {
		err_set(&call->e, ERR_SYSTEM, "out of memory");
		return false;
	}
	w->client = call->client;
	w->job = job;
	w->id = json_incref(call->request->id);
	w->wishes = *wishes;
	w->revision = job->durable ? job->revision : 0;
	if (wishes->until == UNTIL_ENDED)
		job->was_waited_for = true;
	line_up(w);
	client_hold(call->client, bytes_of(w), fds_of(w));
	if (job->saved_revision >= w->revision)
		waiters_job_saved(job);
	if (daemon_has_put_off(job->daemon, job))
		waiters_job_put_off(job);
	return true;
}

static void
remove_waiter(struct waiter *w)
{
	TAILQ_REMOVE(&waiters, w, link);
	TAILQ_REMOVE(&w->job->waiters, w, job_link);
	json_decref(w->id);
	free(w);
}

/* ---- progress */

static void
send_event(const struct waiter *w, const struct job *job)
{
	const struct outlook o = daemon_outlook(job->daemon, job);
	struct json_text t = {0};
	char *params;

	json_text_open(&t, NULL, '{');
	json_text_string(&t, "job", job->id);
	json_text_string(&t, "state", job_state_name(job));
	json_text_string(&t, "stage", stage_name(job->stage));
	json_text_integer(&t, "step", (int64_t)job->step);
	json_text_integer(&t, "steps", job->steps);
	json_text_integer(&t, "picture", (int64_t)job->picture);
	outlook_record(&o, &t);
	json_text_close(&t, '}');
	params = json_text_end(&t);
	client_send(w->client, api_event(params), NULL);
	free(params);
}

void
waiters_job_advanced(struct job *job)
{
	const struct waiter *w;

	TAILQ_FOREACH(w, &job->waiters, job_link)
	{
		if (w->wishes.events && w->introduced && !client_is_behind(w->client))
			send_event(w, job);
	}
}

/* ---- answers */

/* The waiter is gone afterwards. */
static void
answer(struct waiter *w, char *line, struct attachment *a)
{
	struct client *client = w->client;
	size_t bytes = bytes_of(w);
	int fds = fds_of(w);

	remove_waiter(w);
	client_answer(client, bytes, fds, line, a);
}

/* As it was wanted: the final one, with its pictures, or as it is; a notification is not answered. */
static void
answer_record(struct waiter *w, struct job *job)
{
	struct attachment a = {0};
	struct json_text t = {0};

	if (w->id == NULL) {
		answer(w, NULL, NULL);
		return;
	}
	if (w->wishes.until == UNTIL_ENDED)
		call_put_final_record(&t, job->daemon, job, w->wishes.deliver, &a);
	else
		call_put_record(&t, job->daemon, job);
	answer(w, api_reply(w->id, json_text_end(&t)), &a);
}

/* `data` is taken. */
static void
answer_error(struct waiter *w, const struct err *e, json_t *data)
{
	if (w->id != NULL) {
		answer(w, api_error(w->id, e, NULL, data), NULL);
		return;
	}
	json_decref(data);
	answer(w, NULL, NULL);
}

/* One that waits for the end hears the id, which a client that is interrupted needs. */
void
waiters_job_saved(struct job *job)
{
	struct waiter *w, *next;

	for (w = TAILQ_FIRST(&job->waiters); w != NULL; w = next) {
		next = TAILQ_NEXT(w, job_link);
		if (w->introduced || w->revision > job->saved_revision)
			continue;
		w->introduced = true;
		if (w->wishes.until == UNTIL_SAVED)
			answer_record(w, job);
		else if (w->wishes.events)
			send_event(w, job);
	}
}

void
waiters_job_ended(struct job *job)
{
	struct waiter *w;

	while ((w = TAILQ_FIRST(&job->waiters)) != NULL) {
		if (job->refused)
			answer_error(w, &job->error, NULL);
		else
			answer_record(w, job);
	}
}

void
waiters_job_put_off(struct job *job)
{
	struct waiter *w;
	struct err e;

	err_set(&e, ERR_DRAINING,
	    "zitd ends before job %s is done; it goes on when zitd is back: 'zitctl wait %s' then.", job->id,
	    job->id);
	while ((w = TAILQ_FIRST(&job->waiters)) != NULL)
		answer_error(w, &e, json_pack("{s:s}", "job", job->id));
}

bool
waiters_need_files(const struct job *job)
{
	const struct waiter *w;

	if (job->durable)
		return true;
	TAILQ_FOREACH(w, &job->waiters, job_link)
	{
		if (w->wishes.deliver == DELIVER_PATH)
			return true;
	}
	return TAILQ_EMPTY(&job->waiters);
}

/* ---- clients that go away */

static struct waiter *
next_of_client(const struct client *c)
{
	struct waiter *w;

	TAILQ_FOREACH(w, &waiters, link)
	{
		if (w->client == c)
			return w;
	}
	return NULL;
}

/* Whether another one who submitted it, by its idempotency key, still waits for it. */
static bool
has_owner(const struct job *job)
{
	const struct waiter *w;

	TAILQ_FOREACH(w, &job->waiters, job_link)
	{
		if (w->wishes.owner)
			return true;
	}
	return false;
}

void
waiters_client_gone(struct client *c)
{
	struct waiter *w;

	while ((w = next_of_client(c)) != NULL) {
		struct job *job = w->job;
		bool ends = w->wishes.owner && !job->keep && !job_is_final(job);

		remove_waiter(w);
		if (!ends || has_owner(job))
			continue;
		journal(EVENT_CLIENT_GONE, .job = job);
		job_event(job, JOB_EVENT_CANCEL);
	}
}

/* ---- from one zitd to the next */

static const struct field fields[] = {
    FIELD(struct waiter, wishes.until),
    FIELD(struct waiter, wishes.deliver),
    FIELD(struct waiter, wishes.events),
    FIELD(struct waiter, wishes.owner),
    FIELD(struct waiter, revision),
    FIELD(struct waiter, introduced),
};

json_t *
waiters_hand_over(void)
{
	json_t *list = json_array();
	const struct waiter *w;

	TAILQ_FOREACH(w, &waiters, link)
	{
		json_t *o = json_pack(
		    "{s:i, s:s, s:O*}", "client", client_fd(w->client), "job", w->job->id, "id", w->id);
		fields_put(w, fields, FIELD_COUNT(fields), o);
		json_array_append_new(list, o);
	}
	return list;
}

static void
take_over(struct daemon *d, struct clients *clients, const json_t *from)
{
	struct waiter *w = calloc(1, sizeof(*w));
	const char *job = json_string_value(json_object_get(from, "job"));

	if (w == NULL)
		return;
	w->client = clients_find(clients, (int)json_integer_value(json_object_get(from, "client")));
	w->job = job != NULL ? daemon_find_job(d, job) : NULL;
	if (w->client == NULL || w->job == NULL || !fields_take(w, fields, FIELD_COUNT(fields), from)) {
		journal(EVENT_WAITER_LOST, .job_id = job);
		free(w);
		return;
	}
	w->id = json_incref(json_object_get(from, "id"));
	line_up(w);
	client_hold(w->client, bytes_of(w), fds_of(w));
}

void
waiters_take_over(struct daemon *d, struct clients *clients, const json_t *list)
{
	const json_t *each;
	size_t i;

	json_array_foreach(list, i, each) take_over(d, clients, each);
}
