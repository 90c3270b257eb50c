/*
 * The durable queue: the file and its tables.
 *
 * Open jobs have a table of their own, which is small and read whole at the start, so that no index stands
 * between a job and its next life; how many rows it has is noted beside it. Every text carries its checksum,
 * and all columns can be made again from it.
 */
#include <stdio.h>
#include <string.h>

#include "supervisor/store/store_inside.h"

enum { CACHE_KIB = 512 };

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

/* Each takes the file from the version that is its index to the next one. Version 2 has other sums in the
 * seals; those of before stay good (seal.c). */
static const char *const migrations[STORE_VERSION] = {schema, ""};

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
	    STORE_PAGE_BYTES, CACHE_KIB, 2 * CHECKPOINT_PAGES * STORE_PAGE_BYTES);
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

/* One thread at a time has anything to do with SQLite here: it needs no locks, nor to count its memory under
 * one. Where somebody has set it up already, it is left as it is. */
static void
set_up_library(void)
{
	sqlite3_config(SQLITE_CONFIG_SINGLETHREAD);
	sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

int
store_open_file(sqlite3 **db, const char *path, int *version)
{
	int status;

	set_up_library();
	status = sqlite3_open_v2(path, db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);
	*version = 0;
	if (status == SQLITE_OK && sqlite3_db_readonly(*db, "main") == 1)
		status = SQLITE_READONLY;
	if (status == SQLITE_OK)
		status = set_up(*db);
	if (status == SQLITE_OK)
		status = read_version(*db, version);
	if (status == SQLITE_OK && *version <= STORE_VERSION)
		status = migrate(*db, *version);
	return status;
}

int
store_create(sqlite3 **db, const char *path)
{
	int version, status = store_open_file(db, path, &version), error = store_errno(*db, status);

	if (status == SQLITE_OK)
		return 0;
	sqlite3_close(*db);
	*db = NULL;
	return error;
}
