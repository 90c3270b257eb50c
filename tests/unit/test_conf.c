/*
 * supervisor/conf: defaults, inheritance of [runner], conf.d, and errors that name file, line and key.
 */
#include "tests/unit/test.h"
#include "tests/unit/temp_dir.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor/conf.h"

static const char *
write_conf(const char *name, const char *text)
{
	static char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	return path;
}

static struct conf *
read_good(const char *text)
{
	struct conf *c = malloc(sizeof(*c));
	struct err e;

	if (conf_read(c, write_conf("zitd.conf", text), &e) != 0)
		fail_msg("%s", e.text);
	return c;
}

static void
test_defaults(void **state)
{
	struct conf *c = read_good("[runner]\nmodel = /m\n");

	(void)state;
	assert_int_equal(c->queue.max_size, 50);
	assert_true(
	    c->queue.queue_timeout == 300 && c->zitd.connect_timeout == 10 && c->zitd.read_timeout == 60);
	assert_int_equal(c->runner_count, 1);
	assert_string_equal(c->runners[0].section_name, "0");
	assert_true(c->runners[0].exec_timeout == 120);
	assert_int_equal(c->runners[0].startretries, 3);
	assert_int_equal(c->runners[0].stopsignal, SIGINT);
	free(c);
}

static void
test_runners_inherit(void **state)
{
	struct conf *c = read_good("[runner:a]\ndevice = cpu\n[runner]\nmodel = rel\nexec_timeout = "
				   "7\n[runner:b]\nexec_timeout = 9\n[runner:c]\n");
	char model[128];

	(void)state;
	snprintf(model, sizeof(model), "%s/rel", dir);
	assert_int_equal(c->runner_count, 3);
	assert_string_equal(c->runners[2].section_name, "c"); /* all it has is inherited */
	assert_string_equal(c->runners[2].model, model);
	assert_string_equal(c->runners[0].model, model); /* paths are relative to the file */
	assert_string_equal(c->runners[0].device, "cpu");
	assert_string_equal(c->runners[1].device, "auto");
	assert_true(c->runners[0].exec_timeout == 7 && c->runners[1].exec_timeout == 9);
	free(c);
}

static void
test_clients_inherit(void **state)
{
	struct conf *c =
	    read_good("[runner]\nmodel = /m\n[client:uid:1000]\nweight = 3\n[clients]\nmax_running = "
		      "2\n[client:web]\nceiling = low\n[queue]\nwindow_low = 22:00-06:30\n");

	(void)state;
	assert_int_equal(c->client_count, 2);
	assert_int_equal(conf_find_client(c, "uid:1000")->weight, 3);
	assert_int_equal(conf_find_client(c, "uid:1000")->max_running, 2);
	assert_string_equal(conf_find_client(c, "web")->ceiling, "low");
	assert_int_equal(conf_find_client(c, "web")->weight, 1);
	assert_null(conf_find_client(c, "uid:1"));
	assert_int_equal(c->any_client.max_running, 2);
	assert_int_equal(c->queue.window_low.from_s, 22 * 3600);
	assert_int_equal(c->queue.window_low.to_s, 6 * 3600 + 30 * 60);
	free(c);
}

