/*
 * The methods that end jobs or begin them again: cancel, retry, drop.
 */
#include <stdlib.h>
#include <string.h>

#include "supervisor/methods/job_record.h"
#include "supervisor/methods/methods_inside.h"
#include "supervisor/methods/waiters.h"

/* ---- cancel */

static void
cancel(struct call *call, struct job *job)
{
	(void)call;
	if (!job_is_final(job))
		job_event(job, JOB_EVENT_CANCEL);
}

static json_t *
cancel_found(struct call *call, const struct found *found, int count)
{
	return call_treat(call, found, count, NULL, cancel);
}

/* Those of the group that have not ended and are the client's to end; `found` is one that has ended, if any
 * has. */
static json_t *
group_found(struct call *call, const struct found *found, int count)
{
	const char *group = call->request->cancel.group;
	int known = count, touched = count > 0 && found[0].job != NULL && call_may_touch(call, found[0].job);
	struct listing list;

	call_begin_list(&list, call, INT64_MAX);
	for (struct job *job = daemon_next_job(call->daemon, NULL); job != NULL;
	     job = daemon_next_job(call->daemon, job)) {
		if (strcmp(job->group, group) != 0)
			continue;
		known++;
		if (!call_may_touch(call, job))
			continue;
		touched++;
		if (job_is_final(job))
			continue;
		call_note_touch(call, job);
		job_event(job, JOB_EVENT_CANCEL);
		call_list_job(&list, job);
	}
	if (touched > 0)
		return call_end_list(&list);
	free(json_text_end(&call->text));
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

	return lookup_text(call, &q, group, group_found);
}

json_t *
method_cancel(struct call *call)
{
	const struct api_cancel *p = &call->request->cancel;

	if (p->has_job != p->has_group)
		return p->has_job ? lookup_ids(call, p->job, cancel_found) : cancel_group(call, p->group);
	call->data = json_pack("{s:s}", "param", "job");
	err_set(&call->e, ERR_INVALID_PARAM, "cancel wants either job or group, and one of them only");
	return NULL;
}

/* ---- retry */

/* The new try of that job which is under way; NULL: there is none. */
static struct job *
open_retry(const struct daemon *d, const struct job *ended)
{
	struct job *job = daemon_next_job(d, NULL);

	while (job != NULL && (job_is_final(job) || strcmp(job->retry_of, ended->id) != 0))
		job = daemon_next_job(d, job);
	return job;
}

static json_t *
retry_found(struct call *call, const struct found *found, int count)
{
	struct job *ended = call_the_job(call, found), *job = NULL;
	const struct waiter_wishes wishes = {.until = UNTIL_SAVED};

	(void)count;
	if (ended == NULL || !call_may_touch_or_complain(call, ended))
		return NULL;
	call_note_touch(call, ended);
	if (!job_is_final(ended) || job_state(ended) == JOB_DONE) {
		call->data = json_pack("{s:s}", "param", "job");
		err_set(&call->e, ERR_INVALID_PARAM,
		    "job %s is %s; what can be tried again has ended without a picture", ended->id,
		    job_state_name(ended));
	} else if ((job = open_retry(call->daemon, ended)) == NULL)
		job = daemon_retry(call->daemon, ended, call_is_admin(call), &call->e, &call->data);
	if (job != NULL)
		waiters_add(call, job, &wishes);
	return NULL;
}

json_t *
method_retry(struct call *call)
{
	return lookup_id(call, call->request->retry.job, retry_found);
}

/* ---- dead letters */

/* The dead letter if the client may touch it, else NULL with the error. */
static struct job *
own_dead_letter(struct call *call, const struct found *found)
{
	struct job *dead = call_the_job(call, found);

	if (dead == NULL || !call_may_touch_or_complain(call, dead))
		return NULL;
	if (job_state(dead) == JOB_DEAD)
		return dead;
	call->data = json_pack("{s:s}", "param", "job");
	err_set(&call->e, ERR_INVALID_PARAM, "job %s is %s, no dead letter; 'zitctl dead list' lists those",
	    dead->id, job_state_name(dead));
	return NULL;
}

static json_t *
drop_found(struct call *call, const struct found *found, int count)
{
	struct job *dead = own_dead_letter(call, found);

	(void)count;
	if (dead == NULL)
		return NULL;
	call_note_touch(call, dead);
	job_record(dead, NULL, NULL, &call->text);
	daemon_drop_dead(call->daemon, dead);
	return NULL;
}

json_t *
method_drop(struct call *call)
{
	return lookup_id(call, call->request->drop.job, drop_found);
}
