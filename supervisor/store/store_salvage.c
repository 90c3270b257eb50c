/*
 * When the file's structure is broken: every sealed text in it is found by its first bytes, wherever it lies,
 * and the newest whole one of each job goes into a new file.
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

#include "supervisor/store/seal.h"
#include "supervisor/store/store_inside.h"

/* The newest text of each job that was found so far: of many jobs, the texts themselves are too much for
 * memory. */
static const char salvage_schema[] =
    "CREATE TEMP TABLE found (number INTEGER PRIMARY KEY, revision INTEGER NOT NULL)";
static const char salvage_note[] =
    "INSERT INTO found VALUES (?1, ?2) ON CONFLICT (number) DO UPDATE SET revision = excluded.revision "
    "WHERE excluded.revision > revision";

enum {
	LINK_BYTES = 4,		    /* of a page number */
	MAX_TEXT = 2 * 1024 * 1024, /* more than any request makes */
};

struct salvage {
	struct store new; /* the new file */
	sqlite3_stmt *note;
	int error; /* errno: a text that was found could not be kept */
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

/* Whether none as new was found before. */
static bool
is_newest(struct salvage *s, const struct store_row *row)
{
	int status, before = sqlite3_total_changes(s->new.db);

	sqlite3_bind_int64(s->note, 1, (sqlite3_int64)row->number);
	sqlite3_bind_int64(s->note, 2, row->revision);
	status = sqlite3_step(s->note);
	sqlite3_reset(s->note);
	if (status != SQLITE_DONE)
		s->error = store_errno(s->new.db, status);
	return sqlite3_total_changes(s->new.db) != before;
}

static void
keep_text(struct salvage *s, const char *body, size_t bytes)
{
	struct store_row row;
	int error;

	if (!store_read_row(&row, body, bytes))
		return; /* a note: what it says is not worth the risk that it is an old one */
	if (!is_newest(s, &row))
		return;
	row.body = strndup(body, bytes);
	error = row.body != NULL ? store_put_row(&s->new, &row) : ENOMEM;
	if (error != 0)
		s->error = error;
	store_row_clear(&row);
}

/* ---- the file's pages, those of its log over them */

struct image {
	const char **pages; /* [0] is the file's first */
	uint32_t count;
	void *file;
	size_t bytes;
};

static bool
map_file(struct image *im, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size >= STORE_PAGE_BYTES) {
		im->file = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
		im->bytes = im->file != MAP_FAILED ? (size_t)st.st_size : 0;
	}
	if (fd >= 0)
		close(fd);
	return im->bytes > 0;
}

static int
bytes_alike(const char *x, const char *y)
{
	int count = 0;

	for (int i = 0; i < STORE_PAGE_BYTES && x != NULL; i++)
		count += x[i] == y[i];
	return count;
}

/* Of two numbers that a page may have, the one whose page it is more like as that was before. */
static uint32_t
likelier_number(const struct image *im, uint32_t room, uint32_t number, uint32_t other, const char *page)
{
	if (number == 0 || number > room || other == 0 || other > room)
		return number == 0 || number > room ? other : number;
	return bytes_alike(im->pages[other - 1], page) > bytes_alike(im->pages[number - 1], page) ? other
												  : number;
}

static int
image_open(struct image *im, const char *path, const struct store_log *log)
{
	uint32_t in_file, room, number;

	*im = (struct image){0};
	in_file = map_file(im, path) ? (uint32_t)(im->bytes / STORE_PAGE_BYTES) : 0;
	room = in_file + (uint32_t)log->frames;
	im->pages = calloc((size_t)room + 1, sizeof(*im->pages));
	if (im->pages == NULL)
		return ENOMEM;
	for (; im->count < in_file; im->count++)
		im->pages[im->count] = (const char *)im->file + (size_t)im->count * STORE_PAGE_BYTES;
	for (int i = 0; i < log->frames; i++) {
		const char *page = store_log_page(log, i, &number);
		if (log->other_number != 0 && i == log->doubtful)
			number = likelier_number(im, room, number, log->other_number, page);
		if (number == 0 || number > room)
			continue; /* a damaged one: it cannot be further than all others together */
		im->pages[number - 1] = page;
		im->count = number > im->count ? number : im->count;
	}
	return 0;
}

