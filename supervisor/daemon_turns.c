/*
 * Orders about turns: jobs that are held, moved, or put into another class; classes and clients that are
 * paused; and why a job waits.
 */
#include <math.h>
#include <string.h>

#include "ipc/clock.h"
#include "supervisor/daemon_inside.h"
#include "supervisor/journal.h"

enum { MAX_SHOWN = 20 /* jobs before it, by name */ };

/* ---- jobs */

/* Orders make promises void: nothing is to be learned from how they are kept. */
static void
forget_promise(struct job *job)
{
	job->promise = (struct forecast_promise){0};
}

void
daemon_hold(struct daemon *d, struct job *job)
{
	(void)d;
	if (job_state(job) != JOB_QUEUED)
		return;
	forget_promise(job);
	job_event(job, JOB_EVENT_HOLD);
}

void
daemon_release(struct daemon *d, struct job *job)
{
	(void)d;
	if (job_state(job) == JOB_HELD)
		job_event(job, JOB_EVENT_RELEASE);
}

static void
put_back(struct daemon *d, struct job *job, bool good)
{
	struct err e;

	d->changed = true;
	forget_promise(job);
	if (!good) {
		err_set(&e, ERR_SYSTEM, "no memory for its place in the queue");
		job_event_error(job, JOB_EVENT_FAULT, &e);
		return;
	}
	if (job_state(job) == JOB_HELD)
		queue_hold(&d->queue, job);
	daemon_save(d, job);
	d->options.public->job_advanced(job);
}

/* Where it will be put when it is released: before all of its client's line, held ones too. */
static void
move_held(struct daemon *d, struct job *job)
{
	const struct job *other;

	TAILQ_FOREACH(other, &d->jobs, all_link)
	{
		if (other != job && other->turn.client == job->turn.client && other->class == job->class &&
		    other->turn.order <= job->turn.order)
			job->turn.order = other->turn.order - 1;
	}
	daemon_save(d, job);
}

void
daemon_move_to_front(struct daemon *d, struct job *job)
{
	if (job_state(job) == JOB_HELD)
		move_held(d, job);
	if (!job->in_queue)
		return;
	queue_remove(&d->queue, job);
	put_back(d, job, queue_push_front(&d->queue, job));
}

void
daemon_set_class(struct daemon *d, struct job *job, enum job_class class)
{
	if (job->turn.client == NULL || job->class == class)
		return;
	queue_remove(&d->queue, job);
	job->class = class;
	journal(EVENT_JOB_RECLASSED, .job = job);
	put_back(d, job, queue_push(&d->queue, job));
}

/* ---- pauses */

json_t *
daemon_paused(const struct daemon *d)
{
	return gate_dump(&d->gate, daemon_class_names());
}

bool
daemon_pause(struct daemon *d, int class, const char *client, bool paused)
{
	const enum event done = paused ? EVENT_QUEUE_PAUSED : EVENT_QUEUE_RESUMED;
	struct job *job;

	if (client != NULL && !gate_pause_client(&d->gate, client, paused))
		return false;
	if (class >= 0)
		gate_pause_class(&d->gate, class, paused);
	if (class < 0 && client == NULL)
		gate_pause_all(&d->gate, paused);
	journal(
	    done, .client = client, .priority = class >= 0 ? job_class_name((enum job_class) class) : NULL);
	TAILQ_FOREACH(job, &d->jobs, all_link)
	forget_promise(job);
	d->queue.order_stale = true;
	daemon_save_note(d);
	return true;
}

/* ---- why */

static json_t *
rounded(double s)
{
	return json_real(round(s * 1e3) / 1e3);
}

static json_t *
tags_of(const struct daemon *d, const struct job *job)
{
	const struct fair *f = &d->queue.fair;
	json_t *classes = json_array();

	for (int k = 0; k < CLASS_COUNT; k++) {
		json_t *class = json_pack("{s:s, s:i, s:f, s:o}", "priority",
		    job_class_name((enum job_class)k), "waiting", f->classes[k].count, "weight",
		    f->classes[k].weight, "tag", rounded(fair_class_tag(f, k)));
		json_array_append_new(classes, class);
	}
	return json_pack("{s:o, s:o, s:o, s:o, s:f}", "virtual_time", rounded(f->v), "classes", classes,
	    "client", rounded(fair_account_tag(&job->turn.client->accounts[job->class])),
	    "client_virtual_time", rounded(f->classes[job->class].v), "client_weight",
	    job->turn.client->weight);
}

