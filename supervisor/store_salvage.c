/*
 * When the file's structure is broken: every sealed text in it is found by its first bytes, wherever it lies,
 * and the newest whole one of each job goes into a new file. A text that SQLite had spread over several pages
 * is only found if SQLite still reads it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "supervisor/seal.h"
#include "supervisor/store_inside.h"

/* In the new file until its rows are where they belong. */
static const char salvage_schema[] =
    "CREATE TEMP TABLE found (number INTEGER PRIMARY KEY, revision INTEGER NOT NULL, body TEXT NOT NULL)";
static const char salvage_put[] =
    "INSERT INTO found VALUES (?1, ?2, ?3) ON CONFLICT (number) DO UPDATE SET revision = excluded.revision, "
    "body = excluded.body WHERE excluded.revision >= revision";

struct salvage {
	sqlite3 *db; /* the new file */
	sqlite3_stmt *put;
	struct store_report *report;
};

bool
store_is_sound(sqlite3 *db)
{
	sqlite3_stmt *statement = NULL;
	const char *text;
	bool sound = sqlite3_prepare_v2(db, "PRAGMA integrity_check(1)", -1, &statement, NULL) == SQLITE_OK &&
		     sqlite3_step(statement) == SQLITE_ROW &&
		     (text = (const char *)sqlite3_column_text(statement, 0)) != NULL &&
		     strcmp(text, "ok") == 0;

	sqlite3_finalize(statement);
	return sound;
}

static void
keep_text(struct salvage *s, const char *body, size_t bytes)
{
	struct store_row row;

	if (!store_read_row(&row, body, bytes))
		return; /* a note: what it says is not worth the risk that it is an old one */
	sqlite3_bind_int64(s->put, 1, (sqlite3_int64)row.number);
	sqlite3_bind_int64(s->put, 2, row.revision);
	sqlite3_bind_text(s->put, 3, body, (int)bytes, SQLITE_STATIC);
	sqlite3_step(s->put);
	sqlite3_reset(s->put);
}

static void
scan_bytes(struct salvage *s, const char *bytes, size_t size)
{
	const char *at = bytes, *end = bytes + size;

	while ((at = memmem(at, (size_t)(end - at), SEAL_HEAD, sizeof(SEAL_HEAD) - 1)) != NULL) {
		size_t length = seal_length(at, (size_t)(end - at) < 65536 ? (size_t)(end - at) : 65536);
		if (length > 0)
			keep_text(s, at, length);
		else
			s->report->damaged++;
		at += length > 0 ? length : sizeof(SEAL_HEAD) - 1;
	}
}

static void
scan_file(struct salvage *s, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *bytes = MAP_FAILED;

	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0)
		bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (bytes != MAP_FAILED) {
		scan_bytes(s, bytes, (size_t)st.st_size);
		munmap(bytes, (size_t)st.st_size);
	}
	if (fd >= 0)
		close(fd);
}

/* What SQLite itself still reads of one table. */
static void
read_table(struct salvage *s, sqlite3 *old, const char *sql)
{
	sqlite3_stmt *statement = NULL;

	if (sqlite3_prepare_v2(old, sql, -1, &statement, NULL) == SQLITE_OK) {
		while (sqlite3_step(statement) == SQLITE_ROW) {
			const char *body = (const char *)sqlite3_column_text(statement, 0);
			if (body != NULL)
				keep_text(s, body, (size_t)sqlite3_column_bytes(statement, 0));
		}
	}
	sqlite3_finalize(statement);
}

