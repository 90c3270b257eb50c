/*
 * A job's record, as clients see it, and what the log says of it.
 */
#include "supervisor/methods/job_record.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "ipc/clock.h"
#include "ipc/decimal.h"
#include "ipc/json_text.h"
#include "supervisor/socket/attachment.h"
#include "supervisor/daemon.h"
#include "supervisor/jobs/job.h"
#include "supervisor/journal.h"
#include "supervisor/runners/runner.h"

static void
put_seconds(struct json_text *t, const char *key, double s)
{
	json_text_micros(t, key, llround(s * 1e6));
}

static void
put_times(const struct job *job, struct json_text *t)
{
	int64_t end_us = job->ended_us != 0 ? job->ended_us : clock_now_us();
	int64_t queue_end_us = job->started_us != 0 ? job->started_us : end_us;

	json_text_micros(t, "submitted_at", job->submitted_wall_us);
	json_text_micros(t, "queued_s", queue_end_us - job->submitted_us);
	if (job->started_us != 0)
		put_seconds(t, "run_s", job_attempt_s(job));
	if (job->suspensions > 0)
		put_seconds(t, "suspended_s", job_suspended_s(job));
	json_text_micros(t, "total_s", end_us - job->submitted_us);
	if (job_state(job) != JOB_DONE)
		return;
	put_seconds(t, "tokenize_s", job->sums.tokenize_s);
	put_seconds(t, "text_s", job->sums.text_s);
	put_seconds(t, "denoise_s", job->sums.denoise_s);
	put_seconds(t, "decode_s", job->sums.decode_s);
	put_seconds(t, "png_s", job->sums.png_s);
	json_text_integer(t, "tokens", job->sums.tokens);
	json_text_boolean(t, "truncated", job->sums.truncated);
}

static void
put_error(const struct job *job, struct json_text *t)
{
	if (job->error.code == ERR_NONE)
		return;
	json_text_open(t, "error", '{');
	json_text_string(t, "name", err_row(job->error.code)->name);
	json_text_integer(t, "code", -(int64_t)job->error.code);
	json_text_string(t, "message", job->error.text);
	json_text_close(t, '}');
	if (job->exit_status < 0)
		return;
	json_text_string(t, "last_words", job->last_words != NULL ? job->last_words : "");
	if (job->log_tail != NULL && job->log_tail[0] != '\0')
		json_text_string(t, "log_tail", job->log_tail);
	if (WIFSIGNALED(job->exit_status))
		json_text_integer(t, "signal", WTERMSIG(job->exit_status));
	else
		json_text_integer(t, "exit_status", WEXITSTATUS(job->exit_status));
}

/* ---- pictures */

static void
put_path(const struct job *job, int index, struct json_text *t)
{
	char path[PATH_MAX];

	if (job->pictures[index].name[0] == '\0')
		return;
	snprintf(path, sizeof(path), "%s/%s", daemon_results_dir(job->daemon), job->pictures[index].name);
	json_text_string(t, "path", path);
}

/* Where its bytes are, when they go with the record. */
static void
put_bytes(int index, const struct attachment *a, struct json_text *t)
{
	char mark[48];

	for (int i = 0; a != NULL && i < a->count; i++) {
		if (a->pictures[i] != index)
			continue;
		attachment_placeholder(i, mark);
		if (a->inline_base64)
			json_text_string(t, "base64", mark);
		else
			json_text_integer(t, "fd", i);
	}
}

void
job_picture_record(const struct job *job, int index, const struct attachment *a, struct json_text *t)
{
	json_text_open(t, NULL, '{');
	json_text_integer(t, "bytes", (int64_t)job->pictures[index].bytes);
	json_text_integer(t, "seed", (int64_t)job->pictures[index].seed);
	put_path(job, index, t);
	put_bytes(index, a, t);
	json_text_close(t, '}');
}

bool
job_has_pictures(const struct job *job)
{
	return job_state(job) == JOB_DONE && !job->expired;
}

static void
put_result(const struct job *job, const struct attachment *a, struct json_text *t)
{
	json_text_open(t, "result", '{');
	json_text_integer(t, "bytes", (int64_t)job->pictures[0].bytes);
	put_path(job, 0, t);
	json_text_open(t, "pictures", '[');
	for (int i = 0; i < job->picture_count; i++)
		job_picture_record(job, i, a, t);
	json_text_close(t, ']');
	json_text_close(t, '}');
}

/* ---- all of it */

static void
put_progress(const struct job *job, struct json_text *t)
{
	json_text_string(t, "runner", runner_conf(job->runner)->section_name);
	json_text_open(t, "progress", '{');
	json_text_string(t, "stage", stage_name(job->stage));
	json_text_integer(t, "picture", (int64_t)job->picture);
	json_text_integer(t, "step", (int64_t)job->step);
	json_text_integer(t, "steps", job->steps);
	json_text_close(t, '}');
}

