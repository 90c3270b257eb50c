/*
 * The durable queue: writing to it. It is opened in store_open.c and read in store_find.c.
 */
#include "supervisor/store/store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "supervisor/store/store_inside.h"

void
store_batch_clear(struct store_batch *b)
{
	for (int i = 0; i < b->row_count; i++)
		store_row_clear(&b->rows[i]);
	for (int i = 0; i < b->event_count; i++)
		free(b->events[i].body);
	store_notes_free(b->notes, b->note_count);
	free(b->rows);
	free(b->events);
	*b = (struct store_batch){0};
}

static int
put_events(struct store *s, const struct store_batch *b)
{
	int error = 0;

	for (int i = 0; i < b->event_count && error == 0; i++) {
		sqlite3_bind_int64(s->statements[S_PUT_EVENT], 1, b->events[i].seq);
		sqlite3_bind_text(s->statements[S_PUT_EVENT], 2, b->events[i].body, -1, SQLITE_STATIC);
		error = store_run(s, S_PUT_EVENT);
		if (error != 0 || b->events[i].seq % (STORE_EVENTS / 16) != 0)
			continue;
		sqlite3_bind_int64(s->statements[S_TRIM_EVENTS], 1, b->events[i].seq - STORE_EVENTS);
		error = store_run(s, S_TRIM_EVENTS);
	}
	return error;
}

/* All of it, or of its rows the final ones alone. 0 or errno, and then nothing is written. */
static int
try_commit(struct store *s, const struct store_batch *b, bool finals_only)
{
	const int64_t open_before = s->open_count;
	int error = store_run(s, S_BEGIN);

	for (int i = 0; i < b->row_count && error == 0; i++) {
		if (!finals_only || b->rows[i].final || b->rows[i].body == NULL)
			error = store_put_row(s, &b->rows[i]);
	}
	if (error == 0 && s->open_count != open_before)
		error = store_note_open_count(s);
	if (error == 0 && !finals_only)
		error = put_events(s, b);
	for (int i = 0; i < b->note_count && error == 0 && !finals_only; i++)
		error = store_put_note(s, b->notes[i].name, b->notes[i].body);
	if (error == 0)
		error = store_run(s, S_COMMIT);
	if (error == 0)
		return 0;
	store_run(s, S_ROLLBACK); /* it may be over already, and says so */
	store_cut_log(s);
	s->open_count = open_before;
	s->final_count = s->all_bytes = -1;
	return error;
}

static bool
is_want_of_space(int error)
{
	return error == ENOSPC || error == EDQUOT;
}

/* The structure turned out to be broken: a new file is made of what is whole. 0 or errno. */
static int
salvage(struct store *s, struct store_report *report)
{
	char path[PATH_MAX];
	struct store_log log;
	struct err e;
	int status;

	snprintf(path, sizeof(path), "%s/" STORE_FILE, s->dir);
	store_log_read(&log, path);
	status = store_salvage(s->dir, &log, report, &e);
	store_log_clear(&log);
	return status != 0 ? report->error : 0;
}

/* Opens the file once more, a new one if it is broken. 0 or errno. */
static int
begin_anew(struct store *s, struct store_report *report)
{
	struct store *fresh;
	struct err e;
	int error;

	store_close_file(s);
	error = s->broken ? salvage(s, report) : 0;
	if (error != 0)
		return error;
	s->broken = false;
	if (store_open(&fresh, s->dir, report, &e) != 0)
		return report->error;
	*s = *fresh;
	sqlite3_wal_hook(s->db, store_on_logged, s);
	free(fresh);
	return 0;
}

int
store_commit(struct store *s, struct store_batch *b)
{
	int error = 0;

	b->finals_saved = false;
	b->report = (struct store_report){0};
	if (s->db != NULL && (error = store_is_in_place(s)) != 0)
		return error;
	if ((s->db == NULL || s->broken) && (error = begin_anew(s, &b->report)) != 0)
		return error;
	if (s->reserve_gone)
		error = store_make_reserve(s);
	if (error == 0)
		error = try_commit(s, b, false);
	if (error == EUCLEAN && (error = begin_anew(s, &b->report)) == 0)
		error = try_commit(s, b, false);
	if (is_want_of_space(error) && s->db != NULL) {
		store_release_reserve(s);
		b->finals_saved = try_commit(s, b, true) == 0;
	}
	return error;
}