static void
read_old(struct salvage *s, const char *path)
{
	sqlite3 *old = NULL;

	if (sqlite3_open_v2(path, &old, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK &&
	    sqlite3_exec(old, "PRAGMA locking_mode = EXCLUSIVE", NULL, NULL, NULL) == SQLITE_OK) {
		read_table(s, old, "SELECT body FROM final_job ORDER BY number");
		read_table(s, old, "SELECT body FROM final_job ORDER BY number DESC");
		read_table(s, old, "SELECT body FROM open_job ORDER BY number");
		read_table(s, old, "SELECT body FROM open_job ORDER BY number DESC");
	}
	sqlite3_close(old);
}

/* Each text to the table that it belongs to. 0 or errno. */
static int
settle(struct salvage *s)
{
	struct store new = {.db = s->db};
	sqlite3_stmt *all = NULL;
	int error = store_prepare(&new);

	if (error == 0)
		error = store_run(&new, S_BEGIN);
	if (error == 0)
		error =
		    store_errno(s->db, sqlite3_prepare_v2(s->db, "SELECT body FROM found", -1, &all, NULL));
	while (error == 0 && sqlite3_step(all) == SQLITE_ROW) {
		struct store_row row = {.body = (char *)sqlite3_column_text(all, 0)};
		error = store_put_row(&new, &row);
		s->report->saved += error == 0;
	}
	sqlite3_finalize(all);
	if (error == 0)
		error = store_note_open_count(&new);
	if (error == 0)
		error = store_run(&new, S_COMMIT);
	store_finalize(&new);
	return error;
}

static int
fill(struct salvage *s, const char *path)
{
	char log[PATH_MAX];
	int error;

	if (sqlite3_exec(s->db, salvage_schema, NULL, NULL, NULL) != SQLITE_OK ||
	    sqlite3_prepare_v2(s->db, salvage_put, -1, &s->put, NULL) != SQLITE_OK)
		return store_errno(s->db, sqlite3_errcode(s->db));
	snprintf(log, sizeof(log), "%.4000s-wal", path);
	scan_file(s, log); /* first: opening the old file moves the log into it */
	scan_file(s, path);
	read_old(s, path);
	error = settle(s);
	sqlite3_finalize(s->put);
	return error;
}

/* ---- a log that was cut short by damage, or by a crash in the middle of a commit that nobody was told of */

enum { LOG_HEAD = 32, FRAME_HEAD = 24, SALTS_AT = 8, SALTS = 8 }; /* SQLite's file format, section 4.1 */

static int64_t
known_revision(struct store *s, uint64_t number)
{
	struct store_row row = {0};
	const char *body;

	sqlite3_bind_int64(s->statements[S_REVISION], 1, (sqlite3_int64)number);
	if (store_step(s, S_REVISION) == 1) {
		body = (const char *)sqlite3_column_text(s->statements[S_REVISION], 0);
		store_read_row(&row, body, strlen(body));
	}
	sqlite3_reset(s->statements[S_REVISION]);
	return row.revision;
}

static int
rescue_page(struct store *s, const char *page, size_t bytes, struct store_report *report)
{
	const char *at = page, *end = page + bytes;
	struct store_row row;
	int error = 0;

	while (
	    error == 0 && (at = memmem(at, (size_t)(end - at), SEAL_HEAD, sizeof(SEAL_HEAD) - 1)) != NULL) {
		size_t length = seal_length(at, (size_t)(end - at));
		if (length > 0 && store_read_row(&row, at, length) &&
		    row.revision > known_revision(s, row.number)) {
			row.body = strndup(at, length);
			error = row.body != NULL ? store_put_row(s, &row) : ENOMEM;
			store_row_clear(&row);
			report->rescued += error == 0;
		}
		at += length > 0 ? length : 1;
	}
	return error;
}

int
store_rescue(struct store *s, const char *log, size_t bytes, int frames_taken, struct store_report *report)
{
	const size_t frame_bytes = FRAME_HEAD + STORE_PAGE_BYTES;
	const char *first = log + LOG_HEAD;
	size_t frames = bytes > LOG_HEAD ? (bytes - LOG_HEAD) / frame_bytes : 0;
	int error;

	if ((size_t)frames_taken >= frames)
		return 0;
	error = store_run(s, S_BEGIN);
	for (size_t i = (size_t)frames_taken; i < frames && error == 0; i++) {
		const char *frame = first + i * frame_bytes;
		if (memcmp(frame + SALTS_AT, first + SALTS_AT, SALTS) == 0) /* else of an earlier round */
			error = rescue_page(s, frame + FRAME_HEAD, STORE_PAGE_BYTES, report);
	}
	if (error == 0)
		error = store_note_open_count(s);
	if (error == 0)
		error = store_run(s, S_COMMIT);
	return error;
}

/* ---- a file whose structure is broken */

/* The damaged file and its log get names of their own; nothing is lost that somebody may want to look at. */
static int
move_aside(const char *dir, struct store_report *report)
{
	char from[PATH_MAX], to[PATH_MAX];

	snprintf(report->aside, sizeof(report->aside), STORE_FILE ".damaged-%lld", (long long)time(NULL));
	snprintf(from, sizeof(from), "%.3900s/" STORE_FILE "-wal", dir);
	snprintf(to, sizeof(to), "%.3900s/%s-wal", dir, report->aside);
	if (rename(from, to) != 0 && errno != ENOENT)
		return errno;
	snprintf(from, sizeof(from), "%.3900s/" STORE_FILE, dir);
	snprintf(to, sizeof(to), "%.3900s/%s", dir, report->aside);
	return rename(from, to) != 0 ? errno : 0;
}

/* The new file is made under another name and moved into place when it is whole. */
int
store_salvage(const char *dir, struct store_report *report, struct err *e)
{
	struct salvage s = {.report = report};
	char path[PATH_MAX], fresh[PATH_MAX];
	int error;

	snprintf(path, sizeof(path), "%.3900s/" STORE_FILE, dir);
	snprintf(fresh, sizeof(fresh), "%.3900s/" STORE_FILE ".salvage", dir);
	unlink(fresh);
	if (store_create(&s.db, fresh, e) != 0)
		return -ERR_SYSTEM;
	error = fill(&s, path);
	sqlite3_close(s.db); /* moves its log into it */
	if (error == 0)
		error = move_aside(dir, report);
	if (error == 0 && rename(fresh, path) != 0)
		error = errno;
	if (error != 0)
		return err_set(e, ERR_SYSTEM,
		    "%.150s is damaged, and what is whole in it cannot be saved: %s", path, strerror(error));
	report->salvaged = true;
	return 0;
}
