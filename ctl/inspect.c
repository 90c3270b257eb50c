/*
 * The commands that look at jobs and at the service, and treat jobs: job, queue, cancel, dead, status,
 * runners.
 */
#include <stdio.h>
#include <string.h>

#include "ctl/call.h"
#include "ctl/output.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const struct output_column job_columns[] = {
    {"job", "job", 0},
    {"state", "state", 0},
    {"position", "position", 0},
    {"done in s", "eta_s", 0},
    {"at most s", "eta_p95_s", 0},
    {"held back", "held_back", 0},
    {"stage", "progress.stage", 0},
    {"step", "progress.step", 0},
    {"error", "error.name", 0},
    {"message", "error.message", 0},
    {"last words", "last_words", 0},
    {"log", "log_tail", 1},
    {"group", "group", 0},
    {"retry of", "retry_of", 0},
    {"retried as", "retried_as", 0},
    {"resumed", "resumed", 0},
    {"prompt", "prompt", 0},
    {"width", "width", 0},
    {"height", "height", 0},
    {"steps", "steps", 0},
    {"seed", "seed", 0},
    {"pictures", "n", 0},
    {"priority", "priority", 0},
    {"attempts", "attempts", 0},
    {"queued s", "queued_s", 0},
    {"run s", "run_s", 0},
    {"text s", "text_s", 1},
    {"denoise s", "denoise_s", 1},
    {"decode s", "decode_s", 1},
    {"png s", "png_s", 1},
    {"uid", "client.uid", 1},
    {"pid", "client.pid", 1},
    {"path", "result.path", 0},
};

static const struct output_column queue_columns[] = {
    {"POS", "position", 0},
    {"JOB", "job", 0},
    {"STATE", "state", 0},
    {"CLASS", "priority", 0},
    {"CLIENT", "client.name", 0},
    {"DONE IN S", "eta_s", 0},
    {"AT MOST S", "eta_p95_s", 0},
    {"HELD BACK", "held_back", 1},
    {"STEP", "progress.step", 0},
    {"UID", "client.uid", 1},
    {"WIDTH", "width", 1},
    {"HEIGHT", "height", 1},
    {"STEPS", "steps", 1},
    {"PROMPT", "prompt", 0},
};

static const struct output_column runner_columns[] = {
    {"RUNNER", "name", 0},
    {"STATE", "state", 0},
    {"PID", "pid", 0},
    {"GEN", "generation", 0},
    {"DEATHS", "deaths", 0},
    {"DEVICE", "device", 0},
    {"MODEL", "model", 1},
    {"JOB", "job", 0},
    {"LAST ERROR", "last_error", 0},
};

static const struct output_column cancel_columns[] = {{"JOB", "job", 0}, {"STATE", "state", 0}};

int
command_job(struct ctl *ctl)
{
	int status = CTL_INTERNAL;
	json_t *record = call_once(ctl, "get", json_pack("{s:s}", "job", ctl->args[0]), &status);

	if (record == NULL)
		return status;
	output_record(ctl, record, job_columns, COUNT(job_columns), "job");
	json_decref(record);
	return CTL_OK;
}

/* `result` is the list itself or an object that holds it as `member`. */
static const json_t *
list_in(const json_t *result, const char *member)
{
	return json_is_array(result) ? result : json_object_get(result, member);
}

int
command_queue(struct ctl *ctl)
{
	int status = CTL_INTERNAL;
	json_t *result = call_once(ctl, "queue", NULL, &status);

	if (result == NULL)
		return status;
	output_list(
	    ctl, list_in(result, "jobs"), queue_columns, COUNT(queue_columns), "job", "The queue is empty.");
	json_decref(result);
	return CTL_OK;
}

int
command_runners(struct ctl *ctl)
{
	int status = CTL_INTERNAL;
	json_t *result = call_once(ctl, "runners", NULL, &status);

	if (result == NULL)
		return status;
	output_list(ctl, list_in(result, "runners"), runner_columns, COUNT(runner_columns), "name",
	    "There are no runners.");
	json_decref(result);
	return CTL_OK;
}

int
command_cancel(struct ctl *ctl)
{
	json_t *ids = json_array(), *result, *params;
	int status = CTL_INTERNAL;

	if ((ctl->arg_count > 0) == (ctl->group != NULL)) {
		fprintf(stderr, "zitctl: cancel wants either jobs or --group NAME, and one of them only\n");
		json_decref(ids);
		return CTL_USAGE;
	}
	for (int i = 0; i < ctl->arg_count; i++)
		json_array_append_new(ids, json_string(ctl->args[i]));
	params =
	    ctl->group != NULL ? json_pack("{s:s}", "group", ctl->group) : json_pack("{s:O}", "job", ids);
	json_decref(ids);
	result = call_once(ctl, "cancel", params, &status);
	if (result == NULL)
		return status;
	if (!ctl->quiet)
		output_list(ctl, list_in(result, "jobs"), cancel_columns, COUNT(cancel_columns), "job", "");
	json_decref(result);
	return CTL_OK;
}

