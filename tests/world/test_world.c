/*
 * The model test of jobs and runners: the daemon with its queue, scheduler and both state machines as they
 * are in production, in a world that is made by chance. Thousands of short lives are led; none may fire an
 * event that its table does not have, lose a job or end it twice, keep a descriptor, signal a stranger, or
 * wait without a clock.
 *
 * Not of production here: time, the event loop, descriptors, the channel, processes, the disk, clients, the
 * log. A process is a small model of a runner that works, crashes, hangs, turns a deaf ear or lies.
 *
 *   test_world            all runs
 *   test_world SEED       one of them, with its log
 */
#include "tests/world/world.h"

#include "tests/unit/temp_dir.h"

/* ---- time */

/* SIGTERM; once more when it takes too long for somebody. */
static void
terminate(struct ev_loop *loop)
{
	if (loud)
		printf("%12.6f SIGTERM\n", (double)run.now_us * 1e-6);
	if (run.term_us == 0)
		run.term_us = run.now_us;
	run.action_us = odds(200) ? run.now_us + span_us(MS, 60 * SECOND) : NEVER;
	loop->term->cb(loop, loop->term, EV_SIGNAL);
}

/* Nobody has work, and nobody holds any. */
static bool
is_quiet(void)
{
	for (int i = 0; i < run.runner_count; i++) {
		if (runner_has_jobs(run.runners[i]))
			return false;
	}
	return open_count == 0;
}

/* Somebody does something: people, or those who want zitd to end. */
static void
interfere(struct ev_loop *loop)
{
	if (run.term_us == 0 && run.actions_left > 0)
		act();
	else if (run.term_us == 0 && run.settled_us == 0 && odds(700)) {
		run.settled_us = run.now_us;
		run.action_us = NEVER;
	} else
		terminate(loop);
}

/* Time goes on to what is next. */
static void
pass_time(struct ev_loop *loop)
{
	struct disk *disk = run.disk;
	int timer = first_timer(loop), task = first_task(disk);
	struct process *process = NULL;
	int64_t at_us = loop->timers[timer].at_us;

	if (disk->count > 0 && disk->ready_us[task] < at_us)
		at_us = disk->ready_us[task];
	else
		task = -1;
	for (int i = 0; i < MAX_PROCESSES; i++) {
		struct process *p = &processes[i];
		int64_t due_us = p->act_us < p->dies_us ? p->act_us : p->dies_us;
		if (!p->in_use || due_us >= at_us)
			continue;
		process = p;
		at_us = due_us;
	}
	if (run.action_us < at_us) {
		run.now_us = run.action_us > run.now_us ? run.action_us : run.now_us;
		interfere(loop);
		return;
	}
	run.now_us = at_us > run.now_us ? at_us : run.now_us;
	if (process != NULL && process->dies_us <= process->act_us)
		process_end(process, SIGKILL);
	else if (process != NULL)
		process_act(process);
	else if (task >= 0)
		finish_task(disk, task);
	else
		serve_timer(loop, timer);
}

/* One turn: zitd before it sleeps, then what wakes it, sometimes several things at once. */
int
ev_run(struct ev_loop *loop, int)
{
	while (!loop->broken && !run.killed && !run.upgrading) {
		uint32_t wakeups = odds(200) ? 2 + draw(3) : 1;
		bool busy = true;

		totals.turns++;
		if (run.opened && !run.replayed)
			audit_replay();
		loop->prepare->cb(loop, loop->prepare, EV_PREPARE);
		if (loop->broken)
			break;
		audit();
		if (is_time_to_upgrade(loop)) {
			run.upgrading = true;
			break;
		}
		if (run.settled_us != 0 && run.term_us == 0 && is_quiet())
			terminate(loop);
		else if (run.action_us != NEVER && odds(10))
			interfere(loop); /* before what has come already */
		else
			busy = false;
		for (; wakeups > 0 && serve_io(loop); wakeups--)
			busy = true;
		if (!busy)
			pass_time(loop);
	}
	return 0;
}

/* ---- a run */

static struct conf base;

static void
draw_runner_conf(struct conf_runner *c)
{
	static const char *const restarts[] = {"true", "true", "true", "false", "unexpected"};

	c->concurrency = 1 + draw(4);
	snprintf(c->preemption, sizeof(c->preemption), "%s", odds(800) ? "true" : "false");
	c->exec_timeout = odds(300) ? draw_seconds(10 * MS, 10 * SECOND) : 1 + draw(120);
	c->hang_timeout = 1 + draw(10);
	c->canary_interval = odds(300) ? 0 : 1 + draw(60);
	c->max_jobs = odds(300) ? draw(4) : 0;
	c->max_age = odds(200) ? 1 + draw(60) : 0;
	c->max_memory = odds(200) ? 1 : 0;
	c->startretries = draw(4);
	c->stopwaitsecs = draw(31);
	c->stopwaitsecs_timeout = draw(6);
	snprintf(c->autostart, sizeof(c->autostart), "%s", odds(950) ? "true" : "false");
	snprintf(c->autorestart, sizeof(c->autorestart), "%s", restarts[draw(5)]);
}

