/*
 * The methods about zitd and its runners.
 */
#include <stdlib.h>

#include "supervisor/exposition.h"
#include "supervisor/methods/methods_inside.h"
#include "supervisor/runners/runner.h"
#include "supervisor/upgrade.h"

json_t *
method_status(struct call *call)
{
	return daemon_status(call->daemon);
}

json_t *
method_runners(struct call *call)
{
	return json_pack("{s:o}", "runners", daemon_runners(call->daemon));
}

json_t *
method_metrics(struct call *call)
{
	char *text = daemon_metrics_text(call->daemon);
	json_t *result = json_pack("{s:s, s:s}", "content_type", EXPOSITION_TYPE, "text", text);

	free(text);
	if (result == NULL)
		err_set(&call->e, ERR_SYSTEM, "out of memory");
	return result;
}

json_t *
call_order_runners(struct call *call, const char *name, void (*order)(struct runner *r))
{
	json_t *names = daemon_order(call->daemon, name, order);

	if (names == NULL) {
		call->data = json_pack("{s:s}", "param", "runner");
		err_set(&call->e, ERR_INVALID_PARAM,
		    "there is no runner '%.40s'; 'zitctl runners' lists them", name);
		return NULL;
	}
	return json_pack("{s:o}", "runners", names);
}

static void
stop_now(struct runner *r)
{
	runner_stop(r, false);
}

json_t *
method_start(struct call *call)
{
	return call_order_runners(call, call->request->start.runner, runner_start);
}

json_t *
method_stop(struct call *call)
{
	return call_order_runners(call, call->request->stop.runner, stop_now);
}

json_t *
method_restart(struct call *call)
{
	return call_order_runners(call, call->request->restart.runner, runner_restart);
}

json_t *
method_drain(struct call *call)
{
	return call_order_runners(call, call->request->drain.runner, runner_drain);
}

json_t *
method_reload(struct call *call)
{
	return daemon_reload(call->daemon, &call->e);
}

json_t *
method_config(struct call *call)
{
	bool diff = call->request->config.what == 1, hide = !call_is_admin(call);

	return diff ? daemon_diff_conf(call->daemon, hide, &call->e)
		    : daemon_show_conf(call->daemon, hide, &call->e);
}

json_t *
method_upgrade(struct call *call)
{
	upgrade_begin(call->daemon, call->client, call->request->id, &call->e);
	return NULL;
}
