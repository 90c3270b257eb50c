/*
 * What people do: they submit, cancel, order, reload.
 */
#include "tests/world/world.h"

/* ---- what people do */

static void
act_submit(void)
{
	static const char *const prompts[] = {"a", "b", "c", "d", "poison"};
	struct api_submit p = {
	    .prompt = prompts[draw(5)],
	    .has_prompt = true,
	    .steps = 1 + draw(4),
	    .has_steps = true,
	    .n = 1 + (odds(300) ? draw(3) : 0),
	    .has_n = true,
	    .seed = draw(1000),
	    .has_seed = true,
	    .priority = (int)draw(CLASS_COUNT),
	    .has_priority = true,
	    .queue_timeout = draw_seconds(10 * MS, 300 * SECOND),
	    .has_queue_timeout = odds(300),
	    .exec_timeout = draw_seconds(10 * MS, 20 * SECOND),
	    .has_exec_timeout = odds(300),
	    .deadline = draw_seconds(10 * MS, 300 * SECOND),
	    .has_deadline = odds(150),
	    .not_before = draw_seconds(MS, 60 * SECOND),
	    .has_not_before = odds(50),
	    .wait = odds(500),
	    .has_durable = odds(300),
	};
	json_t *data = NULL;
	struct err e;
	struct job *job = NULL;

	if (open_count < MAX_OPEN)
		job = daemon_admit(run.daemon, &p, (uid_t)(1000 + draw(4)), 1, odds(50), &e, &data);
	if (job != NULL)
		book_job(job);
	json_decref(data);
}

static void
act_cancel(void)
{
	struct job *job = open_count > 0 ? open_jobs[draw((uint32_t)open_count)].job : NULL;

	if (job == NULL || job_is_final(job))
		return;
	book_order(job_event(job, JOB_EVENT_CANCEL) == 0 ? job : NULL);
}

/* Whose turn it is: one job, or a class, a client, or all. */
static void
act_turn(void)
{
	static const char *const clients[] = {"uid:1000", "uid:1001", NULL, NULL};
	struct job *job = open_count > 0 ? open_jobs[draw((uint32_t)open_count)].job : NULL;
	uint32_t what = draw(job != NULL ? 7 : 2);

	if (what < 2) {
		daemon_pause(run.daemon, (int)draw(2 * CLASS_COUNT) - CLASS_COUNT, clients[draw(4)],
		    what == 0 && odds(700));
	} else if (what < 4)
		daemon_hold(run.daemon, job);
	else if (what == 4)
		daemon_release(run.daemon, job);
	else if (what == 5)
		daemon_move_to_front(run.daemon, job);
	else
		daemon_set_class(run.daemon, job, (enum job_class)draw(CLASS_COUNT));
	if (job != NULL)
		json_decref(daemon_why(run.daemon, job));
	if (what >= 2)
		book_order(job);
}

json_t *__real_daemon_remember(const struct daemon *d);
json_t *__wrap_daemon_remember(const struct daemon *d);

/* With each transaction it would take most of this test's time: now and then is enough. */
json_t *
__wrap_daemon_remember(const struct daemon *d)
{
	return run.upgrading || odds(20) ? __real_daemon_remember(d) : json_object();
}

/* What is remembered can be recalled: by the daemon itself, whose accounts and usage are not touched then. */
static void
act_remember(void)
{
	static const char *const parts[] = {"accounts", "costs", "promises", "usage", "paused", "quarantine"};
	json_t *memory = __real_daemon_remember(run.daemon);

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		if (json_object_get(memory, parts[i]) == NULL)
			violated("%s is not remembered", parts[i]);
	}
	json_object_del(memory, "accounts");
	json_object_del(memory, "usage");
	daemon_recall(run.daemon, memory);
	json_decref(memory);
}

static void
stop_now(struct runner *r)
{
	runner_stop(r, false);
}

static void
act_order(void)
{
	static void (*const orders[])(struct runner * r) = {
	    runner_start, stop_now, runner_restart, runner_drain, runner_resume, runner_resume};
	static const char *const names[] = {"a", "b", "c", NULL};

	json_decref(daemon_order(run.daemon, names[draw(4)], orders[draw(6)]));
}

static struct process *
any_process(void)
{
	struct process *p = &processes[draw(MAX_PROCESSES)];

	return p->in_use && p->pid > 0 && !p->dead ? p : NULL;
}

static void
act_kill(void)
{
	struct process *p = any_process();

	if (p != NULL && odds(300))
		be_chosen_by_oom_killer(p);
	else if (p != NULL)
		process_end(p, SIGKILL);
}

static void
act_freeze(void)
{
	struct process *p = any_process();

	if (p != NULL && odds(500))
		hang(p);
	else if (p != NULL)
		stall(p);
}

static void
act_retry(void)
{
	struct job *dead = load_dead_letter(), *job = NULL;
	json_t *data = NULL;
	struct err e;

	if (dead != NULL && open_count < MAX_OPEN)
		job = daemon_retry(run.daemon, dead, odds(300), &e, &data);
	if (job != NULL)
		book_job(job);
	json_decref(data);
	job_free(&dead);
}

static void
act_drop(void)
{
	struct job *dead = load_dead_letter();

	if (dead != NULL)
		daemon_drop_dead(run.daemon, dead);
	job_free(&dead);
}

static void
act_reload(void)
{
	struct err e;

	json_decref(daemon_reload(run.daemon, &e));
	run.reloaded = true;
}

static void
act_turn_of_luck(void)
{
	run.disk_slow = odds(200);
	run.disk_full = odds(200);
	run.device_stolen = odds(50);
}

/* Whether zitd's end would interrupt a job: one that it happens to three times is given up. */
static bool
is_at_work(void)
{
	for (int i = 0; i < open_count; i++) {
		if (open_jobs[i].job != NULL && open_jobs[i].job->runner != NULL)
			return true;
	}
	return false;
}

/* SIGKILL to zitd itself. */
static void
act_end_life(void)
{
	run.killed = run.life + 1 < LIVES;
}

static void
act_wait(void)
{
	run.action_us += span_us(SECOND, 100 * SECOND);
}

void
act(void)
{
	static const struct {
		uint32_t weight; /* of 1000 */
		void (*act)(void);
	} actions[] = {{415, act_submit}, {120, act_cancel}, {60, act_turn}, {5, act_remember},
	    {110, act_order}, {60, act_kill}, {30, act_freeze}, {30, act_retry}, {10, act_drop},
	    {2, act_reload}, {18, act_turn_of_luck}, {20, act_end_life}, {20, want_upgrade}, {100, act_wait}};
	uint32_t n = draw(1000);
	size_t i = 0;

	run.actions_left--;
	run.action_us = run.now_us + span_us(MS, 20 * SECOND);
	if (run.mortal && odds(is_at_work() ? 700 : 100)) {
		act_end_life();
		return;
	}
	while (n >= actions[i].weight)
		n -= actions[i++].weight;
	actions[i].act();
}
