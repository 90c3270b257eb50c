/*
 * What a runner says: each message becomes an event of its own machine or of its job's. A message that its
 * state does not allow is a lie, and a liar is killed. A message about a job that is not current is dropped.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "build_id.h"
#include "ipc/clock.h"
#include "supervisor/journal.h"
#include "supervisor/runners/runner_inside.h"

enum { MAX_PICTURE_BYTES = 64 * 1024 * 1024, MAX_STAGE_S = 86400 /* no job may run for longer */ };

static void
lie(struct runner *r, const char *what)
{
	snprintf(r->last_error, sizeof(r->last_error), "it broke the protocol: %s", what);
	journal(EVENT_RUNNER_LIED, .runner = r, .detail = what);
	fsm_event(&r->fsm, RUNNER_EVENT_LIE, NULL);
}

/* An event that the peer caused: one that its state does not take is a lie. */
static void
peer_event(struct runner *r, enum runner_event event, const char *message)
{
	if (fsm_event(&r->fsm, (int)event, NULL) != 0)
		lie(r, message);
}

/* ---- its life */

static void
on_hello(struct runner *r, const struct proto_msg *m, int *fds)
{
	bool alike = r->elder || strcmp(m->HELLO.build, ZIT_BUILD) == 0;

	(void)fds;
	if (m->HELLO.version != PROTO_VERSION || !alike) {
		snprintf(r->last_error, sizeof(r->last_error),
		    "it is of build %.60s, zitd of %s; install both from one build", m->HELLO.build,
		    ZIT_BUILD);
		journal(EVENT_RUNNER_MISFIT, .runner = r, .detail = r->last_error);
		r->permanent = true;
		fsm_event(&r->fsm, RUNNER_EVENT_LIE, NULL);
		return;
	}
	r->loaded_bytes = 0;
	peer_event(r, RUNNER_EVENT_HELLO, "HELLO");
}

static void
on_loading(struct runner *r, const struct proto_msg *m, int *fds)
{
	(void)fds;
	if (m->LOADING.done_bytes <= r->loaded_bytes)
		return; /* no progress: the clock goes on */
	r->loaded_bytes = m->LOADING.done_bytes;
	peer_event(r, RUNNER_EVENT_LOADING, "LOADING");
	r->world->loading(r->world->arg);
}

static void
on_warming(struct runner *r, const struct proto_msg *m, int *fds)
{
	(void)m;
	(void)fds;
	peer_event(r, RUNNER_EVENT_WARMING, "WARMING");
	r->world->loading(r->world->arg);
}

static void
on_ready(struct runner *r, const struct proto_msg *m, int *fds)
{
	const struct proto_READY *f = &m->READY;

	(void)fds;
	if (f->default_side == 0 || f->default_side > 65536 || f->max_side > 65536 || f->granule == 0 ||
	    f->granule > 65536 || f->max_pixels > UINT32_MAX || f->checkpoint_bytes == 0 ||
	    f->checkpoint_bytes > SHM_MAX_CHECKPOINT || f->text_streamed > 1) {
		lie(r, "READY with figures that cannot be");
		return;
	}
	snprintf(r->device, sizeof(r->device), "%s", f->device);
	snprintf(r->model, sizeof(r->model), "%s", f->model);
	snprintf(r->text_encoder, sizeof(r->text_encoder), "%s", f->text_streamed ? "streamed" : "resident");
	r->limits = (struct runner_limits){
	    (int)f->default_side, (int)f->max_side, (int)f->granule, (int64_t)f->max_pixels};
	r->checkpoint_bytes = f->checkpoint_bytes;
	peer_event(r, RUNNER_EVENT_READY, "READY");
}

static void
on_canary_ok(struct runner *r, const struct proto_msg *m, int *fds)
{
	(void)m;
	(void)fds;
	peer_event(r, RUNNER_EVENT_TESTED, "CANARY_OK");
}

static void
on_fatal(struct runner *r, const struct proto_msg *m, int *fds)
{
	(void)fds;
	snprintf(r->fatal_text, sizeof(r->fatal_text), "%s", m->FATAL.text);
	journal(EVENT_RUNNER_FATAL, .runner = r, .detail = r->fatal_text);
}

/* ---- its jobs. The fence has let the message through: held->job is the one it is about. */

static void
on_ack(struct runner *r, struct held *held, const struct proto_msg *m, int *fds)
{
	(void)m;
	(void)fds;
	r->advanced_us = clock_now_us();
	if (job_state(held->job) != JOB_DISPATCHED)
		lie(r, "ACK twice");
	else
		job_event(held->job, JOB_EVENT_ACKNOWLEDGED);
}