static void
test_directory_wins(void **state)
{
	struct conf *c;
	char path[128];

	(void)state;
	snprintf(path, sizeof(path), "%s/conf.d", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	write_conf("conf.d/10.conf", "[queue]\nmax_size = 10\n");
	write_conf("conf.d/20.conf", "[queue]\nmax_size = 20\n");
	write_conf("conf.d/ignored.txt", "nonsense");
	c = read_good("[queue]\nmax_size = 1\n[runner]\nmodel = /m\n");
	assert_int_equal(c->queue.max_size, 20);
	free(c);
	write_conf("conf.d/10.conf", "");
	write_conf("conf.d/20.conf", "");
}

#define LONG \
	"01234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567" \
	"89" \
	"01234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567" \
	"89"

static const struct {
	const char *text, *says[3];
} bad[] = {
    {"[queue]\nmax_size = many\n", {"zitd.conf:2", "max_size", "integer from 1"}},
    {"[queue]\nmax_size = 0\n", {"zitd.conf:2", "max_size", "1"}},
    {"[queue]\nmax_size = 5.5\n", {"zitd.conf:2", "max_size", "integer"}},
    {"\n[queue]\nmax_sise = 5\n", {"zitd.conf:3", "max_sise", "max_size"}},
    {"[queu]\nmax_size = 5\n", {"zitd.conf:1", "[queu]", "[queue]"}},
    {"[runner:]\ndevice = cpu\n", {"zitd.conf:1", "runner", ""}},
    {"[queue:x]\nmax_size = 5\n", {"zitd.conf:1", "queue:x", ""}},
    {"[runner]\nmodel = /m\nstopsignal = KILL\n", {"zitd.conf:3", "stopsignal", "INT"}},
    {"[runner]\nmodel = /m\nprecision = fp8\n", {"zitd.conf:3", "precision", "bf16"}},
    {"[runner]\nmodel = /m\nkernels = fast\n", {"zitd.conf:3", "kernels", "auto|portable"}},
    {"[runner]\nmodel = /m\ntext_encoder = host\n", {"zitd.conf:3", "text_encoder", "resident|streamed"}},
    {"[zitd]\nlog_level = loud\n", {"zitd.conf:2", "log_level", "warning"}},
    {"[runner]\nexec_timeout = -1\n", {"zitd.conf:2", "exec_timeout", "seconds"}},
    {"[runner]\ndevice = cpu\n", {"zitd.conf", "no model", "model ="}},
    {"[client:a]\nweight = 0\n", {"zitd.conf:2", "weight", "integer from 1"}},
    {"[queue]\nweight_low = 0\n", {"zitd.conf:2", "weight_low", "integer from 1"}},
    {"[clients]\nquota_day = -5\n", {"zitd.conf:2", "quota_day", "seconds from 0"}},
    {"[clients]\nceiling = urgent\n", {"zitd.conf:2", "ceiling", "high|normal|low"}},
    {"[client:a]\nwieght = 2\n", {"zitd.conf:2", "wieght", "weight"}},
    {"[client]\nweight = 2\n", {"zitd.conf:1", "[client]", "[clients]"}},
    {"[clients:a]\nweight = 2\n", {"zitd.conf:1", "clients:a", ""}},
    {"[queue]\nwindow_low = at night\n", {"zitd.conf:2", "window_low", "22:00-06:00"}},
    {"this is not an option\n", {"zitd.conf:1", "key = value", ""}},
    {"[queue]\nmax_size = 5\n  6\n",
	{"zitd.conf:3", "key = value", ""}}, /* nothing goes on on another line */
    {"[runner]\nmodel = /m\n  devise = cpu\n", {"zitd.conf:3", "devise", "device"}},
    {"[runner]\nmodel = /" LONG "\n", {"zitd.conf:2", "longer than 198 bytes", ""}},
    {"[runner]\nmodel = /m\n  # " LONG " = x\nthreads = x\n", {"zitd.conf:4", "threads", "integer"}},
};

static void
test_errors_name_the_place(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct conf c;
		struct err e = {0};
		if (conf_read(&c, write_conf("zitd.conf", bad[i].text), &e) != -ERR_BAD_CONFIG)
			fail_msg("taken: %s", bad[i].text);
		for (int k = 0; k < 3; k++) {
			if (strstr(e.text, bad[i].says[k]) == NULL)
				fail_msg("'%s' does not say '%s'", e.text, bad[i].says[k]);
		}
	}
}

static char changes[400];

static void
note_change(void *arg, const struct conf_change *change)
{
	size_t used = strlen(changes);

	(void)arg;
	snprintf(changes + used, sizeof(changes) - used, "%s=%d ", change->key, (int)change->when);
}

static void
test_comparison(void **state)
{
	struct conf *a = read_good("[queue]\nmax_size = 1\n[runner]\nmodel = /m\n[runner:x]\n device=cpu\n"
				   "[client:a]\nweight = 2\n[client:b]\nweight = 3\n");
	struct conf *b =
	    read_good("[client:b]\nweight = 3\n[client:c]\nweight = 4\n[queue]\nmax_size = "
		      "2\n[zitd]\nstate_dir = /s\n[runner]\nmodel = /n\n[runner:y]\ndevice=cpu\n");

	(void)state;
	conf_compare(a, a, note_change, NULL);
	assert_string_equal(changes, "");
	conf_compare(a, b, note_change, NULL);
	assert_non_null(strstr(changes, "queue.max_size=0"));
	assert_non_null(strstr(changes, "zitd.state_dir=2"));
	assert_non_null(strstr(changes, "runner:y=2"));
	assert_non_null(strstr(changes, "runner:x=2"));
	assert_non_null(strstr(changes, "client:a.weight=0"));
	assert_non_null(strstr(changes, "client:c.weight=0"));
	assert_null(strstr(changes, "client:b"));
	free(a);
	free(b);
}

