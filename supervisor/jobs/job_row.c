/*
 * A job's row, written and read by the rows of job_row.def.
 */
#include "supervisor/jobs/job_row.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "supervisor/jobs/job_inside.h"
#include "supervisor/store/seal.h"

/* ---- time over restarts */

/* The machine's present life; "" if the kernel does not say. */
static const char *
boot_id(void)
{
	static char id[40];
	int fd;

	if (id[0] != '\0')
		return id;
	fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return id;
	id[read(fd, id, sizeof(id) - 1) > 36 ? 36 : 0] = '\0';
	close(fd);
	return id;
}

/* What must be added to a row's stamps: nothing in one life of the machine, else what lies between its
 * clock's beginnings. Time does not run backwards, whatever the wall clock says. */
static int64_t
stamp_shift_us(const json_t *o)
{
	const char *boot = json_string_value(json_object_get(o, "boot"));
	int64_t now_us = clock_now_us(), offset_us = clock_wall_us() - now_us;
	int64_t written_us = json_integer_value(json_object_get(o, "written_us"));
	int64_t shift_us = json_integer_value(json_object_get(o, "wall_offset_us")) - offset_us;

	if (boot != NULL && strcmp(boot, boot_id()) == 0)
		return 0;
	return written_us + shift_us > now_us ? now_us - written_us : shift_us;
}

/* ---- writing */

