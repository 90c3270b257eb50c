/*
 * The durable queue: writing to it. It is opened in store_open.c and read in store_find.c.
 */
#include "supervisor/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor/store/seal.h"
#include "supervisor/store/store_inside.h"

enum {
	RESERVE_BYTES = 256 * 1024, /* room for a few hundred final records */
};

#define RESERVE_FILE "queue.reserve"

void
store_row_clear(struct store_row *row)
{
	free(row->body);
	row->body = NULL;
}

void
store_notes_free(struct store_note *notes, int count)
{
	for (int i = 0; i < count; i++) {
		free(notes[i].name);
		free(notes[i].body);
	}
	free(notes);
}

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

/* ---- what SQLite says */

int
store_errno(sqlite3 *db, int status)
{
	int number = db != NULL ? sqlite3_system_errno(db) : 0;

	switch (status & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return 0;
	case SQLITE_FULL:
		return ENOSPC;
	case SQLITE_READONLY:
		return EROFS;
	case SQLITE_NOMEM:
		return ENOMEM;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return EUCLEAN;
	default:
		return number != 0 ? number : EIO;
	}
}

int
store_step(struct store *s, enum statement which)
{
	int status = sqlite3_step(s->statements[which]), error;

	if (status == SQLITE_ROW)
		return 1;
	error = store_errno(s->db, status);
	sqlite3_reset(s->statements[which]);
	sqlite3_clear_bindings(s->statements[which]);
	return -error;
}

int
store_run(struct store *s, enum statement which)
{
	int status = store_step(s, which);

	sqlite3_reset(s->statements[which]);
	return status < 0 ? -status : 0;
}

/* NULL for "". */
static void
bind_text(sqlite3_stmt *statement, int at, const char *text)
{
	if (text[0] == '\0')
		sqlite3_bind_null(statement, at);
	else
		sqlite3_bind_text(statement, at, text, -1, SQLITE_STATIC);
}

/* ---- a row's columns, from its text */

static int64_t
integer_of(const json_t *o, const char *name)
{
	return (int64_t)json_integer_value(json_object_get(o, name));
}

static void
copy_text(char *out, size_t size, const json_t *o, const char *name)
{
	const char *text = json_string_value(json_object_get(o, name));

	snprintf(out, size, "%s", text != NULL ? text : "");
}

bool
store_read_row(struct store_row *row, const char *body, size_t bytes)
{
	json_t *o = unseal("job", body, bytes);

	if (o == NULL)
		return false;
	*row = (struct store_row){
	    .number = (uint64_t)integer_of(o, "number"),
	    .revision = integer_of(o, "revision"),
	    .final = json_is_true(json_object_get(o, "final")),
	    .dead = json_is_true(json_object_get(o, "dead")),
	    .ended_us = integer_of(o, "ended_at_us"),
	    .keep_until_us = integer_of(o, "keep_until_us"),
	    .bytes = integer_of(o, "bytes"),
	    .pictures = (int)integer_of(o, "pictures"),
	};
	copy_text(row->id, sizeof(row->id), o, "id");
	copy_text(row->key, sizeof(row->key), o, "key");
	copy_text(row->group, sizeof(row->group), o, "group");
	json_decref(o);
	return true;
}

/* ---- writing */

/* A job's first text is most likely new, a later one is not: the other way is tried next. */
static int
put_open(struct store *s, const struct store_row *row)
{
	enum statement ways[] = {S_SET_OPEN, S_NEW_OPEN};
	const int first = row->revision == 1;
	int error = 0, done = 0;

	for (int i = 0; i < 2 && error == 0 && done == 0; i++) {
		enum statement which = ways[first ^ i];
		sqlite3_bind_int64(s->statements[which], 1, (sqlite3_int64)row->number);
		sqlite3_bind_text(s->statements[which], 2, row->body, -1, SQLITE_STATIC);
		error = store_run(s, which);
		done = error == 0 ? sqlite3_changes(s->db) : 0;
		s->open_count += which == S_NEW_OPEN && done > 0;
	}
	return error;
}

static int
drop(struct store *s, enum statement which, uint64_t number, int64_t *count)
{
	int error;

	sqlite3_bind_int64(s->statements[which], 1, (sqlite3_int64)number);
	error = store_run(s, which);
	if (error == 0 && *count >= 0)
		*count -= sqlite3_changes(s->db);
	return error;
}

static int
put_final(struct store *s, const struct store_row *row)
{
	sqlite3_stmt *statement = s->statements[S_PUT_FINAL];

	sqlite3_bind_int64(statement, 1, (sqlite3_int64)row->number);
	sqlite3_bind_text(statement, 2, row->id, -1, SQLITE_STATIC);
	bind_text(statement, 3, row->key);
	bind_text(statement, 4, row->group);
	sqlite3_bind_int64(statement, 5, row->ended_us);
	sqlite3_bind_int64(statement, 6, row->keep_until_us);
	sqlite3_bind_int64(statement, 7, row->bytes);
	sqlite3_bind_int(statement, 8, row->pictures);
	sqlite3_bind_int(statement, 9, row->dead);
	sqlite3_bind_text(statement, 10, row->body, -1, SQLITE_STATIC);
	return store_run(s, S_PUT_FINAL);
}

