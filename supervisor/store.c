/*
 * The durable queue: opening the file, and writing to it. Reading is in store_find.c.
 *
 * Open jobs have a table of their own, which is small and read whole at the start, so that no index stands
 * between a job and its next life; how many rows it has is noted beside it. Every text carries its checksum,
 * and all columns can be made again from it.
 */
#include "supervisor/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor/seal.h"
#include "supervisor/store_inside.h"

enum {
	CHECKPOINT_PAGES = 100, /* of the log before they are moved to the file */
	CACHE_KIB = 512,
	RESERVE_BYTES = 256 * 1024,	/* room for a few hundred final records */
	CHECK_BYTES = 32 * 1024 * 1024, /* a larger file is not looked through at each start */
};

#define RESERVE_FILE "queue.reserve"
#define OPEN_NOTE "open"

static const char schema[] =
    "CREATE TABLE open_job (number INTEGER PRIMARY KEY, body TEXT NOT NULL);"
    "CREATE TABLE final_job (number INTEGER PRIMARY KEY, id TEXT NOT NULL, key TEXT, grp TEXT, ended INTEGER "
    "NOT NULL,"
    " keep_until INTEGER NOT NULL, bytes INTEGER NOT NULL, pictures INTEGER NOT NULL, dead INTEGER NOT NULL,"
    " body TEXT NOT NULL);"
    "CREATE INDEX final_id ON final_job (id);"
    "CREATE INDEX final_key ON final_job (key) WHERE key IS NOT NULL;"
    "CREATE INDEX final_grp ON final_job (grp, number) WHERE grp IS NOT NULL;"
    "CREATE INDEX final_dead ON final_job (number) WHERE dead = 1;"
    "CREATE INDEX final_kept ON final_job (keep_until, bytes) WHERE bytes > 0;"
    "CREATE TABLE event (seq INTEGER PRIMARY KEY, body TEXT NOT NULL);"
    "CREATE TABLE note (name TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;";

/* Each takes the file from the version that is its index to the next one. */
static const char *const migrations[STORE_VERSION] = {schema};

static const char *const statement_texts[STATEMENT_COUNT] = {
#define STATEMENT(name, sql) sql,
    STATEMENTS(STATEMENT)
#undef STATEMENT
};

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

void
store_bind_text(sqlite3_stmt *statement, int at, const char *text)
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

