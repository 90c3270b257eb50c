/*
 * The checks of zitctl doctor that talk to zitd: that it answers, what it runs as and with, and how its
 * runners are.
 */
#include "ctl/doctor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "build_id.h"
#include "ctl/advice.h"
#include "ctl/output.h"
#include "ctl/program.h"

/* ---- reaching zitd */

static const char busy_cure[] =
    "look whether it is stopped or busy ('ps -C zitd -o pid,stat,time'); 'systemctl restart zitd' gives it a "
    "fresh start, jobs are kept";

/* The command that starts zitd. */
static void
starter(const struct doctor *d, char out[PATH_MAX + 32])
{
	char config[PATH_MAX];

	doctor_config(d, config);
	if (access("/run/systemd/system", F_OK) == 0)
		snprintf(out, PATH_MAX + 32, "systemctl start zitd");
	else
		snprintf(out, PATH_MAX + 32, "zitd --config %s", config);
}

void
check_socket(struct doctor *d)
{
	char start[PATH_MAX + 32];

	starter(d, start);
	if (d->error == 0)
		doctor_find(d, DOCTOR_OK, NULL, NULL, "%s takes connections", d->socket);
	else if (d->error == ENOENT)
		doctor_find(d, DOCTOR_WRONG, "start zitd with '%', or name another socket with -H", start,
		    "there is no socket %s", d->socket);
	else if (d->error == ECONNREFUSED)
		doctor_find(d, DOCTOR_WRONG, "start zitd with '%': it takes the place of the stale socket",
		    start, "nobody listens at %s: its zitd is gone and left it behind", d->socket);
	else if (d->error == EAGAIN)
		doctor_find(d, DOCTOR_WRONG, busy_cure, NULL,
		    "what listens at %s does not take the connections that wait there", d->socket);
	else if (d->error == EACCES)
		doctor_find(d, DOCTOR_WRONG,
		    "join the socket's group (usually zit; 'ls -l %' names it) with 'usermod -aG zit USER', "
		    "and log "
		    "in again",
		    d->socket, "you may not connect to %s", d->socket);
	else
		doctor_find(d, DOCTOR_WRONG, "name zitd's socket with -H", NULL,
		    "%s cannot be connected to: %s", d->socket, strerror(d->error));
}

void
check_answer(struct doctor *d)
{
	json_int_t pid = json_integer_value(json_object_get(d->status, "pid"));

	if (d->error != 0)
		doctor_find(d, DOCTOR_SKIPPED, NULL, NULL, "there is no connection");
	else if (d->status != NULL)
		doctor_find(d, DOCTOR_OK, NULL, NULL, "zitd %s, process %lld, is %s",
		    output_text(d->status, "version"), (long long)pid, output_text(d->status, "state"));
	else
		doctor_find(d, DOCTOR_WRONG, busy_cure, NULL,
		    "what listens at %s gives no answer within %d s", d->socket, DOCTOR_PATIENCE_S);
}

/* ---- versions */

/* What the zitd that would be started says of itself: "zitd BUILD"; "" when it does not. */
static void
installed_build(const struct doctor *d, char *out, size_t size)
{
	char program[PATH_MAX];
	const char *in_use = output_text(d->status, "paths.program");
	char *const argv[] = {program, "--version", NULL};
	int status;

	program_zitd(program);
	if (*in_use == '/')
		snprintf(program, sizeof(program), "%s", in_use);
	if (program_run(argv, DOCTOR_PATIENCE_S, out, size, &status) != 0 || !WIFEXITED(status) ||
	    WEXITSTATUS(status) != 0)
		out[0] = '\0';
	out[strcspn(out, "\n")] = '\0';
}

