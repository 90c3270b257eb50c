/*
 * The command top: the service, its runners and its jobs as they are, on a screen where keys treat what is
 * selected, or as plain lines where there is no screen. zitd is asked every second, on one connection; when
 * it goes away it is waited for.
 */
#include <stdio.h>
#include <string.h>

#include "ctl/call.h"
#include "ctl/output.h"
#include "ctl/screen.h"
#include "ctl/top_frame.h"
#include "ipc/clock.h"

enum { INTERVAL_US = 1000000, PATIENCE_US = 3000000, MAX_JOBS = 200 };

static const char keys[] = "q quit  c cancel  p priority  r retry/restart  up/down select";

struct top {
	struct ctl *ctl;
	struct client *client;			 /* NULL: zitd is away */
	json_t *status, *jobs;			 /* the newest answers */
	json_int_t status_id, jobs_id, order_id; /* of requests under way; 0: none */
	int64_t asked_us;			 /* when they were made */
	int64_t message_us;			 /* when the message was set */
	char message[240];			 /* what came of an order */
	char trouble[300];			 /* why zitd is away */

	char selected[80];		/* id of a job or name of a runner */
	int index;			/* where it is, or was */
	const struct key_row *question; /* that waits for its answer, or NULL */
	struct screen_frame frame;
};

/* ---- what is selected */

static int
runner_count(const struct top *t)
{
	return (int)json_array_size(json_object_get(t->status, "runners"));
}

static int
item_count(const struct top *t)
{
	return runner_count(t) + (int)json_array_size(t->jobs);
}

/* A runner, or a job; NULL: there are none. */
static const json_t *
item_at(const struct top *t, int index)
{
	int runners = runner_count(t);

	return index < runners ? json_array_get(json_object_get(t->status, "runners"), (size_t)index)
			       : json_array_get(t->jobs, (size_t)(index - runners));
}

static bool
is_runner(const json_t *item)
{
	return json_object_get(item, "job") == NULL || json_object_get(item, "generation") != NULL;
}

static const char *
name_of(const json_t *item)
{
	return output_text(item, is_runner(item) ? "name" : "job");
}

static void
select_index(struct top *t, int index)
{
	int count = item_count(t);

	t->index = index >= count ? count - 1 : index;
	t->index = t->index < 0 ? 0 : t->index;
	snprintf(t->selected, sizeof(t->selected), "%s", name_of(item_at(t, t->index)));
}

/* The lists are new: what is selected stays so, wherever it is now. */
static void
find_selected(struct top *t)
{
	for (int i = 0; i < item_count(t); i++) {
		if (strcmp(name_of(item_at(t, i)), t->selected) == 0) {
			t->index = i;
			return;
		}
	}
	if (t->question == NULL)
		select_index(t, t->index);
}

/* ---- orders */

static void
say(struct top *t, const char *text)
{
	snprintf(t->message, sizeof(t->message), "%s", text);
	t->message_us = clock_now_us();
}

static void
order(struct top *t, const char *method, json_t *params)
{
	struct err e;

	if (t->client == NULL || t->order_id != 0) {
		json_decref(params);
		say(t, t->client == NULL ? "zitd is away" : "zitd has not answered the last order yet");
		return;
	}
	if (client_send(t->client, method, params, &t->order_id, &e) != CLIENT_OK)
		say(t, e.text);
}

static void
order_job(struct top *t, const char *method)
{
	order(t, method, json_pack("{s:s}", "job", t->selected));
}

static void
set_class(struct top *t, const char *class)
{
	order(t, "priority", json_pack("{s:[s], s:s}", "job", t->selected, "priority", class));
}

/* ---- keys: which order each one is, of what, and the question before it */

/* Whether it is a job in one of the states of " a b ". */
static bool
is_in(const json_t *item, const char *states)
{
	char word[40];

	snprintf(word, sizeof(word), " %.30s ", output_text(item, "state"));
	return !is_runner(item) && strstr(states, word) != NULL;
}

