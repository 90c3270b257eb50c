/*
 * What the daemon writes down, and what must wait for that. Jobs that changed in a turn of the loop go to the
 * disk thread together, one transaction at a time; what changes meanwhile goes with the next. Nobody hears of
 * a job before it is on disk, no attempt begins before, and no end is told before. Ends of jobs that need not
 * survive are told at once, and written many at a time.
 *
 * When the disk takes nothing, new jobs are refused and waiting ones wait; what runs is finished and told,
 * and stays in memory until its end can be written.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "supervisor/daemon_inside.h"
#include "supervisor/jobs/job_row.h"
#include "supervisor/journal.h"
#include "supervisor/store/seal.h"
#include "supervisor/timer.h"

#define RETRY_US INT64_C(1000000)
#define NOTE_US INT64_C(1000000)
#define LEISURE_US INT64_C(25000) /* what nobody waits for may stay unwritten so long */

/* A transaction under way. */
struct commit {
	struct store_batch batch;
	struct job **jobs; /* of its rows; NULL where the job is not in memory */
	int64_t *revisions;
	enum job_state *states;
	int64_t change; /* the last one that it has on disk, with all before it */
	int64_t begin_us;
};

/* ---- what is to be written */

void
daemon_save_again(struct daemon *d, struct job *job)
{
	if (job->unsaved)
		return;
	TAILQ_INSERT_TAIL(&d->unsaved, job, unsaved_link);
	job->unsaved = true;
	d->unsaved_count++;
	d->change += job->durable;
	d->hurried |= job->durable;
	d->changed = true;
}

void
daemon_save(struct daemon *d, struct job *job)
{
	if (!job->durable && !job_is_final(job))
		return;
	job->revision++;
	daemon_save_again(d, job);
}

void
daemon_on_leisure(struct ev_loop *loop, struct ev_timer *w, int events)
{
	struct daemon *d = w->data;

	(void)loop;
	(void)events;
	d->hurried = d->changed = true;
}

/* Takes the row's text. */
static void
add_loose(struct daemon *d, struct store_row row)
{
	struct store_row *larger = realloc(d->loose, (size_t)(d->loose_count + 1) * sizeof(row));

	if (larger == NULL) {
		journal(EVENT_OUT_OF_MEMORY, .detail = "writing down what became of an ended job");
		store_row_clear(&row);
		return;
	}
	d->loose = larger;
	d->loose[d->loose_count++] = row;
	d->change++;
	d->hurried = d->changed = true;
}

/* How long its pictures are kept, in seconds from its end. */
static double
keep_s(const struct daemon *d, const struct job *job)
{
	return job->was_waited_for ? d->conf.results.retention_waited : d->conf.results.retention;
}

void
daemon_save_ended(struct daemon *d, struct job *job)
{
	struct store_row row;

	job->revision++;
	if (job_to_row(job, keep_s(d, job), &row))
		add_loose(d, row);
}

void
daemon_remove_ended(struct daemon *d, const struct job *job)
{
	add_loose(d, (struct store_row){.number = job->number});
}

void
daemon_save_note(struct daemon *d)
{
	d->change++;
	d->note_is_due = d->changed = true;
}

/* ---- one transaction */

static void
free_commit(struct commit *c)
{
	store_batch_clear(&c->batch);
	free(c->jobs);
	free(c->revisions);
	free(c->states);
	free(c);
}

/* Room for all that waits; NULL: no memory. */
static struct commit *
new_commit(const struct daemon *d)
{
	size_t rows = (size_t)(d->unsaved_count + d->loose_count) + 1;
	struct commit *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	c->batch.rows = calloc(rows, sizeof(*c->batch.rows));
	c->batch.events = calloc(2 * rows, sizeof(*c->batch.events));
	c->jobs = calloc(rows, sizeof(struct job *));
	c->revisions = calloc(rows, sizeof(*c->revisions));
	c->states = calloc(rows, sizeof(*c->states));
	if (c->batch.rows != NULL && c->batch.events != NULL && c->jobs != NULL && c->revisions != NULL &&
	    c->states != NULL)
		return c;
	free_commit(c);
	return NULL;
}

/* A change of state is an event. Its number counts once it is on disk. */
static void
add_event(const struct daemon *d, struct commit *c, const struct job *job, enum job_state state)
{
	struct store_event *event = &c->batch.events[c->batch.event_count];

	c->batch.event_count +=
	    d->options.public->event_make(event, d->last_event + c->batch.event_count + 1, job, state);
}

