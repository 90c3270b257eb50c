/*
 * The runner's conversation with zitd: jobs in, steps made, pictures out.
 *
 * Work is done in units (start, one step, one decode), of all held jobs in turn; between two units the socket
 * is looked at, so a cancel waits for one unit at most, and so does a newcomer. A suspended job has no turn;
 * all that it has stays where it is. After each step the latent goes into the job's checkpoint. A finished
 * picture goes to the encoder's thread and the next unit begins; a job ends when its last PNG has come back.
 * How many jobs are held is zitd's choice.
 */
#include "runner/session.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <unistd.h>

#include "ipc/log.h"
#include "runner/canary.h"
#include "runner/encoder.h"
#include "runner/resume.h"

enum { MAX_HELD = 16 }; /* more jobs than zitd's largest concurrency would be a mistake of its */

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

/* ---- interruption */

static volatile sig_atomic_t interrupted;
static int wake_fd = -1; /* an eventfd: ends the poll that a signal came just before */

void
session_interrupt(void)
{
	const uint64_t one = 1;
	int error = errno; /* of what the signal came in between */

	interrupted = 1;
	if (wake_fd >= 0 && write(wake_fd, &one, sizeof(one)) < 0)
		interrupted = 1; /* its counter is full, so it is awake */
	errno = error;
}

bool
session_is_interrupted(void)
{
	return interrupted != 0;
}

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
static void
session_end(struct session *s, const struct err *e)
{
	s->stop = true;
	if (s->exit_status != 0)
		return;
	s->exit_status = session_exit_status(e->code);
	s->error = *e;
}

/* ---- sending */

static void
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

static struct proto_msg
session_about(const struct job *job, unsigned type)
{
	struct proto_msg m = {.head = job->head};

	m.head.type = (uint16_t)type;
	return m;
}

static void
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

static void
session_job_free(struct job *job)
{
	generation_free(&job->generation);
	resume_close(&job->resume);
	free(job->strings);
	free(job);
}

/* Out of the list; freed now, or when the encoder has given back its pictures. */
static void
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

static void
session_job_fail(struct session *s, struct job *job, const struct err *e)
{
	struct proto_msg m = session_about(job, PROTO_FAILED);

	log_warning("runner %s: job %llu: %s", s->parts.name, (unsigned long long)job->head.job, e->text);
	m.FAILED = (struct proto_FAILED){(uint32_t)e->code, e->text};
	session_send(s, &m, NULL);
	session_job_end(s, job);
}

/* What an error of the model means: the job's own fault, or the end of this process. */
static void
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

/* libpng's complaints are about this picture; being out of memory is about this process. */
static void
picture_error(struct session *s, struct job *job, const struct err *e)
{
	if (e->code == ERR_INTERNAL)
		session_job_fail(s, job, e);
	else
		session_job_error(s, job, e);
}

/* Whether its next unit can be done now: a picture needs a place to begin, and the encoder's room to end. */
static bool
is_runnable(struct session *s, const struct job *job, int begun)
{
	if (job->over || job->suspended || job->picture == job->request.count)
		return false;
	if (job->generation == NULL)
		return begun < MAX_GENERATIONS;
	return generation_left(job->generation) > 0 || !encoder_is_full(s->encoder);
}

/* The job whose next unit is due; its turn is then over. */
static struct job *
next_job(struct session *s)
{
	struct job *job;
	int begun = 0;

	STAILQ_FOREACH(job, &s->jobs, link)
	begun += job->generation != NULL;
	STAILQ_FOREACH(job, &s->jobs, link)
	{
		if (!is_runnable(s, job, begun))
			continue;
		STAILQ_REMOVE(&s->jobs, job, job, link);
		STAILQ_INSERT_TAIL(&s->jobs, job, link);
		return job;
	}
	return NULL;
}

/* ---- units of work */

static void
begin_resume(struct session *s, const struct job *job)
{
	const struct resume_picture picture = {
	    .model_hash = model_limits(s->parts.model)->hash,
	    .device = device_name(s->parts.device),
	    .prompt = job->request.prompt,
	    .seed = job->request.seed + job->picture,
	    .width = (int)job->request.width,
	    .height = (int)job->request.height,
	    .steps = (int)job->request.steps,
	    .truncate = job->request.truncate != 0,
	};

	resume_begin(job->resume, &picture);
}

