/*
 * The disk thread, a disk that is slow or full, and the store on it.
 */
#include "tests/world/world.h"

#include "supervisor/jobs/job_row.h"

/* ---- the store: what it has of each job survives zitd */

static struct shelved *
find_shelved(uint64_t number)
{
	for (int i = 0; i < shelf_count; i++) {
		if (shelf[i].number == number)
			return &shelf[i];
	}
	return NULL;
}

struct shelved shelf[MAX_SHELF];
int shelf_count;

bool
is_shelved(uint64_t number, bool *final)
{
	const struct shelved *s = find_shelved(number);

	*final = s != NULL && s->final;
	return s != NULL;
}

int64_t
shelved_revision(uint64_t number)
{
	const struct shelved *s = find_shelved(number);

	return s != NULL ? s->revision : -1;
}

void
clear_shelf(void)
{
	for (int i = 0; i < shelf_count; i++)
		free(shelf[i].body);
	shelf_count = 0;
}

static void
put_row(const struct store_row *row)
{
	struct shelved *s = find_shelved(row->number);

	if (s == NULL && row->body == NULL)
		return;
	if (s == NULL && shelf_count == MAX_SHELF)
		violated("%d jobs in one run", MAX_SHELF);
	if (s == NULL) {
		s = &shelf[shelf_count++];
		*s = (struct shelved){0};
	}
	free(s->body);
	if (row->body == NULL) {
		*s = shelf[--shelf_count];
		return;
	}
	if (s->final && strstr(row->body, "\"final\":true") == NULL)
		violated("job number %llu: has ended on disk, and goes on", (unsigned long long)row->number);
	*s = (struct shelved){.number = row->number,
	    .revision = row->revision,
	    .final = strstr(row->body, "\"final\":true") != NULL,
	    .dead = strstr(row->body, "\"dead\":true") != NULL,
	    .claimed = strstr(row->body, "\"state\":\"claimed\"") != NULL,
	    .body = strdup(row->body)};
}

static void
put_batch(const struct store_batch *b, bool finals_only)
{
	for (int i = 0; i < b->row_count; i++) {
		const char *body = b->rows[i].body;
		if (!finals_only || body == NULL || strstr(body, "\"final\":true") != NULL)
			put_row(&b->rows[i]);
	}
}

/* Its attempt is on disk before it begins. */
void
audit_recorded(const struct job *job)
{
	const struct shelved *s = find_shelved(job->number);
	char attempt[32];

	snprintf(attempt, sizeof(attempt), "\"attempt\":%u,", job->attempt);
	if (job->durable && (s == NULL || !s->claimed || strstr(s->body, attempt) == NULL))
		violated("job %s: attempt %u begins and is not on disk", job->id, job->attempt);
}

struct job *
load_dead_letter(void)
{
	bool was_with_runner;
	int first = shelf_count > 0 ? (int)draw((uint32_t)shelf_count) : 0;

	for (int i = 0; i < shelf_count; i++) {
		const struct shelved *s = &shelf[(first + i) % shelf_count];
		if (s->dead)
			return job_from_row(run.daemon, s->body, &was_with_runner);
	}
	return NULL;
}

/* By number, as SQLite gives them. */
static int
compare(const void *a, const void *b)
{
	const struct store_row *x = a, *y = b;

	return x->number < y->number ? -1 : 1;
}

void
disk_open_store(struct disk *, struct disk_opening *o)
{
	if (is_refused(EROFS)) {
		o->status = err_set(&o->e, ERR_SYSTEM, "no store today");
		o->report.error = EROFS;
		return;
	}
	o->status = o->report.error = 0;
	run.opened = true;
	o->start.rows = calloc((size_t)shelf_count + 1, sizeof(*o->start.rows));
	for (int i = 0; i < shelf_count; i++) {
		if (shelf[i].number > o->start.last_number)
			o->start.last_number = shelf[i].number;
		if (!shelf[i].final)
			o->start.rows[o->start.row_count++] =
			    (struct store_row){.number = shelf[i].number, .body = strdup(shelf[i].body)};
	}
	qsort(o->start.rows, (size_t)o->start.row_count, sizeof(*o->start.rows), compare);
}

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

/* A transaction under way may be on disk, or not; nobody hears of it. */
void
disk_free(struct disk **d)
{
	while ((*d)->count > 0) {
		struct disk_task task = take_task(*d, 0);
		if (task.kind == DISK_COMMIT && odds(500))
			put_batch(task.batch, false);
	}
	free(*d);
	*d = NULL;
}

int
disk_put(struct disk *d, const struct disk_task *task)
{
	if (task->kind == DISK_WRITE && look_up(task->fd, "disk_put")->kind != PICTURE)
		violated("a file that is no picture");
	if (task->kind == DISK_SWEEP || task->kind == DISK_RETAIN)
		return 0;
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

static void
finish_commit(struct disk_task *task)
{
	task->batch->finals_saved = task->error == ENOSPC && odds(700);
	if (task->error == 0 || task->batch->finals_saved)
		put_batch(task->batch, task->error != 0);
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
	if (task.kind == DISK_COMMIT)
		finish_commit(&task);
	if (task.kind == DISK_OPEN)
		disk_open_store(d, task.opening);
	if (task.done != NULL)
		task.done(&task);
}

void
store_start_clear(struct store_start *start)
{
	for (int i = 0; i < start->row_count; i++)
		free(start->rows[i].body);
	free(start->rows);
	*start = (struct store_start){0};
}

void
store_row_clear(struct store_row *row)
{
	free(row->body);
}

void
store_batch_clear(struct store_batch *b)
{
	for (int i = 0; i < b->row_count; i++)
		free(b->rows[i].body);
	for (int i = 0; i < b->note_count; i++) {
		free(b->notes[i].name);
		free(b->notes[i].body);
	}
	free(b->rows);
	free(b->events);
	free(b->notes);
}