static int
put_open(struct store *s, uint64_t number, const char *body)
{
	enum statement which = S_SET_OPEN;
	int error;

	for (;;) {
		sqlite3_bind_int64(s->statements[which], 1, (sqlite3_int64)number);
		sqlite3_bind_text(s->statements[which], 2, body, -1, SQLITE_STATIC);
		error = store_run(s, which);
		if (error != 0 || which == S_NEW_OPEN)
			break;
		if (sqlite3_changes(s->db) > 0)
			return 0;
		which = S_NEW_OPEN;
	}
	s->open_count += error == 0;
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
put_final(struct store *s, const struct store_row *row, const char *body)
{
	sqlite3_stmt *statement = s->statements[S_PUT_FINAL];

	sqlite3_bind_int64(statement, 1, (sqlite3_int64)row->number);
	sqlite3_bind_text(statement, 2, row->id, -1, SQLITE_STATIC);
	store_bind_text(statement, 3, row->key);
	store_bind_text(statement, 4, row->group);
	sqlite3_bind_int64(statement, 5, row->ended_us);
	sqlite3_bind_int64(statement, 6, row->keep_until_us);
	sqlite3_bind_int64(statement, 7, row->bytes);
	sqlite3_bind_int(statement, 8, row->pictures);
	sqlite3_bind_int(statement, 9, row->dead);
	sqlite3_bind_text(statement, 10, body, -1, SQLITE_STATIC);
	return store_run(s, S_PUT_FINAL);
}

/* The counts of what the disk holds are wrong by what is replaced: they are made anew when they are wanted.
 */
int
store_put_row(struct store *s, const struct store_row *given)
{
	struct store_row row;
	int error;

	if (given->body == NULL) {
		error = drop(s, S_DROP_OPEN, given->number, &s->open_count);
		return error != 0 ? error : drop(s, S_DROP_FINAL, given->number, &s->final_count);
	}
	if (!store_read_row(&row, given->body, strlen(given->body)))
		return EINVAL;
	if (!row.final)
		return put_open(s, row.number, given->body);
	error = drop(s, S_DROP_OPEN, row.number, &s->open_count);
	if (error == 0)
		error = drop(s, S_DROP_FINAL, row.number, &s->final_count);
	if (error == 0)
		error = put_final(s, &row, given->body);
	if (error == 0 && s->final_count >= 0)
		s->final_count++;
	if (error == 0 && s->all_bytes >= 0)
		s->all_bytes += row.bytes;
	return error;
}

int
store_put_note(struct store *s, const char *name, const char *body)
{
	sqlite3_bind_text(s->statements[S_PUT_NOTE], 1, name, -1, SQLITE_STATIC);
	sqlite3_bind_text(s->statements[S_PUT_NOTE], 2, body, -1, SQLITE_STATIC);
	return store_run(s, S_PUT_NOTE);
}

int
store_note_open_count(struct store *s)
{
	char *body = seal("note", json_pack("{s:I}", "count", (json_int_t)s->open_count));
	int error = body != NULL ? store_put_note(s, OPEN_NOTE, body) : ENOMEM;

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

/* After a transaction, with the log's length then: what it holds is moved to the file now and then. When all
 * has been, the next transaction begins at its front. What cannot be moved now is another time. */
static int
on_logged(void *arg, sqlite3 *db, const char *name, int frames)
{
	struct store *s = arg;
	int in_log, moved;

	s->log_frames = frames;
	if (frames >= CHECKPOINT_PAGES &&
	    sqlite3_wal_checkpoint_v2(db, name, SQLITE_CHECKPOINT_PASSIVE, &in_log, &moved) == SQLITE_OK &&
	    in_log == moved)
		s->log_frames = 0;
	return SQLITE_OK;
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

static bool
is_final_text(const struct store_row *row)
{
	struct store_row read;

	return row->body == NULL || (store_read_row(&read, row->body, strlen(row->body)) && read.final);
}

/* All of it, or of its rows the final ones alone. 0 or errno, and then nothing is written. */
static int
try_commit(struct store *s, const struct store_batch *b, bool finals_only)
{
	const int64_t open_before = s->open_count;
	int error = store_run(s, S_BEGIN);

	for (int i = 0; i < b->row_count && error == 0; i++) {
		if (!finals_only || is_final_text(&b->rows[i]))
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
static int
make_reserve(struct store *s)
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

void
store_finalize(struct store *s)
{
	for (int i = 0; i < STATEMENT_COUNT; i++)
		sqlite3_finalize(s->statements[i]);
	memset(s->statements, 0, sizeof(s->statements));
}

static void
close_file(struct store *s)
{
	store_finalize(s);
	sqlite3_close(s->db);
	s->db = NULL;
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

	close_file(s);
	snprintf(path, sizeof(path), "%s/" STORE_FILE, s->dir);
	store_log_read(&log, path);
	status = store_salvage(s->dir, &log, &report, &e);
	store_log_clear(&log);
	if (status != 0 || store_open(&fresh, s->dir, &report, &e) != 0)
		return EIO;
	*s = *fresh;
	sqlite3_wal_hook(s->db, on_logged, s);
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
		error = make_reserve(s);
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

/* ---- opening */

static int
read_version(sqlite3 *db, int *version)
{
	sqlite3_stmt *statement = NULL;
	int status = sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &statement, NULL);

	if (status == SQLITE_OK && (status = sqlite3_step(statement)) == SQLITE_ROW) {
		*version = sqlite3_column_int(statement, 0);
		status = SQLITE_OK;
	}
	sqlite3_finalize(statement);
	return status;
}

static int
execute(sqlite3 *db, const char *sql)
{
	return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

/* Exclusive: nobody else has the file while zitd runs, and no index of the log lies in shared memory, where a
 * full disk would be a SIGBUS. What is overwritten is overwritten with zeros, so that a salvage finds no text
 * that was replaced. */
static int
set_up(sqlite3 *db)
{
	char sql[400];

	snprintf(sql, sizeof(sql),
	    "PRAGMA locking_mode = EXCLUSIVE; PRAGMA page_size = %d; PRAGMA journal_mode = WAL;"
	    "PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA cache_size = -%d;"
	    "PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = %d; PRAGMA temp_store = MEMORY;",
	    STORE_PAGE_BYTES, CACHE_KIB, 4 * CHECKPOINT_PAGES * STORE_PAGE_BYTES);
	return execute(db, sql);
}

static int
migrate(sqlite3 *db, int version)
{
	char sql[64];
	int status = version < STORE_VERSION ? execute(db, "BEGIN IMMEDIATE") : SQLITE_OK;

	if (version >= STORE_VERSION)
		return SQLITE_OK;
	for (; status == SQLITE_OK && version < STORE_VERSION; version++)
		status = execute(db, migrations[version]);
	snprintf(sql, sizeof(sql), "PRAGMA user_version = %d; COMMIT", STORE_VERSION);
	if (status == SQLITE_OK)
		status = execute(db, sql);
	if (status != SQLITE_OK)
		execute(db, "ROLLBACK");
	return status;
}

/* SQLite's status; *version is that of the file, 0 when it is new. */
static int
open_file(sqlite3 **db, const char *path, int *version)
{
	int status = sqlite3_open_v2(path, db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);

	*version = 0;
	if (status == SQLITE_OK)
		status = set_up(*db);
	if (status == SQLITE_OK)
		status = read_version(*db, version);
	if (status == SQLITE_OK && *version <= STORE_VERSION)
		status = migrate(*db, *version);
	return status;
}

int
store_create(sqlite3 **db, const char *path, struct err *e)
{
	int version, status = open_file(db, path, &version);

	if (status == SQLITE_OK)
		return 0;
	err_set(e, ERR_SYSTEM, "%.150s cannot be made: %s", path, strerror(store_errno(*db, status)));
	sqlite3_close(*db);
	*db = NULL;
	return -ERR_SYSTEM;
}

static int
prepare_all(struct store *s)
{
	int status = SQLITE_OK;

	for (int i = 0; i < STATEMENT_COUNT && status == SQLITE_OK; i++)
		status = sqlite3_prepare_v3(
		    s->db, statement_texts[i], -1, SQLITE_PREPARE_PERSISTENT, &s->statements[i], NULL);
	return status;
}

int
store_prepare(struct store *s)
{
	return store_errno(s->db, prepare_all(s));
}

/* Counts the open jobs. false: one is damaged. */
static bool
count_open(struct store *s)
{
	struct store_row row;
	bool whole = true;
	int status;

	s->open_count = 0;
	while ((status = store_step(s, S_ALL_OPEN)) == 1) {
		const char *body = (const char *)sqlite3_column_text(s->statements[S_ALL_OPEN], 1);
		whole = whole && body != NULL && store_read_row(&row, body, strlen(body)) && !row.final;
		s->open_count++;
	}
	return whole && status == 0;
}

/* How many there were when one last came or went; -1: the note is damaged. */
static int64_t
noted_count(struct store *s)
{
	json_t *note = NULL;
	int64_t count = 0;
	int status;

	while ((status = store_step(s, S_ALL_NOTES)) == 1) {
		const char *name = (const char *)sqlite3_column_text(s->statements[S_ALL_NOTES], 0);
		const char *body = (const char *)sqlite3_column_text(s->statements[S_ALL_NOTES], 1);
		if (name == NULL || body == NULL || strcmp(name, OPEN_NOTE) != 0)
			continue;
		note = unseal("note", body, strlen(body));
		count = note != NULL ? json_integer_value(json_object_get(note, "count")) : -1;
		json_decref(note);
	}
	return status == 0 ? count : -1;
}

/* Broken, as far as can be seen in little time: a large file is not looked through. */
static bool
is_broken(struct store *s, const char *path)
{
	struct stat st;
	bool small = stat(path, &st) == 0 && st.st_size <= CHECK_BYTES;

	return !count_open(s) || noted_count(s) != s->open_count || (small && !store_is_sound(s->db));
}

static bool
is_damage(int status)
{
	return (status & 0xff) == SQLITE_CORRUPT || (status & 0xff) == SQLITE_NOTADB;
}

/* One try. 0, -ERR_SYSTEM, -ERR_BAD_CONFIG, or -ERR_BAD_CHECKPOINT: it is damaged. */
static int
open_once(struct store *s, const char *path, struct err *e)
{
	int version, status = open_file(&s->db, path, &version);

	if (status == SQLITE_OK && version > STORE_VERSION)
		return err_set(e, ERR_BAD_CONFIG,
		    "%.150s was written by a newer zit (schema %d, this one knows %d): install that version "
		    "again, or move the file away to start with an empty queue",
		    path, version, STORE_VERSION);
	if (status == SQLITE_OK)
		status = prepare_all(s);
	if (is_damage(status) || (status == SQLITE_OK && is_broken(s, path)))
		return err_set(e, ERR_BAD_CHECKPOINT, "%.150s is damaged", path);
	if (status != SQLITE_OK)
		return err_set(
		    e, ERR_SYSTEM, "%.150s cannot be used: %s", path, strerror(store_errno(s->db, status)));
	/* What is left of the last life's log is moved first: its length is known then. */
	if (sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL) != SQLITE_OK)
		s->log_frames = -1;
	sqlite3_wal_hook(s->db, on_logged, s);
	return 0;
}

int
store_open(struct store **out, const char *dir, struct store_report *report, struct err *e)
{
	struct store *s = calloc(1, sizeof(*s));
	struct store_log log;
	char path[PATH_MAX];
	int status;

	if (s == NULL)
		return err_set(e, ERR_SYSTEM, "out of memory");
	snprintf(s->dir, sizeof(s->dir), "%s", dir);
	snprintf(path, sizeof(path), "%s/" STORE_FILE, s->dir);
	s->final_count = s->all_bytes = -1;
	store_log_read(&log, path);
	status = log.damaged ? -ERR_BAD_CHECKPOINT : open_once(s, path, e);
	if (status == -ERR_BAD_CHECKPOINT) {
		close_file(s);
		status = store_salvage(s->dir, &log, report, e);
		if (status == 0)
			status = open_once(s, path, e);
	}
	store_log_clear(&log);
	if (status != 0) {
		close_file(s);
		free(s);
		return status;
	}
	make_reserve(s); /* where it cannot be had, the first commit says so */
	*out = s;
	return 0;
}

void
store_close(struct store **out)
{
	struct store *s = *out;

	if (s == NULL)
		return;
	close_file(s); /* the reserve stays: the next one may start on a full disk */
	free(s);
	*out = NULL;
}
