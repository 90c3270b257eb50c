/*
 * How a runner ends: the status it left, what that means for its jobs (design.md section 6, "What a death
 * means"), and whether and when there is a next one.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "supervisor/runners/cgroup.h"
#include "supervisor/journal.h"
#include "supervisor/runners/runner_inside.h"
#include "supervisor/timer.h"

#define INTENSITY_US (600 * RUNNER_SECOND)
#define LONGEST_DELAY_US (60 * RUNNER_SECOND)
#define FIRST_DELAY_US (RUNNER_SECOND / 4)
#define HOST_MEMORY_DELAY_US (5 * RUNNER_SECOND)
#define REAP_POLL_US (RUNNER_SECOND / 20)

enum {
	INTENSITY = 2 * 5, /* unplanned deaths within 10 minutes that end the trying, in halves */
	MAX_BLAME = 2,	   /* deaths that a job may be blamed for */
};

/* ---- what a death means: the table of design.md section 6 */

static const struct {
	int weight;	  /* against the runner, in halves of a death */
	bool blames;	  /* the job that was alone with it; several become suspects */
	bool memory;	  /* the blame is for memory, and the retry wants a fresh process */
	int64_t delay_us; /* before its jobs are tried again */
	const char *name, *text;
} causes[] = {
    [CAUSE_PLANNED] = {0, false, false, 0, "planned", "as planned"},
    [CAUSE_OVERDUE] = {0, false, false, 0, "overdue", "after a job overran or was cancelled"},
    [CAUSE_DEVICE_MEMORY] = {1, true, true, 0, "device_memory", "out of device memory"},
    [CAUSE_HOST_MEMORY] = {2, true, true, HOST_MEMORY_DELAY_US, "host_memory", "out of memory"},
    [CAUSE_CRASH] = {2, true, false, 0, "crash", "by a fault"},
    [CAUSE_START] = {2, false, false, 0, "start", "before it was ready"},
    [CAUSE_OURS] = {1, false, false, 0, "ours", "without its fault"},
    [CAUSE_WEIGHTS] = {2, false, false, 0, "weights", "for its model's files"},
};

/* The count of the kernel's kills for want of memory, of the whole machine: when it grew in a process's life,
 * a SIGKILL that nobody here sent is taken for one of them. */
int64_t
runner_oom_kills(void)
{
	char text[16 * 1024], *at;
	FILE *file = fopen("/proc/vmstat", "re");
	size_t n = 0;

	if (file != NULL) {
		n = fread(text, 1, sizeof(text) - 1, file);
		fclose(file);
	}
	text[n] = '\0';
	at = strstr(text, "\noom_kill ");
	return at != NULL ? strtoll(at + strlen("\noom_kill "), NULL, 10) : 0;
}

const char *
runner_cause_name(enum runner_cause cause)
{
	static const char *const names[] = {
#define CAUSE(name, text) text,
	    RUNNER_CAUSES(CAUSE)
#undef CAUSE
	};

	return names[cause];
}

static enum runner_cause
find_cause(const struct runner *r, int status)
{
	bool by_kill = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;

	if (r->end == END_PLANNED)
		return CAUSE_PLANNED;
	if (r->end == END_OVERDUE)
		return CAUSE_OVERDUE;
	if (r->end == END_UNTOLD)
		return CAUSE_OURS;
	if (!r->proved)
		return CAUSE_START;
	if (r->end == END_ITSELF && WIFEXITED(status) && WEXITSTATUS(status) == RUNNER_EXIT_DEVICE_MEMORY)
		return CAUSE_DEVICE_MEMORY;
	if (r->end == END_ITSELF && WIFEXITED(status) && WEXITSTATUS(status) == RUNNER_EXIT_HOST_MEMORY)
		return CAUSE_HOST_MEMORY;
	if (r->end == END_ITSELF && WIFEXITED(status) && WEXITSTATUS(status) == RUNNER_EXIT_WEIGHTS)
		return CAUSE_WEIGHTS;
	if (r->end == END_ITSELF && by_kill && runner_oom_kills() > r->oom_kills)
		return CAUSE_HOST_MEMORY;
	return CAUSE_CRASH;
}

/* ---- saying what happened */

