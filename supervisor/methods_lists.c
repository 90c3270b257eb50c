/*
 * The methods that show jobs: list, queue, subscribe, result, dead.
 */
#include <string.h>

#include "ipc/log.h"
#include "supervisor/events.h"
#include "supervisor/methods_inside.h"

/* ---- lists */

enum list_state { LIST_ALL, LIST_WAITING, LIST_RUNNING, LIST_FINAL }; /* order of api.def */

/* Waits for its turn, or to have one. */
static bool
waits(const struct job *job)
{
	return job->in_queue || job_state(job) == JOB_HELD;
}

static bool
is_of_group(const struct job *job, const char *group)
{
	return group == NULL || strcmp(job->group, group) == 0;
}

static void
append(struct call *call, json_t *list, const struct job *job, const char *group, int64_t limit)
{
	if (is_of_group(job, group) && (int64_t)json_array_size(list) < limit)
		json_array_append_new(list, call_record(call->daemon, job));
}

/* Running ones, then those that wait, in their order, then held ones; of one group, or of all for NULL. */
static json_t *
list_open(struct call *call, enum list_state state, const char *group, int64_t limit)
{
	struct daemon *d = call->daemon;
	json_t *list = json_array();
	struct job *job = NULL;

	while (state != LIST_WAITING && (job = daemon_next_job(d, job)) != NULL) {
		if (!job_is_final(job) && !waits(job))
			append(call, list, job, group, limit);
	}
	while (state != LIST_RUNNING && (job = daemon_next_queued(d, job)) != NULL)
		append(call, list, job, group, limit);
	while (state != LIST_RUNNING && (job = daemon_next_job(d, job)) != NULL) {
		if (job_state(job) == JOB_HELD)
			append(call, list, job, group, limit);
	}
	return list;
}

/* Ended jobs whose end cannot get to the disk. */
static json_t *
list_unsaved(struct call *call, const char *group, json_t *list, int64_t limit)
{
	struct job *job = NULL;

	while ((job = daemon_next_job(call->daemon, job)) != NULL) {
		if (job_is_final(job) && !job->refused && daemon_store_error(call->daemon) != 0)
			append(call, list, job, group, limit);
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
	return json_pack("{s:o}", "jobs", call_records(found, count, list, list_limit(call)));
}

static json_t *
list_ended(struct call *call, uint64_t below)
{
	const struct api_list *p = &call->request->list;
	struct store_query q = {.wanted = STORE_ENDED, .limit = (int)list_limit(call), .below = below};

	return p->has_group ? lookup_text(call, &q, p->group, list_found)
			    : lookup_query(call, &q, list_found);
}

static json_t *
list_before(struct call *call, const struct found *found, int count)
{
	struct job *job = call_the_job(call, found);

	(void)count;
	return job != NULL ? list_ended(call, job->number) : NULL;
}

json_t *
method_list(struct call *call)
{
	const struct api_list *p = &call->request->list;

	if (p->state == LIST_WAITING || p->state == LIST_RUNNING)
		return json_pack(
		    "{s:o}", "jobs", list_open(call, (enum list_state)p->state, p->group, list_limit(call)));
	return p->has_before ? lookup_id(call, p->before, list_before) : list_ended(call, 0);
}

json_t *
method_queue(struct call *call)
{
	return json_pack("{s:o}", "jobs", list_open(call, LIST_ALL, NULL, INT64_MAX));
}

json_t *
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

	call_attach_pictures(call->daemon, job, alone, index, index,
	    (enum deliver)call->request->result.deliver, &call->attachment);
	json_decref(alone);
	json_decref(record);
	return picture;
}

/* What is known of a job whose pictures are gone goes with the error. */
static json_t *
result_found(struct call *call, const struct found *found, int count)
{
	const struct api_result *p = &call->request->result;
	struct job *job = call_the_job(call, found);
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

json_t *
method_result(struct call *call)
{
	return lookup_id(call, call->request->result.job, result_found);
}

/* ---- dead letters */

enum { MAX_DEAD_LISTED = 1000 };

static json_t *
dead_found(struct call *call, const struct found *found, int count)
{
	(void)call;
	return json_pack("{s:o}", "jobs", call_records(found, count, json_array(), MAX_DEAD_LISTED));
}

json_t *
method_dead(struct call *call)
{
	struct store_query q = {.wanted = STORE_DEAD, .limit = MAX_DEAD_LISTED};

	return lookup_query(call, &q, dead_found);
}