static void
put_before(struct daemon *d, const struct job *job, json_t *why)
{
	json_t *before = json_array();
	double cost_s = 0;
	int count = 0;

	for (struct job *other = queue_first(&d->queue); other != NULL && other != job;
	     other = queue_next(&d->queue, other)) {
		cost_s += other->cost_s;
		if (count++ < MAX_SHOWN)
			json_array_append_new(before,
			    json_pack("{s:s, s:s, s:s, s:o}", "job", other->id, "client", other->client,
				"priority", job_class_name(other->class), "cost_s", rounded(other->cost_s)));
	}
	json_object_set_new(why, "before", before);
	json_object_set_new(why, "before_count", json_integer(count));
	json_object_set_new(why, "before_cost_s", rounded(cost_s));
}

static void
put_running(struct daemon *d, json_t *why)
{
	json_t *list = json_array();

	for (int i = 0; i < d->runner_count; i++) {
		const struct job *job;
		int at = 0;
		while ((job = runner_next_job(d->runners[i], &at)) != NULL) {
			struct outlook o = daemon_outlook(d, job);
			json_array_append_new(
			    list, json_pack("{s:s, s:s, s:s, s:s, s:o}", "job", job->id, "runner",
				      runner_conf(d->runners[i])->section_name, "client", job->client,
				      "priority", job_class_name(job->class), "left_s",
				      o.eta_s >= 0 ? rounded(o.eta_s) : json_null()));
		}
	}
	json_object_set_new(why, "running", list);
}

/* The plan alone, and what experience with those who come meanwhile makes of it. */
static void
put_eta(struct daemon *d, const struct job *job, const struct outlook *o, json_t *why)
{
	const struct plan_spot spot = queue_spot(&d->queue, job);

	if (!spot.runs)
		return;
	json_object_set_new(why, "eta",
	    json_pack("{s:o, s:o, s:o, s:o, s:o}", "starts_s", rounded(spot.start_s), "own_s",
		rounded(spot.done_s - spot.start_s), "newcomers_s", rounded(o->eta_s - spot.done_s), "eta_s",
		rounded(o->eta_s), "eta_p95_s", rounded(o->eta_p95_s)));
}

/* One that a runner has waits for nobody, or for those that it made way for. */
static void
put_rest(const struct outlook *o, json_t *why)
{
	if (o->eta_s < 0)
		return;
	json_object_set_new(why, "eta",
	    json_pack("{s:o, s:o, s:o, s:o}", "starts_s", rounded(o->start_s), "own_s",
		rounded(o->eta_s - o->start_s), "eta_s", rounded(o->eta_s), "eta_p95_s",
		rounded(o->eta_p95_s)));
}

static void
put_end(const struct job *job, json_t *why)
{
	if (job->error.code != ERR_NONE)
		json_object_set_new(why, "error",
		    json_pack("{s:s, s:s}", "name", err_row((int)job->error.code)->name, "message",
			job->error.text));
}

json_t *
daemon_why(struct daemon *d, struct job *job)
{
	const struct outlook o = daemon_outlook(d, job);
	json_t *why = json_pack("{s:s, s:s, s:s, s:s, s:o, s:i}", "job", job->id, "state",
	    job_state_name(job), "priority", job_class_name(job->class), "client", job->client, "cost_s",
	    rounded(job->cost_s), "runners", daemon_serving_runners(d));

	if (o.position > 0)
		json_object_set_new(why, "position", json_integer(o.position));
	if (o.held_back[0] != '\0')
		json_object_set_new(why, "held_back", json_string(o.held_back));
	if (job->turn.client == NULL) {
		put_rest(&o, why);
		put_end(job, why);
		if (job_state(job) == JOB_SUSPENDED)
			put_running(d, why);
		return why;
	}
	json_object_set_new(why, "tags", tags_of(d, job));
	put_before(d, job, why);
	put_running(d, why);
	put_eta(d, job, &o, why);
	return why;
}