static void
draw_conf(struct conf *c)
{
	*c = base;
	c->runner_count = 1 + (int)draw(MAX_RUNNERS);
	c->zitd.drain_timeout = draw(120);
	snprintf(c->zitd.orphans, sizeof(c->zitd.orphans), "%s", odds(500) ? "kill" : "report");
	c->queue.max_size = 2 + draw(30);
	c->queue.client_cap = 10 + draw(91);
	c->queue.reserved_high = draw(30);
	c->queue.weight_high = 1 + draw(16);
	c->queue.weight_normal = 1 + draw(4);
	c->queue.weight_low = 1;
	c->queue.queue_timeout = 1 + draw(300);
	c->queue.quarantine = draw(3) * 100;
	c->queue.hold_timeout = 1 + draw(600);
	snprintf(c->queue.adapt, sizeof(c->queue.adapt), "%s", odds(500) ? "true" : "false");
	c->any_client.max_running = odds(300) ? draw(4) : 0;
	c->any_client.weight = 1 + draw(9);
	c->any_client.rate_jobs = odds(200) ? 1 + draw(60) : 0;
	c->any_client.quota_day = odds(200) ? 1 + draw(1000) : 0;
	snprintf(
	    c->any_client.over_quota, sizeof(c->any_client.over_quota), "%s", odds(500) ? "low" : "refuse");
	c->queue.history = odds(500) ? 1 + draw(10) : 1000;
	c->results.retention = c->results.retention_waited = 1 + draw(1000);
	for (int i = 0; i < c->runner_count; i++)
		draw_runner_conf(&c->runners[i]);
}

static void
note_runner(struct runner *r)
{
	run.runners[run.runner_count++] = r;
}

static void
begin_run(uint32_t seed)
{
	static const struct climate climates[] = {{0, 0, 0, 0}, {3, 30, 5, 0}, {10, 100, 10, 0},
	    {30, 60, 300, 3}, {60, 200, 50, 10}, {150, 50, 20, 3}};

	memset(&run, 0, sizeof(run));
	memset(processes, 0, sizeof(processes));
	descriptor_count = open_count = 0;
	run.seed = seed;
	run.chance = UINT64_C(0x9e3779b97f4a7c15) * (seed + 1);
	run.climate = climates[draw(sizeof(climates) / sizeof(climates[0]))];
	run.now_us = 1000 * SECOND;
	run.action_us = run.now_us;
	run.no_memory_us = -SECOND;
	run.mortal = odds(50);
	run.actions_left = 3 + (int)draw(40);
	run.last_pid = FIRST_PID;
	srandom(seed); /* runners' back-off */
}

/* All are gone but those that nobody can kill, and nothing is left of anything. */
static void
audit_end(void)
{
	audit_kept();
	for (int i = 0; i < run.runner_count; i++) {
		struct runner *r = run.runners[i];
		if (runner_state(r) != RUNNER_STOPPED && runner_state(r) != RUNNER_WEDGED)
			violated("runner %d: in state %d at the end", i, runner_state(r));
		if (runner_has_jobs(r))
			violated("runner %d: holds jobs at the end", i);
	}
	for (int i = 0; i < MAX_PROCESSES; i++) {
		const struct process *p = &processes[i];
		if (p->in_use && p->pid > 0 && !p->dead && !p->immune && !p->unkillable)
			violated("process %d: is left", (int)p->pid);
	}
}

static void
audit_remains(void)
{
	for (int i = 0; i < descriptor_count; i++) {
		if (descriptors[i].kind != CLOSED)
			violated(
			    "descriptor %d, kind %d, was never closed", FIRST_FD + i, descriptors[i].kind);
	}
	if (run.pages != 0)
		violated("%d status pages are still mapped", run.pages);
}

/* zitd was killed: its processes die with it. */
static void
end_processes(void)
{
	memset(processes, 0, sizeof(processes));
}

static void
lead_life(const struct conf *conf)
{
	static char path[64];
	const struct daemon_options options = {.config = path, .public = &world_public};
	struct err e;
	int status;

	snprintf(path, sizeof(path), "%s/zitd.conf", dir);
	run.killed = run.opened = run.replayed = false;
	run.runner_count = 0;
	forget_orders();
	if (daemon_start(&run.daemon, &options, conf, &e) != 0)
		violated("daemon_start: %s", e.text);
	json_decref(daemon_order(run.daemon, NULL, note_runner));
	for (status = daemon_run(run.daemon); run.upgrading; status = daemon_run(run.daemon)) {
		upgrade(&options);
		run.runner_count = 0;
		json_decref(daemon_order(run.daemon, NULL, note_runner));
	}
	run.killed |= status != 0; /* it could not open the store after an upgrade, and ends at once */
	if (!run.killed)
		audit_end();
	daemon_free(&run.daemon);
	audit_remains();
	totals.lives++;
}

