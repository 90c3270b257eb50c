/*
 * An upgrade: zitd hands all that it is to another one, at a moment when nothing is under way. Memory goes,
 * descriptors that are named stay; and what the new one would hand on is what it was handed.
 */
#include "tests/world/world.h"

#include "supervisor/daemon_handover.h"
#include "supervisor/upgrade.h"

#define SETTLE_US SECOND

/* ---- before it: nobody is heard, nothing is begun */

static void
set_deaf(bool deaf)
{
	for (int i = 0; i < run.runner_count; i++)
		runner_set_deaf(run.runners[i], deaf);
}

void
want_upgrade(void)
{
	if (run.term_us != 0 || !run.opened || daemon_store_error(run.daemon) != 0 || run.upgrade_by_us != 0)
		return;
	run.upgrade_by_us = run.now_us + SETTLE_US;
	set_deaf(true);
}

void
upgrade_abandon(struct daemon *d, const char *why)
{
	(void)why;
	if (run.upgrade_by_us == 0)
		return;
	run.upgrade_by_us = 0;
	set_deaf(false);
	daemon_changed(d);
}

bool
upgrade_is_quiet(const struct daemon *d)
{
	(void)d;
	return run.upgrade_by_us != 0;
}

static bool
is_settled(void)
{
	bool unsent = false;

	for (int i = 0; i < run.runner_count; i++)
		unsent |= runner_has_unsent(run.runners[i]);
	return !unsent && daemon_store_error(run.daemon) == 0 && daemon_is_saved(run.daemon) &&
	       disk_pending(run.disk) == 0;
}

/* A timer that has ended would end a microsecond later, which audit_same would see. */
bool
is_time_to_upgrade(const struct ev_loop *loop)
{
	if (run.upgrade_by_us == 0)
		return false;
	if (is_settled() && loop->timers[first_timer(loop)].at_us > run.now_us)
		return true;
	if (run.now_us > run.upgrade_by_us)
		upgrade_abandon(run.daemon, "it does not settle");
	return false;
}

/* ---- the exec: what is not named is closed, and nothing may be */

static void
audit_named(const struct handover *h)
{
	for (int i = 0; i < descriptor_count; i++) {
		int named = 0;
		for (int k = 0; k < h->fd_count; k++)
			named += h->fds[k] == FIRST_FD + i;
		if (named != (descriptors[i].kind != CLOSED))
			violated("descriptor %d, kind %d, is handed over %d times", FIRST_FD + i,
			    descriptors[i].kind, named);
	}
}

/* Who was used last comes first there: an order that does not matter. */
static void
forget_order(json_t *owner, const char *name)
{
	json_t *by_client = json_object(), *each;
	size_t i;

	json_array_foreach(json_object_get(owner, name), i, each)
	    json_object_set(by_client, json_string_value(json_object_get(each, "client")), each);
	json_object_set_new(owner, name, by_client);
}

static void
audit_same(const json_t *was, const json_t *is)
{
	const json_t *both[] = {was, is};
	const char *name;
	json_t *part;

	for (int i = 0; i < 2; i++) {
		json_t *memory = json_object_get(json_object_get(both[i], "daemon"), "memory");
		forget_order(memory, "usage");
		forget_order(json_object_get(memory, "accounts"), "clients");
	}
	json_object_foreach((json_t *)was, name, part)
	{
		if (json_equal(part, json_object_get(is, name)))
			continue;
		printf("%s\n%s\n", json_dumps(part, 0), json_dumps(json_object_get(is, name), 0));
		violated("%s are not what was handed over", name);
	}
}

static void
find_jobs_again(void)
{
	for (int i = 0; i < open_count; i++) {
		open_jobs[i].job = daemon_find_number(run.daemon, open_jobs[i].number);
		if (open_jobs[i].job == NULL)
			violated("job %s: lost over an upgrade", open_jobs[i].id);
	}
}

void
upgrade(const struct daemon_options *old_options)
{
	static struct conf conf; /* large */
	struct daemon_options options = *old_options;
	struct handover h, next;
	struct err e;
	int document;

	audit_orders(true);
	run.upgrading = true;
	conf = *daemon_conf(run.daemon);
	daemon_hand_over(run.daemon, &h);
	audit_named(&h);
	document = handover_write(&h);
	handover_clear(&h);
	daemon_free(&run.daemon);
	if (handover_read(&h, document, &e) != 0 || daemon_check_handover(&h, &conf, &e) != 0)
		violated("handed over: %s", e.text);
	options.handover = &h;
	run.upgrade_by_us = 0;
	if (daemon_start(&run.daemon, &options, &conf, &e) != 0)
		violated("taken over: %s", e.text);
	daemon_hand_over(run.daemon, &next);
	audit_named(&next);
	audit_same(h.root, next.root);
	handover_clear(&next);
	handover_clear(&h);
	run.upgrading = false;
	find_jobs_again();
	totals.upgrades++;
}
