/*
 * zitctl top where there is no screen: plain lines.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "ctl/call.h"
#include "ctl/output.h"
#include "ctl/top_frame.h"
#include "ipc/clock.h"

#define INTERVAL_S 1

enum { LINE = 2048 };

static void
print_line(const struct ctl *ctl, const json_t *snapshot, char *last, size_t size)
{
	char text[LINE], when[16] = "";
	time_t now = time(NULL);
	struct tm local;
	size_t i;
	json_t *runner;

	if (output_for_programs(ctl, snapshot, "state"))
		return;
	snprintf(text, sizeof(text), "%s, %lld high, %lld normal, %lld low wait, %lld done",
	    output_text(snapshot, "state"), (long long)json_integer_value(output_at(snapshot, "queue.high")),
	    (long long)json_integer_value(output_at(snapshot, "queue.normal")),
	    (long long)json_integer_value(output_at(snapshot, "queue.low")),
	    (long long)json_integer_value(output_at(snapshot, "counters.done")));
	json_array_foreach(json_object_get(snapshot, "runners"), i, runner)
	{
		size_t used = strlen(text);
		snprintf(text + used, sizeof(text) - used, "; %s %s%s%s", output_text(runner, "name"),
		    output_text(runner, "state"), json_object_get(runner, "job") != NULL ? " " : "",
		    output_text(runner, "job"));
	}
	if (strcmp(text, last) == 0)
		return;
	snprintf(last, size, "%s", text);
	if (localtime_r(&now, &local) != NULL)
		strftime(when, sizeof(when), "%T ", &local);
	printf("%s%s\n", when, text);
}

static enum client_end
ask(const struct ctl *ctl, double patience_s, json_t **status, struct err *e)
{
	struct client *client = NULL;
	enum client_end end = client_open(&client, ctl->socket, patience_s, e);

	if (end == CLIENT_OK)
		end = client_call(client, "status", NULL, NULL, NULL, status, e);
	client_close(&client);
	return end;
}

/* A zitd that has been there and is away is waited for, and that is said once. */
static void
say_away(const struct err *e, char *last, size_t size)
{
	if (strcmp(last, "away") != 0)
		fprintf(stderr, "zitctl: %s\n", e->text);
	snprintf(last, size, "away");
}

int
top_lines(struct ctl *ctl)
{
	const int64_t begun_us = clock_now_us();
	char last[LINE] = "";
	double left_s = ctl->timeout_s;
	bool reached = false;

	if (ctl->format == FORMAT_JSON)
		ctl->format = FORMAT_JSONL; /* a line each in any case */
	do {
		json_t *status = NULL;
		struct err e = {.code = ERR_NONE};
		enum client_end end = ask(ctl, left_s, &status, &e);
		if (end == CLIENT_INTERRUPTED)
			break;
		if (end != CLIENT_OK && (!reached || !client_is_lost(end, &e)))
			return call_failed(end, &e);
		if (end == CLIENT_OK)
			print_line(ctl, status, last, sizeof(last));
		else
			say_away(&e, last, sizeof(last));
		reached |= end == CLIENT_OK;
		json_decref(status);
		if (fflush(stdout) != 0)
			break; /* main says it */
		left_s = call_left_s(ctl, begun_us);
		if (client_sleep(left_s > 0 && left_s < INTERVAL_S ? left_s : INTERVAL_S) != CLIENT_OK)
			break;
		left_s = call_left_s(ctl, begun_us);
	} while (left_s >= 0);
	return left_s < 0 ? call_failed(CLIENT_TIMED_OUT, NULL) : CTL_OK;
}
