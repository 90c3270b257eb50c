/*
 * What the methods of the public socket do, one handler for each row of api.def.
 */
#include "supervisor/methods.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/api.h"
#include "ipc/clock.h"
#include "ipc/hash.h"
#include "ipc/log.h"
#include "supervisor/call.h"
#include "supervisor/client.h"
#include "supervisor/daemon.h"
#include "supervisor/events.h"
#include "supervisor/lookup.h"
#include "supervisor/runner.h"
#include "supervisor/waiters.h"

#define KEY_LIFE_US (24 * 3600 * INT64_C(1000000)) /* of an idempotency key, from its job's end */

void
methods_client_gone(struct client *c)
{
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

json_t *
call_final_record(const struct daemon *d, const struct job *job, enum deliver deliver, struct attachment *a)
{
	json_t *record = job_record(job, NULL);
	json_t *pictures = json_object_get(json_object_get(record, "result"), "pictures");

	*a = (struct attachment){0};
	if (pictures != NULL)
		attach_pictures(d, job, pictures, 0, job->picture_count - 1, deliver, a);
	return record;
}

void
call_drop_result(json_t *result, struct attachment *a)
{
	json_decref(result);
	for (int i = 0; i < a->count; i++)
		close(a->fds[i]);
}

/* ---- finding jobs */

/* The one job that was asked for, or NULL after filling the call's error. */
static struct job *
the_job(struct call *call, const struct found *found, const char *id)
{
	if (found->job != NULL)
		return found->job;
	if (found->damaged)
		err_set(&call->e, ERR_DAMAGED_JOB, "the record of job %.64s is damaged on disk", id);
	else
		err_set(
		    &call->e, ERR_UNKNOWN_JOB, "there is no job %.64s; 'zitctl queue' lists the jobs", id);
	return NULL;
}

static bool
may_touch(const struct call *call, const struct job *job)
{
	return client_uid(call->client) == job->uid ||
	       daemon_is_admin(call->daemon, client_uid(call->client), client_gid(call->client));
}

static bool
may_touch_or_complain(struct call *call, const struct job *job)
{
	if (may_touch(call, job))
		return true;
	err_set(&call->e, ERR_NOT_PERMITTED, "job %s is another user's", job->id);
	return false;
}

/* ---- the methods */

/* A query for something with that name. */
static json_t *
query_text(struct call *call, struct store_query *q, const char *text, lookup_then *then)
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

/* What was asked for, whatever way the answer comes. */
static uint64_t
hash_request(const struct call *call)
{
	static const char *const ways[] = {
	    "wait", "events", "deliver", "on_disconnect", "idempotency_key", "durable"};
	json_t *asked = json_copy(json_object_get(call->request->json, "params"));
	uint64_t hash;
	char *text;

	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		json_object_del(asked, ways[i]);
	text = json_dumps(asked, JSON_COMPACT | JSON_SORT_KEYS);
	hash = text != NULL ? hash_bytes(HASH_START, text, strlen(text)) >> 1
			    : 0; /* JSON's integers have a sign */
	free(text);
	json_decref(asked);
	return hash;
}

/* Keys of one client are not another's. */
static void
full_key(const struct call *call, char out[STORE_KEY])
{
	const struct api_submit *p = &call->request->submit;

	snprintf(out, STORE_KEY, "%d/%s/%s", (int)client_uid(call->client), p->has_client ? p->client : "",
	    p->idempotency_key);
}

/* The answer about a job that is there, new or by its key. */
static json_t *
answer_submit(struct call *call, struct job *job, bool owner)
{
	const struct api_submit *p = &call->request->submit;
	const struct waiter_wishes wishes = {
	    p->wait ? UNTIL_ENDED : UNTIL_SAVED, (enum deliver)p->deliver, p->wait && p->events, owner};

	if (job_is_final(job) && p->wait)
		return call_final_record(call->daemon, job, wishes.deliver, &call->attachment);
	if (job_is_final(job))
		return call_record(call->daemon, job);
	if (!waiters_add(call, job, &wishes) && owner)
		job_event(job, JOB_EVENT_CANCEL);
	return NULL;
}

static json_t *
submit_new(struct call *call)
{
	struct job *job = daemon_admit(call->daemon, &call->request->submit, client_uid(call->client),
	    client_pid(call->client), false, &call->e, &call->data);

	if (job == NULL)
		return NULL;
	if (call->request->submit.has_idempotency_key) {
		full_key(call, job->key);
		job->request_hash = hash_request(call);
	}
	return answer_submit(call, job, true);
}

static json_t *
submit_keyed(struct call *call, const struct found *found, int count)
{
	char key[STORE_KEY];
	struct job *job;

	full_key(call, key);
	job = daemon_find_key(call->daemon, key);
	if (job == NULL && count > 0)
		job = found[0].job;
	if (job == NULL)
		return submit_new(call);
	if (job->request_hash == hash_request(call))
		return answer_submit(call, job, false);
	call->data = json_pack("{s:s}", "job", job->id);
	err_set(&call->e, ERR_ID_CONFLICT,
	    "idempotency_key '%.64s' was used for job %s, which asked for something else; use a new one",
	    call->request->submit.idempotency_key, job->id);
	return NULL;
}

static json_t *
look_up_key(struct call *call)
{
	char key[STORE_KEY];
	struct store_query q = {.wanted = STORE_KEYED, .since_us = clock_wall_us() - KEY_LIFE_US};

	full_key(call, key);
	return query_text(call, &q, key, submit_keyed);
}

static json_t *
method_submit(struct call *call)
{
	const struct api_submit *p = &call->request->submit;

	if (p->has_client &&
	    !daemon_is_admin(call->daemon, client_uid(call->client), client_gid(call->client)))
		err_set(&call->e, ERR_NOT_PERMITTED, "client is for administrators; leave it out");
	else if (p->has_durable && !p->durable && !p->wait)
		err_set(&call->e, ERR_INVALID_PARAM,
		    "durable: false needs wait: a job that nobody waits for has to survive");
	else
		return p->has_idempotency_key ? look_up_key(call) : submit_new(call);
	return NULL;
}

static json_t *
wait_found(struct call *call, const struct found *found, int count)
{
	const struct api_wait *p = &call->request->wait;
	const struct waiter_wishes wishes = {UNTIL_ENDED, (enum deliver)p->deliver, p->events, false};
	struct job *job = the_job(call, found, p->job);

	(void)count;
	if (job != NULL && job_is_final(job))
		return call_final_record(call->daemon, job, wishes.deliver, &call->attachment);
	if (job != NULL)
		waiters_add(call, job, &wishes);
	return NULL;
}

static json_t *
method_wait(struct call *call)
{
	return lookup_id(call, call->request->wait.job, wait_found);
}

static json_t *
get_found(struct call *call, const struct found *found, int count)
{
	struct job *job = the_job(call, found, call->request->get.job);

	(void)count;
	return job != NULL ? call_record(call->daemon, job) : NULL;
}

static json_t *
method_get(struct call *call)
{
	return lookup_id(call, call->request->get.job, get_found);
}

/* ---- lists */

enum list_state { LIST_ALL, LIST_WAITING, LIST_RUNNING, LIST_FINAL }; /* order of api.def */

static json_t *
records_of(const struct found *found, int count, json_t *list, int64_t limit)
{
	for (int i = 0; i < count && (int64_t)json_array_size(list) < limit; i++) {
		if (found[i].job != NULL)
			json_array_append_new(list, job_record(found[i].job, NULL));
	}
	return list;
}

static bool
is_of_group(const struct job *job, const char *group)
{
	return group == NULL || strcmp(job->group, group) == 0;
}

/* Running ones, then those that wait, in their order; of one group, or of all for NULL. */
static json_t *
list_open(struct call *call, enum list_state state, const char *group, int64_t limit)
{
	struct daemon *d = call->daemon;
	json_t *list = json_array();
	struct job *job = NULL;

	while (state != LIST_WAITING && (job = daemon_next_job(d, job)) != NULL) {
		if (!job_is_final(job) && !job->in_queue && is_of_group(job, group) &&
		    (int64_t)json_array_size(list) < limit)
			json_array_append_new(list, call_record(d, job));
	}
	while (state != LIST_RUNNING && (job = daemon_next_queued(d, job)) != NULL) {
		if (is_of_group(job, group) && (int64_t)json_array_size(list) < limit)
			json_array_append_new(list, call_record(d, job));
	}
	return list;
}

/* Ended jobs whose end is not on disk yet, so that the store does not know them as such. */
static json_t *
list_unsaved(struct call *call, const char *group, json_t *list, int64_t limit)
{
	struct job *job = NULL;

	while ((job = daemon_next_job(call->daemon, job)) != NULL) {
		if (job_is_final(job) && (job->unsaved || job->in_batch) && !job->refused &&
		    is_of_group(job, group) && (int64_t)json_array_size(list) < limit)
			json_array_append_new(list, call_record(call->daemon, job));
	}
	return list;
}

static int64_t
list_limit(const struct call *call)
{
	return call->request->list.has_limit ? call->request->list.limit : 100;
}

/* "before" leads on to the next page: an id whose job is in the store. */
static json_t *
list_found(struct call *call, const struct found *found, int count)
{
	const struct api_list *p = &call->request->list;
	bool with_open = !p->has_before && p->state != LIST_FINAL;
	json_t *list = with_open ? list_open(call, LIST_ALL, p->group, list_limit(call)) : json_array();

	if (!p->has_before)
		list_unsaved(call, p->group, list, list_limit(call));
	return json_pack("{s:o}", "jobs", records_of(found, count, list, list_limit(call)));
}

static json_t *
list_ended(struct call *call, uint64_t below)
{
	const struct api_list *p = &call->request->list;
	struct store_query q = {.wanted = STORE_ENDED, .limit = (int)list_limit(call), .below = below};

	return p->has_group ? query_text(call, &q, p->group, list_found) : lookup_query(call, &q, list_found);
}

static json_t *
list_before(struct call *call, const struct found *found, int count)
{
	struct job *job = the_job(call, found, call->request->list.before);

	(void)count;
	return job != NULL ? list_ended(call, job->number) : NULL;
}

static json_t *
method_list(struct call *call)
{
	const struct api_list *p = &call->request->list;

	if (p->state == LIST_WAITING || p->state == LIST_RUNNING)
		return json_pack(
		    "{s:o}", "jobs", list_open(call, (enum list_state)p->state, p->group, list_limit(call)));
	return p->has_before ? lookup_id(call, p->before, list_before) : list_ended(call, 0);
}

static json_t *
method_queue(struct call *call)
{
	return json_pack("{s:o}", "jobs", list_open(call, LIST_ALL, NULL, INT64_MAX));
}

static json_t *
method_subscribe(struct call *call)
{
	const struct api_subscribe *p = &call->request->subscribe;
	int64_t last = daemon_last_event(call->daemon), after = p->has_seq ? p->seq : last;

	if (after > last) {
		err_set(&call->e, ERR_INVALID_PARAM, "seq %lld is not yet given: the newest event is %lld",
		    (long long)after, (long long)last);
		return NULL;
	}
	if (!events_subscribe(call, p->has_job ? p->job : "", after, last))
		return NULL;
	return json_pack("{s:I, s:I}", "after", (json_int_t)after, "newest", (json_int_t)last);
}

/* ---- one job */

static json_t *
picture_of(struct call *call, const struct job *job, int index)
{
	json_t *record = job_record(job, NULL);
	json_t *all = json_object_get(json_object_get(record, "result"), "pictures");
	json_t *picture = json_incref(json_array_get(all, (size_t)index)), *alone = json_pack("[O]", picture);

	attach_pictures(call->daemon, job, alone, index, index, (enum deliver)call->request->result.deliver,
	    &call->attachment);
	json_decref(alone);
	json_decref(record);
	return picture;
}

/* What is known of a job whose pictures are gone goes with the error. */
static json_t *
result_found(struct call *call, const struct found *found, int count)
{
	const struct api_result *p = &call->request->result;
	struct job *job = the_job(call, found, p->job);
	int index = (int)p->picture;

	(void)count;
	if (job == NULL)
		return NULL;
	if (job_state(job) == JOB_DONE && !job->expired && index < job->picture_count)
		return picture_of(call, job, index);
	if (job->expired)
		call->data = json_pack("{s:o}", "record", job_record(job, NULL));
	err_set(&call->e,
	    job->expired	 ? ERR_EXPIRED_JOB
	    : !job_is_final(job) ? ERR_NOT_READY
				 : ERR_INVALID_PARAM,
	    "job %s is %s and has no picture %d to give", job->id,
	    job->expired ? "past its retention" : job_state_name(job), index);
	return NULL;
}

static json_t *
method_result(struct call *call)
{
	return lookup_id(call, call->request->result.job, result_found);
}

/* All are looked at before any is touched, so that a wrong one changes nothing. */
static json_t *
cancel_found(struct call *call, const struct found *found, int count)
{
	const json_t *ids = call->request->cancel.job;
	json_t *records;

	for (int i = 0; i < count; i++) {
		const json_t *id = json_is_array(ids) ? json_array_get(ids, (size_t)i) : ids;
		struct job *job = the_job(call, &found[i], json_string_value(id));
		if (job == NULL || !may_touch_or_complain(call, job))
			return NULL;
	}
	records = json_array();
	for (int i = 0; i < count; i++) {
		if (!job_is_final(found[i].job))
			job_event(found[i].job, JOB_EVENT_CANCEL);
		json_array_append_new(records, call_record(call->daemon, found[i].job));
	}
	return json_pack("{s:o}", "jobs", records);
}

/* Those of the group that have not ended and are the client's to end; `found` is one that has ended, if any
 * has. */
static json_t *
group_found(struct call *call, const struct found *found, int count)
{
	const char *group = call->request->cancel.group;
	json_t *records = json_array();
	int known = count, touched = count > 0 && found[0].job != NULL && may_touch(call, found[0].job);

	for (struct job *job = daemon_next_job(call->daemon, NULL); job != NULL;
	     job = daemon_next_job(call->daemon, job)) {
		if (strcmp(job->group, group) != 0)
			continue;
		known++;
		if (!may_touch(call, job))
			continue;
		touched++;
		if (job_is_final(job))
			continue;
		job_event(job, JOB_EVENT_CANCEL);
		json_array_append_new(records, call_record(call->daemon, job));
	}
	if (touched > 0)
		return json_pack("{s:o}", "jobs", records);
	json_decref(records);
	if (known > 0)
		err_set(&call->e, ERR_NOT_PERMITTED, "the jobs of group %s are another user's", group);
	else
		err_set(&call->e, ERR_UNKNOWN_GROUP,
		    "there is no job of group %.64s; 'zitctl job JOB' says a job's group", group);
	return NULL;
}

static json_t *
cancel_group(struct call *call, const char *group)
{
	struct store_query q = {.wanted = STORE_ENDED, .limit = 1};

	return query_text(call, &q, group, group_found);
}

static json_t *
method_cancel(struct call *call)
{
	const struct api_cancel *p = &call->request->cancel;

	if (p->has_job != p->has_group)
		return p->has_job ? lookup_ids(call, p->job, cancel_found) : cancel_group(call, p->group);
	call->data = json_pack("{s:s}", "param", "job");
	err_set(&call->e, ERR_INVALID_PARAM, "cancel wants either job or group, and one of them only");
	return NULL;
}

/* ---- the service */

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

static json_t *
order_runners(struct call *call, const char *name, void (*order)(struct runner *r))
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
	return order_runners(call, call->request->start.runner, runner_start);
}