static bool
waits(const json_t *item)
{
	return is_in(item, " queued held ");
}

static bool
has_ended(const json_t *item)
{
	static const char ends[] =
#define JOB_END(name, text, help) " " text
#include "ipc/states.def"
	    " ";

	return is_in(item, ends);
}

static bool
has_failed(const json_t *item)
{
	return has_ended(item) && !is_in(item, " done ");
}

static bool
can_cancel(const json_t *item)
{
	return !is_runner(item) && !has_ended(item);
}

static const struct key_row {
	int key;
	bool (*fits)(const json_t *item);
	const char *question; /* with %s for what is selected; NULL: it is done at once */
	const char *answers;
	const char *method;
} key_rows[] = {
    {'c', can_cancel, "cancel %s? y/n", "y", "cancel"},
    {'p', waits, "class of %s? h high, n normal, l low", "hnl", "priority"},
    {'r', has_failed, NULL, NULL, "retry"},
    {'r', is_runner, "restart runner %s? y/n", "y", "restart"},
};

static void
do_order(struct top *t, const struct key_row *row, int answer)
{
	if (strcmp(row->method, "priority") == 0)
		set_class(t, answer == 'h' ? "high" : answer == 'l' ? "low" : "normal");
	else if (strcmp(row->method, "restart") == 0)
		order(t, "restart", json_pack("{s:s}", "runner", t->selected));
	else
		order_job(t, row->method);
}

static void
answer_question(struct top *t, int key)
{
	const struct key_row *row = t->question;

	t->question = NULL;
	if (key < 256 && key > 0 && strchr(row->answers, key) != NULL)
		do_order(t, row, key);
	else
		say(t, "nothing was done");
}

static void
press(struct top *t, int key)
{
	const json_t *item = item_at(t, t->index);
	bool known = false;

	for (size_t i = 0; i < sizeof(key_rows) / sizeof(key_rows[0]) && item != NULL; i++) {
		if (key_rows[i].key != key)
			continue;
		known = true;
		if (!key_rows[i].fits(item))
			continue;
		if (key_rows[i].question != NULL)
			t->question = &key_rows[i];
		else
			do_order(t, &key_rows[i], key);
		return;
	}
	if (known)
		say(t, "c: a job that has not ended; p: one that waits; r: one that failed, or a runner");
}

/* false: that was enough. */
static bool
on_key(struct top *t, int key)
{
	if (t->question != NULL)
		answer_question(t, key);
	else if (key == 'q')
		return false;
	else if (key == KEY_UP || key == 'k')
		select_index(t, t->index - 1);
	else if (key == KEY_DOWN || key == 'j')
		select_index(t, t->index + 1);
	else
		press(t, key);
	return true;
}

/* ---- zitd */

static void
hang_up(struct top *t, const char *why)
{
	snprintf(t->trouble, sizeof(t->trouble), "%s", why);
	client_close(&t->client);
	t->status_id = t->jobs_id = t->order_id = 0;
}

/* Asks again, if the last answers have come. */
static void
ask(struct top *t)
{
	struct err e = {.text = "interrupted"};

	if (t->client == NULL && client_open(&t->client, t->ctl->socket, 0, &e) != CLIENT_OK)
		hang_up(t, e.text);
	if (t->client == NULL || t->status_id != 0 || t->jobs_id != 0)
		return;
	t->asked_us = clock_now_us();
	if (client_send(t->client, "status", NULL, &t->status_id, &e) != CLIENT_OK ||
	    client_send(t->client, "list", json_pack("{s:i}", "limit", MAX_JOBS), &t->jobs_id, &e) !=
		CLIENT_OK)
		hang_up(t, e.text);
}

