/*
 * The daemon's configuration: what runs, what the files say now, and how the one becomes the other.
 *
 * d->conf is what is in use, but for what a runner's process was started with: that is the runner's
 * (runner_started_with).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/log.h"
#include "supervisor/daemon_inside.h"
#include "supervisor/journal.h"
#include "supervisor/notify.h"

void
daemon_set_log(const struct daemon *d)
{
	enum log_level level = LOG_LEVEL_INFO;

	log_level_parse(d->conf.zitd.log_level, &level);
	log_set_level(level);
	journal_set_form(d->conf.zitd.log_format);
	journal_set_prompts(d->conf.zitd.log_prompts);
}

int
daemon_read_conf(struct conf *c, const struct daemon_options *o, struct err *e)
{
	int status = conf_read(c, o->config, e);

	if (status == 0)
		status = conf_override(c, "runtime_dir", o->runtime_dir, e);
	if (status == 0)
		status = conf_override(c, "state_dir", o->state_dir, e);
	if (status == 0)
		status = conf_override(c, "log_level", o->log_level, e);
	return status == 0 ? conf_override(c, "log_format", o->log_format, e) : status;
}

/* What the files say now; the caller frees it. NULL with *e. */
static struct conf *
read_files(const struct daemon *d, struct err *e)
{
	struct conf *c = malloc(sizeof(*c));

	if (c == NULL) {
		err_set(e, ERR_SYSTEM, "out of memory");
		return NULL;
	}
	if (daemon_read_conf(c, &d->options, e) == 0)
		return c;
	free(c);
	return NULL;
}

/* What is in use, processes of runners included; the caller frees it. NULL with *e. */
static struct conf *
in_use(const struct daemon *d, struct err *e)
{
	struct conf *c = malloc(sizeof(*c));

	if (c == NULL) {
		err_set(e, ERR_SYSTEM, "out of memory");
		return NULL;
	}
	*c = d->conf;
	for (int i = 0; i < d->runner_count; i++) {
		const struct conf_runner *started = runner_started_with(d->runners[i]);
		struct conf_runner *own = conf_find_runner(c, runner_conf(d->runners[i])->section_name);
		if (started != NULL && own != NULL)
			conf_runner_restore_started(own, started);
	}
	return c;
}

/* ---- what is in use, one by one */

struct listing {
	const struct daemon *daemon;
	const struct conf *conf;
	bool hide;
	json_t *options;
};

/* What stands for an empty text. */
static json_t *
meant(const struct daemon *d, const char *option)
{
	const struct {
		const char *option, *text;
	} rows[] = {{"runtime_dir", d->paths.runtime_dir}, {"state_dir", d->paths.state_dir},
	    {"command", d->paths.runner}};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (strcmp(rows[i].option, option) == 0)
			return json_string(rows[i].text);
	}
	return json_string("");
}

static void
list_value(void *arg, const struct conf_value *v)
{
	struct listing *listing = arg;
	char origin[CONF_ORIGIN];
	json_t *value = conf_json(v->row, v->member, listing->hide);

	if (json_is_string(value) && json_string_length(value) == 0) {
		json_decref(value);
		value = meant(listing->daemon, v->option);
	}
	conf_origin_text(listing->conf, v->origin, origin);
	json_array_append_new(
	    listing->options, json_pack("{s:s, s:o, s:s, s:s}", "key", v->key, "value", value, "origin",
				  origin, "when", conf_when_name(v->when)));
}

json_t *
daemon_show_conf(const struct daemon *d, bool hide, struct err *e)
{
	struct listing listing = {d, in_use(d, e), hide, NULL};
	json_t *files;

	if (listing.conf == NULL)
		return NULL;
	files = json_array();
	listing.options = json_array();
	for (int i = 0; i < listing.conf->file_count; i++)
		json_array_append_new(files, json_string(listing.conf->files[i]));
	conf_each(listing.conf, list_value, &listing);
	free((void *)listing.conf);
	return json_pack("{s:o, s:o}", "files", files, "options", listing.options);
}

/* ---- what is another */

struct changes {
	const struct daemon *daemon;
	bool hide;
	json_t *list, *runners; /* runners: whose processes would have to be replaced, each once */
	bool restart;		/* of zitd */
};

static void
note_runner(struct changes *changes, const char *runner)
{
	size_t i;
	const json_t *each;

	json_array_foreach(changes->runners, i, each)
	{
		if (strcmp(json_string_value(each), runner) == 0)
			return;
	}
	json_array_append_new(changes->runners, json_string(runner));
}

