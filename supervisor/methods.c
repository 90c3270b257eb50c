/*
 * One line of a client: parsed, handed to its method, answered. And what several methods need.
 */
#include "supervisor/methods.h"

#include <string.h>
#include <unistd.h>

#include "ipc/api.h"
#include "ipc/log.h"
#include "supervisor/client.h"
#include "supervisor/events.h"
#include "supervisor/methods_inside.h"
#include "supervisor/upgrade.h"
#include "supervisor/waiters.h"

void
methods_client_gone(struct client *c)
{
	upgrade_client_gone(client_daemon(c), c);
	lookups_client_gone(c);
	events_client_gone(c);
	waiters_client_gone(c);
}

/* ---- records */

json_t *
call_record(struct daemon *d, const struct job *job)
{
	struct outlook outlook = daemon_outlook(d, job);

	return job_record(job, &outlook);
}

void
call_attach_pictures(const struct daemon *d, const struct job *job, json_t *pictures, int first, int last,
    enum deliver deliver, struct attachment *a)
{
	for (int i = first; i <= last && deliver != DELIVER_PATH; i++) {
		json_t *picture = json_array_get(pictures, (size_t)(i - first));
		int fd = daemon_open_picture(d, job, i);
		char mark[48];

		if (fd >= 0 && client_fd_is_reserved(fd)) {
			close(fd);
			fd = -1;
		}
		if (fd < 0)
			continue; /* removed meanwhile, or no descriptors: the client finds neither */
		client_placeholder(a->count, mark);
		if (deliver == DELIVER_BASE64)
			json_object_set_new(picture, "base64", json_string(mark));
		else
			json_object_set_new(picture, "fd", json_integer(a->count));
		a->fds[a->count++] = fd;
	}
	a->inline_base64 = deliver == DELIVER_BASE64;
}

json_t *
call_final_record(const struct daemon *d, const struct job *job, enum deliver deliver, struct attachment *a)
{
	json_t *record = job_record(job, NULL);
	json_t *pictures = json_object_get(json_object_get(record, "result"), "pictures");

	*a = (struct attachment){0};
	if (pictures != NULL)
		call_attach_pictures(d, job, pictures, 0, job->picture_count - 1, deliver, a);
	return record;
}

/* The attachment's descriptors are closed, the result is dropped. */
static void
drop_result(json_t *result, struct attachment *a)
{
	json_decref(result);
	for (int i = 0; i < a->count; i++)
		close(a->fds[i]);
}

json_t *
call_records(const struct found *found, int count, json_t *list, int64_t limit)
{
	for (int i = 0; i < count && (int64_t)json_array_size(list) < limit; i++) {
		if (found[i].job != NULL)
			json_array_append_new(list, job_record(found[i].job, NULL));
	}
	return list;
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
		err_set(&call->e, ERR_UNKNOWN_JOB, "there is no job %.64s; 'zitctl queue' lists the jobs",
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
	json_t *records;

	for (int i = 0; i < count; i++) {
		const struct job *job = call_the_job(call, &found[i]);
		if (job == NULL || !call_may_touch_or_complain(call, job) || (may != NULL && !may(call, job)))
			return NULL;
	}
	for (int i = 0; i < count; i++)
		treat(call, found[i].job);
	records = json_array(); /* when all is done, for each changes the positions of others */
	for (int i = 0; i < count; i++)
		json_array_append_new(records, call_record(call->daemon, found[i].job));
	return json_pack("{s:o}", "jobs", records);
}

static json_t *(*const handlers[API_METHOD_COUNT])(struct call *) = {
#define METHOD(name, role, fields, help) [API_##name] = method_##name,
#include "ipc/api.def"
#undef METHOD
};

/* ---- one line */

static void
answer_error(struct client *c, json_t *id, const struct err *e, const char *param, json_t *data)
{
	client_send(c, api_error(id, e, param, data), NULL);
}

void
methods_answer_later(struct call *call, json_t *result)
{
	json_t *id = call->request->id, *message = NULL;

	if (result != NULL && id == NULL) {
		drop_result(result, &call->attachment);
		call->attachment = (struct attachment){0};
	} else if (result != NULL)
		message = api_reply(id, result);
	else if (call->e.code != ERR_NONE)
		message = api_error(id, &call->e, NULL, call->data);
	client_answer_lookup(call->client, message, &call->attachment);
}

/* A notification, a request without id, is done and not answered. */
static void
handle(struct client *c, struct api_request *r)
{
	struct call call = {.daemon = client_daemon(c), .client = c, .request = r};
	json_t *result = NULL;

	if (api_role(r->method) == API_ADMIN && !daemon_is_admin(call.daemon, client_uid(c), client_gid(c)))
		err_set(&call.e, ERR_NOT_PERMITTED,
		    "%s is for administrators: root, zitd's own user, or admin_group",
		    api_method_name(r->method));
	else
		result = handlers[r->method](&call);
	if (result != NULL && r->id == NULL)
		drop_result(result, &call.attachment);
	else if (result != NULL)
		client_send(c, api_reply(r->id, result), &call.attachment);
	else if (call.e.code != ERR_NONE)
		answer_error(c, r->id, &call.e, NULL, call.data);
}

void
methods_line(struct client *c, const char *line, size_t bytes)
{
	struct api_request request;
	char param[64];
	json_t *id;
	struct err e = {0};

	if (api_parse(&request, line, bytes, &e, param, &id) != 0)
		answer_error(c, id, &e, param, NULL);
	else {
		handle(c, &request);
		api_request_clear(&request);
	}
	json_decref(id);
}