static void
take_order_answer(struct top *t, const json_t *line)
{
	const json_t *result = json_object_get(line, "result");
	const json_t *first = json_array_get(json_object_get(result, "jobs"), 0);
	const json_t *record = first != NULL ? first : result;
	char text[200];

	t->order_id = 0;
	if (json_object_get(line, "error") != NULL)
		snprintf(text, sizeof(text), "%s", output_text(line, "error.message"));
	else if (json_object_get(record, "job") != NULL)
		snprintf(
		    text, sizeof(text), "%s is %s", output_text(record, "job"), output_text(record, "state"));
	else
		snprintf(text, sizeof(text), "done");
	say(t, text);
}

static void
take_answer(struct top *t, const json_t *line)
{
	json_int_t id = json_integer_value(json_object_get(line, "id"));
	json_t *result = json_object_get(line, "result");

	if (id == t->order_id && id != 0)
		take_order_answer(t, line);
	else if (id == t->status_id && result != NULL) {
		json_decref(t->status);
		t->status = json_incref(result);
		t->status_id = 0;
		t->trouble[0] = '\0';
	} else if (id == t->jobs_id && result != NULL) {
		json_decref(t->jobs);
		t->jobs = json_incref(json_object_get(result, "jobs"));
		t->jobs_id = 0;
	}
	find_selected(t);
}

/* All lines that have come. */
static void
listen(struct top *t)
{
	json_t *line = NULL;
	struct err e = {.text = "interrupted"};

	while (t->client != NULL) {
		if (client_receive(t->client, clock_now_us(), &line, &e) != CLIENT_OK)
			hang_up(t, e.text);
		else if (line == NULL)
			return;
		else
			take_answer(t, line);
		json_decref(line);
		line = NULL;
	}
}

/* ---- the screen */

static void
show(struct top *t)
{
	char bottom[300];
	bool late = t->client != NULL && t->status_id != 0 && clock_now_us() - t->asked_us > PATIENCE_US;
	struct top_view view = {.status = t->status, .jobs = t->jobs, .selected = t->index, .bottom = bottom};

	if (t->question != NULL)
		snprintf(bottom, sizeof(bottom), t->question->question, t->selected);
	else if (t->message[0] != '\0' && clock_now_us() - t->message_us < 4 * INTERVAL_US)
		snprintf(bottom, sizeof(bottom), "%s", t->message);
	else
		snprintf(bottom, sizeof(bottom), "%s", keys);
	view.trouble = t->trouble[0] != '\0' ? t->trouble
		       : late		     ? "zitd does not answer; this is what it said last"
					     : NULL;
	screen_begin(&t->frame);
	top_frame(&view, &t->frame);
	screen_show(&t->frame);
}

/* Until something happens, for a second at most; false: that was enough. */
static bool
turn(struct top *t, int64_t *next_us)
{
	int64_t now_us = clock_now_us();
	bool on = true;
	int key = 0;

	if (now_us >= *next_us) {
		ask(t);
		*next_us = now_us + INTERVAL_US;
	}
	show(t);
	switch (screen_wait(
	    t->client != NULL ? client_fd(t->client) : -1, (int)((*next_us - now_us + 999) / 1000), &key)) {
	case SCREEN_KEY:
		on = on_key(t, key);
		break;
	case SCREEN_READABLE:
		listen(t);
		break;
	case SCREEN_END:
		on = false;
		break;
	case SCREEN_TICK:
		break;
	}
	return on;
}

static int
run_screen(struct ctl *ctl)
{
	static struct top t; /* large, and there is one terminal */
	const int64_t begun_us = clock_now_us();
	int64_t next_us = 0;
	bool late = false;

	t = (struct top){.ctl = ctl};
	screen_enter();
	while (!late && turn(&t, &next_us))
		late = call_left_s(ctl, begun_us) < 0;
	screen_leave();
	client_close(&t.client);
	json_decref(t.status);
	json_decref(t.jobs);
	return late ? call_failed(CLIENT_TIMED_OUT, NULL) : CTL_OK;
}

int
command_top(struct ctl *ctl)
{
	bool for_people = ctl->format == FORMAT_TABLE || ctl->format == FORMAT_WIDE;

	return for_people && screen_is_possible() ? run_screen(ctl) : top_lines(ctl);
}
