/*
 * How a runner ends: the status it left, what that means for its job (design.md section 6, "What a death
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
#include "ipc/log.h"
#include "supervisor/daemon.h"
#include "supervisor/runner_inside.h"

#define INTENSITY_US (600 * INT64_C(1000000))
#define LONGEST_DELAY_US (60 * INT64_C(1000000))
#define FIRST_DELAY_US INT64_C(250000)

enum { MAX_BLAME = 2 }; /* deaths that a job may be blamed for */

void
runner_close(struct runner *r)
{
	struct ev_loop *loop = daemon_loop(r->daemon);

	ev_io_stop(loop, &r->death_io);
	ev_io_stop(loop, &r->channel_io);
	channel_free(&r->channel);
	shm_detach(&r->page);
	if (r->pidfd >= 0)
		close(r->pidfd);
	r->pidfd = -1;
	r->pid = 0;
}

void
runner_release_job(struct runner *r, enum job_event event, const struct err *e)
{
	struct job *job = r->job;

	if (job == NULL)
		return;
	r->job = NULL;
	job->runner = NULL;
	job_event_error(job, event, e);
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
static void
take_last_words(struct runner *r, char words[SHM_LAST_WORDS])
{
	struct status_page page;

	shm_read(r->page, &page);
	snprintf(words, SHM_LAST_WORDS, "%s", r->fatal_text[0] != '\0' ? r->fatal_text : page.last_words);
}

static void
report(struct runner *r, int status, const char *words)
{
	static const char *const reasons[] = {
	    [END_ITSELF] = "",
	    [END_TIMEOUT] = ", after its job overran or was cancelled",
	    [END_PLANNED] = ", as planned",
	    [END_HUNG] = ", for it showed no sign of life",
	    [END_LIED] = ", for it broke the protocol",
	};
	char how[80];
	bool planned = r->end == END_PLANNED;

	describe_status(status, how, sizeof(how));
	log_line(planned ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, "runner %s: process %d ended: %s%s%s%s",
	    r->conf.section_name, (int)r->pid, how, reasons[r->end], words[0] != '\0' ? ": " : "", words);
	if (!planned && r->end != END_LIED)
		snprintf(r->last_error, sizeof(r->last_error), "%.100s%s%.130s", how,
		    words[0] != '\0' ? ": " : "", words);
}

/* ---- its job */

/* The job was on it when it ended by a fault. */
static void
settle_job(struct runner *r, int status, const char *words)
{
	struct job *job = r->job;
	bool memory = WIFEXITED(status) && WEXITSTATUS(status) == RUNNER_EXIT_DEVICE_MEMORY;
	char how[80];
	struct err e;

	describe_status(status, how, sizeof(how));
	job->exit_status = status;
	snprintf(job->last_words, sizeof(job->last_words), "%s", words);
	for (; job->picture_count > 0; job->picture_count--)
		close(job->pictures[job->picture_count - 1].fd); /* the next attempt makes them all again */
	if (memory && ++job->memory_deaths >= MAX_BLAME) {
		err_set(&e, ERR_OUT_OF_MEMORY,
		    "The device ran out of memory on this job twice; ask for fewer pixels.");
		runner_release_job(r, JOB_EVENT_FAULT, &e);
	} else if (!memory && ++job->blamed_deaths >= MAX_BLAME) {
		err_set(&e, ERR_RUNNER_CRASHED, "The runner died under this job twice, last by %s.", how);
		runner_release_job(r, JOB_EVENT_GIVE_UP, &e);
	} else
		runner_release_job(r, JOB_EVENT_RETRY, NULL);
}

/* ---- its successor */

/* Whether this is the fifth unplanned death within ten minutes. */
static bool
too_many_deaths(struct runner *r)
{
	int64_t now_us = clock_now_us(), oldest_us;

	r->death_times_us[r->death_index] = now_us;
	r->death_index = (r->death_index + 1) % INTENSITY;
	oldest_us = r->death_times_us[r->death_index];
	return oldest_us != 0 && now_us - oldest_us < INTENSITY_US;
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

/* Decides from what is known of this life and the ones before. `planned`: nobody is to blame. */
static enum runner_event
decide(struct runner *r, bool planned, bool permanent)
{
	int retries = r->conf.startretries > 0 ? (int)r->conf.startretries : 1;

	r->delay_us = 0;
	if (r->unwanted)
		return RUNNER_EVENT_DIED_STOPPED;
	if (permanent) {
		r->permanent = true;
		return RUNNER_EVENT_DIED_FOR_GOOD;
	}
	if (planned)
		return RUNNER_EVENT_DIED;
	if (!r->proved) {
		r->start_failures++;
		r->delay_us = backoff_us(r);
	}
	if (too_many_deaths(r) || r->start_failures >= retries)
		return RUNNER_EVENT_DIED_FOR_GOOD;
	return RUNNER_EVENT_DIED;
}

void
runner_not_started(struct runner *r, int error)
{
	runner_close(r);
	r->deaths++;
	snprintf(r->last_error, sizeof(r->last_error), "%.100s cannot be started: %s",
	    r->conf.command[0] != '\0' ? r->conf.command : daemon_default_command(r->daemon),
	    strerror(error));
	fsm_event(&r->fsm, (int)decide(r, false, false), NULL);
}

void
runner_reap(struct runner *r)
{
	char words[SHM_LAST_WORDS];
	bool planned, permanent;
	int status;

	if (waitpid(r->pid, &status, WNOHANG) != r->pid)
		return;
	if (ev_is_active(&r->channel_io))
		runner_talk(r, EV_READ); /* what it sent before it ended still counts */
	kill(-r->pid, SIGKILL);		 /* whatever it left in its group */
	take_last_words(r, words);
	report(r, status, words);
	planned = r->end == END_PLANNED || r->end == END_TIMEOUT;
	permanent = r->permanent ||
		    (r->end == END_ITSELF && WIFEXITED(status) && runner_exit_permanent(WEXITSTATUS(status)));
	if (!planned || (WIFEXITED(status) && WEXITSTATUS(status) != 0))
		r->deaths++;
	if (r->job != NULL)
		settle_job(r, status, words);
	runner_close(r);
	fsm_event(&r->fsm, (int)decide(r, planned, permanent), NULL);
}
