/*
 * An open job from one zitd to the next.
 */
#include "supervisor/jobs/job_handover.h"

#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "supervisor/fields.h"
#include "supervisor/jobs/job_inside.h"
#include "supervisor/jobs/job_row.h"
#include "supervisor/store/seal.h"
#include "supervisor/timer.h"

/* What is not in job_row.def. */
static const struct field fields[] = {
    FIELD(struct job, saved_revision),
    FIELD(struct job, told_state),
    FIELD(struct job, durable),
    FIELD(struct job, promise.done_s[FORECAST_EARLY]),
    FIELD(struct job, promise.done_s[FORECAST_LIKELY]),
    FIELD(struct job, promise.done_s[FORECAST_SURE]),
    FIELD(struct job, promise.start_s[FORECAST_EARLY]),
    FIELD(struct job, promise.start_s[FORECAST_LIKELY]),
    FIELD(struct job, promise.start_s[FORECAST_SURE]),
    FIELD(struct job, promise.waits),
    FIELD(struct job, device),
    FIELD(struct job, generation),
    FIELD(struct job, checkpoint_bytes),
    FIELD(struct job, told_start),
    FIELD(struct job, picture),
    FIELD(struct job, running_since_us),
    FIELD(struct job, suspended_since_us),
};

static const struct field picture_fields[] = {
    FIELD(struct picture, bytes),
    FIELD(struct picture, seed),
    FIELD(struct picture, name),
};

/* ---- there */

static json_t *
hand_over_pictures(const struct job *job, struct handover *h)
{
	json_t *list = json_array();

	for (int i = 0; i < job->picture_count; i++) {
		json_t *o = json_pack("{s:o}", "fd", handover_fd(h, job->pictures[i].fd));
		fields_put(&job->pictures[i], picture_fields, FIELD_COUNT(picture_fields), o);
		json_array_append_new(list, o);
	}
	return list;
}

json_t *
job_hand_over(const struct job *job, struct handover *h)
{
	struct store_row row;
	json_t *o = NULL;

	if (job_to_row(job, 0, &row))
		o = json_pack("{s:s, s:s, s:I, s:o, s:o}", "row", row.body, "state", job_state_name(job),
		    "clock_us", (json_int_t)timer_end_us(job_world()->loop, &job->timer), "checkpoint",
		    handover_fd(h, job->checkpoint), "pictures", hand_over_pictures(job, h));
	store_row_clear(&row);
	if (o != NULL)
		fields_put(job, fields, FIELD_COUNT(fields), o);
	return o;
}

/* ---- and back */

/* -1: we have no such state, or it is final. */
static int
state_of(const json_t *from)
{
	const char *name = json_string_value(json_object_get(from, "state"));

	for (int i = 0; i < JOB_FIRST_FINAL && name != NULL; i++) {
		if (strcmp(job_kind.states[i].name, name) == 0)
			return i;
	}
	return -1;
}

bool
job_is_handed_over(const json_t *from)
{
	const char *row = json_string_value(json_object_get(from, "row"));
	json_t *members = row != NULL ? unseal("job", row, strlen(row)) : NULL;
	struct job *scratch = calloc(1, sizeof(*scratch));
	bool good =
	    members != NULL && scratch != NULL && fields_take(scratch, fields, FIELD_COUNT(fields), from);

	json_decref(members);
	free(scratch);
	return good;
}

static void
take_over_pictures(struct job *job, const json_t *list)
{
	const json_t *each;
	size_t i;

	json_array_foreach(list, i, each)
	{
		if ((int)i == job->count)
			return;
		fields_take(&job->pictures[i], picture_fields, FIELD_COUNT(picture_fields), each);
		job->pictures[i].fd = handover_take_fd(json_object_get(each, "fd"));
		job->picture_count = (int)i + 1;
	}
}

struct job *
job_take_over(struct daemon *d, const json_t *from)
{
	const char *row = json_string_value(json_object_get(from, "row"));
	int64_t end_us = json_integer_value(json_object_get(from, "clock_us"));
	int64_t left_us = end_us - clock_now_us();
	int state = state_of(from);
	bool was_with_runner;
	struct job *job = row != NULL && state >= 0 ? job_from_row(d, row, &was_with_runner) : NULL;

	if (job == NULL)
		return NULL;
	take_over_pictures(job, json_object_get(from, "pictures"));
	job->checkpoint = handover_take_fd(json_object_get(from, "checkpoint"));
	if (!fields_take(job, fields, FIELD_COUNT(fields), from)) {
		job_free(&job);
		return NULL;
	}
	fsm_resume(&job->fsm, &job_kind, job, state, end_us == 0 ? 0 : left_us > 0 ? left_us : 1);
	return job;
}
