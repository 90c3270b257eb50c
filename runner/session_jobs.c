/*
 * The jobs that a session holds: what is told of them, how they end, and which error ends the session.
 */
#include <stdlib.h>
#include <sys/resource.h>

#include "ipc/log.h"
#include "runner/session_inside.h"

/* ---- ending */

int
session_exit_status(enum err_code code)
{
	static const struct {
		enum err_code code;
		enum runner_exit status;
	} rows[] = {
	    {ERR_BAD_CHECKPOINT, RUNNER_EXIT_WEIGHTS},
	    {ERR_UNSUPPORTED, RUNNER_EXIT_CONFIG},
	    {ERR_OUT_OF_MEMORY, RUNNER_EXIT_DEVICE_MEMORY},
	    {ERR_SYSTEM, RUNNER_EXIT_HOST_MEMORY},
	    {ERR_POISONED, RUNNER_EXIT_STICKY},
	    {ERR_PROTOCOL, RUNNER_EXIT_PROTOCOL},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (rows[i].code == code)
			return (int)rows[i].status;
	}
	return RUNNER_EXIT_INTERNAL;
}

/* The first error counts: the process exits with its status and says why. */
void
session_end(struct session *s, const struct err *e)
{
	s->stop = true;
	if (s->exit_status != 0)
		return;
	s->exit_status = session_exit_status(e->code);
	s->error = *e;
}

/* ---- sending */

void
session_send(struct session *s, struct proto_msg *m, const int *fds)
{
	struct err e;
	int status;

	m->head.generation = s->parts.generation;
	status = channel_send(s->parts.channel, m, fds);
	if (status == -ERR_UNREACHABLE)
		s->stop = true; /* zitd is gone, so are we */
	else if (status != 0) {
		err_set(&e, status == -ERR_SYSTEM ? ERR_SYSTEM : ERR_PROTOCOL,
		    "%s cannot be sent to zitd: %s", proto_name(m->head.type), err_row(status)->name);
		session_end(s, &e);
	}
}

struct proto_msg
session_about(const struct job *job, unsigned type)
{
	struct proto_msg m = {.head = job->head};

	m.head.type = (uint16_t)type;
	return m;
}

void
session_note(struct session *s, const struct job *job, enum stage stage, int step)
{
	struct proto_msg m = session_about(job, PROTO_PROGRESS);
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	s->parts.page->peak_memory_bytes = (uint64_t)usage.ru_maxrss * 1024;
	shm_note(s->parts.page, job->head.job, stage, (uint32_t)step);
	m.PROGRESS = (struct proto_PROGRESS){stage, job->picture, (uint32_t)step, job->request.steps};
	session_send(s, &m, NULL);
}

/* ---- jobs */

int
session_steps_done(const struct job *job)
{
	return (int)job->request.steps - generation_left(job->generation);
}

void
session_job_free(struct job *job)
{
	generation_free(&job->generation);
	resume_close(&job->resume);
	free(job->strings);
	free(job);
}

/* Out of the list; freed now, or when the encoder has given back its pictures. */
void
session_job_end(struct session *s, struct job *job)
{
	generation_free(&job->generation);
	job->over = true;
	if (job->encoding > 0)
		return;
	STAILQ_REMOVE(&s->jobs, job, job, link);
	session_job_free(job);
	if (STAILQ_EMPTY(&s->jobs))
		shm_note(s->parts.page, 0, STAGE_NONE, 0);
}

void
session_job_fail(struct session *s, struct job *job, const struct err *e)
{
	struct proto_msg m = session_about(job, PROTO_FAILED);

	log_warning("runner %s: job %llu: %s", s->parts.name, (unsigned long long)job->head.job, e->text);
	m.FAILED = (struct proto_FAILED){(uint32_t)e->code, e->text};
	session_send(s, &m, NULL);
	session_job_end(s, job);
}

/* What an error of the model means: the job's own fault, or the end of this process. */
void
session_job_error(struct session *s, struct job *job, const struct err *e)
{
	static const enum err_code own[] = {ERR_PROMPT_TOO_LONG, ERR_INVALID_PARAM, ERR_TOO_BIG};
	struct err full;

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		if (own[i] == e->code) {
			session_job_fail(s, job, e);
			return;
		}
	}
	err_set(&full, e->code, "job %llu: picture %u: %s", (unsigned long long)job->head.job, job->picture,
	    e->text);
	session_end(s, &full);
}