static void
image_close(struct image *im)
{
	if (im->bytes > 0)
		munmap(im->file, im->bytes);
	free(im->pages);
}

/* ---- the texts in them */

/* A text that is larger than its page goes on where the four bytes behind its first part say, and so on from
 * page to page (SQLite's file format, section 1.6). Its length up to and with the seal, joined in `out`, if
 * it goes on at page `next`; 0: it does not. */
static size_t
join(const struct image *im, char *out, const char *first, size_t bytes, uint32_t next)
{
	memcpy(out, first, bytes);
	while (next >= 2 && next <= im->count && im->pages[next - 1] != NULL &&
	       bytes + STORE_PAGE_BYTES <= MAX_TEXT) {
		const char *page = im->pages[next - 1];
		memcpy(out + bytes, page + LINK_BYTES, STORE_PAGE_BYTES - LINK_BYTES);
		bytes += STORE_PAGE_BYTES - LINK_BYTES;
		next = store_big_endian(page);
	}
	return seal_length(out, bytes);
}

/* Where the first part ends nobody has said here: where a page number can be. */
static size_t
find_spread(const struct image *im, char *out, const char *at, const char *end)
{
	size_t length = 0;

	for (const char *link = at + sizeof(SEAL_HEAD); link + LINK_BYTES <= end && length == 0; link++) {
		uint32_t next = store_big_endian(link);
		if (next >= 2 && next <= im->count)
			length = join(im, out, at, (size_t)(link - at), next);
	}
	return length;
}

/* Ends of texts, whole or not: one whose beginning is damaged is known by its end alone. */
static int
count_ends(const char *page)
{
	const char *at = page, *end = page + STORE_PAGE_BYTES;
	int count = 0;

	while ((at = memmem(at, (size_t)(end - at), SEAL_TAIL, sizeof(SEAL_TAIL) - 1)) != NULL) {
		count++;
		at += sizeof(SEAL_TAIL) - 1;
	}
	return count;
}

struct counts {
	int whole, cut, ends;
};

static void
scan_page(struct salvage *s, const struct image *im, const char *page, char *spread, struct counts *n)
{
	const char *at = page, *end = page + STORE_PAGE_BYTES;

	n->ends += count_ends(page);
	while ((at = memmem(at, (size_t)(end - at), SEAL_HEAD, sizeof(SEAL_HEAD) - 1)) != NULL) {
		size_t here = seal_length(at, (size_t)(end - at));
		size_t length = here > 0 ? here : find_spread(im, spread, at, end);
		if (length > 0)
			keep_text(s, here > 0 ? at : spread, length);
		n->whole += length > 0;
		n->cut += length == 0;
		at += here > 0 ? here : sizeof(SEAL_HEAD) - 1;
	}
}

static int
scan_file(struct salvage *s, const char *path, const struct store_log *log)
{
	char *spread = malloc(MAX_TEXT);
	struct counts n = {0};
	struct image im;
	int error = spread != NULL ? image_open(&im, path, log) : ENOMEM;

	if (error != 0) {
		free(spread);
		return error;
	}
	for (uint32_t i = 0; i < im.count; i++) {
		if (im.pages[i] != NULL)
			scan_page(s, &im, im.pages[i], spread, &n);
	}
	image_close(&im);
	free(spread);
	s->report->damaged += n.cut > n.ends - n.whole ? n.cut : n.ends - n.whole;
	return s->error;
}

static int
count_found(struct salvage *s)
{
	sqlite3_stmt *count = NULL;
	int status = sqlite3_prepare_v2(s->new.db, "SELECT count(*) FROM found", -1, &count, NULL);

	if (status == SQLITE_OK && (status = sqlite3_step(count)) == SQLITE_ROW)
		s->report->saved += sqlite3_column_int(count, 0);
	sqlite3_finalize(count);
	return store_errno(s->new.db, status);
}