static json_t *
method_stop(struct call *call)
{
	return order_runners(call, call->request->stop.runner, stop_now);
}

static json_t *
method_restart(struct call *call)
{
	return order_runners(call, call->request->restart.runner, runner_restart);
}

static json_t *
method_drain(struct call *call)
{
	return order_runners(call, call->request->drain.runner, runner_drain);
}

static json_t *
method_resume(struct call *call)
{
	return order_runners(call, call->request->resume.runner, runner_resume);
}

/* ---- dead letters */

enum { MAX_DEAD_LISTED = 1000 };

static json_t *
dead_found(struct call *call, const struct found *found, int count)
{
	(void)call;
	return json_pack("{s:o}", "jobs", records_of(found, count, json_array(), MAX_DEAD_LISTED));
}

static json_t *
method_dead(struct call *call)
{
	struct store_query q = {.wanted = STORE_DEAD, .limit = MAX_DEAD_LISTED};

	return lookup_query(call, &q, dead_found);
}

/* The dead letter if the client may touch it, else NULL with the error. */
static struct job *
own_dead_letter(struct call *call, const struct found *found, const char *id)
{
	struct job *dead = the_job(call, found, id);

	if (dead == NULL || !may_touch_or_complain(call, dead))
		return NULL;
	if (job_state(dead) == JOB_DEAD)
		return dead;
	err_set(&call->e, ERR_INVALID_PARAM, "job %s is %s, no dead letter; 'zitctl dead list' lists those",
	    dead->id, job_state_name(dead));
	return NULL;
}

