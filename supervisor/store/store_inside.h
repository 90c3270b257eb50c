/*
 * What the files of the store share: store.c (commits), store_find.c (reading, forgetting), store_open.c,
 * store_salvage.c, and those on which they stand, store_rows.c, store_tables.c and store_space.c. Nobody else
 * includes this.
 */
#ifndef SUPERVISOR_STORE_STORE_INSIDE_H
#define SUPERVISOR_STORE_STORE_INSIDE_H

#include <limits.h>
#include <sqlite3.h>
#include <stddef.h>
#include <sys/types.h>

#include "supervisor/store/store.h"
#include "supervisor/store/store_log.h"

#define STORE_FILE "queue.db"

#define OPEN_NOTE "open" /* how many open jobs there are */

enum {
	STORE_PAGE_BYTES = 4096,
	CHECKPOINT_PAGES = 400, /* of the log before store_tend moves them to the file, which costs as many
				   syncs as three transactions */
};

/* STATEMENT(NAME, "sql"): prepared when the file is opened. */
#define STATEMENTS(STATEMENT) \
	STATEMENT(BEGIN, "BEGIN IMMEDIATE") \
	STATEMENT(COMMIT, "COMMIT") \
	STATEMENT(ROLLBACK, "ROLLBACK") \
	STATEMENT(NEW_OPEN, "INSERT OR IGNORE INTO open_job VALUES (?1, ?2)") \
	STATEMENT(SET_OPEN, "UPDATE open_job SET body = ?2 WHERE number = ?1") \
	STATEMENT(DROP_OPEN, "DELETE FROM open_job WHERE number = ?1") \
	STATEMENT( \
	    NEW_FINAL, "INSERT OR IGNORE INTO final_job VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)") \
	STATEMENT(DROP_FINAL, "DELETE FROM final_job WHERE number = ?1") \
	STATEMENT(PUT_EVENT, "INSERT OR REPLACE INTO event VALUES (?1, ?2)") \
	STATEMENT(TRIM_EVENTS, "DELETE FROM event WHERE seq <= ?1") \
	STATEMENT(PUT_NOTE, "INSERT OR REPLACE INTO note VALUES (?1, ?2)") \
	STATEMENT(ALL_OPEN, "SELECT number, body FROM open_job ORDER BY number") \
	STATEMENT(ALL_NOTES, "SELECT name, body FROM note") \
	STATEMENT(LAST_NUMBER, "SELECT max(coalesce((SELECT max(number) FROM open_job), 0), " \
			       "coalesce((SELECT max(number) FROM final_job), 0))") \
	STATEMENT(LAST_EVENT, "SELECT coalesce(max(seq), 0) FROM event") \
	STATEMENT(FIRST_EVENT, "SELECT coalesce(min(seq), 0) FROM event") \
	STATEMENT(BY_ID, SELECT_FINAL "WHERE id = ?1") \
	STATEMENT(BY_KEY, SELECT_FINAL "WHERE key = ?1 AND ended >= ?2 ORDER BY number DESC LIMIT 1") \
	STATEMENT(ENDED, SELECT_FINAL "WHERE number < ?1 ORDER BY number DESC LIMIT ?2") \
	STATEMENT(ENDED_GROUP, SELECT_FINAL "WHERE number < ?1 AND grp = ?3 ORDER BY number DESC LIMIT ?2") \
	STATEMENT(DEAD, SELECT_FINAL "WHERE number < ?1 AND dead = 1 ORDER BY number DESC LIMIT ?2") \
	STATEMENT(SINCE, "SELECT seq, body FROM event WHERE seq > ?1 ORDER BY seq LIMIT ?2") \
	STATEMENT( \
	    NEXT_STALE, SELECT_FINAL "WHERE bytes > 0 AND keep_until <= ?1 ORDER BY keep_until LIMIT 1") \
	STATEMENT(NEXT_OLDEST, SELECT_FINAL "WHERE bytes > 0 ORDER BY keep_until LIMIT 1") \
	STATEMENT(ALL_BYTES, "SELECT coalesce(sum(bytes), 0) FROM final_job WHERE bytes > 0") \
	STATEMENT(NO_BYTES, "UPDATE final_job SET bytes = 0 WHERE number = ?1") \
	STATEMENT(COUNT_FINAL, "SELECT count(*) FROM final_job") \
	STATEMENT(FIRST_FINAL, SELECT_FINAL "ORDER BY number LIMIT 1")

