/*
 * The durable queue: opening it, and what of it is damaged.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor/store/seal.h"
#include "supervisor/store/store_inside.h"

enum {
	CHECK_BYTES = 32 * 1024 * 1024, /* a larger file is not looked through at each start */
};

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

/* Of the file and its log; 0 or errno. */
static int
find_places(const struct store *s, struct store_place places[STORE_FILES])
{
	static const char *const names[STORE_FILES] = {STORE_FILE, STORE_FILE "-wal"};
	char path[PATH_MAX];
	struct stat st;

	for (int i = 0; i < STORE_FILES; i++) {
		snprintf(path, sizeof(path), "%s/%s", s->dir, names[i]);
		if (stat(path, &st) != 0)
			return errno;
		places[i] = (struct store_place){st.st_dev, st.st_ino};
	}
	return 0;
}

int
store_is_in_place(const struct store *s)
{
	struct store_place now[STORE_FILES];
	int error = find_places(s, now);

	for (int i = 0; i < STORE_FILES && error == 0; i++) {
		if (now[i].device != s->places[i].device || now[i].inode != s->places[i].inode)
			error = ESTALE;
	}
	return error;
}

static bool
is_damage(int status)
{
	return (status & 0xff) == SQLITE_CORRUPT || (status & 0xff) == SQLITE_NOTADB;
}

/* errno for what SQLite says; it does not say why a file could be opened for reading only. */
static int
reason(sqlite3 *db, int status, const char *path)
{
	if ((status & 0xff) == SQLITE_READONLY && access(path, W_OK) != 0)
		return errno;
	return store_errno(db, status);
}

/* One try. 0, -ERR_SYSTEM with report->error, -ERR_BAD_CONFIG, or -ERR_BAD_CHECKPOINT: it is damaged. */
static int
open_once(struct store *s, const char *path, struct store_report *report, struct err *e)
{
	int version, status = store_open_file(&s->db, path, &version);

	report->error = ENOTSUP;
	if (status == SQLITE_OK && version > STORE_VERSION)
		return err_set(e, ERR_BAD_CONFIG,
		    "%s was written by a newer zit (schema %d, this one knows %d): install that version "
		    "again, or move the file away to start with an empty queue",
		    path, version, STORE_VERSION);
	if (status == SQLITE_OK)
		status = store_prepare(s);
	report->error = EUCLEAN;
	if (is_damage(status) || (status == SQLITE_OK && is_broken(s, path)))
		return err_set(e, ERR_BAD_CHECKPOINT, "%s is damaged", path);
	if (status != SQLITE_OK) {
		report->error = reason(s->db, status, path);
		return err_set(e, ERR_SYSTEM, "%s cannot be used: %s", path, strerror(report->error));
	}
	/* What is left of the last life's log is moved first: its length is known then. */
	if (sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL) != SQLITE_OK)
		s->log_frames = -1;
	sqlite3_wal_hook(s->db, store_on_logged, s);
	report->error = find_places(s, s->places);
	if (report->error == 0)
		return 0;
	return err_set(e, ERR_SYSTEM, "%s cannot be used: %s", path, strerror(report->error));
}

int
store_open(struct store **out, const char *dir, struct store_report *report, struct err *e)
{
	struct store *s = calloc(1, sizeof(*s));
	struct store_log log;
	char path[PATH_MAX];
	int status;

	report->error = ENOMEM;
	if (s == NULL)
		return err_set(e, ERR_SYSTEM, "out of memory");
	snprintf(s->dir, sizeof(s->dir), "%s", dir);
	snprintf(path, sizeof(path), "%s/" STORE_FILE, s->dir);
	s->final_count = s->all_bytes = -1;
	report->error = store_finish_salvage(s->dir, report);
	if (report->error != 0) {
		free(s);
		return err_set(e, ERR_SYSTEM, "%s cannot be used: %s", path, strerror(report->error));
	}
	store_log_read(&log, path);
	status = log.damaged ? -ERR_BAD_CHECKPOINT : open_once(s, path, report, e);
	if (status == -ERR_BAD_CHECKPOINT) {
		store_close_file(s);
		status = store_salvage(s->dir, &log, report, e);
		s->broken = false;
		if (status == 0)
			status = open_once(s, path, report, e);
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
