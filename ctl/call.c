/*
 * The step every command shares: open the socket, call one method, turn what went wrong into a line and an
 * exit code.
 */
#include "ctl/call.h"

#include <stdio.h>
#include <string.h>

#include "ctl/advice.h"
#include "ctl/output.h"
#include "ipc/clock.h"

struct client *
call_open(const struct ctl *ctl, int *status)
{
	struct client *client = NULL;
	struct err e;
	enum client_end end = client_open(&client, ctl->socket, ctl->timeout_s, &e);

	if (end != CLIENT_OK)
		*status = call_failed(end, &e);
	return client;
}

double
call_left_s(const struct ctl *ctl, int64_t begun_us)
{
	double passed_s = (double)(clock_now_us() - begun_us) * 1e-6;

	if (ctl->timeout_s <= 0)
		return 0;
	return ctl->timeout_s > passed_s ? ctl->timeout_s - passed_s : -1;
}

json_t *
call_once(const struct ctl *ctl, const char *method, json_t *params, int *status)
{
	struct client *client = call_open(ctl, status);
	json_t *result = NULL;
	struct err e;
	enum client_end end;

	if (client == NULL) {
		json_decref(params);
		return NULL;
	}
	end = client_call(client, method, params, NULL, NULL, &result, &e);
	client_close(&client);
	if (end != CLIENT_OK)
		*status = call_refused(ctl, end, &e);
	return result;
}

int
call_failed(enum client_end end, const struct err *e)
{
	switch (end) {
	case CLIENT_INTERRUPTED:
		fprintf(stderr, "zitctl: interrupted\n");
		return CTL_INTERRUPTED;
	case CLIENT_TIMED_OUT:
		fprintf(stderr, "zitctl: the time of --timeout is over\n");
		return CTL_TIMED_OUT;
	default:
		fprintf(stderr, "zitctl: %s: %s\n", err_row(e->code)->name, e->text);
		return err_row(e->code)->ctl_exit;
	}
}

/* Whether all runners are without their model. */
static bool
all_lack_weights(const json_t *status)
{
	const json_t *runners = json_object_get(status, "runners");
	size_t i;
	json_t *runner;

	json_array_foreach(runners, i, runner)
	{
		if (!advice_lacks_weights(runner))
			return false;
	}
	return json_array_size(runners) > 0;
}

/* Says what keeps the runners from serving; a connection of its own, and two seconds at most. */
static int
explain_no_runner(const struct ctl *ctl)
{
	struct client *client = NULL;
	json_t *status = NULL, *list, *advice;
	bool lack_weights;
	struct err e;
	size_t i;

	if (client_open(&client, ctl->socket, 2.0, &e) == CLIENT_OK)
		client_call(client, "status", NULL, NULL, NULL, &status, &e);
	client_close(&client);
	list = advice_list(status);
	json_array_foreach(list, i, advice)
	    fprintf(stderr, "zitctl: %s; %s\n", output_text(advice, "what"), output_text(advice, "do"));
	lack_weights = all_lack_weights(status);
	json_decref(list);
	json_decref(status);
	return lack_weights ? CTL_NO_WEIGHTS : CTL_NOT_READY;
}

int
call_refused(const struct ctl *ctl, enum client_end end, const struct err *e)
{
	int status = call_failed(end, e);

	return end == CLIENT_ERROR && e->code == ERR_NO_RUNNER ? explain_no_runner(ctl) : status;
}

int
call_outcome(const json_t *record)
{
	const char *name = output_text(record, "error.name");
	const struct err_row *row = err_row_by_name(name);

	if (strcmp(output_text(record, "state"), "done") == 0)
		return CTL_OK;
	fprintf(stderr, "zitctl: %s: %s: %s\n", output_text(record, "job"),
	    *name != '\0' ? name : output_text(record, "state"), output_text(record, "error.message"));
	return row != NULL ? row->ctl_exit : CTL_FAILED;
}
