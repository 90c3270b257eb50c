/*
 * What zitd's answers mean for a batch's items: which wait, which begin anew, which have failed, and where
 * the pictures go.
 */
#include "ctl/batch.h"

#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "ctl/output.h"
#include "ctl/picture.h"
#include "ipc/clock.h"

enum {
	MAX_AGAIN = 20,	    /* tries of one item in one run that end through no fault of its own */
	DEFAULT_WAIT_S = 1, /* when an answer does not say how long */
};

/* ---- where items stand */

void
batch_move(struct batch *b, struct batch_item *item, enum item_state state)
{
	b->tally[item->state]--;
	b->tally[state]++;
	item->state = state;
	if (!book_note(b, item) && b->stop == 0)
		b->stop = CTL_FAILED;
	batch_show(b, item);
}

static void
set_error(struct batch_item *item, const char *name, const char *message)
{
	json_decref(item->error);
	item->error = json_pack("{s:s, s:s}", "name", name, "message", message);
}

/* It is submitted anew, by another key: the job that it had is over or forgotten. */
static void
try_again(struct batch *b, struct batch_item *item)
{
	item->tries++;
	item->taken_over = false;
	if (++item->again > MAX_AGAIN) {
		batch_move(b, item, ITEM_FAILED);
		return;
	}
	if (item < &b->items[b->first])
		b->first = (int)(item - b->items);
	batch_move(b, item, ITEM_TODO);
}

/* Nothing is submitted for so long, unless a place of ours becomes free. */
static void
hold_back(struct batch *b, double seconds)
{
	b->not_before_us = clock_now_us() + (int64_t)((seconds > 0 ? seconds : DEFAULT_WAIT_S) * 1e6);
}

/* ---- errors that are not the item's own; any other ends it */

enum means {
	MEANS_FAILURE,
	MEANS_LATER, /* there will be a place, or a zitd */
	MEANS_AGAIN, /* its job is not to be had any more */
	MEANS_STOP   /* it would be the same with all others */
};

static enum means
meaning(const char *error)
{
	static const struct {
		const char *name;
		enum means means;
	} rows[] = {
	    {"queue_full", MEANS_LATER},
	    {"client_cap", MEANS_LATER},
	    {"rate_limited", MEANS_LATER},
	    {"draining", MEANS_LATER},
	    {"evicted", MEANS_LATER},
	    {"unknown_job", MEANS_AGAIN},
	    {"expired_job", MEANS_AGAIN},
	    {"no_runner", MEANS_STOP},
	    {"disk_full", MEANS_STOP},
	    {"not_permitted", MEANS_STOP},
	    {"unknown_method", MEANS_STOP},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (strcmp(rows[i].name, error) == 0)
			return rows[i].means;
	}
	return MEANS_FAILURE;
}

/* The same of how an item's job ended. */
static enum means
meaning_of_end(const struct batch_item *item, const char *error)
{
	return item->taken_over && strcmp(error, "cancelled") == 0 ? MEANS_AGAIN : meaning(error);
}

/* No submit was taken, and none would be. */
static void
stop_for(struct batch *b, const char *name, const char *message)
{
	const struct err_row *row = err_row_by_name(name);

	batch_say(b, "%s: %s", name, message);
	b->stop = row != NULL ? row->ctl_exit : CTL_FAILED;
}

/* ---- answers */

enum client_end
batch_ask(struct batch *b, struct batch_item *item, struct err *e)
{
	return client_send(
	    b->client, "wait", json_pack("{s:s, s:s}", "job", item->job, "deliver", "fd"), &item->request, e);
}

/* JSON-RPC's error object: its name, its sentence. */
static void
on_refused(struct batch *b, struct batch_item *item, const json_t *error)
{
	const char *name = output_text(error, "data.name"), *message = output_text(error, "message");

	switch (meaning(name)) {
	case MEANS_LATER:
		hold_back(b, json_number_value(output_at(error, "data.retry_after_s")));
		break; /* it is still to be submitted, by the same key */
	case MEANS_STOP:
		stop_for(b, name, message);
		break;
	default:
		set_error(item, name, message);
		batch_move(b, item, ITEM_FAILED);
	}
}

