/*
 * What a durable submission costs without zitd: lines taken, rows of a job's and an event's size put into an
 * SQLite store by a thread, synced, lines answered, and nothing else. No JSON is read, no queue is kept.
 *
 *   durable_floor SOCKET STORE          serves until it is killed
 *
 * As in zitd, what comes during a transaction is the next one, which begins before the clients of the last
 * one are told; the store has zitd's settings.
 */
#include "tests/bench/floor.h"

#include <errno.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

/* Of a submission of bench_durable.py: its row, its event, what is noted once a transaction, and the answer.
 */
enum { JOB_BYTES = 644, EVENT_BYTES = 136, NOTE_BYTES = 876, ANSWER_BYTES = 477 };
enum { MAX_BATCH = 1000, CHECKPOINT_PAGES = 400 };

struct batch {
	int clients[MAX_BATCH];
	int count;
};

static struct {
	sqlite3 *db;
	sqlite3_stmt *begin, *job, *event, *note, *commit;
	sqlite3_int64 number;
	int log_pages;
} store; /* the thread's */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* over `at_disk` and `written` */
static pthread_cond_t wake_disk = PTHREAD_COND_INITIALIZER;
static bool at_disk, written;	/* the batch that is not filled is to be written; it is */
static struct batch batches[2]; /* one is filled while the other is at the disk */
static struct batch *filled = &batches[0];
static int wake_loop;

/* ---- the disk's thread */

static void
step(sqlite3_stmt *statement)
{
	if (sqlite3_step(statement) != SQLITE_DONE)
		floor_die(sqlite3_errmsg(store.db));
	sqlite3_reset(statement);
}

static void
insert(sqlite3_stmt *statement, size_t bytes)
{
	static char body[JOB_BYTES + NOTE_BYTES];

	memset(body, '.', sizeof(body));
	sqlite3_bind_int64(statement, 1, store.number);
	sqlite3_bind_text(statement, 2, body, (int)bytes, SQLITE_STATIC);
	step(statement);
}

static void
write_batch(const struct batch *b)
{
	step(store.begin);
	for (int i = 0; i < b->count; i++) {
		store.number++;
		insert(store.job, JOB_BYTES);
		insert(store.event, EVENT_BYTES);
	}
	insert(store.note, NOTE_BYTES);
	step(store.commit);
}

static int
on_committed(void *arg, sqlite3 *db, const char *name, int pages)
{
	(void)arg;
	(void)db;
	(void)name;
	store.log_pages = pages;
	return SQLITE_OK;
}

static struct batch *
the_other(const struct batch *b)
{
	return &batches[b == &batches[0]];
}

static void *
serve_disk(void *arg)
{
	struct batch *b = arg;

	for (;; b = the_other(b)) {
		pthread_mutex_lock(&lock);
		while (!at_disk)
			pthread_cond_wait(&wake_disk, &lock);
		pthread_mutex_unlock(&lock);
		write_batch(b);
		pthread_mutex_lock(&lock);
		at_disk = false;
		written = true;
		pthread_mutex_unlock(&lock);
		eventfd_write(wake_loop, 1);
		if (store.log_pages < CHECKPOINT_PAGES)
			continue;
		sqlite3_wal_checkpoint_v2(store.db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
		store.log_pages = 0;
	}
	return NULL;
}

static sqlite3_stmt *
prepare(const char *sql)
{
	sqlite3_stmt *statement = NULL;

	if (sqlite3_prepare_v3(store.db, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL) != SQLITE_OK)
		floor_die(sqlite3_errmsg(store.db));
	return statement;
}

static void
open_store(const char *path)
{
	const char *sql =
	    "PRAGMA locking_mode = EXCLUSIVE; PRAGMA page_size = 4096; PRAGMA journal_mode = WAL;"
	    "PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA wal_autocheckpoint = 0;"
	    "PRAGMA temp_store = MEMORY;"
	    "CREATE TABLE job (number INTEGER PRIMARY KEY, body TEXT NOT NULL);"
	    "CREATE TABLE event (number INTEGER PRIMARY KEY, body TEXT NOT NULL);"
	    "CREATE TABLE note (number INTEGER PRIMARY KEY, body TEXT NOT NULL);";

	if (sqlite3_open_v2(path, &store.db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
		NULL) != SQLITE_OK ||
	    sqlite3_exec(store.db, sql, NULL, NULL, NULL) != SQLITE_OK)
		floor_die(sqlite3_errmsg(store.db));
	sqlite3_wal_hook(store.db, on_committed, NULL);
	store.begin = prepare("BEGIN");
	store.job = prepare("INSERT INTO job VALUES (?, ?)");
	store.event = prepare("INSERT INTO event VALUES (?, ?)");
	store.note = prepare("REPLACE INTO note VALUES (1, ?2)");
	store.commit = prepare("COMMIT");
}

/* ---- the loop */

static void
tell(const struct batch *b)
{
	for (int i = 0; i < b->count; i++)
		floor_answer(b->clients[i], "\"state\":\"queued\"", ANSWER_BYTES);
}

/* Gives the disk what has come, unless it has something. */
static void
turn(void)
{
	pthread_mutex_lock(&lock);
	if (at_disk || written || filled->count == 0) {
		pthread_mutex_unlock(&lock);
		return;
	}
	at_disk = true;
	filled = the_other(filled);
	filled->count = 0;
	pthread_mutex_unlock(&lock);
	pthread_cond_signal(&wake_disk);
}

static void
take_written(void)
{
	static struct batch told;
	eventfd_t count;

	eventfd_read(wake_loop, &count);
	pthread_mutex_lock(&lock);
	told = *the_other(filled);
	written = false;
	pthread_mutex_unlock(&lock);
	turn();
	tell(&told);
}

static void
take(int fd)
{
	char line[FLOOR_LINE + 1];

	if (fd == wake_loop)
		take_written();
	else if (floor_read(fd, line))
		filled->clients[filled->count++] = fd; /* each client waits for its answer: there is room */
}

int
main(int argc, char **argv)
{
	pthread_t thread;

	if (argc != 3) {
		fputs("usage: durable_floor SOCKET STORE\n", stderr);
		return 64;
	}
	open_store(argv[2]);
	wake_loop = eventfd(0, EFD_CLOEXEC);
	errno = wake_loop < 0 ? errno : pthread_create(&thread, NULL, serve_disk, filled);
	if (errno != 0)
		floor_die("starting");
	floor_serve(argv[1], &wake_loop, 1, take, turn);
}