/* Every job is told of as queued first, though it may have got further in the same turn. */
static void
take_event(const struct daemon *d, struct commit *c, const struct job *job)
{
	enum job_state state = job_state(job);

	if (job->told_state == JOB_STATE_COUNT && state != JOB_QUEUED)
		add_event(d, c, job, JOB_QUEUED);
	if (job->told_state != state)
		add_event(d, c, job, state);
}

/* Its end was written into the space that is kept for ends, where no event is: what is missing is only that.
 */
static bool
owes_event(const struct job *job)
{
	return job_is_final(job) && job->saved_revision == job->revision && job->told_state != job_state(job);
}

static void
take_jobs(struct daemon *d, struct commit *c)
{
	struct job *job, *next;

	for (job = TAILQ_FIRST(&d->unsaved); job != NULL; job = next) {
		int at = c->batch.row_count;
		next = TAILQ_NEXT(job, unsaved_link);
		if (d->store_error != 0 && owes_event(job))
			continue; /* that space is for others; when there is more, it goes too */
		if (!job_to_row(job, keep_s(d, job), &c->batch.rows[at]))
			return; /* no memory: the rest goes with the next one */
		TAILQ_REMOVE(&d->unsaved, job, unsaved_link);
		d->unsaved_count--;
		job->unsaved = false;
		job->in_batches++;
		c->jobs[at] = job;
		c->revisions[at] = job->revision;
		c->states[at] = job_state(job);
		c->batch.row_count++;
		take_event(d, c, job);
	}
}

/* What scheduling remembers goes with a transaction now and then, and with the last one; a pause at once;
 * what the last one before a rest leaves out, with housekeeping. */
static void
take_note(struct daemon *d, struct commit *c)
{
	int64_t now_us = clock_now_us();
	struct store_note *note;

	d->note_is_owed = d->phase == SERVING && !d->note_is_due && now_us - d->noted_us < NOTE_US;
	if (d->note_is_owed)
		return;
	d->note_is_due = true; /* without memory it stays so */
	note = calloc(1, sizeof(*note));
	if (note == NULL)
		return;
	*note = (struct store_note){strdup(DAEMON_NOTE), seal("note", daemon_remember(d))};
	c->batch.notes = note;
	c->batch.note_count = note->name != NULL && note->body != NULL;
	d->note_is_due = c->batch.note_count == 0;
	d->noted_us = now_us;
}

static void
take_loose(struct daemon *d, struct commit *c)
{
	for (int i = 0; i < d->loose_count; i++)
		c->batch.rows[c->batch.row_count++] = d->loose[i];
	d->loose_count = 0;
}

/* All that waits, as far as there is memory. */
static void
take_all(struct daemon *d, struct commit *c)
{
	take_jobs(d, c);
	d->hurried = d->unsaved_count > 0;
	take_loose(d, c);
	take_note(d, c);
	c->change = d->unsaved_count > 0 || d->note_is_due ? d->saved_change : d->change;
}

/* ---- trouble */

static void
note_trouble(struct daemon *d, int error)
{
	if (d->store_error != error)
		journal(EVENT_STORE_FAILED, .path = d->paths.state_dir, .detail = strerror(error),
		    .system_error = error);
	d->store_error = error;
	d->changed = true;
	timer_arm(d->loop, &d->store_retry, RETRY_US);
}

static void
note_recovery(struct daemon *d)
{
	if (d->store_error != 0)
		journal(EVENT_STORE_RECOVERED, .path = d->paths.state_dir);
	d->store_error = 0;
	d->changed = true;
}

int
daemon_store_error(const struct daemon *d)
{
	return d->store_error;
}

/* Row `at` is written: all are, or the final ones at least, and it is one. */
static bool
is_written(const struct commit *c, int at, int error)
{
	const struct job *job = c->jobs[at];

	if (error == 0)
		return true;
	return c->batch.finals_saved &&
	       (job == NULL || (job_is_final(job) && c->revisions[at] == job->revision));
}

