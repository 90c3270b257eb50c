/*
 * What scheduling and quarantine keep over a restart, as one JSON object. Jobs are not in it.
 */
#include <string.h>

#include "ipc/clock.h"
#include "supervisor/daemon_inside.h"
#include "supervisor/journal.h"

const char *const *
daemon_class_names(void)
{
	static char copies[CLASS_COUNT][16];
	static const char *names[CLASS_COUNT];

	for (int k = 0; k < CLASS_COUNT && names[k] == NULL; k++) {
		snprintf(copies[k], sizeof(copies[k]), "%s", job_class_name((enum job_class)k));
		names[k] = copies[k];
	}
	return names;
}

json_t *
daemon_remember(const struct daemon *d)
{
	const struct limits_time t = daemon_limits_time();
	json_t *costs = json_object();

	for (int i = 0; i < d->runner_count; i++)
		json_object_set_new(costs, runner_conf(d->runners[i])->section_name, cost_dump(&d->costs[i]));
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "accounts", fair_dump(&d->queue.fair), "costs",
	    costs, "promises", forecast_dump(&d->forecast), "usage", limits_dump(&d->limits, &t), "paused",
	    daemon_paused(d), "quarantine", quarantine_dump(&d->quarantine, clock_now_us(), clock_wall_us()));
}

bool
daemon_recall_cost(struct daemon *d, int runner)
{
	const json_t *own = json_object_get(d->costs_noted, runner_conf(d->runners[runner])->section_name);

	return own == NULL || cost_restore(&d->costs[runner], own);
}

/* Runners that are not there yet get theirs when they are made. */
static bool
recall_costs(struct daemon *d, const json_t *costs)
{
	bool good = json_is_object(costs);

	json_decref(d->costs_noted);
	d->costs_noted = json_incref((json_t *)costs);
	for (int i = 0; i < d->runner_count; i++)
		good &= daemon_recall_cost(d, i);
	return good;
}

static bool
recall_accounts(struct daemon *d, const json_t *accounts)
{
	return fair_restore(&d->queue.fair, accounts);
}

static bool
recall_promises(struct daemon *d, const json_t *promises)
{
	return forecast_restore(&d->forecast, promises);
}

static bool
recall_usage(struct daemon *d, const json_t *usage)
{
	const struct limits_time t = daemon_limits_time();

	return limits_restore(&d->limits, usage, &t);
}

static bool
recall_pauses(struct daemon *d, const json_t *paused)
{
	return gate_restore(&d->gate, paused, daemon_class_names());
}

static bool
recall_quarantine(struct daemon *d, const json_t *entries)
{
	const int64_t longest_us = (int64_t)(d->conf.queue.quarantine * 1e6);

	return quarantine_restore(&d->quarantine, entries, clock_now_us(), clock_wall_us(), longest_us);
}

void
daemon_recall(struct daemon *d, const json_t *memory)
{
	static const struct {
		const char *name;
		bool (*recall)(struct daemon *d, const json_t *part);
	} parts[] = {{"accounts", recall_accounts}, {"costs", recall_costs}, {"promises", recall_promises},
	    {"usage", recall_usage}, {"paused", recall_pauses}, {"quarantine", recall_quarantine}};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		const json_t *part = json_object_get(memory, parts[i].name);
		if (part != NULL && !parts[i].recall(d, part))
			journal(EVENT_MEMORY_DAMAGED, .detail = parts[i].name);
	}
	d->queue.order_stale = true;
	d->changed = true;
}