void
check_version(struct doctor *d)
{
	const char *running = output_text(d->status, "build");
	char installed[128];

	if (d->status == NULL) {
		doctor_find(
		    d, DOCTOR_SKIPPED, NULL, NULL, "zitctl is of %s; zitd does not answer", ZIT_BUILD);
		return;
	}
	installed_build(d, installed, sizeof(installed));
	if (strncmp(installed, "zitd ", 5) == 0 && strcmp(installed + 5, running) != 0)
		doctor_find(d, DOCTOR_NOTE,
		    "'zitctl upgrade' puts the installed one in its place, without a pause", NULL,
		    "zitd runs as %s, and %s is installed", running, installed + 5);
	else if (strcmp(running, ZIT_BUILD) != 0)
		doctor_find(d, DOCTOR_NOTE,
		    "install both from one build; 'which zitctl zitd' shows which are used", NULL,
		    "zitctl is of %s, zitd of %s", ZIT_BUILD, running);
	else
		doctor_find(d, DOCTOR_OK, NULL, NULL, "all are of %s", running);
}

/* ---- the configuration */

/* Keys that the files have otherwise than zitd; -1 when it does not say. */
static int
keys_not_in_use(struct doctor *d)
{
	json_t *answer = NULL;
	struct err e;
	int count = -1;

	if (d->status != NULL && client_call(d->client, "config", json_pack("{s:s}", "what", "diff"), NULL,
				     NULL, &answer, &e) == CLIENT_OK)
		count = (int)json_array_size(json_object_get(answer, "changed"));
	json_decref(answer);
	return count;
}

void
check_config(struct doctor *d)
{
	char program[PATH_MAX], file[PATH_MAX], text[1024];
	char *const argv[] = {program, "--check-config", "--config", file, NULL};
	int status, error, changed;

	program_zitd(program);
	doctor_config(d, file);
	error = program_run(argv, DOCTOR_PATIENCE_S, text, sizeof(text), &status);
	text[strcspn(text, "\n")] = '\0';
	if (error != 0)
		doctor_find(d, DOCTOR_SKIPPED, "put zitd beside zitctl or on the PATH", NULL,
		    "zitd, which checks it, cannot be started: %s", strerror(error));
	else if (access(file, F_OK) != 0 && errno == ENOENT)
		doctor_find(d, d->error == 0 ? DOCTOR_SKIPPED : DOCTOR_WRONG,
		    "name another with 'zitctl doctor FILE', or write one (zitd.conf(5))", NULL,
		    "there is no %s", file);
	else if (access(file, R_OK) != 0 && errno == EACCES)
		doctor_find(d, DOCTOR_SKIPPED, "try again as root", NULL, "%s may not be read", file);
	else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		doctor_find(d, DOCTOR_WRONG, "mend it (zitd.conf(5)), then 'zitctl config check %'", file,
		    "%s", strncmp(text, "zitd: ", 6) == 0 ? text + 6 : text);
	else if ((changed = keys_not_in_use(d)) > 0)
		doctor_find(d, DOCTOR_NOTE, "'zitctl config diff' shows them, 'zitctl reload' uses them",
		    NULL, "%s is good, and %d of its keys are not in use yet", file, changed);
	else
		doctor_find(
		    d, DOCTOR_OK, NULL, NULL, "%s is good%s", file, changed == 0 ? " and in use" : "");
}

/* ---- the service and its runners, by the advice on its status */

static void
find_advice(struct doctor *d, bool of_runners, const char *all_well)
{
	json_t *list, *advice;
	int count = 0;
	size_t i;

	if (d->status == NULL) {
		doctor_find(d, DOCTOR_SKIPPED, NULL, NULL, "zitd does not answer");
		return;
	}
	list = advice_list(d->status);
	json_array_foreach(list, i, advice)
	{
		bool wrong = strcmp(output_text(advice, "level"), "wrong") == 0;
		if ((json_object_get(advice, "runner") != NULL) != of_runners)
			continue;
		doctor_find(d, wrong ? DOCTOR_WRONG : DOCTOR_NOTE, output_text(advice, "do"), NULL, "%s%s%s",
		    output_text(advice, "what"), json_object_get(advice, "last_error") != NULL ? ": " : "",
		    output_text(advice, "last_error"));
		count++;
	}
	if (count == 0)
		doctor_find(d, DOCTOR_OK, NULL, NULL, "%s", all_well);
	json_decref(list);
}

void
check_runners(struct doctor *d)
{
	find_advice(d, true, "all serve");
}

void
check_service(struct doctor *d)
{
	find_advice(d, false, "it takes jobs and starts them");
}