static void
lead_run(uint32_t seed)
{
	static struct conf conf;

	begin_run(seed);
	draw_conf(&conf);
	for (;; run.life++) {
		lead_life(&conf);
		if (!run.killed)
			break;
		end_processes();
		run.now_us += span_us(10 * MS, 10 * SECOND);
		run.term_us = run.settled_us = 0;
		run.action_us = run.now_us;
		run.disk_full = false;
		for (int i = 0; i < open_count; i++)
			open_jobs[i].job = NULL;
	}
	open_count = 0;
	clear_shelf();
	forget_early();
	totals.runs++;
}

/* ---- the tests */

static uint32_t only_seed;
static bool only_one;

/* Rows that nothing leads to; they are there so that an event which may come at any time is taken in every
 * state. */
static const struct {
	const struct fsm_kind *kind;
	int state, event;
} exceptions[] = {
    {&runner_kind, RUNNER_STOPPING, RUNNER_EVENT_DIED_FOR_GOOD}, /* its death is planned by then */
};

static bool
is_exception(const struct fsm_kind *kind, int state, int event)
{
	for (size_t i = 0; i < sizeof(exceptions) / sizeof(exceptions[0]); i++) {
		if (exceptions[i].kind == kind && exceptions[i].state == state &&
		    exceptions[i].event == event)
			return true;
	}
	return false;
}

/* Prints what was driven; returns how many cells were not that should have been. */
static int
tell_cells(const struct fsm_kind *kind, long long cells[MAX_STATES][MAX_EVENTS])
{
	int rows = 0, driven = 0, missing = 0;

	for (int state = 0; state < kind->state_count; state++) {
		printf("%s %s:", kind->what, kind->states[state].name);
		for (int event = 0; event < kind->event_count; event++) {
			if (!has_row(kind, state, event))
				continue;
			rows++;
			driven += cells[state][event] > 0;
			missing += (cells[state][event] > 0) == is_exception(kind, state, event);
			printf(" %s %lld", kind->event_names[event], cells[state][event]);
		}
		printf("\n");
	}
	printf("%s: %d of %d cells driven\n", kind->what, driven, rows);
	return missing;
}

static void
say_seed(int number)
{
	dprintf(
	    STDERR_FILENO, "signal %d in run %u; 'test_world %u' repeats it\n", number, run.seed, run.seed);
	signal(number, SIG_DFL);
	raise(number);
}

void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static void
say_seed_of_death(void)
{
	dprintf(STDERR_FILENO, "run %u; 'test_world %u' repeats it\n", run.seed, run.seed);
}

static void
test_lives(void **state)
{
	char path[64];
	struct err e;
	FILE *file;

	(void)state;
	signal(SIGABRT, say_seed);
	signal(SIGSEGV, say_seed);
	if (__sanitizer_set_death_callback != NULL)
		__sanitizer_set_death_callback(say_seed_of_death);
	clock_replace(&run.now_us);
	snprintf(path, sizeof(path), "%s/zitd.conf", dir);
	file = fopen(path, "w");
	fputs("[queue]\nhold_timeout = 600\n[runner]\nmodel = m\ndevice = cpu\n[runner:a]\n[runner:b]\n[runner:c]\n", file);
	fclose(file);
	if (conf_read(&base, path, &e) != 0)
		fail_msg("%s", e.text);
	for (uint32_t seed = 0; seed < RUNS; seed++) {
		if (!only_one || seed == only_seed)
			lead_run(seed);
	}
}

static void
test_every_cell_was_driven(void **state)
{
	int missing = 0;

	(void)state;
	printf("%lld runs, %lld lives, %lld upgrades, %lld jobs replayed, %lld not accepted, %lld turns, %lld events, %lld "
	       "processes, "
	       "%lld lies, %lld refused, %lld jobs:",
	    totals.runs, totals.lives, totals.upgrades, totals.replayed, totals.refused, totals.turns, totals.events,
	    totals.processes, totals.lies, totals.refusals, totals.jobs);
	for (int i = JOB_FIRST_FINAL; i < JOB_STATE_COUNT; i++)
		printf(" %lld %s", totals.ends[i], job_kind.states[i].name);
	printf("\n");
	missing += tell_cells(&job_kind, job_cells);
	missing += tell_cells(&runner_kind, runner_cells);
	if (missing > 0 && !only_one)
		fail_msg("%d cells were never driven, or were although they cannot be", missing);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_lives),
	    cmocka_unit_test(test_every_cell_was_driven),
	};

	if (argc > 1) {
		only_one = loud = true;
		only_seed = (uint32_t)strtoul(argv[1], NULL, 10);
	}
	return cmocka_run_group_tests(tests, make_temp_dir, remove_temp_dir);
}
