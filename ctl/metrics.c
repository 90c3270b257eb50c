/*
 * The command metrics: what zitd tells monitoring, as it is; for node_exporter's textfile collector, say.
 */
#include <stdio.h>

#include "ctl/call.h"
#include "ctl/output.h"

int
command_metrics(struct ctl *ctl)
{
	int status = CTL_INTERNAL;
	json_t *result = call_once(ctl, "metrics", NULL, &status);

	if (result == NULL)
		return status;
	if (ctl->format == FORMAT_JSON || ctl->format == FORMAT_JSONL)
		output_json(ctl, result);
	else
		fputs(output_text(result, "text"), stdout);
	json_decref(result);
	return CTL_OK;
}
