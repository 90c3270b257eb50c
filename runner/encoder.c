/*
 * The one thread that makes PNGs beside the next picture's steps.
 */
#include "runner/encoder.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "runner/png_writer.h"
#include "runner/thread.h"

STAILQ_HEAD(task_list, encode_task);

struct encoder {
	pthread_t thread;
	pthread_mutex_t lock; /* over all below */
	pthread_cond_t wake;
	struct task_list waiting, finished;
	int held; /* waiting, in hand or finished and not taken: at most ENCODER_DEPTH */
	bool stop;
	int event_fd;
};

/* The first task of a list, taken out; NULL when it is empty. */
static struct encode_task *
take_first(struct task_list *l)
{
	struct encode_task *task = STAILQ_FIRST(l);

	if (task != NULL)
		STAILQ_REMOVE_HEAD(l, link);
	return task;
}

static void
encode(struct encode_task *task)
{
	int64_t begin = clock_now_us();

	task->fd =
	    png_write(task->rgb, task->width, task->height, &task->metadata, &task->bytes, &task->error);
	task->seconds = (double)(clock_now_us() - begin) * 1e-6;
}

static void *
run(void *arg)
{
	struct encoder *e = arg;

	pthread_mutex_lock(&e->lock);
	while (!e->stop) {
		struct encode_task *task = take_first(&e->waiting);
		if (task == NULL) {
			pthread_cond_wait(&e->wake, &e->lock);
			continue;
		}
		pthread_mutex_unlock(&e->lock);
		encode(task);
		pthread_mutex_lock(&e->lock);
		STAILQ_INSERT_TAIL(&e->finished, task, link);
		eventfd_write(e->event_fd, 1);
	}
	pthread_mutex_unlock(&e->lock);
	return NULL;
}

struct encoder *
encoder_new(void)
{
	struct encoder *e = calloc(1, sizeof(*e));

	if (e == NULL)
		return NULL;
	pthread_mutex_init(&e->lock, NULL);
	pthread_cond_init(&e->wake, NULL);
	STAILQ_INIT(&e->waiting);
	STAILQ_INIT(&e->finished);
	e->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (e->event_fd >= 0 && (errno = thread_start(&e->thread, run, e)) == 0)
		return e;
	if (e->event_fd >= 0)
		close(e->event_fd);
	free(e);
	return NULL;
}

void
encoder_free(struct encoder **out)
{
	struct encoder *e = *out;
	struct encode_task *task;

	if (e == NULL)
		return;
	pthread_mutex_lock(&e->lock);
	e->stop = true;
	pthread_cond_signal(&e->wake);
	pthread_mutex_unlock(&e->lock);
	pthread_join(e->thread, NULL);
	while ((task = take_first(&e->waiting)) != NULL || (task = take_first(&e->finished)) != NULL)
		encode_task_free(&task);
	close(e->event_fd);
	free(e);
	*out = NULL;
}

int
encoder_fd(const struct encoder *e)
{
	return e->event_fd;
}

bool
encoder_is_full(struct encoder *e)
{
	bool full;

	pthread_mutex_lock(&e->lock);
	full = e->held == ENCODER_DEPTH;
	pthread_mutex_unlock(&e->lock);
	return full;
}

void
encoder_put(struct encoder *e, struct encode_task *task)
{
	pthread_mutex_lock(&e->lock);
	STAILQ_INSERT_TAIL(&e->waiting, task, link);
	e->held++;
	pthread_cond_signal(&e->wake);
	pthread_mutex_unlock(&e->lock);
}

struct encode_task *
encoder_take(struct encoder *e)
{
	struct encode_task *task;
	eventfd_t count;

	pthread_mutex_lock(&e->lock);
	task = take_first(&e->finished);
	if (task != NULL)
		e->held--;
	if (STAILQ_EMPTY(&e->finished))
		eventfd_read(e->event_fd, &count);
	pthread_mutex_unlock(&e->lock);
	return task;
}

void
encode_task_free(struct encode_task **task)
{
	if (*task == NULL)
		return;
	if ((*task)->fd >= 0)
		close((*task)->fd);
	metadata_clear(&(*task)->metadata);
	free((*task)->rgb);
	free(*task);
	*task = NULL;
}
