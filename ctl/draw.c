/*
 * The commands that make pictures: generate, submit, wait.
 */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl/call.h"
#include "ctl/draw.h"
#include "ctl/output.h"
#include "ctl/picture.h"
#include "ctl/progress.h"

static void
print_warnings(const struct ctl *ctl, const json_t *record)
{
	size_t i;
	json_t *warning;

	if (ctl->quiet)
		return;
	json_array_foreach(json_object_get(record, "warnings"), i, warning) fprintf(
	    stderr, "zitctl: note: %s\n", json_string_value(warning) ? json_string_value(warning) : "?");
}

/* Saves every picture of a done job and puts the paths into its record. 0 or an exit code. */
static int
save_pictures(const struct ctl *ctl, struct client *client, json_t *record)
{
	json_t *pictures = json_object_get(json_object_get(record, "result"), "pictures");
	int count = (int)json_array_size(pictures);

	for (int i = 0; i < count; i++) {
		int fd = client_take_fd(client, i);
		char path[PATH_MAX];
		struct err e = {.code = ERR_SYSTEM,
		    .text = "the picture did not come with the answer, or its path is too long"};
		int status = -1;

		if (fd >= 0 &&
		    picture_place(ctl->save, output_text(record, "job"), i, count, path, sizeof(path)))
			status = picture_save(fd, path, &e);
		if (fd >= 0)
			close(fd);
		if (status != 0) {
			status = call_failed(
			    client_sleep(0) == CLIENT_INTERRUPTED ? CLIENT_INTERRUPTED : CLIENT_ERROR, &e);
			fprintf(stderr,
			    "zitctl: zitd still has it for a while: 'zitctl wait %s --save FILE'\n",
			    output_text(record, "job"));
			return status;
		}
		json_object_set_new(json_array_get(pictures, (size_t)i), "path", json_string(path));
		json_object_del(
		    json_array_get(pictures, (size_t)i), "fd"); /* how it came is nobody's business */
		if (i == 0)
			json_object_set_new(json_object_get(record, "result"), "path", json_string(path));
	}
	return CTL_OK;
}

static void
print_done(const struct ctl *ctl, const json_t *record)
{
	size_t i;
	json_t *picture;

	if (output_for_programs(ctl, record, "job"))
		return;
	json_array_foreach(output_at(record, "result.pictures"), i, picture)
	    puts(output_text(picture, "path"));
}

/* The picture has come or the job has ended otherwise: save, print, exit code. */
static int
finish(const struct ctl *ctl, struct client *client, json_t *record, bool save)
{
	int status = call_outcome(record);

	print_warnings(ctl, record);
	if (status == CTL_OK && save)
		status = save_pictures(ctl, client, record);
	if (save && picture_goes_out(ctl->save))
		return status;
	if (status == CTL_OK || ctl->format == FORMAT_JSON || ctl->format == FORMAT_JSONL)
		print_done(ctl, record);
	return status;
}

/* ^C or --timeout while a job of ours runs: it is cancelled on a connection of its own, in at most two
 * seconds. */
static void
cancel_quietly(const struct ctl *ctl, const char *job)
{
	struct client *client = NULL;
	json_t *result = NULL;
	struct err e;

	client_forget_signal();
	if (*job == '\0')
		return; /* zitd cancels it when it sees the connection close */
	if (client_open(&client, ctl->socket, 2.0, &e) != CLIENT_OK ||
	    client_call(client, "cancel", json_pack("{s:s}", "job", job), NULL, NULL, &result, &e) !=
		CLIENT_OK)
		fprintf(stderr,
		    "zitctl: %s could not be cancelled; 'zitctl cancel %s' does it when zitd is back\n", job,
		    job);
	json_decref(result);
	client_close(&client);
}

/* ---- one call, over as many connections as it takes */

struct draw {
	const struct ctl *ctl;
	int flags;
	bool keeps; /* somebody said that a job of ours is to go on without us */
	struct progress progress;
	bool put_off; /* zitd has ended under it once */
};

/* What any request for a final record says of how the answer is to come. */
static json_t *
add_wishes(const struct draw *d, json_t *params)
{
	/* The first event tells the id, which ^C needs, and who comes back for the job. */
	if (d->progress.mode != PROGRESS_NONE || (d->flags & DRAW_OWN) != 0)
		json_object_set_new(params, "events", json_true());
	if ((d->flags & DRAW_PICTURES) != 0)
		json_object_set_new(params, "deliver", json_string("fd"));
	return params;
}

/* Whether zitd went away under a job that can be asked for when it is back: all of ours are durable. */
static bool
is_put_off(const struct draw *d, enum client_end end, const struct err *e)
{
	return d->progress.job[0] != '\0' &&
	       (client_is_lost(end, e) || (end == CLIENT_ERROR && e->code == ERR_DRAINING));
}

