/*
 * Events and their subscribers.
 *
 * A subscriber that is behind is served from the store, a page at a time, until it has all; only then it
 * hears of what happens. One that does not read is left out and goes back to the store when it reads again.
 */
#include "supervisor/methods/events.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "ipc/clock.h"
#include "ipc/log.h"
#include "supervisor/daemon.h"
#include "supervisor/disk.h"
#include "ipc/json_text.h"
#include "supervisor/runners/runner.h"

enum { PAGE = 500 };

struct subscriber {
	TAILQ_ENTRY(subscriber) link;
	struct daemon *daemon;
	struct client *client; /* NULL: it has gone, and its page is still under way */
	char job[ID_SIZE];     /* of that one only; "": of all */
	int64_t after;	       /* the last event it was told of, or passed over */
	struct store_query page;
	bool reading; /* the page is with the disk thread */
};

static TAILQ_HEAD(, subscriber) subscribers = TAILQ_HEAD_INITIALIZER(subscribers);

bool
events_make(struct store_event *event, int64_t seq, const struct job *job, enum job_state state)
{
	struct json_text t = {0};

	json_text_open(&t, NULL, '{');
	json_text_integer(&t, "seq", seq);
	json_text_micros(&t, "at", clock_wall_us());
	json_text_string(&t, "job", job->id);
	json_text_string(&t, "state", job_kind.states[state].name);
	json_text_string(&t, "priority", job_class_name(job->class));
	json_text_string(&t, "client", job->client);
	json_text_integer(&t, "attempt", (int64_t)job->attempt);
	if (job->group[0] != '\0')
		json_text_string(&t, "group", job->group);
	if (state == JOB_CLAIMED && job->promised != NULL)
		json_text_string(&t, "runner", runner_conf(job->promised)->section_name);
	if (state >= JOB_FIRST_FINAL && job->error.code != ERR_NONE)
		json_text_string(&t, "error", err_row(job->error.code)->name);
	json_text_close(&t, '}');
	*event = (struct store_event){seq, json_text_end(&t)};
	return event->body != NULL;
}

/* ---- sending */

static void
free_subscriber(struct subscriber *s)
{
	TAILQ_REMOVE(&subscribers, s, link);
	store_query_clear(&s->page);
	free(s);
}

/* Whether it is about the job that is followed. It was made by events_make, so its first text is the job. */
static bool
is_followed(const struct subscriber *s, const struct store_event *event)
{
	static const char member[] = "\"job\":\"";
	const char *job = strstr(event->body, member);
	size_t length = strlen(s->job);

	assert(job != NULL);
	job += sizeof(member) - 1;
	return length == 0 || (strcspn(job, "\"") == length && memcmp(s->job, job, length) == 0);
}

/* The same of one from the store, which may come from a damaged file: it must be whole, too. */
static bool
is_whole_and_followed(const struct subscriber *s, const struct store_event *event)
{
	json_t *params = json_loads(event->body, 0, NULL);
	const char *job = json_string_value(json_object_get(params, "job"));
	bool followed = job != NULL && (s->job[0] == '\0' || strcmp(job, s->job) == 0);

	json_decref(params);
	return followed;
}

static void
send_event(struct subscriber *s, const struct store_event *event, bool wanted)
{
	s->after = event->seq;
	if (wanted)
		client_send(s->client, api_event(event->body), NULL);
}

/* Events that nobody has any more. */
static void
send_gap(struct subscriber *s, int64_t first_kept)
{
	int64_t from = s->after + 1;
	char *gap;

	s->after = first_kept - 1;
	gap = api_text(
	    json_pack("{s:{s:I, s:I}}", "gap", "from", (json_int_t)from, "to", (json_int_t)first_kept - 1));
	client_send(s->client, api_event(gap), NULL);
	free(gap);
}

/* ---- from the store */

static void on_page(struct disk_task *task);

static void
read_on(struct subscriber *s)
{
	struct disk_task task = {.kind = DISK_FIND, .done = on_page, .arg = s, .query = &s->page};

	s->page = (struct store_query){.wanted = STORE_SINCE, .after = s->after, .limit = PAGE};
	s->reading = disk_put(daemon_disk(s->daemon), &task) == 0; /* without memory: with the next event */
}

