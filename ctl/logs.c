/*
 * The command logs: journalctl with the selection that zitd's fields allow (zit-log(7)).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl/client.h"
#include "ctl/ctl.h"

enum { MAX_WORDS = 16, LINE = 1024 };

/* journalctl's names of what our formats are. */
static const char *const formats[] = {
    [FORMAT_TABLE] = "short-precise",
    [FORMAT_WIDE] = "verbose",
    [FORMAT_JSON] = "json",
    [FORMAT_JSONL] = "json",
    [FORMAT_NAME] = "cat",
};

struct command_line {
	char *words[MAX_WORDS];
	int count;
	char lines[40], job[100], runner[100], format[40];
};

static void
add(struct command_line *c, const char *word)
{
	c->words[c->count++] = (char *)word;
}

static void
build(struct command_line *c, const struct ctl *ctl)
{
	*c = (struct command_line){0};
	add(c, "journalctl");
	add(c, "--unit=zitd");
	snprintf(c->format, sizeof(c->format), "--output=%s", formats[ctl->format]);
	add(c, c->format);
	if (ctl->follow)
		add(c, "--follow");
	if (ctl->lines > 0) {
		snprintf(c->lines, sizeof(c->lines), "--lines=%d", ctl->lines);
		add(c, c->lines);
	}
	if (ctl->job != NULL) {
		snprintf(c->job, sizeof(c->job), "ZIT_JOB_ID=%s", ctl->job);
		add(c, c->job);
	}
	if (ctl->runner != NULL) {
		snprintf(c->runner, sizeof(c->runner), "ZIT_RUNNER=%s", ctl->runner);
		add(c, c->runner);
	}
}

static int
no_journal(const char *why)
{
	fprintf(stderr,
	    "zitctl: there is no journal to look into: %s. Where systemd does not run, zitd writes its log "
	    "to its "
	    "standard error: look where that goes, or start it with 'zitd --config FILE 2>zitd.log'.\n",
	    why);
	return CTL_UNREACHABLE;
}

/* Passes on what journalctl complains of, until it ends or we are interrupted. true: it has no files, and so
 * nothing else to say. */
static bool
pass_on(int from)
{
	char text[LINE];

	while (client_await(from, -1) == CLIENT_OK) {
		ssize_t n = read(from, text, sizeof(text) - 1);
		if (n <= 0)
			return false;
		text[n] = '\0';
		if (strstr(text, "No journal files were found") != NULL)
			return true;
		fputs(text, stderr);
	}
	return false;
}

/* Starts it with its standard error in a pipe: *from, to be closed. 0 or an errno. */
static int
start(char *const words[], pid_t *pid, int *from)
{
	posix_spawn_file_actions_t actions;
	int ends[2], error;

	if (pipe2(ends, O_CLOEXEC) != 0)
		return errno;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
	error = posix_spawnp(pid, words[0], &actions, NULL, words, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(ends[1]);
	*from = ends[0];
	if (error != 0)
		close(ends[0]);
	return error;
}

int
command_logs(struct ctl *ctl)
{
	struct command_line line;
	pid_t pid;
	int from = -1, status = 0, error;
	bool empty;

	build(&line, ctl);
	error = start(line.words, &pid, &from);
	if (error != 0)
		return no_journal(error == ENOENT ? "journalctl is not installed" : strerror(error));
	empty = pass_on(from);
	if (empty || client_sleep(0) == CLIENT_INTERRUPTED) /* to us alone, perhaps */
		kill(pid, SIGTERM);
	close(from);
	while (waitpid(pid, &status, 0) != pid && errno == EINTR)
		kill(pid, SIGTERM);
	if (empty)
		return no_journal("journalctl finds no files");
	if (client_sleep(0) == CLIENT_INTERRUPTED)
		return ctl->follow ? CTL_OK : CTL_INTERRUPTED; /* that is how one has enough */
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? CTL_OK : CTL_FAILED;
}
