/*
 * A session's work: the next unit of the job whose turn it is, and the pictures that the encoder has
 * finished.
 */
#include <stdlib.h>

#include "ipc/log.h"
#include "runner/session_inside.h"

/* ---- whose turn it is */

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

/* The text is encoded. */
static void
begin_steps(struct session *s, struct job *job)
{
	struct err e;

	begin_resume(s, job);
	if (go_on(s, job, &e) != 0)
		session_job_error(s, job, &e);
	else
		session_note(s, job, STAGE_DENOISE, session_steps_done(job));
}

static void
start_picture(struct session *s, struct job *job)
{
	struct generation_request r = {.prompt = job->request.prompt,
	    .seed = job->request.seed + job->picture,
	    .width = (int)job->request.width,
	    .height = (int)job->request.height,
	    .steps = (int)job->request.steps,
	    .truncate = job->request.truncate != 0};
	bool truncated;
	struct err e;

	session_note(s, job, STAGE_TEXT, 0);
	if (generation_begin(&job->generation, s->parts.model, &r, &e) != 0) {
		session_job_error(s, job, &e);
		return;
	}
	job->sums.tokens = (uint32_t)generation_tokens(job->generation, &truncated);
	job->sums.truncated = truncated;
	if (generation_is_encoded(job->generation)) /* its caption was kept */
		begin_steps(s, job);
}

/* All of it, or a layer. */
static void
encode_text(struct session *s, struct job *job)
{
	struct err e;

	if (generation_encode(job->generation, &e) != 0)
		session_job_error(s, job, &e);
	else if (generation_is_encoded(job->generation))
		begin_steps(s, job);
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
bool
session_work(struct session *s)
{
	struct job *job = next_job(s);

	if (job == NULL)
		return false;
	if (job->generation == NULL)
		start_picture(s, job);
	else if (!generation_is_encoded(job->generation))
		encode_text(s, job);
	else if (generation_left(job->generation) > 0)
		make_step(s, job);
	else
		finish_picture(s, job);
	return true;
}

/* ---- finished pictures */

/* libpng's complaints are about this picture; being out of memory is about this process. */
static void
picture_error(struct session *s, struct job *job, const struct err *e)
{
	if (e->code == ERR_INTERNAL)
		session_job_fail(s, job, e);
	else
		session_job_error(s, job, e);
}

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

void
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
