/*
 * The one thread that touches the disk.
 */
#include "supervisor/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/err.h"

enum {
	STACK_BYTES = 256 * 1024,
	TURN_US = 1000, /* that the ends of tasks may take in one turn of the loop */
};

#define TEMPORARY ".tmp-"
#define STALL_US (60 * INT64_C(1000000))

STAILQ_HEAD(task_list, disk_task);

struct disk {
	struct ev_loop *loop;
	struct ev_async wake_loop;
	pthread_t thread;
	pthread_mutex_t lock; /* over all below */
	pthread_cond_t wake_thread;
	struct task_list waiting, finished;
	int pending;
	int64_t moved_us; /* when the last task was finished, or the first of a run was handed over */
	bool stop;
	int dir_fd; /* the thread's */
	char dir[PATH_MAX];
	struct store *store; /* the thread's; NULL: it cannot be opened yet */
};

/* The first task of a list, taken out; NULL when it is empty. */
static struct disk_task *
take_first(struct task_list *l)
{
	struct disk_task *task = STAILQ_FIRST(l);

	if (task != NULL)
		STAILQ_REMOVE_HEAD(l, link);
	return task;
}

/* ---- on the thread */

/* All of `from` to `to`. 0 or errno. */
static int
copy_file(int from, int to)
{
	off_t at = 0;

	for (;;) {
		ssize_t n = sendfile(to, from, &at, 16 * 1024 * 1024);
		if (n == 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return errno;
	}
}

/* Made where it is not there. -1 with errno. */
static int
open_directory(const char *dir)
{
	if (mkdir(dir, 0750) != 0 && errno != EEXIST && errno != EROFS)
		return -1;
	return open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static bool
is_same(const struct stat *x, const struct stat *y)
{
	return x->st_dev == y->st_dev && x->st_ino == y->st_ino;
}

/* What is written is looked for by its path: if somebody removed the directory or put another one there, that
 * counts from now on. 0 or errno. */
static int
see_to_directory(struct disk *d)
{
	struct stat there, ours;
	int fd;

	if (stat(d->dir, &there) == 0 && fstat(d->dir_fd, &ours) == 0 && is_same(&there, &ours))
		return 0;
	fd = open_directory(d->dir);
	if (fd < 0)
		return errno;
	close(d->dir_fd);
	d->dir_fd = fd;
	return 0;
}

/* Temporary name, sync, rename, sync of the directory: after a crash the file is whole or not there. */
static int
copy_in(const struct disk *d, const struct disk_task *task)
{
	char temporary[80];
	int to, error;

	snprintf(temporary, sizeof(temporary), TEMPORARY "%s", task->name);
	to = openat(d->dir_fd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
	if (to < 0)
		return errno;
	error = copy_file(task->fd, to);
	if (error == 0 && !task->unsynced && fdatasync(to) != 0)
		error = errno;
	if (close(to) != 0 && error == 0)
		error = errno;
	if (error == 0 && renameat(d->dir_fd, temporary, d->dir_fd, task->name) != 0)
		error = errno;
	if (error == 0 && !task->unsynced && fsync(d->dir_fd) != 0)
		error = errno;
	if (error != 0)
		unlinkat(d->dir_fd, temporary, 0);
	return error;
}

static int
write_file(struct disk *d, struct disk_task *task)
{
	int error = see_to_directory(d);

	if (error == 0)
		error = copy_in(d, task);
	close(task->fd);
	return error;
}

/* "job_X-0.png" of a job whose pictures are to be there; anything else is of an earlier life. */
static bool
is_leftover(const struct disk *d, const char *name)
{
	char id[ID_SIZE];

	if (strncmp(name, TEMPORARY, strlen(TEMPORARY)) == 0)
		return true;
	if (strncmp(name, "job_", 4) != 0 || d->store == NULL)
		return false;
	snprintf(id, sizeof(id), "%.*s", ID_SIZE - 1, name);
	return !store_has_pictures(d->store, id);
}

static int
sweep(struct disk *d, struct disk_task *task)
{
	int fd = openat(d->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *entry;

	(void)task;
	if (dir == NULL)
		return errno;
	while ((entry = readdir(dir)) != NULL) {
		if (is_leftover(d, entry->d_name))
			unlinkat(d->dir_fd, entry->d_name, 0);
	}
	closedir(dir);
	return 0;
}

static int
open_store(struct disk *d, struct disk_task *task)
{
	disk_open_store(d, task->opening);
	return task->opening->status == 0 ? 0 : EIO;
}

static int
commit(struct disk *d, struct disk_task *task)
{
	return d->store != NULL ? store_commit(d->store, task->batch) : EIO;
}

static int
find(struct disk *d, struct disk_task *task)
{
	return d->store != NULL ? store_find(d->store, task->query) : EIO;
}

static void
remove_pictures(void *arg, const char *id, int count)
{
	const struct disk *d = arg;
	char name[64];

	for (int i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "%s-%d.png", id, i);
		unlinkat(d->dir_fd, name, 0);
	}
}

static int
retain(struct disk *d, struct disk_task *task)
{
	task->retention.remove = remove_pictures;
	task->retention.arg = d;
	return d->store != NULL ? store_retain(d->store, &task->retention, &task->more) : EIO;
}

static int (*const works[DISK_KINDS])(struct disk *d, struct disk_task *task) = {
    [DISK_WRITE] = write_file,
    [DISK_SWEEP] = sweep,
    [DISK_OPEN] = open_store,
    [DISK_COMMIT] = commit,
    [DISK_FIND] = find,
    [DISK_RETAIN] = retain,
};

static void *
run(void *arg)
{
	struct disk *d = arg;

	pthread_mutex_lock(&d->lock);
	for (;;) {
		struct disk_task *task = take_first(&d->waiting);
		if (task == NULL && d->stop)
			break;
		if (task == NULL) {
			pthread_cond_wait(&d->wake_thread, &d->lock);
			continue;
		}
		pthread_mutex_unlock(&d->lock);
		task->error = works[task->kind](d, task);
		pthread_mutex_lock(&d->lock);
		STAILQ_INSERT_TAIL(&d->finished, task, link);
		pthread_mutex_unlock(&d->lock);
		ev_async_send(d->loop, &d->wake_loop); /* unlocked, so that the loop need not wait at once */
		if (d->store != NULL)
			store_tend(d->store); /* the loop tells of that task meanwhile */
		pthread_mutex_lock(&d->lock);
	}
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

/* ---- on the loop */

static struct disk_task *
take_finished(struct disk *d)
{
	struct disk_task *task;

	pthread_mutex_lock(&d->lock);
	task = take_first(&d->finished);
	if (task != NULL) {
		d->pending--;
		d->moved_us = clock_now_us();
	}
	pthread_mutex_unlock(&d->lock);
	return task;
}

static void
on_finished(struct ev_loop *loop, struct ev_async *w, int events)
{
	struct disk *d = w->data;
	int64_t end_us = clock_now_us() + TURN_US;
	struct disk_task *task;

	(void)events;
	while ((task = take_finished(d)) != NULL) {
		if (task->done != NULL)
			task->done(task);
		free(task);
		if (clock_now_us() < end_us)
			continue;
		ev_async_send(loop, w); /* others have their turn first */
		break;
	}
}

/* A small stack: the thread counts against the daemon's size. Signals stay with the loop. */
static int
start_thread(struct disk *d)
{
	sigset_t all, before;
	pthread_attr_t attributes;
	int status;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_BYTES);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	status = pthread_create(&d->thread, &attributes, run, d);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	return status;
}

struct disk *
disk_new(struct ev_loop *loop, const char *dir)
{
	struct disk *d = calloc(1, sizeof(*d));

	if (d == NULL)
		return NULL;
	snprintf(d->dir, sizeof(d->dir), "%s", dir);
	d->loop = loop;
	STAILQ_INIT(&d->waiting);
	STAILQ_INIT(&d->finished);
	d->dir_fd = open_directory(dir);
	if (d->dir_fd < 0)
		goto out;
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->wake_thread, NULL);
	errno = start_thread(d);
	if (errno != 0) {
		close(d->dir_fd);
		goto out;
	}
	ev_async_init(&d->wake_loop, on_finished);
	d->wake_loop.data = d;
	ev_async_start(loop, &d->wake_loop);
	return d;
out:
	free(d);
	return NULL;
}

void
disk_free(struct disk **out)
{
	struct disk *d = *out;
	struct disk_task *task;

	if (d == NULL)
		return;
	pthread_mutex_lock(&d->lock);
	d->stop = true;
	pthread_cond_signal(&d->wake_thread);
	pthread_mutex_unlock(&d->lock);
	pthread_join(d->thread, NULL);
	ev_async_stop(d->loop, &d->wake_loop);
	while ((task = take_first(&d->finished)) != NULL)
		free(task);
	store_close(&d->store);
	close(d->dir_fd);
	free(d);
	*out = NULL;
}

void
disk_open_store(struct disk *d, struct disk_opening *o)
{
	int error;

	o->status = store_open(&d->store, o->dir, &o->report, &o->e);
	if (o->status != 0)
		return;
	error = store_load(d->store, &o->start);
	if (error == 0)
		return;
	o->status = err_set(&o->e, ERR_SYSTEM, "the queue in %s cannot be read: %s", o->dir, strerror(error));
	o->report.error = error;
	store_start_clear(&o->start);
	store_close(&d->store);
}

int
disk_put(struct disk *d, const struct disk_task *given)
{
	struct disk_task *task = malloc(sizeof(*task));

	if (task == NULL)
		return -ERR_SYSTEM;
	*task = *given;
	pthread_mutex_lock(&d->lock);
	STAILQ_INSERT_TAIL(&d->waiting, task, link);
	if (d->pending++ == 0)
		d->moved_us = clock_now_us();
	pthread_mutex_unlock(&d->lock);
	pthread_cond_signal(&d->wake_thread); /* unlocked, so that it need not wait at once again */
	return 0;
}

const char *
disk_dir(const struct disk *d)
{
	return d->dir;
}

int
disk_pending(struct disk *d)
{
	int pending;

	pthread_mutex_lock(&d->lock);
	pending = d->pending;
	pthread_mutex_unlock(&d->lock);
	return pending;
}

bool
disk_is_alive(struct disk *d)
{
	bool alive;

	pthread_mutex_lock(&d->lock);
	alive = d->pending == 0 || clock_now_us() - d->moved_us < STALL_US;
	pthread_mutex_unlock(&d->lock);
	return alive;
}
