/*
 * One line of a client: parsed, handed to its method, answered. And what several methods need.
 */
#include "supervisor/methods/methods.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ipc/api.h"
#include "supervisor/methods/acks.h"
#include "supervisor/methods/job_record.h"
#include "supervisor/socket/client.h"
#include "supervisor/methods/events.h"
#include "supervisor/journal.h"
#include "supervisor/methods/methods_inside.h"
#include "supervisor/metrics.h"
#include "supervisor/socket/outbox.h"
#include "supervisor/upgrade.h"
#include "supervisor/methods/waiters.h"

static void
client_gone(struct daemon *d, struct client *c)
{
	upgrade_client_gone(d, c);
	lookups_client_gone(c);
	acks_client_gone(c);
	events_client_gone(c);
	waiters_client_gone(c);
}

/* ---- records */

void
call_put_record(struct json_text *t, struct daemon *d, const struct job *job)
{
	const struct outlook outlook = daemon_outlook(d, job);

	job_record(job, &outlook, NULL, t);
}

/* Whether it can be read while the answer is made: then it needs no descriptor of its own. */
static bool
is_at_hand(const struct picture *p)
{
	return p->fd >= 0 && p->bytes > 0 && p->bytes <= OUTBOX_SMALL;
}

/* -1: it cannot be had, or there would not be descriptors enough. */
static int
open_picture(const struct daemon *d, const struct job *job, int index, enum deliver deliver)
{
	int fd = daemon_open_picture(d, job, index, deliver == DELIVER_FD);

	if (fd < 0 || !client_fd_is_reserved(fd))
		return fd;
	close(fd);
	return -1;
}

void
call_attach_pictures(const struct daemon *d, const struct job *job, int first, int last, enum deliver deliver,
    struct attachment *a)
{
	*a = (struct attachment){.inline_base64 = deliver == DELIVER_BASE64};
	for (int i = first; i <= last && deliver != DELIVER_PATH; i++) {
		bool lent = deliver == DELIVER_BASE64 && is_at_hand(&job->pictures[i]);
		int fd = lent ? job->pictures[i].fd : open_picture(d, job, i, deliver);

		if (fd < 0)
			continue; /* removed meanwhile, or no descriptors: the client finds neither */
		a->pictures[a->count] = i;
		a->lent[a->count] = lent ? job->pictures[i].bytes : 0;
		a->fds[a->count++] = fd;
	}
}

void
call_put_final_record(struct json_text *t, const struct daemon *d, const struct job *job,
    enum deliver deliver, struct attachment *a)
{
	*a = (struct attachment){0};
	if (job_has_pictures(job))
		call_attach_pictures(d, job, 0, job->picture_count - 1, deliver, a);
	job_record(job, NULL, a, t);
}

/* The attachment's descriptors are closed, the result is dropped. */
static void
drop_result(struct call *call, json_t *result)
{
	json_decref(result);
	json_decref(call->data);
	free(json_text_end(&call->text));
	attachment_drop(&call->attachment);
}

/* ---- lists of records */

void
call_begin_list(struct listing *l, struct call *call, int64_t limit)
{
	*l = (struct listing){call, limit};
	json_text_open(&call->text, NULL, '{');
	json_text_open(&call->text, "jobs", '[');
}

void
call_list_job(struct listing *l, const struct job *job)
{
	if (l->left-- > 0)
		call_put_record(&l->call->text, l->call->daemon, job);
}

json_t *
call_end_list(struct listing *l)
{
	json_text_close(&l->call->text, ']');
	json_text_close(&l->call->text, '}');
	return NULL;
}

void
call_list_found(struct listing *l, const struct found *found, int count)
{
	for (int i = 0; i < count; i++) {
		if (found[i].job != NULL && l->left-- > 0)
			job_record(found[i].job, NULL, NULL, &l->call->text);
	}
}

/* ---- jobs that were asked for */

struct job *
call_the_job(struct call *call, const struct found *found)
{
	if (found->job != NULL)
		return found->job;
	if (found->damaged)
		err_set(&call->e, ERR_DAMAGED_JOB, "the record of job %.64s is damaged on disk", found->id);
	else
		err_set(&call->e, ERR_UNKNOWN_JOB, "there is no job %.64s; 'zitctl queue all' lists the jobs",
		    found->id);
	return NULL;
}

bool
call_is_admin(const struct call *call)
{
	return daemon_is_admin(call->daemon, client_uid(call->client), client_gid(call->client));
}

bool
call_may_touch(const struct call *call, const struct job *job)
{
	return client_uid(call->client) == job->uid || call_is_admin(call);
}

/* As the log has it, until the next call. */
static const char *
principal_of(const struct client *c)
{
	static char principal[24];

	snprintf(principal, sizeof(principal), "uid:%d", (int)client_uid(c));
	return principal;
}

void
call_note_touch(const struct call *call, const struct job *job)
{
	if (client_uid(call->client) != job->uid)
		journal(EVENT_ADMIN_ACTION, .action = api_method_name(call->request->method),
		    .principal = principal_of(call->client), .job_id = job->id);
}

bool
call_may_touch_or_complain(struct call *call, const struct job *job)
{
	if (call_may_touch(call, job))
		return true;
	err_set(&call->e, ERR_NOT_PERMITTED, "job %s is another user's", job->id);
	return false;
}

