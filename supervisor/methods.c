/*
 * What the methods of the public socket do, one handler for each row of api.def, and the answers that come
 * later.
 *
 * A handler returns the result, or NULL after filling *e, or NULL with *e left empty when the answer comes
 * later: then it has left a waiter at the job.
 */
#include "supervisor/methods.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/api.h"
#include "ipc/log.h"
#include "supervisor/client.h"
#include "supervisor/daemon.h"
#include "supervisor/methods_inside.h"
#include "supervisor/runner.h"

enum deliver { DELIVER_PATH, DELIVER_BASE64, DELIVER_FD }; /* order of api.def */

/* Somebody who waits for the end of a job. */
struct waiter {
	TAILQ_ENTRY(waiter) link;
	struct client *client;
	struct job *job;
	json_t *id; /* of the request */
	enum deliver deliver;
	bool events;
	uint64_t told; /* the pass of methods_job_advanced that told it last */
	bool owner;    /* it submitted the job, which ends with it unless it is to be kept */
};

static TAILQ_HEAD(, waiter) waiters = TAILQ_HEAD_INITIALIZER(waiters);

/* ---- records */

static json_t *
record_of(struct daemon *d, const struct job *job)
{
	struct outlook outlook = daemon_outlook(d, job);

	return job_record(job, &outlook);
}