/* A longer value of an earlier line leaves no trace: the same text is the same value. */
static void
test_comparison_is_of_texts(void **state)
{
	struct conf *a = read_good("[runner]\nmodel = /m\nenvironment = LONG=value\nenvironment = A=1\n");
	struct conf *b = read_good("[runner]\nmodel = /m\nenvironment = A=1\n");

	(void)state;
	changes[0] = '\0';
	conf_compare(a, b, note_change, NULL);
	assert_string_equal(changes, "");
	free(a);
	free(b);
}

static const struct conf *listed;
static char listing[20000];

static void
note_value(void *arg, const struct conf_value *v)
{
	size_t used = strlen(listing);
	char origin[CONF_ORIGIN];
	char *text = NULL;
	json_t *value = conf_json(v->row, v->member, true);

	(void)arg;
	conf_origin_text(listed, v->origin, origin);
	text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
	snprintf(listing + used, sizeof(listing) - used, "%s=%s @ %s\n", v->key, text, origin);
	free(text);
	json_decref(value);
}

static void
list(const struct conf *c)
{
	listed = c;
	listing[0] = '\0';
	conf_each(c, note_value, NULL);
}

static void
assert_listed(const char *line)
{
	if (strstr(listing, line) == NULL)
		fail_msg("'%s' is not in\n%s", line, listing);
}

static void
test_values_and_their_origins(void **state)
{
	struct conf *c = read_good("[queue]\nmax_size = 7\nwindow_low = 9:05-10:00\n[runner]\nmodel = /m\n"
				   "environment = A=1,B=secret,C\n[runner:x]\nstopsignal = TERM\n"
				   "[client:web]\nweight = 3\n");
	struct err e;
	char line[400];

	(void)state;
	assert_int_equal(conf_override(c, "log_level", "debug", &e), 0);
	assert_int_equal(conf_override(c, "state_dir", NULL, &e), 0);
	assert_int_equal(conf_override(c, "runtime_dir", "here", &e), 0);
	list(c);
	snprintf(line, sizeof(line), "queue.max_size=7 @ %s/zitd.conf:2\n", dir);
	assert_listed(line);
	snprintf(line, sizeof(line), "queue.window_low=\"09:05-10:00\" @ %s/zitd.conf:3\n", dir);
	assert_listed(line);
	snprintf(line, sizeof(line), "runner:x.model=\"/m\" @ %s/zitd.conf:5\n", dir);
	assert_listed(line);
	snprintf(line, sizeof(line), "runner:x.environment=\"A=...,B=...,C\" @ %s/zitd.conf:6\n", dir);
	assert_listed(line);
	snprintf(line, sizeof(line), "runner:x.stopsignal=\"TERM\" @ %s/zitd.conf:8\n", dir);
	assert_listed(line);
	snprintf(line, sizeof(line), "client:web.weight=3 @ %s/zitd.conf:10\n", dir);
	assert_listed(line);
	assert_listed("clients.weight=1 @ default\n");
	assert_listed("zitd.log_level=\"debug\" @ command line\n");
	assert_listed("zitd.runtime_dir=\"here\" @ command line\n"); /* of the working directory */
	assert_listed("zitd.state_dir=\"\" @ default\n");
	assert_int_equal(conf_override(c, "log_level", "loud", &e), -ERR_BAD_CONFIG);
	assert_non_null(strstr(e.text, "command line: log_level"));
	free(c);
}

/* What needs a restart stays, and says that it is older than the files; the rest is as if read anew. */
static void
test_take_over(void **state)
{
	struct conf *running = read_good("[zitd]\nstate_dir = /old\nruntime_dir = /same\n[queue]\nmax_size = "
					 "1\n[runner]\nmodel = /m\n[runner:x]\n[runner:gone]\n"
					 "[client:a]\nweight = 2\n");
	struct conf *fresh = read_good("[queue]\nmax_size = 2\n[zitd]\nruntime_dir = /same\nstate_dir = "
				       "/new\n[runner]\nmodel = /n\n[runner:x]\n[runner:new]\n");
	char line[400];

	(void)state;
	conf_take_over(running, fresh);
	list(running);
	assert_listed("zitd.state_dir=\"/old\" @ read earlier\n");
	snprintf(line, sizeof(line), "zitd.runtime_dir=\"/same\" @ %s/zitd.conf:4\n", dir);
	assert_listed(line);
	snprintf(line, sizeof(line), "queue.max_size=2 @ %s/zitd.conf:2\n", dir);
	assert_listed(line);
	snprintf(line, sizeof(line), "runner:x.model=\"/n\" @ %s/zitd.conf:7\n", dir);
	assert_listed(line);
	assert_listed("runner:gone.model=\"/m\" @ read earlier\n");
	assert_null(strstr(listing, "runner:new"));
	assert_null(strstr(listing, "client:a"));
	changes[0] = '\0';
	conf_compare(running, fresh, note_change, NULL);
	assert_string_equal(changes, "zitd.state_dir=2 runner:new=2 runner:gone=2 ");
	free(running);
	free(fresh);
}