/* Those of that section that have a process. */
static void
note_runners(struct changes *changes, const char *section)
{
	const struct daemon *d = changes->daemon;

	for (int i = 0; i < d->runner_count; i++) {
		const struct conf_runner *c = runner_conf(d->runners[i]);
		if (runner_has_process(d->runners[i]) && strcmp(conf_runner_section(c), section) == 0)
			note_runner(changes, c->section_name);
	}
}

/* A section that is new or gone has no value to tell. */
static json_t *
side(const struct changes *changes, const struct conf_change *change, const void *member)
{
	if (change->row == NULL)
		return json_string(member != NULL ? "present" : "absent");
	return conf_json(change->row, member, changes->hide);
}

static void
note_change(void *arg, const struct conf_change *change)
{
	struct changes *changes = arg;

	json_array_append_new(
	    changes->list, json_pack("{s:s, s:o, s:o, s:s}", "key", change->key, "before",
			       side(changes, change, change->before), "after",
			       side(changes, change, change->after), "when", conf_when_name(change->when)));
	changes->restart |= change->when == CONF_RESTART;
	if (change->when == CONF_RESPAWN)
		note_runners(changes, change->runner);
}

/* {changed, restart_runners, restart_zitd}: from what is in use to `fresh`. NULL with *e. */
static json_t *
compare(const struct daemon *d, const struct conf *fresh, bool hide, struct err *e)
{
	struct changes changes = {d, hide, NULL, NULL, false};
	struct conf *old = in_use(d, e);

	if (old == NULL)
		return NULL;
	changes.list = json_array();
	changes.runners = json_array();
	conf_compare(old, fresh, note_change, &changes);
	free(old);
	return json_pack("{s:o, s:o, s:b}", "changed", changes.list, "restart_runners", changes.runners,
	    "restart_zitd", changes.restart);
}

json_t *
daemon_diff_conf(const struct daemon *d, bool hide, struct err *e)
{
	struct conf *fresh = read_files(d, e);
	json_t *answer = fresh != NULL ? compare(d, fresh, hide, e) : NULL;

	free(fresh);
	return answer;
}

/* ---- reload */

/* Each runner goes on with its own section; the set of sections is fixed until zitd is restarted. Which
 * CUDA devices there are is asked again. */
static void
apply(struct daemon *d, const struct conf *fresh)
{
	conf_take_over(&d->conf, fresh);
	for (int i = 0; i < d->runner_count; i++) {
		struct runner *r = d->runners[i];
		const struct conf_runner *own =
		    conf_find_runner(&d->conf, conf_runner_section(runner_conf(r)));
		if (own != NULL)
			runner_set_conf(r, own);
		if (runner_state(r) == RUNNER_FAILED) {
			runner_await_device(r);
			runner_restart(r); /* its reason may be gone */
		}
	}
	daemon_find_devices(d);
	daemon_set_shares(d);
	daemon_set_clients(d);
	daemon_set_log(d);
	d->changed = true;
}

static void
log_change(const json_t *change)
{
	static const struct {
		const char *when, *todo;
	} rows[] = {{"respawn", "restart the runner to use it"}, {"restart", "restart zitd to use it"}};
	const char *when = json_string_value(json_object_get(change, "when")), *todo = NULL;
	char *before =
	    json_dumps(json_object_get(change, "before"), JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
	char *after = json_dumps(json_object_get(change, "after"), JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (strcmp(rows[i].when, when) == 0)
			todo = rows[i].todo;
	}
	journal(EVENT_CONFIG_CHANGED, .key = json_string_value(json_object_get(change, "key")),
	    .value_before = before, .value_after = after, .detail = todo);
	free(before);
	free(after);
}

static void
log_changes(const struct daemon *d, const json_t *list)
{
	size_t i;
	const json_t *each;

	json_array_foreach(list, i, each) log_change(each);
	journal(EVENT_RELOADED, .path = d->options.config, .count = (int64_t)json_array_size(list));
}

json_t *
daemon_reload(struct daemon *d, struct err *e)
{
	struct conf *fresh;
	json_t *answer;

	notify_reloading();
	fresh = read_files(d, e);
	answer = fresh != NULL ? compare(d, fresh, true, e) : NULL;
	if (answer != NULL) {
		log_changes(d, json_object_get(answer, "changed"));
		apply(d, fresh);
	} else
		journal(EVENT_RELOAD_FAILED, .path = d->options.config, .error = e);
	metrics_count_reload(&d->metrics, answer != NULL);
	notify_reloaded();
	free(fresh);
	return answer;
}