/* Opens what `deliver` wants of pictures first .. last into the attachment, and says so in their objects. */
static void
attach_pictures(const struct daemon *d, const struct job *job, json_t *pictures, int first, int last,
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

static json_t *
final_record(const struct daemon *d, const struct job *job, enum deliver deliver, struct attachment *a)
{
	json_t *record = job_record(job, NULL);
	json_t *pictures = json_object_get(json_object_get(record, "result"), "pictures");

	*a = (struct attachment){0};
	if (pictures != NULL)
		attach_pictures(d, job, pictures, 0, job->picture_count - 1, deliver, a);
	return record;
}

/* ---- waiting */

/* Descriptors that its answer may need. */
static int
waiter_fds(const struct waiter *w)
{
	return w->deliver != DELIVER_PATH ? w->job->count : 0;
}

/* NULL after filling the call's error. */
static struct waiter *
add_waiter(struct call *call, struct job *job, bool events, int deliver, bool owner)
{
	struct waiter *w = calloc(1, sizeof(*w));

	if (w == NULL) {
		err_set(&call->e, ERR_SYSTEM, "out of memory");
		return NULL;
	}
	w->client = call->client;
	w->job = job;
	w->id = json_incref(call->request->id);
	w->deliver = (enum deliver)deliver;
	w->events = events;
	w->owner = owner;
	job->was_waited_for = true;
	TAILQ_INSERT_TAIL(&waiters, w, link);
	client_hold(call->client, waiter_fds(w));
	return w;
}

static void
remove_waiter(struct waiter *w)
{
	TAILQ_REMOVE(&waiters, w, link);
	json_decref(w->id);
	free(w);
}

/* Where it stands in the queue, and when it will be done. */
static void
put_outlook(const struct job *job, json_t *params)
{
	const struct outlook o = daemon_outlook(job->daemon, job);

	if (o.position > 0)
		json_object_set_new(params, "position", json_integer(o.position));
	if (o.held_back[0] != '\0')
		json_object_set_new(params, "held_back", json_string(o.held_back));
	if (o.eta_s >= 0) {
		json_object_set_new(params, "eta_s", json_real(o.eta_s));
		json_object_set_new(params, "eta_p95_s", json_real(o.eta_p95_s));
	}
}

static void
send_event(const struct waiter *w, const struct job *job)
{
	json_t *params = json_pack("{s:s, s:s, s:s, s:i, s:i, s:i}", "job", job->id, "state",
	    job_state_name(job), "stage", stage_name(job->stage), "step", (int)job->step, "steps", job->steps,
	    "picture", (int)job->picture);

	put_outlook(job, params);
	client_send(w->client, api_event(params), NULL);
}

/* Sending may end clients, and their waiters with them: so no walk holds a waiter across it, each looks anew.
 */
static struct waiter *
next_to_tell(const struct job *job, uint64_t pass)
{
	struct waiter *w;

	TAILQ_FOREACH(w, &waiters, link)
	{
		if (w->job == job && w->events && w->told != pass)
			return w;
	}
	return NULL;
}

static struct waiter *
next_of_job(const struct job *job)
{
	struct waiter *w;

	TAILQ_FOREACH(w, &waiters, link)
	{
		if (w->job == job)
			return w;
	}
	return NULL;
}

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

void
methods_job_advanced(struct job *job)
{
	static uint64_t pass;
	struct waiter *w;

	pass++;
	while ((w = next_to_tell(job, pass)) != NULL) {
		w->told = pass;
		if (!client_is_behind(w->client))
			send_event(w, job);
	}
}

void
methods_job_ended(struct job *job)
{
	struct waiter *w;

	while ((w = next_of_job(job)) != NULL) {
		struct client *client = w->client;
		struct attachment attachment;
		json_t *reply = api_reply(w->id, final_record(job->daemon, job, w->deliver, &attachment));
		int fds = waiter_fds(w);

		remove_waiter(w);
		client_answer(client, fds, reply, &attachment);
	}
}

void
methods_client_gone(struct client *c)
{
	struct waiter *w;

	while ((w = next_of_client(c)) != NULL) {
		struct job *job = w->job;
		bool ends = w->owner && !job->keep && !job_is_final(job);

		remove_waiter(w);
		if (!ends)
			continue;
		log_info("job %s: its client went away", job->id);
		job_event(job, JOB_EVENT_CANCEL);
	}
}

/* ---- finding jobs */

struct job *
call_find_job(struct call *call, const char *id)
{
	struct job *job = daemon_find_job(call->daemon, id);

	if (job == NULL)
		err_set(
		    &call->e, ERR_UNKNOWN_JOB, "there is no job %.64s; 'zitctl queue' lists the jobs", id);
	return job;
}

bool
call_is_admin(const struct call *call)
{
	return daemon_is_admin(call->daemon, client_uid(call->client), client_gid(call->client));
}

static bool
may_touch(const struct call *call, const struct job *job)
{
	return client_uid(call->client) == job->uid || call_is_admin(call);
}

/* Whether that job is there and may be treated so; else the call's error. */
static bool
may_be_treated(struct call *call, const char *id, bool (*may)(struct call *call, const struct job *job))
{
	const struct job *job = call_find_job(call, id);

	if (job == NULL)
		return false;
	if (may_touch(call, job))
		return may == NULL || may(call, job);
	err_set(&call->e, ERR_NOT_PERMITTED, "job %s is another user's", job->id);
	return false;
}

json_t *
call_treat_jobs(struct call *call, const json_t *given, bool (*may)(struct call *call, const struct job *job),
    void (*treat)(struct call *call, struct job *job))
{
	json_t *ids = json_is_array(given) ? json_incref((json_t *)given) : json_pack("[O]", given);
	json_t *records = json_array(), *id;
	bool good = true;
	size_t i;

	json_array_foreach(ids, i, id) good = good && may_be_treated(call, json_string_value(id), may);
	json_array_foreach(ids, i, id)
	{
		struct job *job = good ? call_find_job(call, json_string_value(id)) : NULL;
		if (job == NULL)
			break;
		treat(call, job);
	}
	/* When all is done, for each changes the positions of others. */
	json_array_foreach(ids, i, id)
	{
		struct job *job = good ? call_find_job(call, json_string_value(id)) : NULL;
		if (job != NULL)
			json_array_append_new(records, record_of(call->daemon, job));
	}
	json_decref(ids);
	if (good)
		return json_pack("{s:o}", "jobs", records);
	json_decref(records);
	return NULL;
}

/* ---- the methods */

static json_t *
method_submit(struct call *call)
{
	const struct api_submit *p = &call->request->submit;
	struct waiter *waiter;
	struct job *job;

	if (p->has_client && !call_is_admin(call)) {
		err_set(&call->e, ERR_NOT_PERMITTED, "client is for administrators; leave it out");
		return NULL;
	}
	job = daemon_admit(call->daemon, p, client_uid(call->client), client_pid(call->client), false,
	    &call->e, &call->data);
	if (job == NULL)
		return NULL;
	if (!p->wait)
		return record_of(call->daemon, job);
	waiter = add_waiter(call, job, p->events, p->deliver, true);
	if (waiter == NULL)
		job_event(job, JOB_EVENT_CANCEL);
	else if (p->events)
		send_event(waiter, job); /* tells the id, which a client that is interrupted needs */
	return NULL;
}

static json_t *
method_wait(struct call *call)
{
	const struct api_wait *p = &call->request->wait;
	struct job *job = call_find_job(call, p->job);

	if (job == NULL)
		return NULL;
	if (job_is_final(job))
		return final_record(call->daemon, job, (enum deliver)p->deliver, &call->attachment);
	add_waiter(call, job, p->events, p->deliver, false);
	return NULL;
}

static json_t *
method_get(struct call *call)
{
	struct job *job = call_find_job(call, call->request->get.job);

	return job != NULL ? record_of(call->daemon, job) : NULL;
}

static json_t *
method_list(struct call *call)
{
	enum { ALL, WAITING, RUNNING, FINAL };
	const struct api_list *p = &call->request->list;
	int64_t limit = p->has_limit ? p->limit : 100;
	json_t *jobs = json_array();

	for (struct job *job = daemon_next_job(call->daemon, NULL); job != NULL && limit > 0;
	     job = daemon_next_job(call->daemon, job)) {
		bool waits = job->in_queue || job_state(job) == JOB_HELD;
		int kind = job_is_final(job) ? FINAL : waits ? WAITING : RUNNING;
		if (p->state != ALL && p->state != kind)
			continue;
		json_array_append_new(jobs, record_of(call->daemon, job));
		limit--;
	}
	return json_pack("{s:o}", "jobs", jobs);
}

static json_t *
method_queue(struct call *call)
{
	json_t *jobs = json_array();

	for (struct job *job = daemon_next_job(call->daemon, NULL); job != NULL;
	     job = daemon_next_job(call->daemon, job)) {
		if (!job_is_final(job) && !job->in_queue && job_state(job) != JOB_HELD)
			json_array_append_new(jobs, record_of(call->daemon, job));
	}
	for (struct job *job = daemon_next_queued(call->daemon, NULL); job != NULL;
	     job = daemon_next_queued(call->daemon, job))
		json_array_append_new(jobs, record_of(call->daemon, job));
	for (struct job *job = daemon_next_job(call->daemon, NULL); job != NULL;
	     job = daemon_next_job(call->daemon, job)) {
		if (job_state(job) == JOB_HELD)
			json_array_append_new(jobs, record_of(call->daemon, job));
	}
	return json_pack("{s:o}", "jobs", jobs);
}

static json_t *
method_result(struct call *call)
{
	const struct api_result *p = &call->request->result;
	struct job *job = call_find_job(call, p->job);
	json_t *record, *picture, *alone;
	int index = (int)p->picture;

	if (job == NULL)
		return NULL;
	if (job->expired || job_state(job) != JOB_DONE || index >= job->picture_count) {
		enum err_code code = job->expired	  ? ERR_EXPIRED_JOB
				     : !job_is_final(job) ? ERR_NOT_READY
							  : ERR_INVALID_PARAM;
		err_set(&call->e, code, "job %s is %s and has no picture %d to give", job->id,
		    job->expired ? "past its retention" : job_state_name(job), index);
		return NULL;
	}
	record = job_record(job, NULL);
	picture =
	    json_array_get(json_object_get(json_object_get(record, "result"), "pictures"), (size_t)index);
	alone = json_pack("[O]", picture);
	attach_pictures(call->daemon, job, alone, index, index, (enum deliver)p->deliver, &call->attachment);
	json_incref(picture);
	json_decref(alone);
	json_decref(record);
	return picture;
}

static void
cancel(struct call *call, struct job *job)
{
	(void)call;
	if (!job_is_final(job))
		job_event(job, JOB_EVENT_CANCEL);
}

static json_t *
method_cancel(struct call *call)
{
	return call_treat_jobs(call, call->request->cancel.job, NULL, cancel);
}

static json_t *
method_status(struct call *call)
{
	return daemon_status(call->daemon);
}

static json_t *
method_runners(struct call *call)
{
	return json_pack("{s:o}", "runners", daemon_runners(call->daemon));
}

json_t *
call_order_runners(struct call *call, const char *name, void (*order)(struct runner *r))
{
	json_t *names = daemon_order(call->daemon, name, api_method_name(call->request->method), order);

	if (names == NULL) {
		err_set(&call->e, ERR_INVALID_PARAM,
		    "there is no runner '%.40s'; 'zitctl runners' lists them", name);
		return NULL;
	}
	return json_pack("{s:o}", "runners", names);
}

static void
stop_now(struct runner *r)
{
	runner_stop(r, false);
}

static json_t *
method_start(struct call *call)
{
	return call_order_runners(call, call->request->start.runner, runner_start);
}

static json_t *
method_stop(struct call *call)
{
	return call_order_runners(call, call->request->stop.runner, stop_now);
}

static json_t *
method_restart(struct call *call)
{
	return call_order_runners(call, call->request->restart.runner, runner_restart);
}

static json_t *
method_drain(struct call *call)
{
	return call_order_runners(call, call->request->drain.runner, runner_drain);
}

static json_t *
method_dead(struct call *call)
{
	return json_pack("{s:o}", "jobs", daemon_dead_letters(call->daemon));
}

/* The dead letter if the client may touch it, else NULL with the error. */
static struct job *
own_dead_letter(struct call *call, const char *id)
{
	struct job *dead = daemon_find_dead(call->daemon, id, &call->e);

	if (dead == NULL || may_touch(call, dead))
		return dead;
	err_set(&call->e, ERR_NOT_PERMITTED, "job %s is another user's", dead->id);
	return NULL;
}

static json_t *
method_retry(struct call *call)
{
	struct job *dead = own_dead_letter(call, call->request->retry.job), *job = NULL;

	if (dead != NULL)
		job = daemon_retry(call->daemon, dead, call_is_admin(call), &call->e, &call->data);
	return job != NULL ? record_of(call->daemon, job) : NULL;
}

static json_t *
method_drop(struct call *call)
{
	struct job *dead = own_dead_letter(call, call->request->drop.job);
	json_t *record;

	if (dead == NULL)
		return NULL;
	record = job_record(dead, NULL);
	daemon_drop_dead(call->daemon, dead);
	return record;
}

static json_t *
method_reload(struct call *call)
{
	return daemon_reload(call->daemon, &call->e);
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

static void
drop_result(json_t *result, const struct attachment *a)
{
	json_decref(result);
	for (int i = 0; i < a->count; i++)
		close(a->fds[i]);
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