/* "killed by signal 9", "exit status 65 (damaged or missing weights)". */
static void
describe_status(int status, char *out, size_t size)
{
	const char *text;

	if (WIFSIGNALED(status)) {
		snprintf(
		    out, size, "killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
		return;
	}
	text = runner_exit_text(WEXITSTATUS(status));
	snprintf(out, size, "exit status %d%s%s%s", WEXITSTATUS(status), text != NULL ? " (" : "",
	    text != NULL ? text : "", text != NULL ? ")" : "");
}

/* What it said last: its FATAL message, else the status page's words. */
static const char *
last_words(const struct runner *r, const struct status_page *page)
{
	return r->fatal_text[0] != '\0' ? r->fatal_text : page->last_words;
}

static void
report(struct runner *r, enum runner_cause cause, int status, const char *how, const char *words)
{
	static const char *const doings[] = {
	    [END_HUNG] = ", for it showed no sign of life",
	    [END_LIED] = ", for it broke the protocol",
	    [END_UNTOLD] = ", for zitd could not send it a message",
	    [END_ITSELF] = "",
	    [END_OVERDUE] = "",
	    [END_PLANNED] = "",
	};
	const bool planned = cause == CAUSE_PLANNED;
	const int exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	char detail[2 * SHM_LAST_WORDS];
	struct err e;

	snprintf(detail, sizeof(detail), "%s%s%s%s%s%s", planned ? "" : causes[cause].text,
	    planned ? "" : ": ", how, doings[r->end], words[0] != '\0' ? ": " : "", words);
	if (exit_code == RUNNER_EXIT_STICKY)
		journal(EVENT_GPU_FAULT, .runner = r, .exit_code = exit_code, .detail = words);
	journal(planned ? EVENT_RUNNER_ENDED : EVENT_RUNNER_DIED, .runner = r, .cause = causes[cause].name,
	    .exit_code = exit_code, .signal = WIFSIGNALED(status) ? WTERMSIG(status) : -1, .detail = detail);
	if (!planned)
		r->last_status = status;
	if (cause == CAUSE_PLANNED || r->end == END_LIED)
		return;
	err_set(&e, ERR_RUNNER_CRASHED, "%s%s%s", how, words[0] != '\0' ? ": " : "", words);
	snprintf(r->last_error, sizeof(r->last_error), "%s", e.text);
}

/* ---- its jobs */

/* It was alone on the runner, so it is to blame: once more, alone, or the end. */
static void
blame(struct held *held, enum runner_cause cause, const char *how)
{
	struct job *job = held->job;
	struct err e;

	if (causes[cause].memory && ++job->memory_deaths >= MAX_BLAME) {
		err_set(&e, ERR_OUT_OF_MEMORY,
		    "The %s ran out of memory on this job twice; ask for fewer pixels.",
		    cause == CAUSE_HOST_MEMORY ? "machine" : "device");
		runner_release(held, JOB_EVENT_FAULT, &e);
	} else if (!causes[cause].memory && ++job->blamed_deaths >= MAX_BLAME) {
		err_set(&e, ERR_RUNNER_CRASHED, "The runner died under this job twice, last by %s.", how);
		runner_release(held, JOB_EVENT_GIVE_UP, &e);
	} else
		runner_release(held, JOB_EVENT_RETRY, NULL);
}

/* What the job's record says of this death. */
static void
note_death(const struct runner *r, struct job *job, int status, const char *words)
{
	char tail[RUNNER_LOG_EXCERPT];

	runner_log_excerpt(&r->log, tail, sizeof(tail));
	job_note_death(job, status, words, tail);
}

static struct held *
youngest(struct runner *r)
{
	struct held *found = NULL;

	for (int i = 0; i < RUNNER_MAX_HELD; i++) {
		if (r->held[i].job != NULL && (found == NULL || r->held[i].head.job > found->head.job))
			found = &r->held[i];
	}
	return found;
}

/* Whether the runner never saw it. Messages are read between units of work, and a job may be given while
 * another's picture is decoded: if the page says that this was still under way, it has not been read. */
static bool
is_unread(const struct held *held, const struct status_page *page)
{
	return held->undelivered || (held->job != NULL && job_state(held->job) == JOB_DISPATCHED &&
					page->stage == STAGE_DECODE && page->job != held->head.job);
}

/* Jobs that may have had to do with its death. */
static int
count_read(const struct runner *r, const struct status_page *page)
{
	int count = 0;

	for (int i = 0; i < RUNNER_MAX_HELD; i++)
		count += r->held[i].head.job != 0 && !is_unread(&r->held[i], page);
	return count;
}

static void
settle_jobs(struct runner *r, enum runner_cause cause, int status, const struct status_page *page,
    const char *words, const char *how)
{
	int count = count_read(r, page);
	struct held *held;

	while ((held = youngest(r)) != NULL) { /* each goes to the front: the oldest last */
		struct job *job = held->job;
		if (runner_take_result(r, held))
			continue;
		if (!causes[cause].blames || is_unread(held, page)) {
			runner_release(held, JOB_EVENT_RETRY, NULL);
			continue;
		}
		note_death(r, job, status, words);
		job->alone = true;
		job->fresh = causes[cause].memory;
		if (causes[cause].delay_us > 0)
			job->not_before_us = clock_now_us() + causes[cause].delay_us;
		if (count == 1 && job_state(job) != JOB_SUSPENDED)
			blame(held, cause, how);
		else {
			journal(EVENT_JOB_SUSPECTED, .job = job, .count = count);
			runner_release(held, JOB_EVENT_RETRY, NULL);
		}
	}
	memset(r->held, 0, sizeof(r->held));
}

/* ---- its successor */

/* Whether these are five unplanned deaths within ten minutes; one for want of device memory counts half. */
static bool
too_many_deaths(struct runner *r, int weight)
{
	int64_t now_us = clock_now_us();
	int sum = 0;

	r->unplanned[r->unplanned_next].at_us = now_us;
	r->unplanned[r->unplanned_next].weight = weight;
	r->unplanned_next = (r->unplanned_next + 1) % DEATHS_KEPT;
	for (int i = 0; i < DEATHS_KEPT; i++) {
		if (now_us - r->unplanned[i].at_us < INTENSITY_US)
			sum += r->unplanned[i].weight;
	}
	return sum >= INTENSITY;
}

/* 0.25 s, doubled with each start that failed, at most a minute, 20 % to either side. */
static int64_t
backoff_us(const struct runner *r)
{
	int64_t delay_us = FIRST_DELAY_US;

	for (int i = 1; i < r->start_failures && delay_us < LONGEST_DELAY_US; i++)
		delay_us *= 2;
	delay_us = delay_us < LONGEST_DELAY_US ? delay_us : LONGEST_DELAY_US;
	return delay_us * (80 + random() % 41) / 100;
}

/* autorestart = false: it is not started again; unexpected: not after an exit with status 0. What we ended
 * ourselves has its successor in any case. */
static bool
is_let_be(const struct runner *r, int status)
{
	bool good = WIFEXITED(status) && WEXITSTATUS(status) == 0;

	if (r->end != END_ITSELF || strcmp(r->conf.autorestart, "true") == 0)
		return false;
	return good || strcmp(r->conf.autorestart, "false") == 0;
}

/* Another start would end likewise. What became of the model's files since is for that to find out. */
static bool
is_for_good(const struct runner *r, enum runner_cause cause, int status)
{
	return r->end == END_ITSELF && cause != CAUSE_WEIGHTS && WIFEXITED(status) &&
	       runner_exit_permanent(WEXITSTATUS(status));
}

/* Decides from what is known of this life and the ones before. */
static enum runner_event
decide(struct runner *r, int weight, bool permanent)
{
	int retries = r->conf.startretries > 0 ? (int)r->conf.startretries : 1;

	r->delay_us = 0;
	if (r->unwanted)
		return RUNNER_EVENT_DIED_STOPPED;
	if (permanent) {
		r->permanent = true;
		return RUNNER_EVENT_DIED_FOR_GOOD;
	}
	if (weight == 0)
		return RUNNER_EVENT_DIED;
	if (!r->proved) {
		r->start_failures++;
		r->delay_us = backoff_us(r);
	}
	if (too_many_deaths(r, weight) || r->start_failures >= retries)
		return RUNNER_EVENT_DIED_FOR_GOOD;
	return RUNNER_EVENT_DIED;
}

void
runner_not_started(struct runner *r, bool counts)
{
	enum runner_event event;

	runner_close(r);
	r->last_cause = CAUSE_START;
	if (counts) {
		r->deaths++;
		event = decide(r, causes[CAUSE_START].weight, r->permanent);
	} else {
		event = decide(r, 0, false);
		r->delay_us = FIRST_DELAY_US;
	}
	fsm_event(&r->fsm, (int)event, NULL);
}

/* Dead, but not ours to bury yet: a debugger holds it, say. It is looked at again until it is. */
static void
await(struct runner *r)
{
	ev_io_stop(r->world->loop, &r->death_io);
	timer_arm(r->world->loop, &r->reap_poll, REAP_POLL_US);
	fsm_event(&r->fsm, RUNNER_EVENT_GONE, NULL);
}

void
runner_reap(struct runner *r)
{
	struct status_page page;
	const char *words;
	enum runner_cause cause;
	char how[80];
	bool permanent;
	int status;

	if (ev_is_active(&r->channel_io))
		runner_talk(
		    r, EV_READ); /* what it sent before it ended still counts; its pid is still its own */
	if (waitpid(r->pid, &status, WNOHANG) != r->pid) {
		await(r);
		return;
	}
	kill(-r->pid, SIGKILL); /* whatever it left in its group */
	cgroup_kill(r->conf.section_name);
	shm_read(r->page, &page);
	words = last_words(r, &page);
	describe_status(status, how, sizeof(how));
	cause = r->last_cause = find_cause(r, status);
	report(r, cause, status, how, words);
	permanent = r->permanent || is_for_good(r, cause, status);
	if (is_let_be(r, status)) {
		journal(EVENT_RUNNER_LET_BE, .runner = r, .detail = r->conf.autorestart);
		r->unwanted = true;
	}
	r->deaths += causes[cause].weight > 0;
	runner_close(r); /* first: its last lines belong to the tail */
	settle_jobs(r, cause, status, &page, words, how);
	r->world->died(r->world->arg);
	fsm_event(&r->fsm, (int)decide(r, causes[cause].weight, permanent), NULL);
}