#define SELECT_FINAL \
	"SELECT number, id, key, grp, ended, keep_until, bytes, pictures, dead, body FROM final_job "

enum statement {
#define STATEMENT(name, sql) S_##name,
	STATEMENTS(STATEMENT)
#undef STATEMENT
	    STATEMENT_COUNT
};

enum { STORE_FILES = 2 }; /* the file and its log */

struct store_place {
	dev_t device;
	ino_t inode;
};

struct store {
	sqlite3 *db;
	struct store_place places[STORE_FILES]; /* where these were when they were opened */
	sqlite3_stmt *statements[STATEMENT_COUNT];
	char dir[PATH_MAX - 64];
	bool broken;			/* what was read did not fit together: the file is salvaged first */
	bool reserve_gone;		/* the space kept for final records is in use, or cannot be had */
	int64_t open_count;		/* rows of open_job; a note of it tells whether one has vanished */
	int64_t final_count, all_bytes; /* of final_job; below 0: not counted yet */
	int log_frames; /* that the log has in whole transactions; what is behind them is cut off; -1: not
			   known */
};

/* ---- store_rows.c */

int store_prepare(struct store *s); /* all statements; SQLite's status */
void store_finalize(struct store *s);
/* Binds nothing: steps a statement that gives no rows. 0 or errno. */
int store_run(struct store *s, enum statement which);
/* The next step of a statement that gives rows: 1 row, 0 end, or a negative errno; ended, it is reset. */
int store_step(struct store *s, enum statement which);
/* errno for what SQLite says. */
int store_errno(sqlite3 *db, int status);

/* All but the text itself, from the text. false: it is damaged, or no job's. */
bool store_read_row(struct store_row *row, const char *body, size_t bytes);
int store_put_row(struct store *s, const struct store_row *row); /* 0 or errno, as the next two */
int store_put_note(struct store *s, const char *name, const char *body);
int store_note_open_count(struct store *s);
void store_notes_free(struct store_note *notes, int count);

/* ---- store_tables.c */

/* Opens the file, made where there is none, and brings it to this version, unless a newer one wrote it.
 * SQLite's status; *version is what was found, 0 for a new file. */
int store_open_file(sqlite3 **db, const char *path, int *version);
/* Makes an empty file with the schema, open. 0 or errno. */
int store_create(sqlite3 **db, const char *path);

/* ---- store_space.c */

/* Space for final records on a full disk: 0 or errno. */
int store_make_reserve(struct store *s);
void store_release_reserve(struct store *s);
/* SQLite's wal_hook: notes how many frames the log has. */
int store_on_logged(void *arg, sqlite3 *db, const char *name, int frames);
/* A transaction that failed may lie in the log as a whole, and would count after a crash though everybody was
 * told that it did not: it is cut off. */
void store_cut_log(struct store *s);
/* Moves the log to the file: what store_tend does when it is long. */
void store_move_log(struct store *s);

/* ---- store_open.c */

/* Whether what is written can be found again: 0, or errno when somebody removed or replaced the files that
 * are open. */
int store_is_in_place(const struct store *s);
void store_close_file(struct store *s);

/* ---- store_salvage.c */

/* Whether SQLite finds the file's structure whole. Costs time in proportion to its size. */
bool store_is_sound(sqlite3 *db);
/* Makes a new DIR/queue.db from what is whole in it and in its log, as that was before anybody opened the
 * file; the damaged one is moved aside. 0, or -ERR_SYSTEM with *e and report->error. */
int store_salvage(const char *dir, const struct store_log *log, struct store_report *report, struct err *e);
/* Goes on with one that had made the new file and got no further: before anybody looks at the files. 0 or
 * errno. */
int store_finish_salvage(const char *dir, struct store_report *report);

#endif
