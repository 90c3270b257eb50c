/*
 * What zitd says to a session: jobs to take, to cancel, to suspend and to go on with, and when to end.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runner/canary.h"
#include "runner/session_inside.h"

enum { MAX_HELD = 16 }; /* more jobs than zitd's largest concurrency would be a mistake of its */

static struct job *
find_job(struct session *s, const struct proto_header *head)
{
	struct job *job;

	STAILQ_FOREACH(job, &s->jobs, link)
	{
		if (!job->over && job->head.job == head->job && job->head.attempt == head->attempt)
			return job;
	}
	return NULL;
}

static int
count_jobs(struct session *s)
{
	struct job *job;
	int count = 0;

	STAILQ_FOREACH(job, &s->jobs, link)
	count++;
	return count;
}

/* The strings of a message live as long as the next one; a job's live as long as it does. The checkpoint fd
 * is taken over. NULL: no memory. */
static struct job *
job_new(const struct proto_msg *m, int checkpoint)
{
	const struct proto_JOB *r = &m->JOB;
	size_t id = strlen(r->id) + 1, prompt = strlen(r->prompt) + 1,
	       negative = strlen(r->negative_prompt) + 1;
	struct job *job = calloc(1, sizeof(*job));

	if (job == NULL)
		return NULL;
	job->strings = malloc(id + prompt + negative);
	job->resume = resume_open(checkpoint);
	if (job->strings == NULL || job->resume == NULL) {
		session_job_free(job);
		return NULL;
	}
	job->head = m->head;
	job->request = *r;
	job->picture = r->first;
	job->request.id = memcpy(job->strings, r->id, id);
	job->request.prompt = memcpy(job->strings + id, r->prompt, prompt);
	job->request.negative_prompt = memcpy(job->strings + id + prompt, r->negative_prompt, negative);
	return job;
}

/* Sizes and steps that the model does not take are the job's fault; these are zitd's. */
static const char *
wrong_with_job(struct session *s, const struct proto_msg *m)
{
	const struct proto_JOB *r = &m->JOB;

	if (s->finish)
		return "a JOB after STOP";
	if (find_job(s, &m->head) != NULL)
		return "a JOB that is held already";
	if (count_jobs(s) >= MAX_HELD)
		return "more JOBs than can be held";
	if (r->first >= r->count || r->width > INT_MAX || r->height > INT_MAX || r->steps > INT_MAX)
		return "a JOB with numbers that cannot be";
	return NULL;
}

static void
take_job(struct session *s, const struct proto_msg *m, int checkpoint)
{
	const char *wrong = wrong_with_job(s, m);
	struct proto_msg ack;
	struct job *job;
	struct err e;

	if (wrong != NULL) {
		close(checkpoint);
		err_set(&e, ERR_PROTOCOL, "zitd sent %s", wrong);
		session_end(s, &e);
		return;
	}
	job = job_new(m, checkpoint);
	if (job == NULL) {
		err_set(&e, ERR_SYSTEM, "no memory for a job, or its checkpoint cannot be used");
		session_end(s, &e);
		return;
	}
	STAILQ_INSERT_HEAD(&s->jobs, job, link); /* its turn is next */
	ack = session_about(job, PROTO_ACK);
	session_send(s, &ack, NULL);
}

/* A job that has ended meanwhile has sent its last message already; there is nothing to answer. */
static void
take_cancel(struct session *s, const struct proto_msg *m, int fd)
{
	struct job *job = find_job(s, &m->head);
	struct proto_msg answer;

	(void)fd;
	if (job == NULL)
		return;
	answer = session_about(job, PROTO_STOPPED);
	if (job->generation != NULL)
		answer.STOPPED.step = (uint32_t)session_steps_done(job);
	session_send(s, &answer, NULL);
	session_job_end(s, job);
}

/* Where it stands, it stays: at a step boundary, or before its start. */
static void
take_suspend(struct session *s, const struct proto_msg *m, int fd)
{
	struct job *job = find_job(s, &m->head);
	struct proto_msg answer;

	(void)fd;
	if (job == NULL || job->picture == job->request.count)
		return; /* what is left of it needs no device */
	job->suspended = true;
	answer = session_about(job, PROTO_SUSPENDED);
	if (job->generation != NULL)
		answer.SUSPENDED.step = (uint32_t)session_steps_done(job);
	session_send(s, &answer, NULL);
}

static void
take_resume(struct session *s, const struct proto_msg *m, int fd)
{
	struct job *job = find_job(s, &m->head);

	(void)fd;
	if (job != NULL)
		job->suspended = false;
}

static void
take_stop(struct session *s, const struct proto_msg *m, int fd)
{
	(void)fd;
	s->finish = true;
	if (m->STOP.finish_jobs == 0)
		s->stop = true;
}

/* A device or memory that gives other bits than at the start would give wrong pictures. */
static void
take_canary(struct session *s, const struct proto_msg *m, int fd)
{
	struct proto_msg answer = {.head.type = PROTO_CANARY_OK};
	uint32_t checksum;
	struct err e;

	(void)m;
	(void)fd;
	if (canary_draw(s->parts.model, &checksum, &e) != 0)
		session_end(s, &e);
	else if (checksum != s->parts.canary) {
		err_set(&e, ERR_POISONED,
		    "the small test picture has other bits than at the start: the device is not to be "
		    "trusted");
		session_end(s, &e);
	} else
		session_send(s, &answer, NULL);
}

static void
take_message(struct session *s, const struct proto_msg *m, int fd)
{
	static const struct {
		unsigned type;
		void (*take)(struct session *s, const struct proto_msg *m, int fd);
	} rows[] = {{PROTO_JOB, take_job}, {PROTO_CANCEL, take_cancel}, {PROTO_STOP, take_stop},
	    {PROTO_CANARY, take_canary}, {PROTO_SUSPEND, take_suspend}, {PROTO_RESUME, take_resume}};
	struct err e;

	if (m->head.generation != s->parts.generation) {
		err_set(&e, ERR_PROTOCOL, "zitd sent %s for generation %u, this is %u",
		    proto_name(m->head.type), m->head.generation, s->parts.generation);
		session_end(s, &e);
		return;
	}
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (rows[i].type == m->head.type)
			rows[i].take(s, m, fd);
	}
}

void
session_take_messages(struct session *s)
{
	struct proto_msg m;
	int fds[PROTO_MAX_FDS], status = 0;
	struct err e;

	while (!s->stop && (status = channel_receive(s->parts.channel, &m, fds)) == 1)
		take_message(s, &m, proto_fds(m.head.type) > 0 ? fds[0] : -1);
	if (status == -ERR_UNREACHABLE)
		s->stop = true;
	if (status == -ERR_PROTOCOL) {
		err_set(&e, ERR_PROTOCOL, "zitd sent what is not a message");
		session_end(s, &e);
	}
}