static void
say_put_off(struct draw *d, const struct err *e)
{
	progress_end(&d->progress);
	d->put_off = true;
	if (!d->ctl->quiet)
		fprintf(stderr,
		    "zitctl: zitd %s before %s is done; waiting for the next one to go on with it\n",
		    e->code == ERR_DRAINING ? "stops" : "ended", d->progress.job);
}

/* Waits for the next zitd, and there for the job. */
static enum client_end
wait_again(struct draw *d, struct client **client, json_t **record, struct err *e)
{
	enum client_end end = e->code == ERR_DRAINING ? client_await_end(*client, e) : CLIENT_OK;

	if (end == CLIENT_OK)
		end = client_reopen(client, d->ctl->socket, e);
	if (end == CLIENT_OK)
		end = client_call(*client, "wait", add_wishes(d, json_pack("{s:s}", "job", d->progress.job)),
		    progress_event, &d->progress, record, e);
	return end;
}

/* ^C or --timeout: what becomes of a job of ours. */
static void
leave(const struct draw *d)
{
	const char *job = d->progress.job;

	if (!d->keeps)
		cancel_quietly(d->ctl, job);
	else if (*job == '\0')
		fprintf(stderr, "zitctl: the job goes on if zitd has it, as 'zitctl queue all' says\n");
	else
		fprintf(stderr, "zitctl: %s goes on: 'zitctl wait %s --save FILE'\n", job, job);
}

/* Why there is no record, and what that means for the job. */
static int
explain(const struct draw *d, enum client_end end, const struct err *e)
{
	const char *job = d->progress.job;
	int status = call_refused(d->ctl, end, e);

	if (client_is_lost(end, e) && *job != '\0')
		fprintf(stderr, "zitctl: 'zitctl wait %s' asks for the job when zitd is back\n", job);
	else if (client_is_lost(end, e))
		fprintf(stderr,
		    "zitctl: whether it took the job before, 'zitctl queue all' says when it is back\n");
	else if (end == CLIENT_ERROR && e->code == ERR_UNKNOWN_JOB && d->put_off)
		fprintf(stderr,
		    "zitctl: the job was with the zitd that ended, and not durable; submit it again\n");
	else if ((d->flags & DRAW_OWN) != 0 && end != CLIENT_ERROR)
		leave(d);
	return status;
}

json_t *
draw_call(
    const struct ctl *ctl, struct client **client, const char *method, json_t *params, int flags, int *status)
{
	struct draw d = {
	    .ctl = ctl, .flags = flags, .keeps = strcmp(output_text(params, "on_disconnect"), "keep") == 0};
	json_t *record = NULL;
	struct err e;
	enum client_end end;

	*client = call_open(ctl, status);
	if (*client == NULL) {
		json_decref(params);
		return NULL;
	}
	progress_init(&d.progress, ctl);
	snprintf(d.progress.job, sizeof(d.progress.job), "%s", output_text(params, "job"));
	add_wishes(&d, params);
	end = client_call(*client, method, params, progress_event, &d.progress, &record, &e);
	while (*client != NULL && is_put_off(&d, end, &e)) {
		say_put_off(&d, &e);
		end = wait_again(&d, client, &record, &e);
	}
	progress_end(&d.progress);
	if (end != CLIENT_OK)
		*status = explain(&d, end, &e);
	return record;
}

static int
call_and_finish(const struct ctl *ctl, const char *method, json_t *params, int flags)
{
	int status = CTL_INTERNAL;
	struct client *client;
	json_t *record = draw_call(ctl, &client, method, params, flags, &status);

	if (record != NULL)
		status = finish(ctl, client, record, (flags & DRAW_PICTURES) != 0);
	json_decref(record);
	client_close(&client);
	return status;
}

static json_t *
submit_params(const struct ctl *ctl)
{
	json_t *params = json_copy(ctl->params);

	json_object_set_new(params, "prompt", json_string(ctl->args[0]));
	if (ctl->group != NULL)
		json_object_set_new(params, "group", json_string(ctl->group));
	return params;
}

int
command_generate(struct ctl *ctl)
{
	json_t *params = submit_params(ctl);

	json_object_set_new(params, "wait", json_true());
	return call_and_finish(ctl, "submit", params, DRAW_OWN | DRAW_PICTURES);
}

int
command_submit(struct ctl *ctl)
{
	int status = CTL_INTERNAL;
	json_t *result = call_once(ctl, "submit", submit_params(ctl), &status);

	if (result == NULL)
		return status;
	print_warnings(ctl, result);
	if (!output_for_programs(ctl, result, "job"))
		puts(output_text(result, "job"));
	json_decref(result);
	return CTL_OK;
}

int
command_wait(struct ctl *ctl)
{
	return call_and_finish(
	    ctl, "wait", json_pack("{s:s}", "job", ctl->args[0]), ctl->save != NULL ? DRAW_PICTURES : 0);
}