/* Where an earlier attempt left this picture; 0 steps if it did not. */
static int
go_on(struct session *s, struct job *job, struct err *e)
{
	int step = resume_load(job->resume, s->latent, generation_latent_count(job->generation));

	if (step == 0 || step > (int)job->request.steps)
		return 0;
	log_info("runner %s: job %llu: picture %u goes on after step %d", s->parts.name,
	    (unsigned long long)job->head.job, job->picture, step);
	return generation_restore(job->generation, step, s->latent, e);
}

static int
session_steps_done(const struct job *job)
{
	return (int)job->request.steps - generation_left(job->generation);
}

static void
start_picture(struct session *s, struct job *job)
{
	struct generation_request r = {job->request.prompt, job->request.seed + job->picture,
	    (int)job->request.width, (int)job->request.height, (int)job->request.steps,
	    job->request.truncate != 0};
	bool truncated;
	struct err e;

	session_note(s, job, STAGE_TEXT, 0);
	if (generation_start(&job->generation, s->parts.model, &r, &e) != 0) {
		session_job_error(s, job, &e);
		return;
	}
	job->sums.tokens = (uint32_t)generation_tokens(job->generation, &truncated);
	job->sums.truncated = truncated;
	begin_resume(s, job);
	if (go_on(s, job, &e) != 0)
		session_job_error(s, job, &e);
	else
		session_note(s, job, STAGE_DENOISE, session_steps_done(job));
}

static void
make_step(struct session *s, struct job *job)
{
	int status;
	struct err e;

	status = generation_step(job->generation, &e);
	if (status == 0)
		status = generation_latent(job->generation, s->latent, &e);
	if (status != 0) {
		session_job_error(s, job, &e);
		return;
	}
	resume_save(
	    job->resume, session_steps_done(job), s->latent, generation_latent_count(job->generation));
	session_note(s, job, STAGE_DENOISE, session_steps_done(job));
}

static struct encode_task *
make_task(struct session *s, struct job *job)
{
	const struct model_limits *limits = model_limits(s->parts.model);
	struct encode_task *task = calloc(1, sizeof(*task));
	struct metadata_facts facts = {
	    .job = job->request.id,
	    .prompt = job->request.prompt,
	    .negative_prompt = job->request.negative_prompt,
	    .seed = job->request.seed + job->picture,
	    .width = (int)job->request.width,
	    .height = (int)job->request.height,
	    .steps = (int)job->request.steps,
	    .shift = limits->shift,
	    .model = limits->name,
	    .model_hash = limits->hash,
	    .device = device_name(s->parts.device),
	    .precision = device_precision(s->parts.device) == PRECISION_BF16 ? "bf16" : "f32",
	};

	if (task == NULL)
		return NULL;
	task->fd = -1;
	task->width = facts.width;
	task->height = facts.height;
	task->owner = job;
	task->picture = job->picture;
	task->seed = facts.seed;
	task->rgb = malloc((size_t)task->width * (size_t)task->height * 3);
	if (task->rgb == NULL || !metadata_make(&task->metadata, &facts))
		encode_task_free(&task);
	return task;
}

/* Decodes the picture and hands it to the encoder, which must have room. */
static void
finish_picture(struct session *s, struct job *job)
{
	struct encode_task *task = make_task(s, job);
	const struct generation_times *times = generation_times(job->generation);
	struct err e;

	session_note(s, job, STAGE_DECODE, (int)job->request.steps);
	if (task == NULL) {
		err_set(&e, ERR_SYSTEM, "no memory for a picture");
		session_job_error(s, job, &e);
		return;
	}
	if (generation_decode(job->generation, task->rgb, &e) != 0) {
		encode_task_free(&task);
		session_job_error(s, job, &e);
		return;
	}
	job->sums.tokenize_s += times->tokenize_s;
	job->sums.text_s += times->text_s;
	job->sums.denoise_s += times->denoise_s;
	job->sums.decode_s += times->decode_s;
	generation_free(&job->generation);
	encoder_put(s->encoder, task);
	session_note(s, job, STAGE_ENCODE, (int)job->request.steps);
	job->encoding++;
	job->picture++;
}

