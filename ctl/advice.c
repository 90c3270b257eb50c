/*
 * What a zitd's status means for its operator: what is found, and what to do next. Two tables, of the service
 * and of its runners; the first row of a runner that fits is its advice.
 */
#include "ctl/advice.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/output.h"
#include "ipc/err.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* ---- runners */

static int
exit_of(const json_t *runner)
{
	return (int)json_integer_value(json_object_get(runner, "exit_status"));
}

bool
advice_lacks_weights(const json_t *runner)
{
	return exit_of(runner) == RUNNER_EXIT_WEIGHTS;
}

static bool
lacks_device(const json_t *runner)
{
	return exit_of(runner) == RUNNER_EXIT_NO_DEVICE;
}

static bool
is_misconfigured(const json_t *runner)
{
	return exit_of(runner) == RUNNER_EXIT_CONFIG || exit_of(runner) == RUNNER_EXIT_USAGE;
}

static bool
is_draining(const json_t *runner)
{
	return json_is_true(json_object_get(runner, "draining"));
}

/* In the texts % stands for the runner's name, @ for its model's directory. */
static const struct runner_row {
	const char *state; /* NULL: any */
	bool (*fits)(const json_t *runner);
	const char *level, *what, *action;
} runner_rows[] = {
    {"wedged", NULL, "wrong", "runner %: its process does not die, and its device is given up until it does",
	"look for the reason in 'journalctl -k -n 50'; if the process stays, restart the machine"},
    {"failed", advice_lacks_weights, "wrong", "runner %: the model's files in @ are missing or damaged",
	"put them there (or set 'model' in zitd.conf and 'zitctl reload'), then 'zitctl restart %'"},
    {"failed", lacks_device, "wrong", "runner %: there is no such device as it shall use",
	"cure it, or set 'device' in zitd.conf; then 'zitctl reload'"},
    {"failed", is_misconfigured, "wrong", "runner %: it was started with a wrong configuration",
	"'zitctl doctor' says where; then 'zitctl reload' and 'zitctl restart %'"},
    {"failed", NULL, "wrong", "runner %: it kept dying and is not started again for a while",
	"'zitctl logs --runner % -n 50' says why; then 'zitctl restart %'"},
    {"backoff", NULL, "note", "runner %: it died and is started again by itself",
	"wait; if it goes on, 'zitctl logs --runner % -n 50' says why"},
    {"spawning", NULL, "note", "runner %: it is being started", "wait"},
    {"loading", NULL, "note", "runner %: it loads its model", "wait"},
    {"warming", NULL, "note", "runner %: it warms up", "wait"},
    {"stopped", NULL, "note", "runner %: it is stopped", "'zitctl start %' starts it"},
    {NULL, is_draining, "note", "runner %: it gets no further jobs", "'zitctl resume %' gives it jobs again"},
};

/* The row's text with the runner's name and model in their places (new reference). */
static json_t *
filled_in(const char *text, const json_t *runner)
{
	char out[512];
	size_t used = 0;

	for (; *text != '\0' && used + 1 < sizeof(out); text++) {
		const char *value = *text == '%'   ? output_text(runner, "name")
				    : *text == '@' ? output_text(runner, "model_dir")
						   : NULL;
		int n = snprintf(out + used, sizeof(out) - used, value != NULL ? "%s" : "%.1s",
		    value != NULL ? value : text);
		used += n > 0 ? (size_t)n : 0;
	}
	return json_string(out);
}

static const struct runner_row *
row_of(const json_t *runner)
{
	for (size_t i = 0; i < COUNT(runner_rows); i++) {
		const struct runner_row *row = &runner_rows[i];
		bool in_state = row->state == NULL || strcmp(row->state, output_text(runner, "state")) == 0;
		if (in_state && (row->fits == NULL || row->fits(runner)))
			return row;
	}
	return NULL;
}

static void
advise_runners(const json_t *status, const char *level, json_t *list)
{
	size_t i;
	json_t *runner;

	json_array_foreach(json_object_get(status, "runners"), i, runner)
	{
		const struct runner_row *row = row_of(runner);
		if (row != NULL && strcmp(row->level, level) == 0)
			json_array_append_new(
			    list, json_pack("{s:s, s:o, s:o, s:s, s:O*}", "level", level, "what",
				      filled_in(row->what, runner), "do", filled_in(row->action, runner),
				      "runner", output_text(runner, "name"), "last_error",
				      json_object_get(runner, "last_error")));
	}
}

