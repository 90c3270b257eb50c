/*
 * The commands that look at jobs and runners, and end jobs or begin them again: job, queue, runners, cancel,
 * retry, dead.
 */
#include <stdio.h>
#include <string.h>

#include "ctl/call.h"
#include "ctl/output.h"
#include "ctl/tables.h"

static const struct output_table retry_table = {"job", NULL,
    (const struct output_column[]){
	{"JOB", "job", 0}, {"STATE", "state", 0}, {"RETRY OF", "retry_of", 0}, {0}}};

static const struct output_table cancel_table = {
    "job", NULL, (const struct output_column[]){{"JOB", "job", 0}, {"STATE", "state", 0}, {0}}};

int
command_job(struct ctl *ctl)
{
	int status = CTL_INTERNAL;
	json_t *record = call_once(ctl, "get", json_pack("{s:s}", "job", ctl->args[0]), &status);

	if (record == NULL)
		return status;
	output_record(ctl, record, &tables_job);
	json_decref(record);
	return CTL_OK;
}

enum { PAGE = 1000 /* jobs that one answer has at most: `limit` in ipc/api.def */ };

int
command_queue(struct ctl *ctl)
{
	int status = CTL_INTERNAL;
	json_t *result = ctl->arg_count > 0
			     ? call_once(ctl, "list",
				   json_pack("{s:s, s:i}", "state", ctl->args[0], "limit", PAGE), &status)
			     : call_once(ctl, "queue", NULL, &status);

	if (result == NULL)
		return status;
	output_list(ctl, result, "jobs", &tables_queue);
	if (ctl->arg_count > 0 && json_array_size(json_object_get(result, "jobs")) == PAGE && !ctl->quiet)
		fprintf(stderr,
		    "zitctl: there may be more than these %d: with 'before' the method list goes on after "
		    "the "
		    "last one, see zit-api(7)\n",
		    PAGE);
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
	output_list(ctl, result, "runners", &tables_runner);
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
	output_done(ctl, result, "jobs", &cancel_table);
	json_decref(result);
	return CTL_OK;
}

/* ---- retry */

/* Queues the job of each id anew; *jobs gets the new ones' records. 0, or the first exit code that is not. */
static int
retry_each(struct ctl *ctl, struct client *client, json_t *jobs)
{
	int status = CTL_OK;

	for (int i = 0; i < ctl->arg_count; i++) {
		json_t *record = NULL;
		struct err e;
		enum client_end end = client_call(
		    client, "retry", json_pack("{s:s}", "job", ctl->args[i]), NULL, NULL, &record, &e);
		int code = end == CLIENT_OK ? CTL_OK : call_refused(ctl, end, &e);

		status = status == CTL_OK ? code : status;
		if (record != NULL)
			json_array_append_new(jobs, record);
		else if (end != CLIENT_ERROR || e.code == ERR_UNREACHABLE)
			break;
	}
	return status;
}

int
command_retry(struct ctl *ctl)
{
	int status = CTL_INTERNAL;
	struct client *client = call_open(ctl, &status);
	json_t *answer;

	if (client == NULL)
		return status;
	answer = json_pack("{s:[]}", "jobs");
	status = retry_each(ctl, client, json_object_get(answer, "jobs"));
	client_close(&client);
	output_list(ctl, answer, "jobs", &retry_table); /* the new ids, with -q too */
	json_decref(answer);
	return status;
}

/* ---- dead letters */

static const struct output_table dead_table = {"job", "There are no dead letters.",
    (const struct output_column[]){{"JOB", "job", 0}, {"ATTEMPTS", "attempts", 0}, {"SIGNAL", "signal", 0},
	{"EXIT", "exit_status", 0}, {"UID", "client.uid", 1}, {"LAST WORDS", "last_words", 0},
	{"PROMPT", "prompt", 0}, {0}}};

static int
list_dead(struct ctl *ctl)
{
	int status = CTL_INTERNAL;
	json_t *result = call_once(ctl, "dead", NULL, &status);

	if (result == NULL)
		return status;
	output_list(ctl, result, "jobs", &dead_table);
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
	if (!output_for_programs(ctl, record, "job") && !ctl->quiet)
		output_record(ctl, record, &tables_job);
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
