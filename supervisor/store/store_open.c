/*
 * The durable queue: its tables, and opening the file.
 *
 * Open jobs have a table of their own, which is small and read whole at the start, so that no index stands
 * between a job and its next life; how many rows it has is noted beside it. Every text carries its checksum,
 * and all columns can be made again from it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "supervisor/store/seal.h"
#include "supervisor/store/store_inside.h"

enum {
	CACHE_KIB = 512,
	CHECK_BYTES = 32 * 1024 * 1024, /* a larger file is not looked through at each start */
};

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

/* ---- the file */

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
	err_set(e, ERR_SYSTEM, "%s cannot be made: %s", path, strerror(store_errno(*db, status)));
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
		    "%s was written by a newer zit (schema %d, this one knows %d): install that version "
		    "again, or move the file away to start with an empty queue",
		    path, version, STORE_VERSION);
	if (status == SQLITE_OK)
		status = prepare_all(s);
	if (is_damage(status) || (status == SQLITE_OK && is_broken(s, path)))
		return err_set(e, ERR_BAD_CHECKPOINT, "%s is damaged", path);
	if (status != SQLITE_OK)
		return err_set(
		    e, ERR_SYSTEM, "%s cannot be used: %s", path, strerror(store_errno(s->db, status)));
	/* What is left of the last life's log is moved first: its length is known then. */
	if (sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL) != SQLITE_OK)
		s->log_frames = -1;
	sqlite3_wal_hook(s->db, store_on_logged, s);
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
		store_close_file(s);
		status = store_salvage(s->dir, &log, report, e);
		if (status == 0)
			status = open_once(s, path, e);
	}
	store_log_clear(&log);
	if (status != 0) {
		store_close_file(s);
		free(s);
		return status;
	}
	store_make_reserve(s); /* where it cannot be had, the first commit says so */
	*out = s;
	return 0;
}

void
store_finalize(struct store *s)
{
	for (int i = 0; i < STATEMENT_COUNT; i++)
		sqlite3_finalize(s->statements[i]);
	memset(s->statements, 0, sizeof(s->statements));
}

void
store_close_file(struct store *s)
{
	store_finalize(s);
	sqlite3_close(s->db);
	s->db = NULL;
}

void
store_close(struct store **out)
{
	struct store *s = *out;

	if (s == NULL)
		return;
	store_close_file(s); /* the reserve stays: the next one may start on a full disk */
	free(s);
	*out = NULL;
}