static json_t *
retry_found(struct call *call, const struct found *found, int count)
{
	struct job *dead = own_dead_letter(call, found, call->request->retry.job), *job = NULL;
	const struct waiter_wishes wishes = {.until = UNTIL_SAVED};
	bool admin = daemon_is_admin(call->daemon, client_uid(call->client), client_gid(call->client));

	(void)count;
	if (dead != NULL)
		job = daemon_retry(call->daemon, dead, admin, &call->e, &call->data);
	if (job != NULL)
		waiters_add(call, job, &wishes);
	return NULL;
}

static json_t *
method_retry(struct call *call)
{
	return lookup_id(call, call->request->retry.job, retry_found);
}

static json_t *
drop_found(struct call *call, const struct found *found, int count)
{
	struct job *dead = own_dead_letter(call, found, call->request->drop.job);
	json_t *record;

	(void)count;
	if (dead == NULL)
		return NULL;
	record = job_record(dead, NULL);
	daemon_drop_dead(call->daemon, dead);
	return record;
}

static json_t *
method_drop(struct call *call)
{
	return lookup_id(call, call->request->drop.job, drop_found);
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

void
methods_answer_later(struct call *call, json_t *result)
{
	json_t *id = call->request->id, *message = NULL;

	if (result != NULL && id == NULL) {
		call_drop_result(result, &call->attachment);
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
		call_drop_result(result, &call.attachment);
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
