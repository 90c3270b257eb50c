/*
 * The new program, tried before an upgrade.
 */
#include "supervisor/upgrade_trial.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/log.h"
#include "ipc/utf8.h"
#include "supervisor/runners/spawn.h"

enum { MAX_REASON = 400 };

/* ---- what it says */

/* What it said last, without who said it. */
static void
last_line(char *text, char reason[MAX_REASON])
{
	size_t end = strlen(text);
	const char *line;

	while (end > 0 && text[end - 1] == '\n')
		text[--end] = '\0';
	line = strrchr(text, '\n');
	line = line != NULL ? line + 1 : text;
	if (strncmp(line, "zitd: ", 6) == 0)
		line += 6;
	snprintf(reason, MAX_REASON, "%.*s", MAX_REASON - 1, line);
	utf8_make_line(reason);
}

static void
read_words(int output, char *text, size_t size)
{
	ssize_t n = 0;
	size_t got = 0;

	while (got < size - 1 && (n = read(output, text + got, size - 1 - got)) > 0)
		got += (size_t)n;
	text[got] = '\0';
}

/* Why it cannot take over, into `why`; false: it can. */
static bool
cannot(const struct upgrade_trial *t, int status, const char reason[MAX_REASON], char *why, size_t size)
{
	if (WIFSIGNALED(status))
		snprintf(
		    why, size, "%s was ended by signal %d when it was tried", t->program, WTERMSIG(status));
	else if (WEXITSTATUS(status) != 0 && reason[0] == '\0')
		snprintf(why, size, "%s cannot take over: it gave no reason, but exit status %d", t->program,
		    WEXITSTATUS(status));
	else if (WEXITSTATUS(status) != 0)
		snprintf(why, size, "%s cannot take over: %s", t->program, reason);
	else if (strncmp(reason, UPGRADE_TRIAL_CAN, strlen(UPGRADE_TRIAL_CAN)) != 0)
		snprintf(why, size, "%s did not say that it can take over, but: \"%s\"; is it a zitd?",
		    t->program, reason);
	else
		return false;
	return true;
}

/* ---- its end */

static void
close_all(struct upgrade_trial *t)
{
	ev_io_stop(t->loop, &t->end_io);
	close(t->pidfd);
	close(t->output);
	t->pid = 0;
}

static void
on_end(struct ev_loop *loop, struct ev_io *w, int events)
{
	struct upgrade_trial *t = w->data;
	char words[4096], reason[MAX_REASON], why[MAX_REASON + 200];
	int status = 0;

	(void)loop;
	(void)events;
	if (waitpid(t->pid, &status, WNOHANG) == 0)
		return;
	read_words(t->output, words, sizeof(words));
	close_all(t);
	last_line(words, reason);
	if (cannot(t, status, reason, why, sizeof(why))) {
		t->done(t->arg, why);
		return;
	}
	log_info("upgrade: %s", reason);
	t->done(t->arg, NULL);
}

bool
upgrade_trial_stop(struct upgrade_trial *t)
{
	if (t->pid == 0)
		return false;
	kill(t->pid, SIGKILL);
	close_all(t);
	return true;
}

/* ---- its beginning */

void
upgrade_trial_init(
    struct upgrade_trial *t, struct ev_loop *loop, void *arg, void (*done)(void *arg, const char *why))
{
	*t = (struct upgrade_trial){.loop = loop, .arg = arg, .done = done, .pidfd = -1, .output = -1};
	ev_init(&t->end_io, on_end);
	t->end_io.data = t;
}

int
upgrade_trial_start(struct upgrade_trial *t, char *const *argv, int document)
{
	int ends[2], error;
	struct spawn s = {argv, environ, .fds = {document}, .fd_count = 1, .cgroup = -1};

	if (pipe2(ends, O_CLOEXEC) != 0)
		return errno;
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	s.output = ends[1];
	t->program = argv[0];
	t->pid = spawn_process(&s, &t->pidfd);
	error = errno;
	close(ends[1]);
	if (t->pid < 0) {
		t->pid = 0;
		close(ends[0]);
		return error;
	}
	t->output = ends[0];
	ev_io_set(&t->end_io, t->pidfd, EV_READ);
	ev_io_start(t->loop, &t->end_io);
	return 0;
}