static void
put_fields(const struct job *job, struct json_text *t)
{
#define INTEGER(name, member) \
	if (job->member != 0) \
		json_text_integer(t, #name, (int64_t)job->member);
#define STAMP INTEGER
#define NUMBER(name, member) \
	if (job->member != 0) \
		json_text_real(t, #name, job->member);
#define FLAG(name, member) \
	if (job->member) \
		json_text_boolean(t, #name, true);
#define TEXT(name, member) \
	if (job->member[0] != '\0') \
		json_text_string(t, #name, job->member);
#define OWNED(name, member) \
	if (job->member != NULL) \
	TEXT(name, member)
#include "supervisor/jobs/job_row.def"
}

static void
put_warnings(const struct job *job, struct json_text *t)
{
	if (job->warnings[0] == NULL)
		return;
	json_text_open(t, "warnings", '[');
	for (int i = 0; i < JOB_MAX_WARNINGS && job->warnings[i] != NULL; i++)
		json_text_string(t, NULL, job->warnings[i]);
	json_text_close(t, ']');
}

static void
put_files(const struct job *job, struct json_text *t)
{
	json_text_open(t, "files", '[');
	for (int i = 0; i < job->picture_count; i++) {
		json_text_open(t, NULL, '{');
		json_text_string(t, "name", job->pictures[i].name);
		json_text_integer(t, "bytes", (int64_t)job->pictures[i].bytes);
		json_text_integer(t, "seed", (int64_t)job->pictures[i].seed);
		json_text_close(t, '}');
	}
	json_text_close(t, ']');
}

/* What the store looks for in the row of an ended job. */
static void
take_end(const struct job *job, double keep_s, struct store_row *row)
{
	row->final = true;
	/* By the wall clock of now: it may have been set since the job came. */
	row->ended_us = clock_wall_us() - (clock_now_us() - job->ended_us);
	row->dead = job_state(job) == JOB_DEAD && job->retried_as[0] == '\0';
	if (job_state(job) != JOB_DONE)
		return;
	row->keep_until_us = row->ended_us + (int64_t)(keep_s * 1e6);
	row->pictures = job->picture_count;
	for (int i = 0; i < job->picture_count; i++)
		row->bytes += job->pictures[i].name[0] != '\0' ? (int64_t)job->pictures[i].bytes : 0;
}

/* What only an ended job has. */
static void
put_end(const struct job *job, const struct store_row *row, struct json_text *t)
{
	json_text_boolean(t, "final", true);
	json_text_integer(t, "ended_at_us", row->ended_us);
	if (row->dead)
		json_text_boolean(t, "dead", true);
	if (job->error.code != ERR_NONE) {
		json_text_open(t, "error", '{');
		json_text_integer(t, "code", (int64_t)job->error.code);
		json_text_string(t, "text", job->error.text);
		json_text_close(t, '}');
	}
	if (job_state(job) != JOB_DONE)
		return;
	json_text_integer(t, "keep_until_us", row->keep_until_us);
	json_text_integer(t, "bytes", row->bytes);
	json_text_integer(t, "pictures", row->pictures);
	put_files(job, t);
}

static char *
write_row(const struct job *job, const struct store_row *row)
{
	int64_t now_us = clock_now_us();
	struct json_text t;

	seal_begin(&t, "job");
	json_text_integer(&t, "number", (int64_t)row->number);
	json_text_integer(&t, "revision", row->revision);
	json_text_string(&t, "state", job_state_name(job));
	json_text_string(&t, "boot", boot_id());
	json_text_integer(&t, "written_us", now_us);
	json_text_integer(&t, "wall_offset_us", clock_wall_us() - now_us);
	put_fields(job, &t);
	put_warnings(job, &t);
	if (job->exit_status >= 0)
		json_text_integer(&t, "exit_status", job->exit_status);
	if (row->final)
		put_end(job, row, &t);
	return seal_end(&t);
}

bool
job_to_row(const struct job *job, double keep_s, struct store_row *row)
{
	*row = (struct store_row){.number = job->number, .revision = job->revision};
	memcpy(row->id, job->id, sizeof(row->id));
	memcpy(row->key, job->key, sizeof(row->key));
	memcpy(row->group, job->group, sizeof(row->group));
	if (job_is_final(job))
		take_end(job, keep_s, row);
	row->body = write_row(job, row);
	return row->body != NULL;
}

/* ---- reading */

static char *
own_text(const json_t *value)
{
	const char *text = json_string_value(value);

	return text != NULL ? strdup(text) : NULL;
}

static void
take_fields(struct job *job, const json_t *o, int64_t shift_us)
{
	const json_t *value;

#define INTEGER(name, member) \
	job->member = (__typeof__(job->member))json_integer_value(json_object_get(o, #name));
#define STAMP(name, member) \
	value = json_object_get(o, #name); \
	job->member = value != NULL ? json_integer_value(value) + shift_us : 0;
#define NUMBER(name, member) \
	job->member = (__typeof__(job->member))json_number_value(json_object_get(o, #name));
#define FLAG(name, member) job->member = json_is_true(json_object_get(o, #name));
#define TEXT(name, member) \
	value = json_object_get(o, #name); \
	snprintf(job->member, sizeof(job->member), "%s", value != NULL ? json_string_value(value) : "");
#define OWNED(name, member) job->member = own_text(json_object_get(o, #name));
#include "supervisor/jobs/job_row.def"
}

static void
take_pictures(struct job *job, const json_t *files)
{
	const json_t *file;
	size_t i;

	json_array_foreach(files, i, file)
	{
		const char *name = json_string_value(json_object_get(file, "name"));
		struct picture *p;
		if (job->picture_count == job->count)
			break;
		p = &job->pictures[i];
		snprintf(p->name, sizeof(p->name), "%s", name != NULL ? name : "");
		p->bytes = (uint64_t)json_integer_value(json_object_get(file, "bytes"));
		p->seed = (uint64_t)json_integer_value(json_object_get(file, "seed"));
		job->picture_count++;
	}
}

static void
take_rest(struct job *job, const json_t *o)
{
	const json_t *error = json_object_get(o, "error"), *status = json_object_get(o, "exit_status"),
		     *warning;
	int code = (int)json_integer_value(json_object_get(error, "code"));
	size_t i;

	job->number = (uint64_t)json_integer_value(json_object_get(o, "number"));
	job->revision = job->saved_revision = json_integer_value(json_object_get(o, "revision"));
	if (status != NULL)
		job->exit_status = (int)json_integer_value(status);
	if (error != NULL && err_row(code) != NULL)
		err_set(&job->error, (enum err_code)code, "%s",
		    json_string_value(json_object_get(error, "text")));
	json_array_foreach(json_object_get(o, "warnings"), i, warning)
	    job_add_warning(job, json_string_value(warning));
	take_pictures(job, json_object_get(o, "files"));
}

static enum job_state
state_of(const json_t *o)
{
	const char *name = json_string_value(json_object_get(o, "state"));

	for (int i = 0; i < JOB_STATE_COUNT && name != NULL; i++) {
		if (strcmp(job_kind.states[i].name, name) == 0)
			return (enum job_state)i;
	}
	return JOB_QUEUED;
}

/* A runner had it, or was about to. */
static bool
is_with_runner(enum job_state state)
{
	return state != JOB_QUEUED && state != JOB_HELD && state < JOB_FIRST_FINAL;
}

struct job *
job_from_row(struct daemon *d, const char *body, bool *was_with_runner)
{
	json_t *o = unseal("job", body, strlen(body));
	struct job *job = o != NULL ? job_blank(d) : NULL;
	enum job_state state;

	if (job == NULL) {
		json_decref(o);
		return NULL;
	}
	state = state_of(o);
	take_fields(job, o, stamp_shift_us(o));
	if (job_make_room(job))
		take_rest(job, o);
	else
		state = JOB_STATE_COUNT;
	json_decref(o);
	*was_with_runner = is_with_runner(state);
	if (job->prompt == NULL && (job->prompt = strdup("")) == NULL)
		state = JOB_STATE_COUNT;
	if (job->negative_prompt == NULL && (job->negative_prompt = strdup("")) == NULL)
		state = JOB_STATE_COUNT;
	if (state == JOB_STATE_COUNT)
		job_free(&job);
	else
		fsm_init(&job->fsm, &job_kind, job, *was_with_runner ? JOB_QUEUED : (int)state);
	return job;
}