static void
settle(struct daemon *d, struct commit *c, int at, int error)
{
	struct job *job = c->jobs[at];
	bool written = is_written(c, at, error);

	if (job == NULL && !written) { /* once more */
		add_loose(d, c->batch.rows[at]);
		c->batch.rows[at].body = NULL;
	}
	if (job == NULL)
		return;
	job->in_batches--;
	if (written && error == 0)
		daemon_job_saved(d, job, c->revisions[at]);
	else if (written)
		daemon_job_end_saved(d, job, c->revisions[at]);
	else
		daemon_job_unsaved(d, job, error);
}

void
daemon_on_store_retry(struct ev_loop *loop, struct ev_timer *w, int events)
{
	struct daemon *d = w->data;

	(void)loop;
	(void)events;
	if (!daemon_reopen(d))
		daemon_commit(d); /* with nothing to write, too: to see */
}

/* That one is on disk. What has come meanwhile goes to the disk thread before anybody is told, so that the
 * disk works while the loop tells. */
static void
go_on(struct daemon *d, const struct commit *c)
{
	note_recovery(d);
	d->saved_change = c->change;
	d->last_event += c->batch.event_count;
	for (int i = 0; i < c->batch.row_count; i++) {
		if (c->jobs[i] != NULL)
			c->jobs[i]->told_state = c->states[i];
	}
	daemon_group_begin(d, c->batch.row_count, clock_now_us() - c->begin_us);
	daemon_commit(d);
}

static void
on_committed(struct disk_task *task)
{
	struct daemon *d = task->arg;
	struct commit *c = d->commit;

	d->commit = NULL;
	d->note_is_due |= task->error != 0 && c->batch.note_count > 0;
	if (task->error != 0)
		note_trouble(d, task->error);
	else
		go_on(d, c);
	d->options.public->acks_send(d); /* whose orders came before the jobs that are told now */
	for (int i = 0; i < c->batch.row_count; i++)
		settle(d, c, i, task->error);
	if (task->error == 0)
		d->options.public->events_tell(c->batch.events, c->batch.event_count);
	if (c->batch.report.salvaged)
		daemon_store_salvaged(d, &c->batch.report);
	free_commit(c);
	d->changed = true;
}

static bool
is_hurried(const struct daemon *d)
{
	return d->hurried || d->note_is_due || d->store_error != 0 || d->phase != SERVING ||
	       upgrade_is_quiet(d) || !d->options.public->lookups_are_done();
}

/* There is no store: the ends of jobs that were not to survive are not kept. There are no others. */
static void
discard(struct daemon *d)
{
	struct job *job;

	while ((job = TAILQ_FIRST(&d->unsaved)) != NULL) {
		TAILQ_REMOVE(&d->unsaved, job, unsaved_link);
		d->unsaved_count--;
		job->unsaved = false;
		daemon_forget(d, job);
	}
}

void
daemon_commit(struct daemon *d)
{
	struct disk_task task = {.kind = DISK_COMMIT, .done = on_committed, .arg = d};

	if (d->opening.status != 0)
		discard(d);
	if (d->commit != NULL || d->opening.status != 0 || ev_is_active(&d->store_retry))
		return;
	if (d->unsaved_count + d->loose_count == 0 && !d->note_is_due && d->store_error == 0)
		return;
	if (!is_hurried(d)) {
		if (!ev_is_active(&d->leisure))
			timer_arm(d->loop, &d->leisure, LEISURE_US);
		return;
	}
	if (!daemon_group_is_ready(d))
		return;
	d->commit = new_commit(d);
	if (d->commit != NULL) {
		ev_timer_stop(d->loop, &d->leisure);
		take_all(d, d->commit);
		d->commit->begin_us = clock_now_us();
		task.batch = &d->commit->batch;
		if (disk_put(d->disk, &task) == 0)
			return;
		task.error = ENOMEM;
		on_committed(&task);
		return;
	}
	note_trouble(d, ENOMEM);
}

bool
daemon_is_saved(const struct daemon *d)
{
	return d->store_error != 0 || d->opening.status != 0 ||
	       (d->commit == NULL && d->unsaved_count + d->loose_count == 0 && !d->note_is_due);
}

void
daemon_drop_unsaved(struct daemon *d)
{
	if (d->commit != NULL)
		free_commit(d->commit);
	for (int i = 0; i < d->loose_count; i++)
		store_row_clear(&d->loose[i]);
	free(d->loose);
	d->commit = NULL;
	d->loose = NULL;
	d->loose_count = 0;
}