json_t *
call_treat(struct call *call, const struct found *found, int count,
    bool (*may)(struct call *call, const struct job *job), void (*treat)(struct call *call, struct job *job))
{
	struct listing list;

	for (int i = 0; i < count; i++) {
		const struct job *job = call_the_job(call, &found[i]);
		if (job == NULL || !call_may_touch_or_complain(call, job) || (may != NULL && !may(call, job)))
			return NULL;
	}
	for (int i = 0; i < count; i++) {
		call_note_touch(call, found[i].job);
		treat(call, found[i].job);
	}
	call_begin_list(&list, call, count); /* when all is done, for each changes the positions of others */
	for (int i = 0; i < count; i++)
		call_list_job(&list, found[i].job);
	return call_end_list(&list);
}

static json_t *(*const handlers[API_METHOD_COUNT])(struct call *) = {
#define METHOD(name, role, when, fields, help) [API_##name] = method_##name,
#include "ipc/api.def"
};

/* ---- one line */

/* A job that does not come to be. */
static void
tell_rejected(const struct call *call)
{
	const struct api_submit *p = &call->request->submit;
	const char *principal = principal_of(call->client);

	journal(EVENT_JOB_REJECTED, .principal = principal, .client = p->has_client ? p->client : principal,
	    .error = &call->e);
}

static void
tell_order(const struct client *c, const struct api_request *r, bool allowed)
{
	const json_t *params = json_object_get(r->json, "params");

	journal(allowed ? EVENT_ADMIN_ACTION : EVENT_ADMIN_REFUSED, .action = api_method_name(r->method),
	    .principal = principal_of(c),
	    .runner_name = json_string_value(json_object_get(params, "runner")));
}

/* The line is taken, and the call's attachment. */
static void
answer(struct call *call, char *line)
{
	if (!acks_must_wait(call) || !acks_add(call, &line))
		client_send(call->client, line, &call->attachment);
}

/* Counts an error that a submission is answered with. */
static void
note_error(struct daemon *d, enum api_method method, const struct err *e)
{
	if (method == API_submit || method == API_retry)
		metrics_count_rejected(daemon_metrics(d), e->code);
}

/* What a handler left, as a line; NULL: nothing yet, or nobody wants it. */
static char *
line_of(struct call *call, json_t *result)
{
	json_t *id = call->request->id;

	if (call->e.code != ERR_NONE && call->request->method == API_submit)
		tell_rejected(call);
	if (call->e.code != ERR_NONE)
		note_error(call->daemon, call->request->method, &call->e);
	if (id == NULL)
		drop_result(call, result);
	else if (call->e.code != ERR_NONE)
		return api_error(id, &call->e, NULL, call->data);
	else if (result != NULL)
		return api_reply(id, api_text(result));
	else if (call->text.used > 0)
		return api_reply(id, json_text_end(&call->text));
	return NULL;
}

void
methods_answer_later(struct call *call, json_t *result)
{
	char *line = line_of(call, result);

	if (line != NULL && acks_must_wait(call))
		acks_add(call, &line);
	client_answer_in_turn(call->client, line, &call->attachment);
}

/* A notification, a request without id, is done and not answered, whatever becomes of it. */
static void
handle(struct call *call)
{
	const struct api_request *r = call->request;
	json_t *result = NULL;
	bool is_order = api_role(r->method) == API_ADMIN, allowed = !is_order || call_is_admin(call);
	char *line;

	if (is_order)
		tell_order(call->client, r, allowed);
	if (!allowed)
		err_set(&call->e, ERR_NOT_PERMITTED,
		    "%s is for administrators: root, zitd's own user, or admin_group",
		    api_method_name(r->method));
	else
		result = handlers[r->method](call);
	line = line_of(call, result);
	if (line != NULL)
		answer(call, line);
}

/* Then nobody can say whether it was to be answered. */
static bool
is_no_request(const struct err *e)
{
	return e->code == ERR_PARSE_ERROR || e->code == ERR_INVALID_REQUEST;
}

static void
take_line(struct daemon *d, struct client *c, const char *line, size_t bytes)
{
	struct api_request request;
	struct call call = {.daemon = d, .client = c, .request = &request};
	char param[64];
	json_t *id;

	if (api_parse(&request, line, bytes, &call.e, param, &id) == 0) {
		handle(&call);
		api_request_clear(&request);
	} else {
		if (call.e.code == ERR_INVALID_PARAM)
			note_error(d, request.method, &call.e);
		if (id != NULL || is_no_request(&call.e))
			answer(&call, api_error(id, &call.e, param, NULL));
	}
	json_decref(id);
}

/* ---- what zitd tells */

static void
clear(void)
{
	lookups_clear();
	events_clear();
}

static bool
hand_over(json_t *document)
{
	return json_object_set_new(document, "waiters", waiters_hand_over()) == 0 &&
	       json_object_set_new(document, "subscribers", events_hand_over()) == 0;
}

static void
take_over(struct daemon *d, struct clients *clients, const json_t *document)
{
	waiters_take_over(d, clients, json_object_get(document, "waiters"));
	events_take_over(d, clients, json_object_get(document, "subscribers"));
}

const struct daemon_public methods_public = {
    .line = take_line,
    .client_gone = client_gone,
    .client_caught_up = events_client_caught_up,
    .job_advanced = waiters_job_advanced,
    .job_saved = waiters_job_saved,
    .job_ended = waiters_job_ended,
    .job_put_off = waiters_job_put_off,
    .job_needs_files = waiters_need_files,
    .event_make = events_make,
    .events_tell = events_tell,
    .lookups_send = lookups_send,
    .lookups_are_done = lookups_are_done,
    .acks_send = acks_send,
    .job_facts = job_facts,
    .clear = clear,
    .hand_over = hand_over,
    .take_over = take_over,
};
