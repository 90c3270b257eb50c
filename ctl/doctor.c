/*
 * The command doctor: what is wrong with the service, and the cure of each finding. Here are the checks that
 * talk to zitd; doctor_machine.c has those of the machine, doctor_model.c that of the model's files.
 */
#include "ctl/doctor.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "build_id.h"
#include "ctl/advice.h"
#include "ctl/call.h"
#include "ctl/output.h"
#include "ctl/program.h"

#define PATIENCE_S 5
#define USUAL_CONFIG "/etc/zit/zitd.conf"

static const char *const level_names[] = {"ok", "skipped", "note", "wrong"}; /* enum doctor_level */

/* ---- findings */

/* The text with `about` in the place of %. */
static json_t *
cure_text(const char *cure, const char *about)
{
	const char *place = about != NULL ? strchr(cure, '%') : NULL;

	if (place == NULL)
		return json_string(cure);
	return json_sprintf("%.*s%s%s", (int)(place - cure), cure, about, place + 1);
}

void
doctor_find(
    struct doctor *d, enum doctor_level level, const char *cure, const char *about, const char *format, ...)
{
	json_t *finding;
	va_list args;

	va_start(args, format);
	finding = json_pack("{s:s, s:s, s:o}", "check", d->check, "level", level_names[level], "found",
	    json_vsprintf(format, args));
	va_end(args);
	if (cure != NULL)
		json_object_set_new(finding, "do", cure_text(cure, about));
	json_array_append_new(d->findings, finding);
}

static int
count_wrong(const struct doctor *d)
{
	int count = 0;
	size_t i;
	json_t *finding;

	json_array_foreach(d->findings, i, finding) count +=
	    strcmp(output_text(finding, "level"), level_names[DOCTOR_WRONG]) == 0;
	return count;
}

/* ---- paths */

void
doctor_path(const struct doctor *d, const char *path, char out[PATH_MAX])
{
	char link[64], directory[PATH_MAX];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/%lld/cwd",
	    (long long)json_integer_value(json_object_get(d->status, "pid")));
	n = *path != '/' ? readlink(link, directory, sizeof(directory) - 1) : -1;
	if (n < 0 || snprintf(out, PATH_MAX, "%.*s/%s", (int)n, directory, path) >= PATH_MAX)
		snprintf(out, PATH_MAX, "%s", path);
}

void
doctor_config(const struct doctor *d, char out[PATH_MAX])
{
	const char *in_use = output_text(d->status, "paths.config");

	if (*in_use != '\0')
		doctor_path(d, in_use, out);
	else
		snprintf(out, PATH_MAX, "%s", d->ctl->arg_count > 0 ? d->ctl->args[0] : USUAL_CONFIG);
}

/* ---- reaching zitd */

/* 0: somebody listens there; else an errno. */
static int
try_socket(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd, error;

	if (strlen(path) >= sizeof(address.sun_path))
		return ENAMETOOLONG;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return errno;
	error = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 ? 0 : errno;
	close(fd);
	return error;
}

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
		doctor_find(d, DOCTOR_WRONG,
		    "look whether it is stopped or busy ('ps -C zitd -o pid,stat,time'); 'systemctl restart "
		    "zitd' "
		    "gives it a fresh start, jobs are kept",
		    NULL, "what listens at %s gives no answer within %d s", d->socket, PATIENCE_S);
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
	if (program_run(argv, PATIENCE_S, out, size, &status) != 0 || !WIFEXITED(status) ||
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
	error = program_run(argv, PATIENCE_S, text, sizeof(text), &status);
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

/* ---- the command */

static const struct {
	const char *name;
	void (*look)(struct doctor *d);
} checks[] = {
#define CHECK(name, help) {#name, check_##name},
#include "ctl/doctor.def"
#undef CHECK
};

static void
begin(struct doctor *d, const struct ctl *ctl)
{
	double patience_s = ctl->timeout_s > 0 ? ctl->timeout_s : PATIENCE_S;
	struct err e;

	*d = (struct doctor){.ctl = ctl, .findings = json_array()};
	d->error =
	    client_path(ctl->socket, d->socket, sizeof(d->socket)) ? try_socket(d->socket) : ENAMETOOLONG;
	if (d->error == 0 && client_open(&d->client, ctl->socket, patience_s, &e) == 0)
		client_call(d->client, "status", NULL, NULL, NULL, &d->status, &e);
}

static void
print_finding(const struct ctl *ctl, const json_t *finding)
{
	const char *level = output_text(finding, "level"), *cure = output_text(finding, "do");
	bool wrong = strcmp(level, level_names[DOCTOR_WRONG]) == 0;
	char text[1024];

	if (!wrong && (ctl->quiet || ctl->format == FORMAT_NAME))
		return;
	if (ctl->format == FORMAT_NAME) {
		puts(output_text(finding, "check"));
		return;
	}
	output_plain(output_text(finding, "found"), text, sizeof(text));
	printf("%-8s %-8s %s\n", level, output_text(finding, "check"), text);
	if (*cure != '\0')
		printf("%-8s %-8s -> %s\n", "", "", cure);
}

int
command_doctor(struct ctl *ctl)
{
	struct doctor d;
	json_t *answer, *finding;
	int wrong;
	size_t i;

	begin(&d, ctl);
	for (i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
		d.check = checks[i].name;
		checks[i].look(&d);
	}
	wrong = count_wrong(&d);
	answer = json_pack("{s:i, s:O}", "wrong", wrong, "findings", d.findings);
	if (ctl->format == FORMAT_JSON || ctl->format == FORMAT_JSONL)
		output_list(ctl, answer, "findings", NULL);
	else
		json_array_foreach(d.findings, i, finding) print_finding(ctl, finding);
	json_decref(answer);
	json_decref(d.findings);
	json_decref(d.status);
	client_close(&d.client);
	return wrong > 0 ? CTL_FAILED : CTL_OK;
}
