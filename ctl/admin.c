/*
 * The commands of administrators: start, stop, restart, drain, upgrade. (pause and resume are in turns.c,
 * reload is in config.c.)
 */
#include <stdio.h>
#include <string.h>

#include "ctl/call.h"
#include "ctl/output.h"

static void
print_words(const char *title, const json_t *list)
{
	size_t i;
	json_t *word;

	if (json_array_size(list) == 0)
		return;
	printf("%s:", title);
	json_array_foreach(list, i, word)
	    printf(" %s", json_string_value(word) ? json_string_value(word) : "?");
	putchar('\n');
}

/* One of the methods that take a runner's name, or none for all. */
static int
order(struct ctl *ctl, const char *method, const char *doing)
{
	int status = CTL_INTERNAL;
	json_t *params = ctl->arg_count > 0 && strcmp(ctl->args[0], "all") != 0
			     ? json_pack("{s:s}", "runner", ctl->args[0])
			     : NULL;
	json_t *result = call_once(ctl, method, params, &status);

	if (result == NULL)
		return status;
	if (!output_for_programs(ctl, result, "runners") && !ctl->quiet)
		print_words(doing, json_object_get(result, "runners"));
	json_decref(result);
	return CTL_OK;
}

int
command_start(struct ctl *ctl)
{
	return order(ctl, "start", "starting");
}

int
command_stop(struct ctl *ctl)
{
	return order(ctl, "stop", "stopping");
}

int
command_restart(struct ctl *ctl)
{
	return order(ctl, "restart", "restarting");
}

int
command_drain(struct ctl *ctl)
{
	return order(ctl, "drain", "draining");
}

int
command_upgrade(struct ctl *ctl)
{
	int status = CTL_INTERNAL;
	json_t *result = call_once(ctl, "upgrade", NULL, &status);

	if (result == NULL)
		return status;
	if (!output_for_programs(ctl, result, "build") && !ctl->quiet)
		printf("zitd %s took over; the pause was %.1f ms\n",
		    json_string_value(json_object_get(result, "build")),
		    json_number_value(json_object_get(result, "pause_ms")));
	json_decref(result);
	return CTL_OK;
}
