/*
 * The durable queue: reading, and forgetting.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/store/seal.h"
#include "supervisor/store/store_inside.h"

enum { RETAIN_AT_ONCE = 64 }; /* rows in one call: others wait for the disk thread */

static const char *
column(sqlite3_stmt *statement, int at)
{
	const char *text = (const char *)sqlite3_column_text(statement, at);

	return text != NULL ? text : "";
}

/* ---- rows */

/* Whether an index leads to the row by what its text says. */
static bool
agrees(sqlite3_stmt *statement, const struct store_row *row)
{
	return row->final && row->number == (uint64_t)sqlite3_column_int64(statement, 0) &&
	       strcmp(row->id, column(statement, 1)) == 0 && strcmp(row->key, column(statement, 2)) == 0;
}

/* The row where the statement stands, its text a copy; one that is damaged, or whose columns are not those of
 * its text, has body NULL. */
static void
take_final(sqlite3_stmt *statement, struct store_row *row)
{
	const char *body = column(statement, 9);
	size_t bytes = (size_t)sqlite3_column_bytes(statement, 9);
	struct store_row read;

	*row = (struct store_row){.final = true};
	row->number = (uint64_t)sqlite3_column_int64(statement, 0);
	snprintf(row->id, sizeof(row->id), "%s", column(statement, 1));
	row->pictures = sqlite3_column_int(statement, 7);
	if (!store_read_row(&read, body, bytes) || !agrees(statement, &read))
		return;
	*row = read;
	row->bytes = sqlite3_column_int64(statement, 6) > 0 ? read.bytes : 0;
	row->body = strdup(body);
}

/* ---- the start */

/* Doubles a list when it is full. false: no memory. */
static bool
make_place(void **list, int count, size_t size)
{
	void *larger;

	if ((count & (count - 1)) != 0) /* full at 0, 1, 2, 4, ... */
		return true;
	larger = realloc(*list, (size_t)(count > 0 ? 2 * count : 1) * size);
	if (larger != NULL)
		*list = larger;
	return larger != NULL;
}

static int
load_open(struct store *s, struct store_start *start)
{
	struct store_row row;
	const char *body;
	int status;

	while ((status = store_step(s, S_ALL_OPEN)) == 1) {
		body = column(s->statements[S_ALL_OPEN], 1);
		if (!store_read_row(&row, body, strlen(body)))
			continue; /* store_open has seen to it that there is none */
		row.body = strdup(body);
		if (row.body == NULL || !make_place((void **)&start->rows, start->row_count, sizeof(row))) {
			free(row.body);
			sqlite3_reset(s->statements[S_ALL_OPEN]);
			return ENOMEM;
		}
		start->rows[start->row_count++] = row;
	}
	return -status;
}

static int
load_notes(struct store *s, struct store_start *start)
{
	sqlite3_stmt *statement = s->statements[S_ALL_NOTES];
	struct store_note note;
	int status;

	while ((status = store_step(s, S_ALL_NOTES)) == 1) {
		note = (struct store_note){strdup(column(statement, 0)), strdup(column(statement, 1))};
		if (note.name == NULL || note.body == NULL ||
		    !make_place((void **)&start->notes, start->note_count, sizeof(note))) {
			free(note.name);
			free(note.body);
			sqlite3_reset(statement);
			return ENOMEM;
		}
		start->notes[start->note_count++] = note;
	}
	return -status;
}

/* Of a statement that gives one number. */
static int
read_number(struct store *s, enum statement which, int64_t *out)
{
	int status = store_step(s, which);

	if (status < 0)
		return -status;
	*out = sqlite3_column_int64(s->statements[which], 0);
	sqlite3_reset(s->statements[which]);
	return 0;
}

int
store_load(struct store *s, struct store_start *start)
{
	int64_t last_number = 0;
	int error = load_notes(s, start);

	if (error == 0)
		error = read_number(s, S_LAST_NUMBER, &last_number);
	if (error == 0)
		error = read_number(s, S_LAST_EVENT, &start->last_event);
	start->last_number = (uint64_t)last_number;
	return error != 0 ? error : load_open(s, start);
}