static enum client_end
on_submitted(struct batch *b, struct batch_item *item, const json_t *answer, struct err *e)
{
	const json_t *result = json_object_get(answer, "result");
	const json_t *seed = json_object_get(result, "seed");

	b->submitting = NULL;
	if (result == NULL) {
		on_refused(b, item, json_object_get(answer, "error"));
		return CLIENT_OK;
	}
	snprintf(item->job, sizeof(item->job), "%s", output_text(result, "job"));
	if (json_is_integer(seed))
		item->seed = json_integer_value(seed);
	item->taken_over = strcmp(output_text(result, "state"), "cancelled") == 0; /* by its key */
	b->flying[b->flying_count++] = item;
	batch_move(b, item, ITEM_SUBMITTED);
	return batch_ask(b, item, e);
}

/* The pictures of a job that is done to their places; all descriptors are taken in any case. 0,
 * -ERR_NOT_READY when one did not come, or -ERR_SYSTEM when it could not be written. */
static int
save_pictures(struct batch *b, const struct batch_item *item, const json_t *record, struct err *e)
{
	const json_t *pictures = output_at(record, "result.pictures");
	int status = (int)json_array_size(pictures) == item->count ? 0 : -ERR_NOT_READY;
	char path[PATH_MAX];
	size_t i;
	json_t *picture;

	json_array_foreach((json_t *)pictures, i, picture)
	{
		int fd = json_object_get(picture, "fd") != NULL ? client_next_fd(b->client) : -1;

		if (status == 0 && (fd < 0 || !batch_path(b, item, (int)i, path, sizeof(path))))
			status = -ERR_NOT_READY;
		if (status == 0)
			status = picture_save(fd, path, e);
		if (fd >= 0)
			close(fd);
	}
	return status;
}

static void
on_done(struct batch *b, struct batch_item *item, const json_t *record)
{
	struct err e;
	int status = save_pictures(b, item, record, &e);

	json_decref(item->error);
	item->error = NULL;
	if (status == 0) {
		batch_move(b, item, ITEM_DONE);
	} else if (status == -ERR_NOT_READY) {
		set_error(item, "expired_job", "zitd has removed the picture already");
		try_again(b, item);
	} else
		stop_for(b, err_row(status)->name, e.text); /* the job keeps it for the next run */
}

/* A final record, or the error of waiting for one. */
static void
on_ended(struct batch *b, struct batch_item *item, const json_t *answer)
{
	const json_t *record = json_object_get(answer, "result"), *error = json_object_get(answer, "error");
	const char *name = output_text(error, "data.name"), *message = output_text(error, "message");

	b->not_before_us = 0; /* its place is free */
	if (record != NULL && strcmp(output_text(record, "state"), "done") == 0) {
		on_done(b, item, record);
		return;
	}
	if (record != NULL) {
		name = output_text(record, "error.name");
		message = output_text(record, "error.message");
	}
	set_error(item, name, message);
	switch (meaning_of_end(item, name)) {
	case MEANS_LATER:
		hold_back(b, 0);
		if (record == NULL) /* zitd ends and keeps the job */
			b->flying[b->flying_count++] = item;
		else
			try_again(b, item);
		break;
	case MEANS_AGAIN:
		try_again(b, item);
		break;
	default:
		batch_move(b, item, ITEM_FAILED);
	}
}

enum client_end
batch_take_answer(struct batch *b, const json_t *line, struct err *e)
{
	json_int_t id = json_integer_value(json_object_get(line, "id"));

	if (b->submitting != NULL && b->submitting->request == id)
		return on_submitted(b, b->submitting, line, e);
	for (int i = 0; i < b->flying_count; i++) {
		struct batch_item *item = b->flying[i];

		if (item->request != id)
			continue;
		b->flying[i] = b->flying[--b->flying_count];
		on_ended(b, item, line);
		break;
	}
	return CLIENT_OK;
}
