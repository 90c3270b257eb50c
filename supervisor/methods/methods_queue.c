/*
 * The methods about turns: hold, release, move, priority, why, pause, resume, usage.
 */
#include <stdio.h>
#include <string.h>

#include "supervisor/methods/methods_inside.h"
#include "supervisor/runners/runner.h"

/* ---- jobs */

static void
hold(struct call *call, struct job *job)
{
	daemon_hold(call->daemon, job);
}

static void
release(struct call *call, struct job *job)
{
	daemon_release(call->daemon, job);
}

static void
move(struct call *call, struct job *job)
{
	daemon_move_to_front(call->daemon, job);
}

static bool
may_have_class(struct call *call, const struct job *job)
{
	enum job_class class = (enum job_class)call->request->priority.priority;
	bool is_admin = call_is_admin(call);

	return daemon_may_have_class(call->daemon, job->client, class, is_admin, &call->e) &&
	       (is_admin || daemon_may_raise(call->daemon, job, class, &call->e, &call->data));
}

static void
set_class(struct call *call, struct job *job)
{
	daemon_set_class(call->daemon, job, (enum job_class)call->request->priority.priority);
}

static const struct {
	bool (*may)(struct call *call, const struct job *job); /* NULL: whoever may touch the job */
	void (*treat)(struct call *call, struct job *job);
} treatments[API_METHOD_COUNT] = {
    [API_hold] = {NULL, hold},
    [API_release] = {NULL, release},
    [API_move] = {NULL, move},
    [API_priority] = {may_have_class, set_class},
};

static json_t *
treat_found(struct call *call, const struct found *found, int count)
{
	return call_treat(call, found, count, treatments[call->request->method].may,
	    treatments[call->request->method].treat);
}

json_t *
method_hold(struct call *call)
{
	return lookup_ids(call, call->request->hold.job, treat_found);
}

json_t *
method_release(struct call *call)
{
	return lookup_ids(call, call->request->release.job, treat_found);
}

json_t *
method_move(struct call *call)
{
	return lookup_ids(call, call->request->move.job, treat_found);
}

json_t *
method_priority(struct call *call)
{
	return lookup_ids(call, call->request->priority.job, treat_found);
}

static json_t *
why_found(struct call *call, const struct found *found, int count)
{
	struct job *job = call_the_job(call, found);

	(void)count;
	return job != NULL ? daemon_why(call->daemon, job) : NULL;
}

json_t *
method_why(struct call *call)
{
	return lookup_id(call, call->request->why.job, why_found);
}

/* ---- pauses */

/* What is paused, beside the runners that were meant. */
static json_t *
with_pauses(const struct call *call, json_t *answer)
{
	json_object_set_new(answer, "paused", daemon_paused(call->daemon));
	return answer;
}

static bool
pause_or_resume(struct call *call, int class, const char *client, bool paused)
{
	if (daemon_pause(call->daemon, class, client, paused))
		return true;
	err_set(&call->e, ERR_QUEUE_FULL, "%d clients are paused, and no more can be; resume some of them",
	    GATE_CLIENTS);
	return false;
}

json_t *
method_pause(struct call *call)
{
	const struct api_pause *p = &call->request->pause;
	json_t *answer = p->has_runner ? call_order_runners(call, p->runner, runner_drain) : json_object();

	if (answer == NULL)
		return NULL;
	if ((p->has_class || p->has_client || !p->has_runner) &&
	    !pause_or_resume(call, p->has_class ? p->class : -1, p->has_client ? p->client : NULL, true)) {
		json_decref(answer);
		return NULL;
	}
	return with_pauses(call, answer);
}

json_t *
method_resume(struct call *call)
{
	const struct api_resume *p = &call->request->resume;
	bool all = !p->has_class && !p->has_client && !p->has_runner;
	json_t *answer =
	    p->has_runner || all ? call_order_runners(call, p->runner, runner_resume) : json_object();

	if (answer == NULL)
		return NULL;
	if (all || p->has_class || p->has_client)
		pause_or_resume(call, p->has_class ? p->class : -1, p->has_client ? p->client : NULL, false);
	return with_pauses(call, answer);
}

/* ---- usage */

json_t *
method_usage(struct call *call)
{
	const struct api_usage *p = &call->request->usage;
	char own[32];
	const char *key = p->has_client ? p->client : NULL;

	snprintf(own, sizeof(own), "uid:%d", (int)client_uid(call->client));
	if (!call_is_admin(call) && key != NULL && strcmp(key, own) != 0) {
		err_set(&call->e, ERR_NOT_PERMITTED,
		    "the usage of others is for administrators; leave client out");
		return NULL;
	}
	if (!call_is_admin(call))
		key = own;
	return json_pack("{s:o}", "clients", daemon_usage(call->daemon, key));
}
