/*
 * A job's beginning, from what was asked for, and its end as memory.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/random.h"
#include "supervisor/conf.h"
#include "supervisor/jobs/job_inside.h"
#include "supervisor/timer.h"

enum { DEFAULT_STEPS = 8 };

static uint64_t
random_seed(void)
{
	uint32_t seed; /* short enough to type again */

	random_bytes(&seed, sizeof(seed));
	return seed;
}

void
job_add_warning(struct job *job, const char *text)
{
	int n = 0;

	while (n < JOB_MAX_WARNINGS && job->warnings[n] != NULL)
		n++;
	if (n < JOB_MAX_WARNINGS)
		job->warnings[n] = strdup(text); /* without memory it goes without saying */
}

static void
add_warnings(struct job *job, const struct api_submit *p)
{
	if (p->has_negative_prompt && p->negative_prompt[0] != '\0')
		job_add_warning(job, "negative_prompt has no effect: this model runs without guidance");
	if (p->has_guidance && p->guidance != 0)
		job_add_warning(job, "guidance has no effect: this model runs without it");
}

bool
job_is_to_be_kept(const struct api_submit *p)
{
	return p->has_on_disconnect ? p->on_disconnect == 1 : !p->wait;
}

static void
take_params(struct job *job, const struct api_submit *p)
{
	job->asked_width = job->width = p->has_width ? (int)p->width : 0;
	job->asked_height = job->height = p->has_height ? (int)p->height : 0;
	job->asked_steps = p->has_steps ? (int)p->steps : 0;
	job->steps = p->has_steps ? (int)p->steps : DEFAULT_STEPS;
	job->count = p->has_n ? (int)p->n : 1;
	job->seed = p->has_seed ? (uint64_t)p->seed : random_seed();
	job->truncate = p->truncate;
	job->class = p->has_priority ? (enum job_class)p->priority : CLASS_NORMAL;
	job->queue_timeout_s = p->has_queue_timeout ? p->queue_timeout : job_world()->conf->queue_timeout;
	job->exec_timeout_s = p->has_exec_timeout ? p->exec_timeout : 0;
	job->deadline_s = p->has_deadline ? p->deadline : 0;
	job->keep = job_is_to_be_kept(p);
	job->was_waited_for = p->wait;
	job->durable = !p->has_durable || p->durable;
	add_warnings(job, p);
}

static void
on_timer(struct ev_loop *loop, struct ev_timer *w, int events)
{
	struct job *job = w->data;

	(void)loop;
	(void)events;
	fsm_clock(&job->fsm);
}

struct job *
job_blank(struct daemon *d)
{
	struct job *job = calloc(1, sizeof(*job));

	if (job == NULL)
		return NULL;
	job->daemon = d;
	TAILQ_INIT(&job->waiters);
	job->durable = true;
	job->told_state = JOB_STATE_COUNT;
	job->exit_status = job->checkpoint = job->device = -1;
	ev_init(&job->timer, on_timer);
	job->timer.data = job;
	return job;
}

bool
job_make_room(struct job *job)
{
	job->pictures = calloc((size_t)job->count, sizeof(*job->pictures));
	for (int i = 0; job->pictures != NULL && i < job->count; i++)
		job->pictures[i].fd = -1;
	return job->pictures != NULL;
}

struct job *
job_new(struct daemon *d, const struct api_submit *p, uid_t uid, pid_t pid)
{
	struct job *job = job_blank(d);

	if (job == NULL)
		return NULL;
	job->prompt = strdup(p->prompt);
	job->negative_prompt = strdup(p->has_negative_prompt ? p->negative_prompt : "");
	take_params(job, p);
	if (job->prompt == NULL || job->negative_prompt == NULL || !job_make_room(job)) {
		job_free(&job);
		return NULL;
	}
	job->uid = uid;
	if (p->has_client)
		snprintf(job->client, sizeof(job->client), "%s", p->client);
	else
		snprintf(job->client, sizeof(job->client), "uid:%d", (int)uid);
	snprintf(job->group, sizeof(job->group), "%s", p->has_group ? p->group : "");
	job->pid = pid;
	job->submitted_us = job->queued_us = clock_now_us();
	job->submitted_wall_us = clock_wall_us();
	id_make(job->id);
	if (p->has_not_before)
		job->not_before_us = job->submitted_us + (int64_t)(p->not_before * 1e6);
	fsm_init(&job->fsm, &job_kind, job, JOB_QUEUED);
	return job;
}

struct api_submit
job_request(const struct job *job)
{
	struct api_submit p = {
	    .prompt = job->prompt,
	    .has_prompt = true,
	    .negative_prompt = job->negative_prompt,
	    .has_negative_prompt = job->negative_prompt[0] != '\0',
	    .width = job->asked_width,
	    .has_width = job->asked_width > 0,
	    .height = job->asked_height,
	    .has_height = job->asked_height > 0,
	    .steps = job->asked_steps,
	    .has_steps = job->asked_steps > 0,
	    .seed = (int64_t)job->seed,
	    .has_seed = true,
	    .n = job->count,
	    .has_n = true,
	    .priority = (int)job->class,
	    .has_priority = true,
	    .queue_timeout = job->queue_timeout_s,
	    .has_queue_timeout = true,
	    .exec_timeout = job->exec_timeout_s,
	    .has_exec_timeout = job->exec_timeout_s > 0,
	    .client = job->client,
	    .has_client = true,
	    .group = job->group,
	    .has_group = job->group[0] != '\0',
	    .truncate = job->truncate,
	    .has_truncate = true,
	};

	return p;
}

void
job_free(struct job **out)
{
	struct job *job = *out;

	if (job == NULL)
		return;
	timer_arm(job_world()->loop, &job->timer, 0);
	for (int i = 0; i < job->picture_count; i++) {
		if (job->pictures[i].fd >= 0)
			close(job->pictures[i].fd);
	}
	job_drop_checkpoint(job);
	for (int i = 0; i < JOB_MAX_WARNINGS; i++)
		free(job->warnings[i]);
	free(job->prompt);
	free(job->negative_prompt);
	free(job->pictures);
	free(job->last_words);
	free(job->log_tail);
	free(job);
	*out = NULL;
}
