/*
 * The command doctor: what is wrong with the service, and the cure of each finding. The checks are in
 * doctor_service.c, which has those that talk to zitd, doctor_machine.c, and doctor_model.c.
 */
#include "ctl/doctor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl/output.h"

static const struct {
	const char *name;
	void (*look)(struct doctor *d);
} checks[] = {
#define CHECK(name, help) {#name, check_##name},
#include "ctl/doctor.def"
};

static void
begin(struct doctor *d, const struct ctl *ctl)
{
	double patience_s = ctl->timeout_s > 0 ? ctl->timeout_s : DOCTOR_PATIENCE_S;
	struct err e;
	int fd = -1;

	*d = (struct doctor){.ctl = ctl, .findings = json_array()};
	d->error = client_path(ctl->socket, d->socket, sizeof(d->socket))
		       ? client_connect(d->socket, patience_s, &fd)
		       : ENAMETOOLONG;
	if (fd >= 0)
		close(fd);
	if (d->error == 0 && client_open(&d->client, ctl->socket, patience_s, &e) == CLIENT_OK)
		client_call(d->client, "status", NULL, NULL, NULL, &d->status, &e);
}

static void
print_finding(const struct ctl *ctl, const json_t *finding)
{
	const char *level = output_text(finding, "level"), *cure = output_text(finding, "do");
	bool wrong = doctor_is_wrong(finding);
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
	wrong = doctor_count_wrong(&d);
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
