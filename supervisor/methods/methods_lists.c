/*
 * The methods that show jobs: list, queue, subscribe, result, dead.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/log.h"
#include "supervisor/methods/events.h"
#include "supervisor/methods/job_record.h"
#include "supervisor/methods/methods_inside.h"

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

/* Which open jobs are listed. */
struct selection {
	enum list_state state;
	const char *group;	 /* NULL: of any */
	const struct job *after; /* those that come after it; NULL: from here on all */
};

static void
append(struct listing *l, struct selection *s, const struct job *job, enum list_state state)
{
	if (s->after == NULL && (s->state == LIST_ALL || s->state == state) && is_of_group(job, s->group))
		call_list_job(l, job);
	if (s->after == job)
		s->after = NULL;
}

/* Running ones, then those that wait, in their order, then held ones. */
static void
list_open(struct listing *l, struct selection s)
{
	struct daemon *d = l->call->daemon;
	struct job *job = NULL;

	while ((job = daemon_next_job(d, job)) != NULL) {
		if (!job_is_final(job) && !waits(job))
			append(l, &s, job, LIST_RUNNING);
	}
	while (s.state != LIST_RUNNING && (job = daemon_next_queued(d, job)) != NULL)
		append(l, &s, job, LIST_WAITING);
	while (s.state != LIST_RUNNING && (job = daemon_next_job(d, job)) != NULL) {
		if (job_state(job) == JOB_HELD)
			append(l, &s, job, LIST_WAITING);
	}
}

/* Ended jobs whose end cannot get to the disk. */
static void
list_unsaved(struct listing *l, const char *group)
{
	struct daemon *d = l->call->daemon;
	struct job *job = NULL;

	while ((job = daemon_next_job(d, job)) != NULL) {
		if (job_is_final(job) && !job->refused && daemon_store_error(d) != 0 &&
		    is_of_group(job, group))
			call_list_job(l, job);
	}
}

static int64_t
list_limit(const struct call *call)
{
	return call->request->list.has_limit ? call->request->list.limit : 100;
}

