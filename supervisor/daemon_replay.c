/*
 * A new life of zitd takes over what the last one left: the open jobs, in their old order, with their clocks
 * where they were.
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

enum { MAX_LOST = 3 /* attempts that may end with zitd itself */ };

#define REOPEN_US (5 * INT64_C(1000000))

/* ---- jobs */

/* It was with a runner when zitd ended, by whose fault nobody knows: it goes on alone, and not for ever. */
static void
note_loss(struct job *job)
{
	job->lost++;
	job->alone = true;
	journal(EVENT_JOB_INTERRUPTED, .job = job, .count = job->lost);
}

static void
go_on(struct daemon *d, struct job *job)
{
	struct err e;

	daemon_save(d, job);
	if (job->lost < MAX_LOST)
		return;
	err_set(
	    &e, ERR_LOST, "zitd itself ended %d times while this job ran; it is not tried again.", job->lost);
	job_event_error(job, JOB_EVENT_GIVE_UP, &e);
}

/* Back to where it was in its client's line: one that had its turn was in front of all that wait. */
static void
take_row(struct daemon *d, const struct store_row *row)
{
	bool was_with_runner, queued;
	struct job *job = job_from_row(d, row->body, &was_with_runner);

	if (job == NULL) {
		journal(EVENT_RECORD_DAMAGED, .count = (int64_t)row->number);
		return;
	}
	if (was_with_runner) {
		note_loss(job);
		queue_settle(&d->queue, job, 0); /* its client does not pay for what zitd lost */
	}
	limits_pend(&d->limits, job->client, job->pending_s);
	TAILQ_INSERT_TAIL(&d->jobs, job, all_link);
	d->admitted++;
	queued =
	    job_state(job) == JOB_HELD ? queue_hold_again(&d->queue, job) : queue_push_again(&d->queue, job);
	if (!queued)
		journal(EVENT_OUT_OF_MEMORY, .job = job, .detail = "its place in the queue");
	if (was_with_runner)
		go_on(d, job);
}

/* ---- opening */

static void
tell_damage(const struct daemon *d, const struct store_report *r)
{
	if (r->salvaged)
		journal(EVENT_STORE_DAMAGED, .path = d->paths.state_dir, .count = r->saved,
		    .total = r->saved + r->damaged, .detail = r->aside);
}

void
daemon_store_salvaged(struct daemon *d, const struct store_report *r)
{
	struct job *job;

	tell_damage(d, r);
	TAILQ_FOREACH(job, &d->jobs, all_link)
	{
		if (job->durable && !job_is_final(job))
			daemon_save_again(d, job);
	}
	daemon_save_note(d);
}

static void
tell(const struct daemon *d, const struct disk_opening *o)
{
	tell_damage(d, &o->report);
	if (o->start.row_count > 0)
		journal(EVENT_JOBS_REPLAYED, .count = o->start.row_count);
}

/* Where a salvage may have lost the last ones, numbers go on far above all that were ever given. */
static void
take_numbers(struct daemon *d, const struct disk_opening *o)
{
	d->last_event = o->start.last_event;
	if (o->start.last_number > d->last_number)
		d->last_number = o->start.last_number;
	if (!o->report.salvaged)
		return;
	d->last_event = clock_wall_us();
	d->last_number = (uint64_t)clock_wall_us();
}

/* What scheduling had learned and owed. */
static void
recall(struct daemon *d, const struct store_start *start)
{
	for (int i = 0; i < start->note_count; i++) {
		const struct store_note *note = &start->notes[i];
		json_t *memory = NULL;
		if (strcmp(note->name, DAEMON_NOTE) == 0)
			memory = unseal("note", note->body, strlen(note->body));
		if (memory != NULL)
			daemon_recall(d, memory);
		json_decref(memory);
	}
}

static void
take_over(struct daemon *d, struct disk_opening *o)
{
	struct disk_task sweep = {.kind = DISK_SWEEP, .fd = -1};

	tell(d, o);
	take_numbers(d, o);
	recall(d, &o->start);
	for (int i = 0; i < o->start.row_count; i++)
		take_row(d, &o->start.rows[i]);
	disk_put(d->disk, &sweep);
	store_start_clear(&o->start);
	d->changed = true;
}

static void
on_opened(struct disk_task *task)
{
	struct daemon *d = task->arg;

	if (d->opening.status == 0) {
		journal(EVENT_STORE_RECOVERED, .path = d->paths.state_dir);
		take_over(d, &d->opening);
		d->store_error = 0;
	} else {
		d->store_error = d->opening.report.error;
		timer_arm(d->loop, &d->store_retry, REOPEN_US);
	}
}

bool
daemon_reopen(struct daemon *d)
{
	struct disk_task task = {.kind = DISK_OPEN, .done = on_opened, .arg = d, .opening = &d->opening};

	if (d->opening.status == 0)
		return false;
	if (disk_put(d->disk, &task) != 0)
		timer_arm(d->loop, &d->store_retry, REOPEN_US);
	return true;
}

int
daemon_open_store(struct daemon *d, struct err *e)
{
	d->opening = (struct disk_opening){.dir = d->paths.state_dir};
	disk_open_store(d->disk, &d->opening);
	if (d->opening.status == -ERR_BAD_CONFIG) { /* a newer one's: nothing of it may be touched */
		*e = d->opening.e;
		return d->opening.status;
	}
	if (d->opening.status != 0) {
		journal(EVENT_STORE_UNAVAILABLE, .path = d->paths.state_dir, .error = &d->opening.e);
		d->store_error = d->opening.report.error;
		d->last_number = (uint64_t)clock_wall_us(); /* above all that may be in it */
		timer_arm(d->loop, &d->store_retry, REOPEN_US);
		return 0;
	}
	take_over(d, &d->opening);
	return 0;
}