void
outlook_record(const struct outlook *o, struct json_text *t)
{
	if (o->position > 0)
		json_text_integer(t, "position", o->position);
	if (o->held_back[0] != '\0')
		json_text_string(t, "held_back", o->held_back);
	if (o->eta_s < 0)
		return;
	put_seconds(t, "eta_s", o->eta_s);
	put_seconds(t, "eta_p95_s", o->eta_p95_s);
}

/* What was asked for, and by whom. */
static void
put_request(const struct job *job, struct json_text *t)
{
	json_text_string(t, "job", job->id);
	json_text_string(t, "state", job_state_name(job));
	json_text_string(t, "priority", job_class_name(job->class));
	json_text_string(t, "prompt", job->prompt);
	json_text_integer(t, "width", job->width);
	json_text_integer(t, "height", job->height);
	json_text_integer(t, "steps", job->steps);
	json_text_integer(t, "seed", (int64_t)job->seed);
	json_text_integer(t, "n", job->count);
	json_text_integer(t, "attempts", (int64_t)job->attempt);
	json_text_open(t, "client", '{');
	json_text_string(t, "name", job->client);
	json_text_integer(t, "uid", (int64_t)job->uid);
	json_text_integer(t, "pid", (int64_t)job->pid);
	json_text_close(t, '}');
}

static void
put_history(const struct job *job, struct json_text *t)
{
	json_text_open(t, "warnings", '[');
	for (int i = 0; i < JOB_MAX_WARNINGS && job->warnings[i] != NULL; i++)
		json_text_string(t, NULL, job->warnings[i]);
	json_text_close(t, ']');
	if (job->group[0] != '\0')
		json_text_string(t, "group", job->group);
	if (job->resumed > 0) {
		json_text_integer(t, "resumed", job->resumed);
		json_text_integer(t, "steps_saved", job->steps_saved);
	}
	if (job->retry_of[0] != '\0')
		json_text_string(t, "retry_of", job->retry_of);
	if (job->retried_as[0] != '\0')
		json_text_string(t, "retried_as", job->retried_as);
}

void
job_record(
    const struct job *job, const struct outlook *outlook, const struct attachment *a, struct json_text *t)
{
	json_text_open(t, NULL, '{');
	put_request(job, t);
	put_history(job, t);
	if (outlook != NULL)
		outlook_record(outlook, t);
	put_times(job, t);
	put_error(job, t);
	if (job->runner != NULL)
		put_progress(job, t);
	if (job_has_pictures(job))
		put_result(job, a, t);
	json_text_close(t, '}');
}

/* ---- for the log */

/* The clock that ended it, by the metrics' words; NULL: none did. */
static const char *
timeout_kind(const struct job *job)
{
	switch (job->error.code) {
	case ERR_DEADLINE_UNREACHABLE:
		return "deadline";
	case ERR_EXECUTION_TIMEOUT:
		return "execution";
	case ERR_QUEUE_TIMEOUT:
		return "queue";
	default:
		return NULL;
	}
}

static void
put_whose(const struct job *job, struct journal_facts *f)
{
	static char uid[sizeof("uid:") + DECIMAL_BYTES];
	char *at = decimal_put(uid + sizeof(uid) - 1, (int)job->uid);

	f->job_id = job->id;
	f->principal = memcpy(at - 4, "uid:", 4);
	f->client = job->client;
	f->group = job->group;
	f->priority = job_class_name(job->class);
}

static void
put_what(const struct job *job, struct journal_facts *f)
{
	static char size[2 * DECIMAL_BYTES + sizeof("x")];
	char *at = decimal_put(size + sizeof(size) - 1, job->height);

	*--at = 'x';
	at = decimal_put(at, job->width);
	f->size = job->width > 0 && job->height > 0 ? at : NULL;
	f->steps = job->steps;
	f->seed = (int64_t)job->seed;
	f->prompt = job->prompt;
}

static void
put_where(const struct job *job, struct journal_facts *f)
{
	int64_t end_us = job->ended_us != 0 ? job->ended_us : clock_now_us();

	f->state = job_state_name(job);
	f->attempt = job->attempt;
	f->runner_name = job->runner != NULL ? runner_conf(job->runner)->section_name
					     : daemon_runner_name(job->daemon, job->device);
	f->stage = job->stage != STAGE_NONE ? stage_name(job->stage) : NULL;
	f->step = job->stage != STAGE_NONE ? (int64_t)job->step : -1;
	f->queue_us = (job->started_us != 0 ? job->started_us : end_us) - job->submitted_us;
	f->run_us = job->started_us != 0 ? (int64_t)(job_attempt_s(job) * 1e6) : -1;
}

void
job_facts(const struct job *job, struct journal_facts *f)
{
	put_whose(job, f);
	put_what(job, f);
	put_where(job, f);
	if (!job_is_final(job))
		return;
	f->outcome = job_state_name(job);
	f->timeout_kind = timeout_kind(job);
	if (job->error.code == ERR_NONE)
		return;
	f->error_name = err_row((int)job->error.code)->name;
	f->detail = job->error.text;
}
