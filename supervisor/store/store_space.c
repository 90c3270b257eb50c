/*
 * The durable queue: its space on the disk. What is kept free for the last words of jobs, and the length of
 * the log.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "supervisor/store/store_inside.h"

#define RESERVE_FILE "queue.reserve"

enum { RESERVE_BYTES = 256 * 1024 /* room for a few hundred final records */ };

static void
reserve_path(const struct store *s, char out[PATH_MAX])
{
	snprintf(out, PATH_MAX, "%s/" RESERVE_FILE, s->dir);
}

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

void
store_release_reserve(struct store *s)
{
	char path[PATH_MAX];

	reserve_path(s, path);
	unlink(path);
	s->reserve_gone = true;
}

/* ---- the log */

void
store_cut_log(struct store *s)
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
store_move_log(struct store *s)
{
	int in_log, moved;

	if (s->db != NULL &&
	    sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_PASSIVE, &in_log, &moved) == SQLITE_OK &&
	    in_log == moved)
		s->log_frames = 0;
}

void
store_tend(struct store *s)
{
	if (s->log_frames >= CHECKPOINT_PAGES)
		store_move_log(s);
}