/* A runner's process goes on with what it was started with, over an upgrade too. */
static void
test_what_a_process_was_started_with(void **state)
{
	struct conf *started = read_good("[runner]\nmodel = /old\nthreads = 3\nconcurrency = 1\n");
	struct conf *now = read_good("[runner]\nmodel = /new\nthreads = 4\nconcurrency = 2\n");
	struct conf_runner kept = now->runners[0];
	json_t *dump = conf_runner_dump(&started->runners[0]);

	(void)state;
	conf_runner_undump(&kept, dump);
	conf_runner_restore_started(&now->runners[0], &kept);
	list(now);
	assert_listed("runner:0.model=\"/old\" @ read earlier\n");
	assert_listed("runner:0.threads=3 @ read earlier\n");
	assert_int_equal(now->runners[0].concurrency, 2); /* which takes no fresh process */
	json_decref(dump);
	free(started);
	free(now);
}

/* What should be read and cannot be is no reason to go on without it. */
static void
test_a_directory_that_is_none(void **state)
{
	struct conf *c = calloc(1, sizeof(*c));
	struct err e = {0};
	char path[300];

	(void)state;
	snprintf(path, sizeof(path), "%s/conf.d/10.conf", dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/conf.d/20.conf", dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/conf.d/ignored.txt", dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/conf.d", dir);
	rmdir(path);
	write_conf("conf.d", "");
	assert_int_equal(
	    conf_read(c, write_conf("zitd.conf", "[runner]\nmodel = /m\n"), &e), -ERR_BAD_CONFIG);
	assert_non_null(strstr(e.text, "conf.d: Not a directory"));
	unlink(path);
	free(c);
}

static void
test_too_many_files(void **state)
{
	struct conf *c = calloc(1, sizeof(*c));
	struct err e = {0};
	char name[40], path[300];

	(void)state;
	snprintf(path, sizeof(path), "%s/conf.d", dir);
	mkdir(path, 0700);
	for (int i = 0; i < CONF_MAX_FILES; i++) {
		snprintf(name, sizeof(name), "conf.d/many-%d.conf", i);
		write_conf(name, "");
	}
	assert_int_equal(
	    conf_read(c, write_conf("zitd.conf", "[runner]\nmodel = /m\n"), &e), -ERR_BAD_CONFIG);
	assert_non_null(strstr(e.text, "64 files"));
	for (int i = 0; i < CONF_MAX_FILES; i++) {
		snprintf(path, sizeof(path), "%s/conf.d/many-%d.conf", dir, i);
		unlink(path);
	}
	free(c);
}

/* Every row tells of itself what a reader of it has to know; what conf_take_over relies on: only a runner's
 * option waits for its process, and clients are taken over whole. */
static void
test_the_table_as_json(void **state)
{
	json_t *options = conf_options(), *each;
	size_t i;

	(void)state;
	assert_true(json_array_size(options) > 50);
	json_array_foreach(options, i, each)
	{
		static const char *const members[] = {"key", "type", "default", "when", "help"};
		for (size_t k = 0; k < sizeof(members) / sizeof(members[0]); k++) {
			if (!json_is_string(json_object_get(each, members[k])))
				fail_msg("option %zu has no %s", i, members[k]);
		}
		assert_true(json_array_size(json_object_get(each, "sections")) >= 1);
		const char *when = json_string_value(json_object_get(each, "when")),
			   *section = json_string_value(json_array_get(json_object_get(each, "sections"), 0));
		if (strcmp(when, "respawn") == 0)
			assert_string_equal(section, "runner");
		if (strcmp(section, "clients") == 0)
			assert_string_equal(when, "at_once");
	}
	json_decref(options);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_defaults),
	    cmocka_unit_test(test_runners_inherit),
	    cmocka_unit_test(test_clients_inherit),
	    cmocka_unit_test(test_directory_wins),
	    cmocka_unit_test(test_errors_name_the_place),
	    cmocka_unit_test(test_comparison),
	    cmocka_unit_test(test_comparison_is_of_texts),
	    cmocka_unit_test(test_values_and_their_origins),
	    cmocka_unit_test(test_take_over),
	    cmocka_unit_test(test_what_a_process_was_started_with),
	    cmocka_unit_test(test_a_directory_that_is_none),
	    cmocka_unit_test(test_too_many_files),
	    cmocka_unit_test(test_the_table_as_json),
	};

	return cmocka_run_group_tests(tests, make_temp_dir, remove_temp_dir);
}