void
store_start_clear(struct store_start *start)
{
	for (int i = 0; i < start->row_count; i++)
		store_row_clear(&start->rows[i]);
	store_notes_free(start->notes, start->note_count);
	free(start->rows);
	*start = (struct store_start){0};
}

/* ---- looking up */

static bool
make_room(struct store_query *q, int rows)
{
	q->rows = calloc((size_t)rows + 1, sizeof(*q->rows));
	return q->rows != NULL;
}

static int
find_ids(struct store *s, struct store_query *q)
{
	int status = 0;

	if (!make_room(q, q->text_count))
		return ENOMEM;
	for (; q->count < q->text_count && status >= 0; q->count++) {
		sqlite3_bind_text(s->statements[S_BY_ID], 1, q->texts[q->count], -1, SQLITE_STATIC);
		status = store_step(s, S_BY_ID);
		if (status == 1)
			take_final(s->statements[S_BY_ID], &q->rows[q->count]);
		sqlite3_reset(s->statements[S_BY_ID]);
	}
	return status < 0 ? -status : 0;
}

/* All rows that a bound statement gives, at most `limit`. */
static int
take_rows(struct store *s, struct store_query *q, enum statement which, int limit)
{
	int status = 0;

	if (!make_room(q, limit))
		return ENOMEM;
	while (q->count < limit && (status = store_step(s, which)) == 1)
		take_final(s->statements[which], &q->rows[q->count++]);
	sqlite3_reset(s->statements[which]);
	return status < 0 ? -status : 0;
}

static int
find_keyed(struct store *s, struct store_query *q)
{
	sqlite3_bind_text(s->statements[S_BY_KEY], 1, q->texts[0], -1, SQLITE_STATIC);
	sqlite3_bind_int64(s->statements[S_BY_KEY], 2, q->since_us);
	return take_rows(s, q, S_BY_KEY, 1);
}

static int
find_page(struct store *s, struct store_query *q)
{
	enum statement which = q->wanted == STORE_DEAD ? S_DEAD : q->text_count > 0 ? S_ENDED_GROUP : S_ENDED;

	sqlite3_bind_int64(s->statements[which], 1, q->below > 0 ? (sqlite3_int64)q->below : INT64_MAX);
	sqlite3_bind_int(s->statements[which], 2, q->limit);
	if (which == S_ENDED_GROUP)
		sqlite3_bind_text(s->statements[which], 3, q->texts[0], -1, SQLITE_STATIC);
	return take_rows(s, q, which, q->limit);
}

static int
find_events(struct store *s, struct store_query *q)
{
	sqlite3_stmt *statement = s->statements[S_SINCE];
	int status = 0, error = read_number(s, S_FIRST_EVENT, &q->first_event);

	q->events = calloc((size_t)q->limit + 1, sizeof(*q->events));
	if (error != 0 || q->events == NULL)
		return error != 0 ? error : ENOMEM;
	sqlite3_bind_int64(statement, 1, q->after);
	sqlite3_bind_int(statement, 2, q->limit);
	while (q->count < q->limit && (status = store_step(s, S_SINCE)) == 1) {
		q->events[q->count].seq = sqlite3_column_int64(statement, 0);
		q->events[q->count++].body = strdup(column(statement, 1));
	}
	sqlite3_reset(statement);
	return status < 0 ? -status : 0;
}

int
store_find(struct store *s, struct store_query *q)
{
	static int (*const finders[STORE_WANTED_COUNT])(struct store *, struct store_query *) = {
	    [STORE_IDS] = find_ids,
	    [STORE_KEYED] = find_keyed,
	    [STORE_ENDED] = find_page,
	    [STORE_DEAD] = find_page,
	    [STORE_SINCE] = find_events,
	};

	q->count = 0;
	return s->db != NULL ? finders[q->wanted](s, q) : EIO;
}

