/*
 * A job's record, as clients see it.
 */
#include <math.h>
#include <sys/wait.h>

#include "ipc/clock.h"
#include "supervisor/daemon.h"
#include "supervisor/job.h"
#include "supervisor/runner.h"

/* Seconds to the microsecond, so that they print as short as they are. */
static json_t *
seconds(double s)
{
	return json_real(round(s * 1e6) / 1e6);
}

static json_t *
seconds_between(int64_t from_us, int64_t to_us)
{
	return seconds((double)(to_us - from_us) * 1e-6);
}

static void
put_times(const struct job *job, json_t *record)
{
	int64_t end_us = job->ended_us != 0 ? job->ended_us : clock_now_us();
	int64_t queue_end_us = job->started_us != 0 ? job->started_us : end_us;

	json_object_set_new(record, "submitted_at", seconds((double)job->submitted_wall_us * 1e-6));
	json_object_set_new(record, "queued_s", seconds_between(job->submitted_us, queue_end_us));
	if (job->started_us != 0)
		json_object_set_new(record, "run_s", seconds(job_attempt_s(job)));
	if (job->suspensions > 0)
		json_object_set_new(record, "suspended_s", seconds(job_suspended_s(job)));
	json_object_set_new(record, "total_s", seconds_between(job->submitted_us, end_us));
	if (job_state(job) != JOB_DONE)
		return;
	json_object_set_new(record, "text_s", seconds(job->sums.text_s));
	json_object_set_new(record, "denoise_s", seconds(job->sums.denoise_s));
	json_object_set_new(record, "decode_s", seconds(job->sums.decode_s));
	json_object_set_new(record, "png_s", seconds(job->sums.png_s));
	json_object_set_new(record, "tokens", json_integer(job->sums.tokens));
	json_object_set_new(record, "truncated", json_boolean(job->sums.truncated));
}

static void
put_error(const struct job *job, json_t *record)
{
	if (job->error.code == ERR_NONE)
		return;
	json_object_set_new(record, "error",
	    json_pack("{s:s, s:i, s:s}", "name", err_row(job->error.code)->name, "code",
		-(int)job->error.code, "message", job->error.text));
	if (job->exit_status < 0)
		return;
	json_object_set_new(record, "last_words", json_string(job->last_words));
	if (job->log_tail != NULL && job->log_tail[0] != '\0')
		json_object_set_new(record, "log_tail", json_string(job->log_tail));
	if (WIFSIGNALED(job->exit_status))
		json_object_set_new(record, "signal", json_integer(WTERMSIG(job->exit_status)));
	else
		json_object_set_new(record, "exit_status", json_integer(WEXITSTATUS(job->exit_status)));
}

static void
put_result(const struct job *job, json_t *record)
{
	json_t *pictures = json_array(), *result;
	const char *dir = daemon_results_dir(job->daemon);

	for (int i = 0; i < job->picture_count; i++) {
		const struct picture *p = &job->pictures[i];
		json_t *picture =
		    json_pack("{s:I, s:I}", "bytes", (json_int_t)p->bytes, "seed", (json_int_t)p->seed);
		if (p->name[0] != '\0')
			json_object_set_new(picture, "path", json_sprintf("%s/%s", dir, p->name));
		json_array_append_new(pictures, picture);
	}
	result = json_pack("{s:I, s:o}", "bytes", (json_int_t)job->pictures[0].bytes, "pictures", pictures);
	if (job->pictures[0].name[0] != '\0')
		json_object_set_new(result, "path", json_sprintf("%s/%s", dir, job->pictures[0].name));
	json_object_set_new(record, "result", result);
}

static void
put_progress(const struct job *job, json_t *record)
{
	json_object_set_new(record, "progress",
	    json_pack("{s:s, s:i, s:i, s:i}", "stage", stage_name(job->stage), "picture", (int)job->picture,
		"step", (int)job->step, "steps", job->steps));
}

static void
put_outlook(const struct outlook *o, json_t *record)
{
	if (o->position > 0)
		json_object_set_new(record, "position", json_integer(o->position));
	if (o->held_back[0] != '\0')
		json_object_set_new(record, "held_back", json_string(o->held_back));
	if (o->eta_s < 0)
		return;
	json_object_set_new(record, "eta_s", seconds(o->eta_s));
	json_object_set_new(record, "eta_p95_s", seconds(o->eta_p95_s));
}

json_t *
job_record(const struct job *job, const struct outlook *outlook)
{
	json_t *record = json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:I, s:i, s:i, s:{s:s, s:i, s:i}}",
	    "job", job->id, "state", job_state_name(job), "priority", job_class_name(job->class), "prompt",
	    job->prompt, "width", job->width, "height", job->height, "steps", job->steps, "seed",
	    (json_int_t)job->seed, "n", job->count, "attempts", (int)job->attempt, "client", "name",
	    job->client, "uid", (int)job->uid, "pid", (int)job->pid);
	json_t *warnings = json_array();

	for (int i = 0; i < JOB_MAX_WARNINGS && job->warnings[i] != NULL; i++)
		json_array_append_new(warnings, json_string(job->warnings[i]));
	json_object_set_new(record, "warnings", warnings);
	if (job->group[0] != '\0')
		json_object_set_new(record, "group", json_string(job->group));
	if (job->resumed > 0) {
		json_object_set_new(record, "resumed", json_integer(job->resumed));
		json_object_set_new(record, "steps_saved", json_integer(job->steps_saved));
	}
	if (job->retry_of[0] != '\0')
		json_object_set_new(record, "retry_of", json_string(job->retry_of));
	if (job->retried_as[0] != '\0')
		json_object_set_new(record, "retried_as", json_string(job->retried_as));
	if (outlook != NULL)
		put_outlook(outlook, record);
	put_times(job, record);
	put_error(job, record);
	if (job->runner != NULL) {
		json_object_set_new(record, "runner", json_string(runner_conf(job->runner)->section_name));
		put_progress(job, record);
	}
	if (job_state(job) == JOB_DONE && !job->expired)
		put_result(job, record);
	return record;
}
