/*
 * The disk thread, and a disk that is slow or full.
 */
#include "tests/world/world.h"

/* ---- the disk */

struct disk *
disk_new(struct ev_loop *, const char *)
{
	run.disk = calloc(1, sizeof(*run.disk));
	return run.disk;
}

static struct disk_task
take_task(struct disk *d, int at)
{
	struct disk_task task = d->tasks[at];

	d->tasks[at] = d->tasks[--d->count];
	d->ready_us[at] = d->ready_us[d->count];
	if (task.kind == DISK_WRITE)
		close(task.fd);
	return task;
}

void
disk_free(struct disk **d)
{
	while ((*d)->count > 0)
		take_task(*d, 0);
	free(*d);
	*d = NULL;
}

int
disk_put(struct disk *d, const struct disk_task *task)
{
	if (task->kind == DISK_WRITE && look_up(task->fd, "disk_put")->kind != PICTURE)
		violated("a file that is no picture");
	if (is_refused(ENOMEM))
		return -ERR_SYSTEM;
	if (d->count == MAX_TASKS)
		violated("%d files at once", MAX_TASKS);
	d->tasks[d->count] = *task;
	d->ready_us[d->count++] = run.now_us + span_us(MS, run.disk_slow ? 70 * SECOND : 50 * MS);
	return 0;
}

int
disk_pending(struct disk *d)
{
	return d->count;
}

int
first_task(const struct disk *d)
{
	int first = 0;

	for (int i = 1; i < d->count; i++) {
		if (d->ready_us[i] < d->ready_us[first])
			first = i;
	}
	return first;
}

void
finish_task(struct disk *d, int at)
{
	static const int errors[] = {ENOSPC, EDQUOT, EIO};
	struct disk_task task = take_task(d, at);
	struct open_job *o = find_open_job(task.arg_number / JOB_MAX_PICTURES);

	task.error = run.disk_full || odds(run.climate.trouble) ? errors[draw(3)] : 0;
	if (task.kind == DISK_WRITE && task.error != 0 && o != NULL)
		o->unwritten = true;
	if (task.done != NULL)
		task.done(&task);
}
