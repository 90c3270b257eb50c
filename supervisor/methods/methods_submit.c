/*
 * The methods that begin and follow a job: submit, wait, get.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/group.h"
#include "ipc/hash.h"
#include "supervisor/methods/methods_inside.h"
#include "supervisor/metrics.h"
#include "supervisor/methods/waiters.h"

#define KEY_LIFE_US (24 * 3600 * INT64_C(1000000)) /* of an idempotency key, from its job's end */

/* ---- submit */

/* What was asked for, whatever way the answer comes; null is as good as nothing (api.def). */
static uint64_t
hash_request(const struct call *call)
{
	static const char *const ways[] = {
	    "wait", "events", "deliver", "on_disconnect", "idempotency_key", "durable"};
	json_t *asked = json_copy(json_object_get(call->request->json, "params"));
	uint64_t hash;
	const char *name;
	char *text;
	void *next;
	json_t *value;

	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		json_object_del(asked, ways[i]);
	json_object_foreach_safe(asked, next, name, value)
	{
		if (json_is_null(value))
			json_object_del(asked, name);
	}
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
answer_submit(struct call *call, struct job *job, bool is_new)
{
	const struct api_submit *p = &call->request->submit;
	const struct waiter_wishes wishes = {
	    p->wait ? UNTIL_ENDED : UNTIL_SAVED, (enum deliver)p->deliver, p->wait && p->events, true};
	bool told = job_is_final(job) && !daemon_end_is_pending(call->daemon, job);

	if (!job->keep && job_is_to_be_kept(p) && !job_is_final(job))
		daemon_keep_job(call->daemon, job);
	if (told && p->wait)
		call_put_final_record(&call->text, call->daemon, job, wishes.deliver, &call->attachment);
	else if (told)
		call_put_record(&call->text, call->daemon, job);
	else if (!waiters_add(call, job, &wishes) && is_new)
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
	metrics_count_submitted(daemon_metrics(call->daemon), job, METRICS_FROM_SOCKET);
	if (call->request->submit.has_idempotency_key) {
		full_key(call, job->key);
		job->request_hash = hash_request(call);
	}
	return answer_submit(call, job, true);
}

/* Whether the request may be answered with that job: what was promised to it must hold for both. */
static bool
is_same_job(struct call *call, const struct job *job)
{
	const struct api_submit *p = &call->request->submit;

	if (job->request_hash != hash_request(call))
		err_set(&call->e, ERR_ID_CONFLICT,
		    "idempotency_key '%.64s' was used for job %s, which asked for something else; "
		    "use a new one",
		    p->idempotency_key, job->id);
	else if (!job->durable && !job_is_final(job) && (!p->has_durable || p->durable))
		err_set(&call->e, ERR_ID_CONFLICT,
		    "idempotency_key '%.64s' is that of job %s, which does not survive zitd "
		    "(durable: false); wait for its end, or use a new one",
		    p->idempotency_key, job->id);
	else
		return true;
	call->data = json_pack("{s:s}", "job", job->id);
	return false;
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
	if (job != NULL)
		return is_same_job(call, job) ? answer_submit(call, job, false) : NULL;
	if (count == 0)
		return submit_new(call);
	err_set(&call->e, ERR_DAMAGED_JOB,
	    "the record of the job with idempotency_key '%.64s' is damaged on disk; "
	    "use a new key to have another one",
	    call->request->submit.idempotency_key);
	return NULL;
}

static json_t *
look_up_key(struct call *call)
{
	char key[STORE_KEY];
	struct store_query q = {.wanted = STORE_KEYED, .since_us = daemon_age_us(call->daemon) - KEY_LIFE_US};

	full_key(call, key);
	return lookup_text(call, &q, key, submit_keyed);
}

/* It stands in lists and logs, and before a '/' in keys. */
static bool
is_client_name(const char *name)
{
	for (; *name != '\0'; name++) {
		if ((unsigned char)*name <= ' ' || *name == '/' || *name == '\177')
			return false;
	}
	return true;
}

/* What the rows of api.def cannot say; *param is the one to be blamed. */
static bool
is_sound(const struct api_submit *p, struct err *e, const char **param)
{
	if (p->has_client && !is_client_name(p->client)) {
		*param = "client";
		err_set(e, ERR_INVALID_PARAM,
		    "client must be a name without spaces, control characters and '/', such as web-7");
	} else if (p->has_group && group_check(p->group, e) != 0) {
		*param = "group";
	} else if (p->has_durable && !p->durable && !p->wait) {
		*param = "durable";
		err_set(e, ERR_INVALID_PARAM,
		    "durable: false needs wait: a job that nobody waits for has to survive");
	} else if (!p->wait && !job_is_to_be_kept(p)) {
		*param = "on_disconnect";
		err_set(e, ERR_INVALID_PARAM,
		    "on_disconnect: cancel needs wait: a job ends with a client that waits for it");
	} else if (p->has_seed && p->has_n && p->seed > INT64_MAX - p->n + 1) {
		*param = "seed";
		err_set(e, ERR_INVALID_PARAM, "seed + n must stay below 2^63: picture i of n uses seed + i");
	} else if (p->has_deadline && p->has_not_before && p->not_before >= p->deadline) {
		*param = "deadline";
		err_set(e, ERR_DEADLINE_UNREACHABLE,
		    "the job would not begin before %g s from now, and its deadline is %g s from now; allow "
		    "more",
		    p->not_before, p->deadline);
	} else
		return true;
	return false;
}

json_t *
method_submit(struct call *call)
{
	const struct api_submit *p = &call->request->submit;
	const char *param;

	if (p->has_client && !call_is_admin(call))
		err_set(&call->e, ERR_NOT_PERMITTED, "client is for administrators; leave it out");
	else if (!is_sound(p, &call->e, &param))
		call->data = json_pack("{s:s}", "param", param);
	else
		return p->has_idempotency_key ? look_up_key(call) : submit_new(call);
	return NULL;
}

static json_t *
wait_found(struct call *call, const struct found *found, int count)
{
	const struct api_wait *p = &call->request->wait;
	const struct waiter_wishes wishes = {UNTIL_ENDED, (enum deliver)p->deliver, p->events, false};
	struct job *job = call_the_job(call, found);

	(void)count;
	if (job != NULL && job_is_final(job))
		call_put_final_record(&call->text, call->daemon, job, wishes.deliver, &call->attachment);
	else if (job != NULL)
		waiters_add(call, job, &wishes);
	return NULL;
}

json_t *
method_wait(struct call *call)
{
	return lookup_id(call, call->request->wait.job, wait_found);
}

static json_t *
get_found(struct call *call, const struct found *found, int count)
{
	struct job *job = call_the_job(call, found);

	(void)count;
	if (job != NULL)
		call_put_record(&call->text, call->daemon, job);
	return NULL;
}

json_t *
method_get(struct call *call)
{
	return lookup_id(call, call->request->get.job, get_found);
}
