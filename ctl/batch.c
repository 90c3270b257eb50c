/*
 * zitctl batch: a picture for each line of a file. Items are submitted without waiting and waited for by
 * their ids, several at a time over one connection, so that neither its end nor zitd's is an item's end: it
 * is opened again, and what zitd has forgotten meanwhile is submitted again.
 */
#include "ctl/batch.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "ctl/call.h"
#include "ctl/output.h"
#include "ipc/clock.h"

enum { LAST_CALL_S = 2 /* for cancelling the rest */ };

/* ---- the run */

static struct batch_item *
next_item(struct batch *b)
{
	while (b->first < b->count && b->items[b->first].state != ITEM_TODO)
		b->first++;
	return b->first < b->count ? &b->items[b->first] : NULL;
}

/* Submits the next item if there is one and it may be; then *until_us is when the next one may, or 0. */
static enum client_end
submit_next(struct batch *b, int64_t *until_us, struct err *e)
{
	int limit = b->ctl->jobs > 0 ? b->ctl->jobs : CTL_MAX_JOBS;
	struct batch_item *item = next_item(b);
	enum client_end end;

	*until_us = 0;
	if (item == NULL || b->submitting != NULL || b->flying_count >= limit)
		return CLIENT_OK;
	if (clock_now_us() < b->not_before_us) {
		*until_us = b->not_before_us;
		return CLIENT_OK;
	}
	end = client_send(b->client, "submit", batch_submit_params(b, item), &item->request, e);
	if (end == CLIENT_OK)
		b->submitting = item;
	return end;
}

static enum client_end
turn(struct batch *b, struct err *e)
{
	int64_t until_us;
	json_t *line;
	enum client_end end = submit_next(b, &until_us, e);

	if (end == CLIENT_OK)
		end = client_receive(b->client, until_us, &line, e);
	if (end != CLIENT_OK || line == NULL)
		return end;
	end = batch_take_answer(b, line, e);
	json_decref(line);
	return end;
}

/* Asks over a new connection for all that was asked for over the last one. */
static enum client_end
ask_again(struct batch *b, struct err *e)
{
	enum client_end end = CLIENT_OK;

	b->submitting = NULL;
	for (int i = 0; i < b->flying_count && end == CLIENT_OK; i++)
		end = batch_ask(b, b->flying[i], e);
	return end;
}

/* The connection broke. */
static enum client_end
go_on(struct batch *b, struct err *e)
{
	enum client_end end;

	batch_say(b, "the connection to zitd broke; waiting for it");
	end = client_reopen(&b->client, b->ctl->socket, e);
	return end == CLIENT_OK ? ask_again(b, e) : end;
}

static bool
is_over(const struct batch *b)
{
	return b->stop != 0 || b->tally[ITEM_DONE] + b->tally[ITEM_FAILED] == b->count;
}

/* Over as many connections as it takes; without one zitd was away for too long. */
static enum client_end
run(struct batch *b, struct err *e)
{
	enum client_end end = client_open(&b->client, b->ctl->socket, b->ctl->timeout_s, e);

	if (end == CLIENT_OK)
		end = ask_again(b, e);
	while (b->client != NULL && (end == CLIENT_OK ? !is_over(b) : client_is_lost(end, e)))
		end = end == CLIENT_OK ? turn(b, e) : go_on(b, e);
	return end;
}

/* ---- ending it early */

static void
note_cancelled(struct batch *b, const json_t *record)
{
	for (int i = 0; i < b->flying_count; i++) {
		if (strcmp(b->flying[i]->job, output_text(record, "job")) == 0 &&
		    strcmp(output_text(record, "state"), "cancelled") == 0)
			batch_move(b, b->flying[i], ITEM_CANCELLED);
	}
}

/* ^C or --timeout: what has not ended is cancelled by its group, for a submit may not have been answered. */
static void
cancel_rest(struct batch *b)
{
	json_t *result = NULL, *record;
	struct client *client = NULL;
	struct err e = {0};
	size_t i;

	client_forget_signal();
	if (client_open(&client, b->ctl->socket, LAST_CALL_S, &e) != CLIENT_OK ||
	    client_call(client, "cancel", json_pack("{s:s}", "group", b->group), NULL, NULL, &result, &e) !=
		CLIENT_OK) {
		if (e.code != ERR_UNKNOWN_GROUP)
			batch_say(b, "the rest could not be cancelled; 'zitctl cancel --group %s' does it",
			    b->group);
	} else {
		json_array_foreach(json_object_get(result, "jobs"), i, record) note_cancelled(b, record);
		batch_say(b, "%d jobs were cancelled", (int)json_array_size(json_object_get(result, "jobs")));
	}
	json_decref(result);
	client_close(&client);
}

/* ---- beginning it */

static void
make_group(struct batch *b)
{
	uint64_t number = (uint64_t)clock_wall_us();

	if (getrandom(&number, sizeof(number), 0) < 0)
		errno = 0; /* the time of day will do */
	if (b->ctl->group != NULL)
		snprintf(b->group, sizeof(b->group), "%s", b->ctl->group);
	else
		snprintf(b->group, sizeof(b->group), "batch-%016llx", (unsigned long long)number);
}

/* What the record says was with zitd is waited for first. No run leaves more of it than flying takes. */
static void
take_stock(struct batch *b)
{
	for (int i = 0; i < b->count; i++) {
		struct batch_item *item = &b->items[i];

		item->taken_over = item->state == ITEM_SUBMITTED;
		if (item->state == ITEM_SUBMITTED && b->flying_count < CTL_MAX_JOBS)
			b->flying[b->flying_count++] = item;
		else if (item->state == ITEM_SUBMITTED)
			item->state = ITEM_TODO;
		b->tally[item->state]++;
	}
}

static int
work(struct batch *b)
{
	struct err e = {0};
	enum client_end end;

	take_stock(b);
	batch_progress_init(b);
	end = b->tally[ITEM_DONE] < b->count ? run(b, &e) : CLIENT_OK;
	client_close(&b->client);
	if (end == CLIENT_INTERRUPTED || end == CLIENT_TIMED_OUT)
		cancel_rest(b);
	batch_summary(b);
	if (end != CLIENT_OK)
		return call_failed(end, &e);
	if (b->stop != 0)
		return b->stop;
	return b->tally[ITEM_FAILED] > 0 ? CTL_FAILED : CTL_OK;
}

int
command_batch(struct ctl *ctl)
{
	struct batch b = {.ctl = ctl, .file = ctl->args[0], .dir = ctl->out, .dir_fd = -1};
	int status;

	if (ctl->out == NULL) {
		fprintf(stderr, "zitctl: batch wants --out DIR, where the pictures go\n");
		return CTL_USAGE;
	}
	make_group(&b);
	status = batch_read(&b);
	if (status == 0)
		status = book_open(&b);
	if (status == 0)
		status = work(&b);
	book_close(&b);
	batch_clear_items(&b);
	return status;
}
