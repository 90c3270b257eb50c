/*
 * What is asked of the daemon as a whole: its status, restarts of runners.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "build_id.h"
#include "ipc/clock.h"
#include "ipc/log.h"
#include "supervisor/daemon_inside.h"
#include "supervisor/journal.h"
#include "supervisor/notify.h"

/* ---- status */

json_t *
daemon_runners(struct daemon *d)
{
	json_t *list = json_array(), *record;

	for (int i = 0; i < d->runner_count; i++) {
		const struct cost *c = &d->costs[i];
		record = runner_record(d->runners[i]);
		json_object_set_new(record, "cost",
		    json_pack("{s:i, s:f, s:f, s:f, s:f}", "samples", c->samples, "base_s", c->terms[0],
			"step_s", c->terms[1], "picture_s", c->terms[2], "error", sqrt(c->error)));
		json_array_append_new(list, record);
	}
	return list;
}

json_t *
daemon_status(struct daemon *d)
{
	json_t *status;
	json_t *queue = json_pack("{s:i, s:i, s:i, s:i, s:i, s:b, s:o}", "high",
	    queue_class_length(&d->queue, CLASS_HIGH), "normal", queue_class_length(&d->queue, CLASS_NORMAL),
	    "low", queue_class_length(&d->queue, CLASS_LOW), "max_size", (int)d->conf.queue.max_size, "held",
	    d->queue.fair.held, "low_gives_way", d->load.on, "paused", daemon_paused(d));
	json_t *counters = json_pack("{s:I, s:I, s:I}", "accepted", (json_int_t)d->admitted, "ended",
	    (json_int_t)d->ended, "done", (json_int_t)d->done);

	status = json_pack("{s:s, s:s, s:s, s:i, s:f, s:o, s:o, s:o, s:i, s:I}", "version", ZIT_VERSION,
	    "build", ZIT_BUILD, "state", daemon_phase_name(d), "pid", (int)getpid(), "uptime_s",
	    (double)(clock_now_us() - d->started_us) * 1e-6, "runners", daemon_runners(d), "queue", queue,
	    "counters", counters, "clients", clients_count(d->clients), "rss_bytes",
	    (json_int_t)daemon_resident_bytes());
	json_object_set_new(status, "paths",
	    json_pack("{s:s, s:s, s:s, s:s}", "config", d->options.config, "program", d->paths.program,
		"runtime_dir", d->paths.runtime_dir, "state_dir", d->paths.state_dir));
	json_object_set_new(status, "devices", daemon_devices(d));
	json_object_set_new(status, "max_clients", json_integer(d->conf.zitd.max_clients));
	if (d->store_error != 0)
		json_object_set_new(status, "store_error", json_string(strerror(d->store_error)));
	return status;
}

/* ---- orders */

json_t *
daemon_order(struct daemon *d, const char *name, void (*order)(struct runner *r))
{
	json_t *names = json_array();

	for (int i = 0; i < d->runner_count; i++) {
		const char *own = runner_conf(d->runners[i])->section_name;
		if (name != NULL && strcmp(name, own) != 0)
			continue;
		json_array_append_new(names, json_string(own));
		order(d->runners[i]);
	}
	if (json_array_size(names) > 0)
		return names;
	json_decref(names);
	return NULL;
}