/* The first step that an attempt tells of is where it begins: past 0, it goes on from the checkpoint. */
static void
note_start(struct job *job, const struct proto_PROGRESS *f)
{
	if (job->told_start || f->stage != STAGE_DENOISE)
		return;
	job->told_start = true;
	if (job->attempt < 2 || f->step == 0)
		return;
	job->resumed++;
	job->steps_saved += (int)f->step;
	job->stage = STAGE_DENOISE;
	job->step = f->step;
	journal(EVENT_JOB_CONTINUED, .job = job, .count = f->picture);
}

static void
on_progress(struct runner *r, struct held *held, const struct proto_msg *m, int *fds)
{
	const struct proto_PROGRESS *f = &m->PROGRESS;
	struct job *job = held->job;
	int64_t now_us = clock_now_us();
	bool leaves_device;

	(void)fds;
	if (f->stage >= STAGE_COUNT || f->step > (uint32_t)job->steps || f->picture >= (uint32_t)job->count ||
	    job_state(job) != JOB_RUNNING) {
		lie(r, "PROGRESS that cannot be");
		return;
	}
	if (now_us - r->advanced_us > r->slowest_step_us)
		r->slowest_step_us = now_us - r->advanced_us;
	r->advanced_us = now_us;
	note_start(job, f);
	job->stage = (enum stage)f->stage;
	job->picture = f->picture;
	job->step = f->step;
	leaves_device =
	    !held->device_over && f->stage >= STAGE_DECODE && f->picture + 1 == (uint32_t)job->count;
	held->device_over |= leaves_device;
	job_event(job, JOB_EVENT_ADVANCED);
	peer_event(r, RUNNER_EVENT_ADVANCED, "PROGRESS");
	if (leaves_device) { /* one that waits, or the next one, comes while the picture is decoded */
		runner_go_on(r);
		runner_changed(r);
	}
}

/* Sealed against every change, and of the size it says. */
static bool
is_sound_picture(int fd, uint64_t bytes)
{
	const int wanted = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK;
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;

	return seals >= 0 && (seals & wanted) == wanted && fstat(fd, &st) == 0 && bytes > 0 &&
	       bytes <= MAX_PICTURE_BYTES && (uint64_t)st.st_size == bytes;
}

/* It is in the runner's memory as it stood after that step; no time is counted. */
static void
on_suspended(struct runner *r, struct held *held, const struct proto_msg *m, int *fds)
{
	struct job *job = held->job;

	(void)fds;
	if (!held->waits || held->device_over || job_state(job) != JOB_RUNNING ||
	    job->picture_count == job->count || m->SUSPENDED.step > (uint32_t)job->steps) {
		lie(r, "SUSPENDED without a SUSPEND, or of a job that is over");
		return;
	}
	job_event(job, JOB_EVENT_SUSPENDED);
	runner_go_on(r); /* there may be room again already */
}

/* A suspended job may have one with the encoder, but not its last. */
static bool
may_send_picture(const struct job *job, const struct proto_PICTURE *f)
{
	bool last = f->picture + 1 == (uint32_t)job->count;

	return (job_state(job) == JOB_RUNNING || (job_state(job) == JOB_SUSPENDED && !last)) &&
	       f->picture == (uint32_t)job->picture_count && job->picture_count < job->count &&
	       f->seed == job->seed + f->picture;
}

static void
on_picture(struct runner *r, struct held *held, const struct proto_msg *m, int *fds)
{
	struct job *job = held->job;

	if (!may_send_picture(job, &m->PICTURE) || !is_sound_picture(fds[0], m->PICTURE.bytes)) {
		lie(r, "PICTURE out of turn, not sealed, or of another size");
		return;
	}
	job->pictures[job->picture_count++] = (struct picture){fds[0], m->PICTURE.bytes, m->PICTURE.seed, ""};
	fds[0] = -1; /* the job's now */
}

static bool
are_sound_times(const struct proto_DONE *f)
{
	const double times[] = {f->tokenize_s, f->text_s, f->denoise_s, f->decode_s, f->png_s};

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		if (!(times[i] >= 0 && times[i] <= MAX_STAGE_S))
			return false;
	}
	return true;
}