/* ---- dead letters */

static const struct output_column dead_columns[] = {
    {"JOB", "job", 0},
    {"ATTEMPTS", "attempts", 0},
    {"SIGNAL", "signal", 0},
    {"EXIT", "exit_status", 0},
    {"UID", "client.uid", 1},
    {"LAST WORDS", "last_words", 0},
    {"PROMPT", "prompt", 0},
};

static int
list_dead(struct ctl *ctl)
{
	int status = CTL_INTERNAL;
	json_t *result = call_once(ctl, "dead", NULL, &status);

	if (result == NULL)
		return status;
	output_list(ctl, list_in(result, "jobs"), dead_columns, COUNT(dead_columns), "job",
	    "There are no dead letters.");
	json_decref(result);
	return CTL_OK;
}

/* retry or drop, which take one and answer with a job's record. */
static int
treat_dead(struct ctl *ctl, const char *method)
{
	int status = CTL_INTERNAL;
	json_t *record = call_once(ctl, method, json_pack("{s:s}", "job", ctl->args[1]), &status);

	if (record == NULL)
		return status;
	if (!ctl->quiet)
		output_record(ctl, record, job_columns, COUNT(job_columns), "job");
	json_decref(record);
	return CTL_OK;
}

int
command_dead(struct ctl *ctl)
{
	const char *what = ctl->arg_count > 0 ? ctl->args[0] : "list";

	if (strcmp(what, "list") == 0 && ctl->arg_count <= 1)
		return list_dead(ctl);
	if ((strcmp(what, "retry") == 0 || strcmp(what, "drop") == 0) && ctl->arg_count == 2)
		return treat_dead(ctl, what);
	fprintf(stderr, "zitctl: 'dead' takes list, retry JOB, or drop JOB\n");
	return CTL_USAGE;
}

/* ---- status: one screen */

static void
print_words(const char *what, const json_t *list)
{
	size_t i;
	json_t *word;

	json_array_foreach(list, i, word)
	    printf("paused: %s%s\n", what, json_string_value(word) ? json_string_value(word) : "?");
}

static void
print_paused(const json_t *paused)
{
	if (json_is_true(json_object_get(paused, "all")))
		printf("paused: everything\n");
	print_words("class ", json_object_get(paused, "classes"));
	print_words("client ", json_object_get(paused, "clients"));
}

static void
print_status(const struct ctl *ctl, const json_t *s)
{
	const json_t *queue = json_object_get(s, "queue");
	int uptime = (int)json_number_value(json_object_get(s, "uptime_s"));

	printf("zitd %s: %s, up %d:%02d:%02d\n", output_text(s, "version"), output_text(s, "state"),
	    uptime / 3600, uptime / 60 % 60, uptime % 60);
	printf("queue: %lld high, %lld normal, %lld low, %lld held, of %lld places%s\n",
	    (long long)json_integer_value(json_object_get(queue, "high")),
	    (long long)json_integer_value(json_object_get(queue, "normal")),
	    (long long)json_integer_value(json_object_get(queue, "low")),
	    (long long)json_integer_value(json_object_get(queue, "held")),
	    (long long)json_integer_value(json_object_get(queue, "max_size")),
	    json_is_true(json_object_get(queue, "low_gives_way")) ? "; low gives way" : "");
	print_paused(json_object_get(queue, "paused"));
	if (json_object_get(s, "store_error") != NULL)
		printf("disk: the state directory takes no writes (%s); no new jobs until it does\n",
		    output_text(s, "store_error"));
	putchar('\n');
	output_list(ctl, json_object_get(s, "runners"), runner_columns, COUNT(runner_columns), "name",
	    "There are no runners.");
}

int
command_status(struct ctl *ctl)
{
	int status = CTL_INTERNAL;
	json_t *s = call_once(ctl, "status", NULL, &status);
	bool ready;

	if (s == NULL) /* as systemctl status: 3 is "not running" */
		return status == err_row(ERR_UNREACHABLE)->ctl_exit ? CTL_NOT_READY : status;
	ready =
	    strcmp(output_text(s, "state"), "ready") == 0 || strcmp(output_text(s, "state"), "degraded") == 0;
	if (ctl->format == FORMAT_JSON || ctl->format == FORMAT_JSONL)
		output_json(ctl, s);
	else if (ctl->format == FORMAT_NAME)
		puts(output_text(s, "state"));
	else
		print_status(ctl, s);
	json_decref(s);
	return ready ? CTL_OK : CTL_NOT_READY;
}
