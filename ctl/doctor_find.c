/*
 * What the checks of zitctl doctor have found, and where they look.
 */
#include "ctl/doctor.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl/output.h"

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

bool
doctor_is_wrong(const json_t *finding)
{
	return strcmp(output_text(finding, "level"), level_names[DOCTOR_WRONG]) == 0;
}

int
doctor_count_wrong(const struct doctor *d)
{
	int count = 0;
	size_t i;
	json_t *finding;

	json_array_foreach(d->findings, i, finding) count += doctor_is_wrong(finding);
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