/* 0 or errno. */
static int
fill(struct salvage *s, const char *path, const struct store_log *log)
{
	int error;

	if (sqlite3_exec(s->new.db, salvage_schema, NULL, NULL, NULL) != SQLITE_OK ||
	    sqlite3_prepare_v2(s->new.db, salvage_note, -1, &s->note, NULL) != SQLITE_OK ||
	    store_prepare(&s->new) != SQLITE_OK)
		return store_errno(s->new.db, sqlite3_errcode(s->new.db));
	error = store_run(&s->new, S_BEGIN);
	if (error == 0)
		error = scan_file(s, path, log);
	if (error == 0)
		error = store_note_open_count(&s->new);
	if (error == 0)
		error = store_run(&s->new, S_COMMIT);
	return error != 0 ? error : count_found(s);
}

/* ---- a file whose structure is broken */

#define FRESH STORE_FILE ".salvage"  /* is being made */
#define WHOLE STORE_FILE ".salvaged" /* is whole, and takes the damaged one's place whatever happens */

static void
join_path(char out[PATH_MAX], const char *dir, const char *name)
{
	snprintf(out, PATH_MAX, "%.3900s/%.100s", dir, name);
}

static int
rename_in(const char *dir, const char *from, const char *to)
{
	char from_path[PATH_MAX], to_path[PATH_MAX];

	join_path(from_path, dir, from);
	join_path(to_path, dir, to);
	return rename(from_path, to_path) != 0 ? errno : 0;
}

static int
sync_directory(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int error = fd < 0 || fsync(fd) != 0 ? errno : 0;

	if (fd >= 0)
		close(fd);
	return error;
}

/* The damaged file and its log get names of their own; nothing is lost that somebody may want to look at. */
static int
move_aside(const char *dir, struct store_report *report)
{
	char log_aside[sizeof(report->aside) + 8];
	int error;

	snprintf(report->aside, sizeof(report->aside), STORE_FILE ".damaged-%lld", (long long)time(NULL));
	snprintf(log_aside, sizeof(log_aside), "%s-wal", report->aside);
	error = rename_in(dir, STORE_FILE "-wal", log_aside);
	if (error == 0 || error == ENOENT)
		error = rename_in(dir, STORE_FILE, report->aside);
	return error == ENOENT ? 0 : error; /* it was done before */
}

int
store_finish_salvage(const char *dir, struct store_report *report)
{
	char whole[PATH_MAX];
	int error;

	join_path(whole, dir, WHOLE);
	if (access(whole, F_OK) != 0)
		return 0;
	error = move_aside(dir, report);
	if (error == 0)
		error = rename_in(dir, WHOLE, STORE_FILE);
	if (error == 0)
		error = sync_directory(dir);
	report->salvaged = error == 0;
	return error;
}

static void
remove_fresh(const char *dir)
{
	char path[PATH_MAX];

	join_path(path, dir, FRESH);
	unlink(path);
	join_path(path, dir, FRESH "-wal");
	unlink(path);
}

/* What is whole, in a file that needs no log. 0 or errno. */
static int
make_fresh(struct salvage *s, const char *dir, const struct store_log *log)
{
	char path[PATH_MAX], fresh[PATH_MAX];
	int error;

	join_path(path, dir, STORE_FILE);
	join_path(fresh, dir, FRESH);
	remove_fresh(dir);
	error = store_create(&s->new.db, fresh);
	if (error != 0)
		return error;
	error = fill(s, path, log);
	sqlite3_finalize(s->note);
	store_finalize(&s->new);
	if (error == 0)
		error = store_errno(s->new.db,
		    sqlite3_wal_checkpoint_v2(s->new.db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL));
	sqlite3_close(s->new.db);
	return error;
}

int
store_salvage(const char *dir, const struct store_log *log, struct store_report *report, struct err *e)
{
	struct salvage s = {.report = report};
	int error = make_fresh(&s, dir, log);

	if (error == 0)
		error = rename_in(dir, FRESH, WHOLE);
	if (error == 0)
		error = sync_directory(dir);
	if (error == 0)
		error = store_finish_salvage(dir, report);
	report->error = error;
	if (error == 0)
		return 0;
	remove_fresh(dir);
	return err_set(e, ERR_SYSTEM,
	    "%s/" STORE_FILE " is damaged, and what is whole in it cannot be saved: %s", dir,
	    strerror(error));
}