/* ---- the service */

static void
advise(json_t *list, const char *level, json_t *what, json_t *action)
{
	json_array_append_new(list, json_pack("{s:s, s:o, s:o}", "level", level, "what", what, "do", action));
}

static void
advise_store(const json_t *status, json_t *list)
{
	const char *dir = output_text(status, "paths.state_dir");

	if (json_object_get(status, "store_error") != NULL)
		advise(list, "wrong",
		    json_sprintf("the state directory %s takes no writes (%s), so new jobs are refused", dir,
			output_text(status, "store_error")),
		    json_sprintf(
			"make room or repair it ('df -h %s' shows it); zitd goes on by itself", dir));
}

/* Which CUDA devices there are: nobody told, or none can be used, or not all. */
static void
advise_devices(const json_t *status, json_t *list)
{
	const char *state = output_text(status, "devices.state"),
		   *reason = output_text(status, "devices.reason");
	size_t i;
	json_t *gpu;

	if (strcmp(state, "unknown") == 0)
		advise(list, "wrong",
		    json_sprintf("which CUDA devices there are is not known: zit-runner --probe: %s", reason),
		    json_string("run 'zit-runner-cuda --probe' and 'nvidia-smi' by hand; when they answer, "
				"'zitctl reload' asks again"));
	else if (strcmp(state, "known") == 0 && *reason != '\0')
		advise(list, "note", json_sprintf("no CUDA device can be used: %s", reason),
		    json_string("after the cure 'zitctl reload' asks again; 'device = cpu' in [runner] of "
				"zitd.conf if the CPU is meant"));
	json_array_foreach(output_at(status, "devices.found"), i, gpu)
	{
		if (*reason == '\0' && json_object_get(gpu, "reason") != NULL)
			advise(list, "note",
			    json_sprintf("CUDA device %s is not used: %s", output_text(gpu, "uuid"),
				output_text(gpu, "reason")),
			    json_string("nothing, unless it should be"));
	}
}

static void
advise_end(const json_t *status, json_t *list)
{
	if (strcmp(output_text(status, "state"), "draining") == 0)
		advise(list, "note", json_string("zitd finishes what runs and ends"),
		    json_string("wait, then 'systemctl start zitd'"));
}

static void
advise_queue(const json_t *status, json_t *list)
{
	json_int_t places = json_integer_value(output_at(status, "queue.max_size"));
	json_int_t waiting = json_integer_value(output_at(status, "queue.high")) +
			     json_integer_value(output_at(status, "queue.normal")) +
			     json_integer_value(output_at(status, "queue.low"));

	if (places > 0 && waiting >= places)
		advise(list, "note",
		    json_sprintf("all %lld places of the queue are taken", (long long)places),
		    json_string("wait, or raise 'max_size' in [queue] of zitd.conf and 'zitctl reload'"));
}

static void
advise_paused(const json_t *status, json_t *list)
{
	static const char *const kinds[][2] = {
	    {"queue.paused.classes", "class"}, {"queue.paused.clients", "client"}};
	size_t i;
	json_t *word;

	if (json_is_true(output_at(status, "queue.paused.all")))
		advise(list, "note", json_string("no jobs are started: everything is paused"),
		    json_string("'zitctl resume all' goes on"));
	for (size_t k = 0; k < COUNT(kinds); k++) {
		json_array_foreach(output_at(status, kinds[k][0]), i, word) advise(list, "note",
		    json_sprintf(
			"no jobs of %s %s are started: it is paused", kinds[k][1], json_string_value(word)),
		    json_sprintf("'zitctl resume %s:%s' goes on", kinds[k][1], json_string_value(word)));
	}
}

json_t *
advice_list(const json_t *status)
{
	json_t *list = json_array();

	advise_store(status, list);
	advise_runners(status, "wrong", list);
	advise_devices(status, list);
	advise_end(status, list);
	advise_paused(status, list);
	advise_runners(status, "note", list);
	advise_queue(status, list);
	return list;
}