/* "before" has led past the open ones. */
static json_t *
list_found(struct call *call, const struct found *found, int count)
{
	const struct api_list *p = &call->request->list;
	struct listing list;

	call_begin_list(&list, call, list_limit(call));
	if (!p->has_before && p->state != LIST_FINAL)
		list_open(&list, (struct selection){LIST_ALL, p->group, NULL});
	if (!p->has_before)
		list_unsaved(&list, p->group);
	call_list_found(&list, found, count);
	return call_end_list(&list);
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
list_open_only(struct call *call, const struct selection *s, int64_t limit)
{
	struct listing list;

	call_begin_list(&list, call, limit);
	list_open(&list, *s);
	if (list.left < limit || s->state != LIST_ALL || s->after == NULL)
		return call_end_list(&list);
	free(json_text_end(&call->text)); /* that was the last open one: those that have ended are next */
	return list_ended(call, 0);
}

/* The page after that job's. */
static json_t *
list_before(struct call *call, const struct found *found, int count)
{
	const struct api_list *p = &call->request->list;
	struct job *job = call_the_job(call, found);
	const struct selection s = {(enum list_state)p->state, p->group, job};

	(void)count;
	if (job == NULL)
		return NULL;
	if (s.state == LIST_FINAL || (s.state == LIST_ALL && job_is_final(job)))
		return list_ended(call, job->number);
	if (!job_is_final(job))
		return list_open_only(call, &s, list_limit(call));
	call->data = json_pack("{s:s}", "param", "before");
	err_set(&call->e, ERR_INVALID_PARAM,
	    "job %s has ended, so no open jobs come after it; begin again without before", job->id);
	return NULL;
}

json_t *
method_list(struct call *call)
{
	const struct api_list *p = &call->request->list;
	const struct selection s = {(enum list_state)p->state, p->group, NULL};

	if (p->has_before)
		return lookup_id(call, p->before, list_before);
	if (s.state == LIST_WAITING || s.state == LIST_RUNNING)
		return list_open_only(call, &s, list_limit(call));
	return list_ended(call, 0);
}

json_t *
method_queue(struct call *call)
{
	return list_open_only(call, &(struct selection){LIST_ALL, NULL, NULL}, INT64_MAX);
}

static json_t *
subscribe(struct call *call)
{
	const struct api_subscribe *p = &call->request->subscribe;
	int64_t last = daemon_last_event(call->daemon), after = p->has_seq ? p->seq : last;

	if (after > last) {
		call->data = json_pack("{s:s}", "param", "seq");
		err_set(&call->e, ERR_INVALID_PARAM, "seq %lld is not yet given: the newest event is %lld",
		    (long long)after, (long long)last);
		return NULL;
	}
	if (!events_subscribe(call, p->has_job ? p->job : "", after, last))
		return NULL;
	return json_pack("{s:I, s:I}", "after", (json_int_t)after, "newest", (json_int_t)last);
}

static json_t *
subscribe_found(struct call *call, const struct found *found, int count)
{
	(void)count;
	return call_the_job(call, found) != NULL ? subscribe(call) : NULL;
}

json_t *
method_subscribe(struct call *call)
{
	const struct api_subscribe *p = &call->request->subscribe;

	return p->has_job ? lookup_id(call, p->job, subscribe_found) : subscribe(call);
}

/* ---- one job */

/* Somebody took its file away or changed it, or it cannot be had now. */
static void
complain_of_picture(struct call *call, const struct job *job, int index, int error)
{
	if (error == ENOENT)
		err_set(&call->e, ERR_EXPIRED_JOB,
		    "the file of picture %d of job %s is not there any more, though its time is not over; "
		    "submit the job again with its seed",
		    index, job->id);
	else if (error == EUCLEAN || error == ELOOP)
		err_set(&call->e, ERR_DAMAGED_JOB,
		    "the file of picture %d of job %s is not what zitd wrote there; "
		    "submit the job again with its seed",
		    index, job->id);
	else
		err_set(&call->e, ERR_SYSTEM, "picture %d of job %s cannot be read now: %s; try again", index,
		    job->id, strerror(error));
}

static json_t *
tell_picture(struct call *call, const struct job *job, int index)
{
	enum deliver deliver = (enum deliver)call->request->result.deliver;
	int fd = daemon_open_picture(call->daemon, job, index, false);

	if (fd < 0) {
		complain_of_picture(call, job, index, errno);
		return NULL;
	}
	close(fd);
	call_attach_pictures(call->daemon, job, index, index, deliver, &call->attachment);
	if (deliver != DELIVER_PATH && call->attachment.count == 0) {
		complain_of_picture(call, job, index, EMFILE);
		return NULL;
	}
	job_picture_record(job, index, &call->attachment, &call->text);
	return NULL;
}

/* As the tree that an error's details are. */
static json_t *
record_tree(const struct job *job)
{
	struct json_text t = {0};
	json_t *tree;
	char *text;

	job_record(job, NULL, NULL, &t);
	text = json_text_end(&t);
	tree = text != NULL ? json_loads(text, 0, NULL) : NULL;
	free(text);
	return tree;
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
		return tell_picture(call, job, index);
	if (job->expired)
		call->data = json_pack("{s:o*}", "record", record_tree(job));
	else if (job_is_final(job))
		call->data = json_pack("{s:s}", "param", job_state(job) == JOB_DONE ? "picture" : "job");
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
	struct listing list;

	call_begin_list(&list, call, MAX_DEAD_LISTED);
	call_list_found(&list, found, count);
	return call_end_list(&list);
}

json_t *
method_dead(struct call *call)
{
	struct store_query q = {.wanted = STORE_DEAD, .limit = MAX_DEAD_LISTED};

	return lookup_query(call, &q, dead_found);
}
