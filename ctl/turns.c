/*
 * The commands about turns: hold, release, move, priority, why, usage, pause, resume.
 */
#include <stdio.h>
#include <string.h>

#include "ctl/call.h"
#include "ctl/output.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const struct output_table treated_table = {"job", NULL,
    (const struct output_column[]){{"JOB", "job", 0}, {"STATE", "state", 0}, {"CLASS", "priority", 0},
	{"POS", "position", 0}, {"DONE IN S", "eta_s", 0}, {0}}};

/* ---- jobs by their ids */

static json_t *
ids_of(const struct ctl *ctl, const char *but)
{
	json_t *ids = json_array();

	for (int i = 0; i < ctl->arg_count; i++) {
		if (ctl->args[i] != but)
			json_array_append_new(ids, json_string(ctl->args[i]));
	}
	return ids;
}

/* A method that takes ids and answers with their records; `params` is stolen. */
static int
treat(struct ctl *ctl, const char *method, json_t *params)
{
	int status = CTL_INTERNAL;
	json_t *result = call_once(ctl, method, params, &status);

	if (result == NULL)
		return status;
	output_done(ctl, result, "jobs", &treated_table);
	json_decref(result);
	return CTL_OK;
}

int
command_hold(struct ctl *ctl)
{
	return treat(ctl, "hold", json_pack("{s:o}", "job", ids_of(ctl, NULL)));
}

int
command_release(struct ctl *ctl)
{
	return treat(ctl, "release", json_pack("{s:o}", "job", ids_of(ctl, NULL)));
}

int
command_move(struct ctl *ctl)
{
	return treat(ctl, "move", json_pack("{s:o}", "job", ids_of(ctl, NULL)));
}

/* The class may come before the jobs or after them. */
int
command_priority(struct ctl *ctl)
{
	static const char *const classes[] = {"high", "normal", "low"};
	const char *ends[] = {ctl->args[0], ctl->args[ctl->arg_count - 1]};

	for (size_t i = 0; i < COUNT(ends) * COUNT(classes); i++) {
		const char *word = ends[i / COUNT(classes)];
		if (strcmp(word, classes[i % COUNT(classes)]) == 0)
			return treat(ctl, "priority",
			    json_pack("{s:o, s:s}", "job", ids_of(ctl, word), "priority", word));
	}
	fprintf(stderr, "zitctl: there is no class '%s'; 'priority' takes high, normal or low, and jobs\n",
	    ends[0]);
	return CTL_USAGE;
}

/* ---- why */

static const struct output_table why_table = {"job", NULL,
    (const struct output_column[]){{"job", "job", 0}, {"state", "state", 0}, {"held back", "held_back", 0},
	{"ended by", "error.name", 0}, {"because", "error.message", 0}, {"client", "client", 0},
	{"priority", "priority", 0}, {"position", "position", 0}, {"runners", "runners", 0},
	{"jobs before it", "before_count", 0}, {"which cost s", "before_cost_s", 0},
	{"starts in s", "eta.starts_s", 0}, {"runs for s", "eta.own_s", 0},
	{"newcomers s", "eta.newcomers_s", 0}, {"done in s", "eta.eta_s", 0},
	{"at most s", "eta.eta_p95_s", 0}, {"virtual time", "tags.virtual_time", 0},
	{"client's tag", "tags.client", 0}, {"its class's time", "tags.client_virtual_time", 0}, {0}}};

static const struct output_table class_table = {"priority", NULL,
    (const struct output_column[]){{"CLASS", "priority", 0}, {"WAITING", "waiting", 0},
	{"WEIGHT", "weight", 0}, {"TAG", "tag", 0}, {0}}};

static const struct output_table running_table = {"job", NULL,
    (const struct output_column[]){{"RUNNING", "job", 0}, {"RUNNER", "runner", 0}, {"CLIENT", "client", 0},
	{"CLASS", "priority", 0}, {"LEFT S", "left_s", 0}, {0}}};

static const struct output_table before_table = {"job", NULL,
    (const struct output_column[]){{"BEFORE IT", "job", 0}, {"CLIENT", "client", 0}, {"CLASS", "priority", 0},
	{"COST S", "cost_s", 0}, {0}}};

static void
print_list(const struct ctl *ctl, const json_t *why, const char *path, const struct output_table *table)
{
	if (json_array_size(output_at(why, path)) == 0)
		return;
	putchar('\n');
	output_list(ctl, why, path, table);
}

int
command_why(struct ctl *ctl)
{
	int status = CTL_INTERNAL;
	json_t *why = call_once(ctl, "why", json_pack("{s:s}", "job", ctl->args[0]), &status);

	if (why == NULL)
		return status;
	output_record(ctl, why, &why_table);
	if (ctl->format == FORMAT_TABLE || ctl->format == FORMAT_WIDE) {
		print_list(ctl, why, "tags.classes", &class_table);
		print_list(ctl, why, "running", &running_table);
		print_list(ctl, why, "before", &before_table);
	}
	json_decref(why);
	return CTL_OK;
}

/* ---- usage */

static const struct output_table usage_table = {"client", "Nobody has used anything.",
    (const struct output_column[]){{"CLIENT", "client", 0}, {"JOBS TODAY", "today.jobs", 0},
	{"DEVICE S TODAY", "today.device_s", 0}, {"DEVICE S MONTH", "month.device_s", 0},
	{"JOBS", "ever.jobs", 0}, {"PIXELS", "ever.pixels", 0}, {"DEVICE S", "ever.device_s", 0},
	{"REFUSED", "ever.refused", 0}, {0}}};

int
command_usage(struct ctl *ctl)
{
	int status = CTL_INTERNAL;
	json_t *params = ctl->arg_count > 0 ? json_pack("{s:s}", "client", ctl->args[0]) : NULL;
	json_t *result = call_once(ctl, "usage", params, &status);
	struct output_table table = usage_table;

	if (result == NULL)
		return status;
	if (ctl->arg_count > 0)
		table.nothing = "There is no such client, or it has used nothing.";
	output_list(ctl, result, "clients", &table);
	json_decref(result);
	return CTL_OK;
}

/* ---- pause and resume */

static json_t *
params_of_pause(const char *what)
{
	if (strcmp(what, "all") == 0)
		return NULL;
	if (strncmp(what, "class:", 6) == 0)
		return json_pack("{s:s}", "class", what + 6);
	if (strncmp(what, "client:", 7) == 0)
		return json_pack("{s:s}", "client", what + 7);
	return json_pack("{s:s}", "runner", what);
}

static int
pause_or_resume(struct ctl *ctl, const char *method, const char *done)
{
	int status = CTL_INTERNAL;
	json_t *result = call_once(ctl, method, params_of_pause(ctl->args[0]), &status);

	if (result == NULL)
		return status;
	if (!output_for_programs(ctl, result, "runners") && !ctl->quiet)
		printf("%s: %s\n", done, ctl->args[0]);
	json_decref(result);
	return CTL_OK;
}

int
command_pause(struct ctl *ctl)
{
	return pause_or_resume(ctl, "pause", "paused");
}

int
command_resume(struct ctl *ctl)
{
	return pause_or_resume(ctl, "resume", "resumed");
}