/* One unit; false when nothing can be done now. */
static bool
session_work(struct session *s)
{
	struct job *job = next_job(s);

	if (job == NULL)
		return false;
	if (job->generation == NULL)
		start_picture(s, job);
	else if (generation_left(job->generation) > 0)
		make_step(s, job);
	else
		finish_picture(s, job);
	return true;
}

/* ---- finished pictures */

static void
send_picture(struct session *s, struct job *job, struct encode_task *task)
{
	struct proto_msg m = session_about(job, PROTO_PICTURE);

	m.PICTURE = (struct proto_PICTURE){task->picture, task->bytes, task->seed};
	session_send(s, &m, &task->fd);
	job->sums.png_s += task->seconds;
	if (job->picture < job->request.count || job->encoding > 0)
		return;
	m = session_about(job, PROTO_DONE);
	m.DONE = job->sums;
	session_send(s, &m, NULL);
	session_job_end(s, job);
}

static void
session_take_pictures(struct session *s)
{
	struct encode_task *task;

	while (!s->stop && (task = encoder_take(s->encoder)) != NULL) {
		struct job *job = task->owner;
		job->encoding--;
		if (job->over)
			session_job_end(s, job);
		else if (task->fd < 0)
			picture_error(s, job, &task->error);
		else
			send_picture(s, job, task);
		encode_task_free(&task);
	}
}

/* ---- messages */

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

static void
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

/* ---- the loop */

/* Looks at everything; waits for it when `idle`. */
static void
look_around(struct session *s, bool idle)
{
	struct pollfd fds[] = {
	    {.fd = channel_fd(s->parts.channel),
		.events = (short)(POLLIN | (channel_has_output(s->parts.channel) ? POLLOUT : 0))},
	    {.fd = encoder_fd(s->encoder), .events = POLLIN},
	    {.fd = wake_fd, .events = POLLIN},
	};

	if (poll(fds, 3, idle ? -1 : 0) < 0 && errno != EINTR)
		s->stop = true;
	if (interrupted)
		s->stop = true;
	if (s->stop)
		return;
	if (channel_has_output(s->parts.channel) && channel_flush(s->parts.channel) != 0)
		s->stop = true;
	session_take_messages(s);
	session_take_pictures(s);
}

/* The last messages must not end with us. zitd takes them, or is gone, or sends its signal. */
static void
drain(struct session *s)
{
	struct pollfd fds[] = {
	    {.fd = channel_fd(s->parts.channel), .events = POLLOUT},
	    {.fd = wake_fd, .events = POLLIN},
	};

	while (!interrupted && channel_has_output(s->parts.channel)) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return;
		if (channel_flush(s->parts.channel) != 0)
			return;
	}
}

int
session_run(struct session *s, struct err *e)
{
	bool idle = false;

	while (!s->stop && !(s->finish && STAILQ_EMPTY(&s->jobs))) {
		look_around(s, idle);
		if (!s->stop)
			idle = !session_work(s);
	}
	if (!s->stop)
		drain(s);
	if (s->exit_status != 0)
		*e = s->error;
	return s->exit_status;
}

struct session *
session_new(const struct session_parts *parts)
{
	struct session *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->parts = *parts;
	STAILQ_INIT(&s->jobs);
	wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->encoder = encoder_new();
	s->latent = malloc(model_limits(parts->model)->latent_count * sizeof(float));
	if (wake_fd < 0 || s->encoder == NULL || s->latent == NULL)
		session_free(&s);
	return s;
}

void
session_free(struct session **s)
{
	struct job *job;
	int fd;

	if (*s == NULL)
		return;
	encoder_free(&(*s)->encoder);
	while ((job = STAILQ_FIRST(&(*s)->jobs)) != NULL) {
		STAILQ_REMOVE_HEAD(&(*s)->jobs, link);
		session_job_free(job);
	}
	free((*s)->latent);
	fd = wake_fd;
	wake_fd = -1; /* first, for the signal handler's sake */
	if (fd >= 0)
		close(fd);
	free(*s);
	*s = NULL;
}
