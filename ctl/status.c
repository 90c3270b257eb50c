/*
 * The command status: one screen, and what to do next. Its exit codes are those of systemctl status: 0 when
 * pictures can be drawn, 3 when not, 4 when that cannot be told.
 */
#include <stdio.h>
#include <string.h>

#include "ctl/advice.h"
#include "ctl/call.h"
#include "ctl/output.h"
#include "ctl/tables.h"

/* A zitd that does not answer within that time has a state that cannot be told; --timeout sets another. */
#define PATIENCE_S 10

/* ---- zitd does not answer */

static json_t *
silent_state(enum client_end end, const struct err *e)
{
	bool is_away = end == CLIENT_ERROR && e->code == ERR_UNREACHABLE;
	bool is_barred = end == CLIENT_ERROR && e->code == ERR_NOT_PERMITTED;
	const char *text = end == CLIENT_ERROR	     ? e->text
			   : end == CLIENT_TIMED_OUT ? "zitd is there and does not answer"
						     : "interrupted";
	const char *action = is_away ? "'zitctl doctor' says why, and what to do"
			     : is_barred
				 ? "try again as a member of the socket's group, or as root"
				 : "look at its log with 'zitctl logs -n 50'; 'zitctl doctor' looks further";

	return json_pack("{s:s, s:s, s:[{s:s, s:s, s:s}]}", "state", is_away ? "not running" : "unknown",
	    "error", text, "advice", "level", "wrong", "what", text, "do", action);
}

/* ---- people */

static void
print_advice(const json_t *status)
{
	size_t i;
	json_t *advice;

	json_array_foreach(json_object_get(status, "advice"), i, advice)
	{
		if (json_object_get(status, "error") == NULL) /* else it has been said */
			printf("%s: %s\n", output_text(advice, "level"), output_text(advice, "what"));
		printf("next: %s\n", output_text(advice, "do"));
	}
	if (json_array_size(json_object_get(status, "advice")) == 0)
		printf("next: nothing needs to be done\n");
}

static void
print_queue(const json_t *status)
{
	const json_t *queue = json_object_get(status, "queue");
	const char *const names[] = {"high", "normal", "low", "held"};

	printf("queue:");
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		printf(
		    " %lld %s,", (long long)json_integer_value(json_object_get(queue, names[i])), names[i]);
	printf(" of %lld places%s\n", (long long)json_integer_value(json_object_get(queue, "max_size")),
	    json_is_true(json_object_get(queue, "low_gives_way")) ? "; low gives way" : "");
}

static void
print_last_error(const json_t *status)
{
	size_t i;
	json_t *runner;

	json_array_foreach(json_object_get(status, "runners"), i, runner)
	{
		if (json_object_get(runner, "last_error") != NULL)
			printf("last error: runner %s: %s\n", output_text(runner, "name"),
			    output_text(runner, "last_error"));
	}
}

static void
print_status(const struct ctl *ctl, const json_t *s)
{
	long uptime = (long)json_number_value(json_object_get(s, "uptime_s"));

	printf("zitd %s: %s, up %ld:%02ld:%02ld, process %lld, %lld jobs accepted, %lld done\n",
	    output_text(s, "version"), output_text(s, "state"), uptime / 3600, uptime / 60 % 60, uptime % 60,
	    (long long)json_integer_value(json_object_get(s, "pid")),
	    (long long)json_integer_value(output_at(s, "counters.accepted")),
	    (long long)json_integer_value(output_at(s, "counters.done")));
	print_queue(s);
	print_last_error(s);
	print_advice(s);
	putchar('\n');
	output_list(ctl, s, "runners", &tables_runner);
}

/* ---- the command */

/* The answer to `status` with advice, or what stands for it (new reference). */
static json_t *
look(const struct ctl *ctl)
{
	struct client *client = NULL;
	double patience_s = ctl->timeout_s > 0 ? ctl->timeout_s : PATIENCE_S;
	json_t *status = NULL;
	struct err e;
	enum client_end end = client_open(&client, ctl->socket, patience_s, &e);

	if (end == CLIENT_OK)
		end = client_call(client, "status", NULL, NULL, NULL, &status, &e);
	client_close(&client);
	if (end != CLIENT_OK)
		return silent_state(end, &e);
	json_object_set_new(status, "advice", advice_list(status));
	return status;
}

static int
exit_for(const json_t *status)
{
	static const struct {
		const char *state;
		int status;
	} rows[] = {
	    {"ready", CTL_OK},
	    {"degraded", CTL_OK},
	    {"unknown", CTL_UNKNOWN},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (strcmp(rows[i].state, output_text(status, "state")) == 0)
			return rows[i].status;
	}
	return CTL_NOT_READY;
}

int
command_status(struct ctl *ctl)
{
	json_t *status = look(ctl);
	int code = exit_for(status);

	if (!output_for_programs(ctl, status, "state")) {
		if (json_object_get(status, "error") == NULL)
			print_status(ctl, status);
		else {
			printf("zitd: %s: %s\n", output_text(status, "state"), output_text(status, "error"));
			print_advice(status);
		}
	}
	json_decref(status);
	return code;
}