static void
on_page(struct disk_task *task)
{
	struct subscriber *s = task->arg;
	struct store_query page = s->page;
	bool more = page.count == PAGE;

	s->page = (struct store_query){0};
	if (s->client != NULL && page.first_event > s->after + 1)
		send_gap(s, page.first_event);
	for (int i = 0; i < page.count && s->client != NULL; i++)
		send_event(s, &page.events[i], is_whole_and_followed(s, &page.events[i]));
	store_query_clear(&page);
	s->reading = false;
	if (s->client == NULL)
		free_subscriber(s);
	else if (more && !client_is_behind(s->client))
		read_on(s);
}

/* ---- as they come */

/* Has all that was before, and takes it. */
static bool
is_abreast(const struct subscriber *s, int64_t seq)
{
	return s->client != NULL && !s->reading && s->after + 1 == seq && !client_is_behind(s->client);
}

void
events_tell(const struct store_event *events, int count)
{
	struct subscriber *s;

	for (int i = 0; i < count; i++) {
		TAILQ_FOREACH(s, &subscribers, link)
		{
			if (is_abreast(s, events[i].seq))
				send_event(s, &events[i], is_followed(s, &events[i]));
		}
	}
	TAILQ_FOREACH(s, &subscribers, link)
	{
		if (s->client != NULL && !s->reading && count > 0 && s->after < events[count - 1].seq &&
		    !client_is_behind(s->client))
			read_on(s);
	}
}

bool
events_subscribe(struct call *call, const char *job, int64_t after, int64_t last)
{
	struct subscriber *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		err_set(&call->e, ERR_SYSTEM, "out of memory");
		return false;
	}
	s->daemon = call->daemon;
	s->client = call->client;
	s->after = after;
	snprintf(s->job, sizeof(s->job), "%s", job);
	TAILQ_INSERT_TAIL(&subscribers, s, link);
	client_hold(call->client, 0, 0); /* it waits, for as long as it likes */
	if (after < last)
		read_on(s);
	return true;
}

void
events_client_gone(const struct client *c)
{
	struct subscriber *s, *next;

	for (s = TAILQ_FIRST(&subscribers); s != NULL; s = next) {
		next = TAILQ_NEXT(s, link);
		if (s->client != c)
			continue;
		s->client = NULL;
		if (!s->reading)
			free_subscriber(s);
	}
}

void
events_client_caught_up(const struct client *c)
{
	struct subscriber *s;

	TAILQ_FOREACH(s, &subscribers, link)
	{
		if (s->client == c && !s->reading && s->after < daemon_last_event(s->daemon))
			read_on(s);
	}
}

void
events_clear(void)
{
	struct subscriber *s;

	while ((s = TAILQ_FIRST(&subscribers)) != NULL)
		free_subscriber(s);
}

/* ---- from one zitd to the next, while no page is under way */

json_t *
events_hand_over(void)
{
	json_t *list = json_array();
	const struct subscriber *s;

	TAILQ_FOREACH(s, &subscribers, link)
	{
		if (s->client != NULL)
			json_array_append_new(
			    list, json_pack("{s:i, s:s, s:I}", "client", client_fd(s->client), "job", s->job,
				      "after", (json_int_t)s->after));
	}
	return list;
}

static void
take_over(struct daemon *d, struct clients *clients, const json_t *from)
{
	struct subscriber *s = calloc(1, sizeof(*s));
	const char *job = json_string_value(json_object_get(from, "job"));

	if (s == NULL)
		return;
	s->daemon = d;
	s->client = clients_find(clients, (int)json_integer_value(json_object_get(from, "client")));
	s->after = json_integer_value(json_object_get(from, "after"));
	snprintf(s->job, sizeof(s->job), "%s", job != NULL ? job : "");
	if (s->client == NULL) {
		free(s);
		return;
	}
	TAILQ_INSERT_TAIL(&subscribers, s, link);
	client_hold(s->client, 0, 0);
}

void
events_take_over(struct daemon *d, struct clients *clients, const json_t *list)
{
	const json_t *each;
	size_t i;

	json_array_foreach(list, i, each) take_over(d, clients, each);
}
