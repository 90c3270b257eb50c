/*
 * The commands about zitd's configuration: config check, show and diff, and reload.
 */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "ctl/call.h"
#include "ctl/output.h"
#include "ctl/program.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define USUAL_FILE "/etc/zit/zitd.conf"

static const struct output_table option_table = {
    "key", NULL, (const struct output_column[]){{"KEY", "key", 0}, {"VALUE", "value", 0}, {0}}};

static const struct output_table origin_table = {"key", NULL,
    (const struct output_column[]){
	{"KEY", "key", 0}, {"VALUE", "value", 0}, {"ORIGIN", "origin", 0}, {"WHEN", "when", 1}, {0}}};

static const struct output_column change_columns[] = {
    {"KEY", "key", 0}, {"BEFORE", "before", 0}, {"AFTER", "after", 0}, {"WHEN", "when", 0}, {0}};

static const struct output_table reload_table = {"key", "Nothing has changed.", change_columns};
static const struct output_table diff_table = {"key", "The files say what is in use.", change_columns};

/* ---- values for people */

static bool
is_for_programs(const struct ctl *ctl)
{
	return ctl->format == FORMAT_JSON || ctl->format == FORMAT_JSONL || ctl->format == FORMAT_NAME;
}

/* A number with all its digits, as a file has it. */
static void
spell(json_t *object, const char *member)
{
	const json_t *value = json_object_get(object, member);
	char text[32];

	if (!json_is_real(value))
		return;
	snprintf(text, sizeof(text), "%.15g", json_real_value(value));
	json_object_set_new(object, member, json_string(text));
}

static void
spell_when(json_t *object)
{
	static const char *const texts[][2] = {{"at_once", "at a reload"},
	    {"respawn", "when the runner is restarted"}, {"restart", "when zitd is restarted"}};
	const char *when = output_text(object, "when");

	for (size_t i = 0; i < COUNT(texts); i++) {
		if (strcmp(when, texts[i][0]) == 0) {
			json_object_set_new(object, "when", json_string(texts[i][1]));
			return;
		}
	}
}

static void
print_values(const struct ctl *ctl, const json_t *answer, const char *path, const struct output_table *table)
{
	size_t i;
	json_t *each;

	json_array_foreach(output_at(answer, path), i, each)
	{
		if (is_for_programs(ctl))
			break;
		spell(each, "value");
		spell(each, "before");
		spell(each, "after");
		spell_when(each);
	}
	output_list(ctl, answer, path, table);
}

/* ---- changes, made by a reload or to be made by one */

/* What has to be done for the rest to be used. */
static void
print_todo(const json_t *result)
{
	size_t i;
	json_t *runner;

	json_array_foreach(json_object_get(result, "restart_runners"), i, runner)
	    printf("to use it all: zitctl restart %s\n",
		json_string_value(runner) ? json_string_value(runner) : "?");
	if (json_is_true(json_object_get(result, "restart_zitd")))
		printf("to use it all: systemctl restart zitd\n");
}

static int
print_changes(const struct ctl *ctl, json_t *result, const struct output_table *table)
{
	print_values(ctl, result, "changed", table);
	if (!is_for_programs(ctl) && !ctl->quiet)
		print_todo(result);
	json_decref(result);
	return CTL_OK;
}

int
command_reload(struct ctl *ctl)
{
	int status = CTL_INTERNAL;
	json_t *result = call_once(ctl, "reload", NULL, &status);

	return result != NULL ? print_changes(ctl, result, &reload_table) : status;
}

static int
diff(struct ctl *ctl)
{
	int status = CTL_INTERNAL;
	json_t *result = call_once(ctl, "config", json_pack("{s:s}", "what", "diff"), &status);

	return result != NULL ? print_changes(ctl, result, &diff_table) : status;
}

/* ---- what is in use */

static int
show(struct ctl *ctl)
{
	int status = CTL_INTERNAL;
	json_t *result = call_once(ctl, "config", NULL, &status);

	if (result == NULL)
		return status;
	print_values(ctl, result, "options", ctl->origin ? &origin_table : &option_table);
	json_decref(result);
	return CTL_OK;
}

/* ---- a check without a zitd that runs: a zitd of its own looks at the files, and ends */

/* Long enough for files on a slow disk. */
#define PATIENCE_S 30

/* The first line, without "zitd: ". */
static const char *
complaint_in(char *text)
{
	text[strcspn(text, "\n")] = '\0';
	return strncmp(text, "zitd: ", 6) == 0 ? text + 6 : text;
}

static int
tell_check(const struct ctl *ctl, const char *file, int status, const char *complaint)
{
	bool good = WIFEXITED(status) && WEXITSTATUS(status) == 0;
	json_t *verdict =
	    json_pack("{s:s, s:b, s:s?}", "file", file, "good", good, "error", good ? NULL : complaint);

	if (!output_for_programs(ctl, verdict, "file")) {
		if (!good)
			fprintf(stderr, "zitctl: %s\n",
			    complaint[0] != '\0' ? complaint : "zitd could not check it");
		else if (!ctl->quiet)
			printf("%s: good\n", file);
	}
	json_decref(verdict);
	if (good)
		return CTL_OK;
	return WIFEXITED(status) && WEXITSTATUS(status) == CTL_BAD_CONFIG ? CTL_BAD_CONFIG : CTL_FAILED;
}

static int
check(struct ctl *ctl)
{
	const char *file = ctl->arg_count > 1 ? ctl->args[1] : USUAL_FILE;
	char program[PATH_MAX], text[1024];
	char *const argv[] = {program, "--check-config", "--config", (char *)file, NULL};
	int status, error;

	program_zitd(program);
	error = program_run(argv, PATIENCE_S, text, sizeof(text), &status);
	if (error == 0)
		return tell_check(ctl, file, status, complaint_in(text));
	fprintf(stderr,
	    "zitctl: zitd, which checks it, cannot be started (%s); it is looked for beside zitctl and on "
	    "the "
	    "PATH\n",
	    strerror(error));
	return CTL_FAILED;
}

/* ---- */

int
command_config(struct ctl *ctl)
{
	static const struct {
		const char *name;
		int max_args;
		int (*run)(struct ctl *ctl);
	} rows[] = {{"check", 2, check}, {"show", 1, show}, {"diff", 1, diff}};

	for (size_t i = 0; i < COUNT(rows); i++) {
		if (strcmp(rows[i].name, ctl->args[0]) == 0 && ctl->arg_count <= rows[i].max_args)
			return rows[i].run(ctl);
	}
	fprintf(stderr, "zitctl: 'config' takes check [FILE], show, or diff\n");
	return CTL_USAGE;
}
