/*
 * What the files of a session share: session.c (its loop), session_messages.c (what zitd says),
 * session_work.c (units of work, and pictures that are finished), session_jobs.c (the jobs that are held, and
 * how they and the session end). Nobody else includes this.
 */
#ifndef RUNNER_SESSION_INSIDE_H
#define RUNNER_SESSION_INSIDE_H

#include <stdint.h>
#include <sys/queue.h>

#include "ipc/proto.h"
#include "runner/encoder.h"
#include "runner/resume.h"
#include "runner/session.h"

struct job {
	STAILQ_ENTRY(job) link;
	struct proto_header head;
	struct proto_JOB request; /* strings point into `strings` */
	char *strings;
	struct resume *resume; /* its checkpoint */
	uint32_t picture;      /* the one being made: first .. count; count: all are with the encoder */
	struct generation *generation; /* of that picture, or NULL before it has started */
	uint32_t encoding;	       /* pictures with the encoder */
	bool over;		       /* ended early; freed when the encoder is done with it */
	bool suspended;		       /* made way for another: no unit of its is due until zitd says so */
	struct proto_DONE sums;
};

struct session {
	struct session_parts parts;
	struct encoder *encoder;
	float *latent;		 /* room for the largest, on its way to or from a checkpoint */
	STAILQ_HEAD(, job) jobs; /* the one whose turn it is first */
	bool finish;		 /* STOP came: end when idle */
	bool stop;		 /* end now */
	int exit_status;
	struct err error;
};

/* ---- session_jobs.c */

/* The first error counts: the process exits with its status and says why. */
void session_end(struct session *s, const struct err *e);
/* With the descriptors of its row, which stay the caller's; what cannot be sent ends the session. */
void session_send(struct session *s, struct proto_msg *m, const int *fds);
struct proto_msg session_about(const struct job *job, unsigned type);
/* Tells zitd, and the status page, where the job is. */
void session_note(struct session *s, const struct job *job, enum stage stage, int step);
/* Of the picture that is being made. */
int session_steps_done(const struct job *job);

void session_job_free(struct job *job);
/* Out of the list; freed now, or when the encoder has given back its pictures. */
void session_job_end(struct session *s, struct job *job);
void session_job_fail(struct session *s, struct job *job, const struct err *e);
/* What an error of the model means: the job's own fault, or the end of this process. */
void session_job_error(struct session *s, struct job *job, const struct err *e);

/* ---- session_work.c */

/* One unit; false when nothing can be done now. */
bool session_work(struct session *s);
/* Sends what the encoder has finished. */
void session_take_pictures(struct session *s);

/* ---- session_messages.c */

/* Does what zitd has sent up to now. */
void session_take_messages(struct session *s);

#endif