void
store_query_forget(struct store_query *q)
{
	for (int i = 0; i < q->count; i++) {
		if (q->rows != NULL)
			store_row_clear(&q->rows[i]);
		if (q->events != NULL)
			free(q->events[i].body);
	}
	free(q->rows);
	free(q->events);
	q->rows = NULL;
	q->events = NULL;
	q->count = 0;
}

void
store_query_clear(struct store_query *q)
{
	store_query_forget(q);
	for (int i = 0; i < q->text_count; i++)
		free(q->texts[i]);
	free(q->texts);
	*q = (struct store_query){0};
}

/* ---- forgetting */

/* Counted once; the sum over all pictures costs time in proportion to them. */
static int
count_all(struct store *s)
{
	int error = 0;

	if (s->final_count < 0)
		error = read_number(s, S_COUNT_FINAL, &s->final_count);
	if (error == 0 && s->all_bytes < 0)
		error = read_number(s, S_ALL_BYTES, &s->all_bytes);
	return error;
}

/* The row that such a statement gives. 1: there is one, without its text; 0: there is none; or negative
 * errno. */
static int
next_row(struct store *s, enum statement which, struct store_row *row)
{
	int status = store_step(s, which);

	if (status != 1)
		return status;
	take_final(s->statements[which], row);
	sqlite3_reset(s->statements[which]);
	store_row_clear(row);
	return 1;
}

static int
remove_pictures(struct store *s, const struct store_retention *r, const struct store_row *row)
{
	int error;

	r->remove(r->arg, row->id, row->pictures);
	sqlite3_bind_int64(s->statements[S_NO_BYTES], 1, (sqlite3_int64)row->number);
	error = store_run(s, S_NO_BYTES);
	s->all_bytes -= row->bytes;
	return error;
}

static int
forget_row(struct store *s, const struct store_retention *r, const struct store_row *row)
{
	const struct store_row gone = {.number = row->number};

	if (row->bytes > 0)
		r->remove(r->arg, row->id, row->pictures);
	s->all_bytes -= row->bytes;
	return store_put_row(s, &gone);
}

/* The next thing to forget: pictures past their time, pictures over the budget, records over the limit.
 * 1: done one, 0: there is none, or negative errno. */
static int
forget_one(struct store *s, const struct store_retention *r)
{
	struct store_row row;
	int status, error;

	sqlite3_bind_int64(s->statements[S_NEXT_STALE], 1, r->now_us);
	status = next_row(s, S_NEXT_STALE, &row);
	if (status == 0 && r->max_bytes > 0 && s->all_bytes > r->max_bytes)
		status = next_row(s, S_NEXT_OLDEST, &row);
	if (status == 1)
		error = remove_pictures(s, r, &row);
	else if (status == 0 && s->final_count > r->history &&
		 (status = next_row(s, S_FIRST_FINAL, &row)) == 1)
		error = forget_row(s, r, &row);
	else
		return status;
	return error != 0 ? -error : 1;
}

int
store_retain(struct store *s, const struct store_retention *r, bool *more)
{
	int status = 1, error = s->db == NULL ? EIO : s->broken ? EUCLEAN : count_all(s);

	*more = false;
	if (error == 0)
		error = store_run(s, S_BEGIN);
	if (error != 0)
		return error;
	for (int i = 0; i < RETAIN_AT_ONCE && status == 1; i++)
		status = forget_one(s, r);
	error = status < 0 ? -status : store_run(s, S_COMMIT);
	if (error != 0) {
		store_run(s, S_ROLLBACK);
		s->final_count = s->all_bytes = -1;
	}
	*more = error == 0 && status == 1;
	return error;
}

bool
store_has_pictures(struct store *s, const char *id)
{
	int status;
	bool there;

	if (s->db == NULL)
		return true; /* not known: nothing is removed on a guess */
	sqlite3_bind_text(s->statements[S_BY_ID], 1, id, -1, SQLITE_STATIC);
	status = store_step(s, S_BY_ID);
	there = status < 0 || (status == 1 && sqlite3_column_int64(s->statements[S_BY_ID], 6) > 0);
	sqlite3_reset(s->statements[S_BY_ID]);
	return there;
}
