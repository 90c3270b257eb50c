/*
 * The command events: what becomes of jobs, a line each, until somebody has enough. When zitd goes away it is
 * waited for, and asked for what happened since.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "ctl/call.h"
#include "ctl/output.h"
#include "ipc/clock.h"

#define RETRY_S 0.5

static long long
number(const json_t *o, const char *name)
{
	return (long long)json_integer_value(json_object_get(o, name));
}

static void
print_line(const json_t *event)
{
	double at = json_number_value(json_object_get(event, "at"));
	const json_t *gap = json_object_get(event, "gap");
	time_t seconds = (time_t)at;
	char when[32] = "";
	struct tm local;

	if (gap != NULL) {
		printf("events %lld to %lld are not kept any more\n", number(gap, "from"), number(gap, "to"));
		return;
	}
	if (localtime_r(&seconds, &local) != NULL)
		strftime(when, sizeof(when), "%F %T", &local);
	printf("%lld %s.%03d %s %s %s %s%s%s\n", number(event, "seq"), when,
	    (int)((at - (double)seconds) * 1e3), output_text(event, "job"), output_text(event, "state"),
	    output_text(event, "priority"), output_text(event, "client"),
	    json_object_get(event, "error") != NULL ? " " : "", output_text(event, "error"));
}

static void
print_event(const struct ctl *ctl, const json_t *event)
{
	if (!output_for_programs(ctl, event, "job"))
		print_line(event);
	fflush(stdout);
}

/* Prints events until the connection ends; *after is the last one, for the next connection. */
static enum client_end
follow(const struct ctl *ctl, struct client *client, json_int_t *after, struct err *e)
{
	json_t *params = *after >= 0 ? json_pack("{s:I}", "seq", *after) : json_object(), *result = NULL,
	       *line;
	enum client_end end = client_call(client, "subscribe", params, NULL, NULL, &result, e);

	if (end == CLIENT_OK)
		*after = json_integer_value(json_object_get(result, "after"));
	json_decref(result);
	while (
	    end == CLIENT_OK && !ferror(stdout) && (end = client_receive(client, 0, &line, e)) == CLIENT_OK) {
		const json_t *event = json_object_get(line, "params"), *seq = json_object_get(event, "seq");
		if (event != NULL)
			print_event(ctl, event);
		if (seq != NULL)
			*after = json_integer_value(seq);
		json_decref(line);
	}
	return end;
}

/* The number after which they are wanted; -1: from now on; -2 after saying that it is none. */
static json_int_t
wanted_from(const struct ctl *ctl)
{
	char *end;
	long long seq = ctl->arg_count > 0 ? strtoll(ctl->args[0], &end, 10) : -1;

	if (ctl->arg_count == 0 || (*ctl->args[0] != '\0' && *end == '\0' && seq >= 0))
		return seq;
	fprintf(stderr, "zitctl: events wants the number of an event, not '%s'\n", ctl->args[0]);
	return -2;
}

int
command_events(struct ctl *ctl)
{
	const int64_t begun_us = clock_now_us();
	json_int_t after = wanted_from(ctl);
	enum client_end end;
	struct err e;
	int status = CTL_USAGE;

	if (after == -2)
		return status;
	if (ctl->format == FORMAT_JSON)
		ctl->format = FORMAT_JSONL; /* a line each in any case */
	client_catch_signals();
	for (bool first = true;; first = false) {
		struct client *client = NULL;
		const double open_s = call_left_s(ctl, begun_us);
		bool reached;

		if (open_s < 0)
			return call_failed(CLIENT_TIMED_OUT, &e);
		end = client_open(&client, ctl->socket, open_s, &e);
		reached = end == CLIENT_OK;
		if (reached)
			end = follow(ctl, client, &after, &e);
		client_close(&client);
		if (end == CLIENT_INTERRUPTED || ferror(stdout))
			return CTL_OK; /* that is how one has enough; or nobody reads it, which main says */
		if ((first && !reached) || end == CLIENT_TIMED_OUT || e.code != ERR_UNREACHABLE)
			return call_failed(end, &e);
		if (client_sleep(RETRY_S) == CLIENT_INTERRUPTED)
			return CTL_OK;
	}
}