static void
on_done(struct runner *r, struct held *held, const struct proto_msg *m, int *fds)
{
	struct job *job = held->job;

	(void)fds;
	if (job_state(job) != JOB_RUNNING || job->picture_count != job->count) {
		lie(r, "DONE without its pictures");
		return;
	}
	if (!are_sound_times(&m->DONE)) {
		lie(r, "DONE with times that cannot be");
		return;
	}
	job->sums = m->DONE;
	runner_keep_checkpoint(r, job);
	runner_release(held, JOB_EVENT_RESULT, NULL);
	r->world->result(r->world->arg, job);
	runner_let_go(r, held);
}

static void
on_failed(struct runner *r, struct held *held, const struct proto_msg *m, int *fds)
{
	struct err e;

	(void)fds;
	err_set(&e, err_row((int)m->FAILED.code)->code, "%s", m->FAILED.text);
	runner_release(held, JOB_EVENT_FAULT, &e);
	runner_let_go(r, held);
}

/* ---- all of them: about its life, or about a job of its */

static const struct {
	unsigned type;
	void (*life)(struct runner *r, const struct proto_msg *m, int *fds);
	void (*job)(struct runner *r, struct held *held, const struct proto_msg *m, int *fds);
} rows[] = {
    {PROTO_HELLO, on_hello, NULL},
    {PROTO_LOADING, on_loading, NULL},
    {PROTO_WARMING, on_warming, NULL},
    {PROTO_READY, on_ready, NULL},
    {PROTO_FATAL, on_fatal, NULL},
    {PROTO_CANARY_OK, on_canary_ok, NULL},
    {PROTO_ACK, NULL, on_ack},
    {PROTO_PROGRESS, NULL, on_progress},
    {PROTO_PICTURE, NULL, on_picture},
    {PROTO_DONE, NULL, on_done},
    {PROTO_FAILED, NULL, on_failed},
    {PROTO_SUSPENDED, NULL, on_suspended},
};

/* A message about a job that is not this runner's any more: dropped, but one that ends the job ends a
 * cancellation. */
static void
fence(struct runner *r, struct held *held, const struct proto_msg *m)
{
	bool ends =
	    m->head.type == PROTO_STOPPED || m->head.type == PROTO_DONE || m->head.type == PROTO_FAILED;

	if (held != NULL && held->job != NULL) {
		lie(r, "STOPPED without a CANCEL");
		return;
	}
	if (held != NULL && ends) {
		runner_let_go(r, held);
		return;
	}
	if (held == NULL || m->head.type == PROTO_PICTURE)
		journal(EVENT_MESSAGE_DROPPED, .runner = r, .detail = proto_name(m->head.type),
		    .count = (int64_t)m->head.job, .attempt = m->head.attempt);
}

static void
take(struct runner *r, const struct proto_msg *m, int *fds)
{
	struct held *held = runner_find_held(r, &m->head);

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (rows[i].type != m->head.type)
			continue;
		if (rows[i].life != NULL)
			rows[i].life(r, m, fds);
		else if (held != NULL && held->job != NULL)
			rows[i].job(r, held, m, fds);
		else
			break;
		return;
	}
	fence(r, held, m);
}

/* Killed: nothing it says counts any more. */
static bool
is_condemned(const struct runner *r)
{
	return r->fsm.state == RUNNER_REAPING || r->fsm.state == RUNNER_WEDGED;
}

static void
read_messages(struct runner *r)
{
	struct proto_msg m;
	int fds[PROTO_MAX_FDS], status = 0;

	while (!is_condemned(r) && (status = channel_receive(r->channel, &m, fds)) == 1) {
		int count = proto_fds(m.head.type);
		take(r, &m, fds);
		for (int i = 0; i < count; i++) {
			if (fds[i] >= 0)
				close(fds[i]);
		}
	}
	if (status == -ERR_PROTOCOL)
		lie(r, "a packet that is no message");
	else if (status < 0)
		ev_io_stop(r->world->loop,
		    &r->channel_io); /* closed: its death comes by the pidfd, or its clocks end */
}

/* One that is gone can be written to for ever: what it said last shows its end, when it is heard again. */
static void
flush(struct runner *r)
{
	int status = channel_flush(r->channel);

	if (status == 0 && !channel_has_output(r->channel))
		runner_watch_channel(r);
	else if (status != 0 && r->deaf)
		ev_io_stop(r->world->loop, &r->channel_io);
}

void
runner_talk(struct runner *r, int events)
{
	if ((events & EV_WRITE) != 0)
		flush(r);
	if ((events & EV_READ) != 0)
		read_messages(r);
	if (is_condemned(r))
		ev_io_stop(r->world->loop, &r->channel_io);
}