/* The counts of what the disk holds are wrong by what is replaced: they are made anew when they are wanted. A
 * job whose first text is its last one left nothing before it. */
int
store_put_row(struct store *s, const struct store_row *row)
{
	const bool only = row->body != NULL && row->revision == 1;
	int error = 0;

	if (row->body != NULL && !row->final)
		return put_open(s, row);
	if (!only)
		error = drop(s, S_DROP_OPEN, row->number, &s->open_count);
	if (!only && error == 0)
		error = drop(s, S_DROP_FINAL, row->number, &s->final_count);
	if (error != 0 || row->body == NULL)
		return error;
	error = put_final(s, row);
	if (error == 0 && s->final_count >= 0)
		s->final_count++;
	if (error == 0 && s->all_bytes >= 0)
		s->all_bytes += row->bytes;
	return error;
}

static int
put_note(struct store *s, const char *name, const char *body)
{
	sqlite3_bind_text(s->statements[S_PUT_NOTE], 1, name, -1, SQLITE_STATIC);
	sqlite3_bind_text(s->statements[S_PUT_NOTE], 2, body, -1, SQLITE_STATIC);
	return store_run(s, S_PUT_NOTE);
}

int
store_note_open_count(struct store *s)
{
	char *body = seal("note", json_pack("{s:I}", "count", (json_int_t)s->open_count));
	int error = body != NULL ? put_note(s, OPEN_NOTE, body) : ENOMEM;

	free(body);
	return error;
}

/* A transaction that failed may lie in the log as a whole, and would count after a crash though everybody was
 * told that it did not. */
static void
cut_log(struct store *s)
{
	sqlite3_file *log = NULL;
	sqlite3_int64 size = 0;

	if (s->log_frames < 0) /* not known */
		return;
	if (s->log_frames > 0)
		size = STORE_LOG_HEAD + (sqlite3_int64)s->log_frames * STORE_LOG_FRAME;
	if (sqlite3_file_control(s->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log) != SQLITE_OK ||
	    log == NULL || log->pMethods == NULL)
		return;
	log->pMethods->xTruncate(log, size);
	log->pMethods->xSync(log, SQLITE_SYNC_NORMAL);
}

int
store_on_logged(void *arg, sqlite3 *db, const char *name, int frames)
{
	struct store *s = arg;

	(void)db;
	(void)name;
	s->log_frames = frames;
	return SQLITE_OK;
}

void
store_tend(struct store *s)
{
	int in_log, moved;

	if (s->db != NULL && s->log_frames >= CHECKPOINT_PAGES &&
	    sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_PASSIVE, &in_log, &moved) == SQLITE_OK &&
	    in_log == moved)
		s->log_frames = 0;
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
		error = put_note(s, b->notes[i].name, b->notes[i].body);
	if (error == 0)
		error = store_run(s, S_COMMIT);
	if (error == 0)
		return 0;
	store_run(s, S_ROLLBACK); /* it may be over already, and says so */
	cut_log(s);
	s->open_count = open_before;
	s->final_count = s->all_bytes = -1;
	return error;
}

/* ---- space for the last words */

static void
reserve_path(const struct store *s, char out[PATH_MAX])
{
	snprintf(out, PATH_MAX, "%s/" RESERVE_FILE, s->dir);
}

/* 0 or errno. */
int
store_make_reserve(struct store *s)
{
	char path[PATH_MAX];
	int fd, error;

	reserve_path(s, path);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
	error = fd >= 0 ? posix_fallocate(fd, 0, RESERVE_BYTES) : errno;
	if (error != 0)
		unlink(path);
	if (fd >= 0)
		close(fd);
	s->reserve_gone = error != 0;
	return error;
}

static void
release_reserve(struct store *s)
{
	char path[PATH_MAX];

	reserve_path(s, path);
	unlink(path);
	s->reserve_gone = true;
}

static bool
is_want_of_space(int error)
{
	return error == ENOSPC || error == EDQUOT;
}

/* The structure turned out to be broken: a new file is made of what is whole. What zitd has in memory of open
 * jobs is newer or the same. */
static int
begin_anew(struct store *s)
{
	struct store_report report = {0};
	char path[PATH_MAX];
	struct store_log log;
	struct store *fresh;
	struct err e;
	int status;

	store_close_file(s);
	snprintf(path, sizeof(path), "%s/" STORE_FILE, s->dir);
	store_log_read(&log, path);
	status = store_salvage(s->dir, &log, &report, &e);
	store_log_clear(&log);
	if (status != 0 || store_open(&fresh, s->dir, &report, &e) != 0)
		return EIO;
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
	if (s->db == NULL && (error = begin_anew(s)) != 0)
		return error;
	if (s->reserve_gone)
		error = store_make_reserve(s);
	if (error == 0)
		error = try_commit(s, b, false);
	if (error == EUCLEAN && (error = begin_anew(s)) == 0)
		error = try_commit(s, b, false);
	if (is_want_of_space(error)) {
		release_reserve(s);
		b->finals_saved = try_commit(s, b, true) == 0;
	}
	return error;
}
