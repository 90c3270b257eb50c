/*
 * The books: which events came, which jobs have no end yet, and what must be true at any time.
 */
#include "tests/world/world.h"

/* ---- the books: events */

long long job_cells[MAX_STATES][MAX_EVENTS], runner_cells[MAX_STATES][MAX_EVENTS];

int __real_fsm_event(struct fsm *f, int event, void *detail);
int __wrap_fsm_event(struct fsm *f, int event, void *detail);
void __real_fsm_clock(struct fsm *f);
void __wrap_fsm_clock(struct fsm *f);

bool
has_row(const struct fsm_kind *kind, int state, int event)
{
	for (size_t i = 0; i < kind->row_count; i++) {
		if (kind->rows[i].event == event && (kind->rows[i].states & FSM_BIT(state)) != 0)
			return true;
	}
	return false;
}

static void
note_event(const struct fsm *f, int state, int event)
{
	totals.events++;
	(f->kind == &job_kind ? job_cells : runner_cells)[state][event]++;
}

/* What no row allows. Only a process may cause it, by saying of its life what is not so: these events. A
 * job's table has no such excuse. */
static void
note_refusal(const struct fsm *f, int state, int event)
{
	static const uint32_t said = FSM_BIT(RUNNER_EVENT_HELLO) | FSM_BIT(RUNNER_EVENT_LOADING) |
				     FSM_BIT(RUNNER_EVENT_WARMING) | FSM_BIT(RUNNER_EVENT_READY) |
				     FSM_BIT(RUNNER_EVENT_TESTED);
	const struct process *p = NULL;

	if (f->kind == &runner_kind)
		p = find_process(runner_pid(f->object));
	if (p == NULL || !p->lied || (said & FSM_BIT(event)) == 0)
		violated("%s: %s is not taken in state %s", f->kind->what, f->kind->event_names[event],
		    f->kind->states[state].name);
	totals.refusals++;
}

int
__wrap_fsm_event(struct fsm *f, int event, void *detail)
{
	int state = f->state, status;

	status = __real_fsm_event(f, event, detail);
	if (status == 0)
		note_event(f, state, event);
	else
		note_refusal(f, state, event);
	return status;
}

/* Its event does not come through the function above. */
void
__wrap_fsm_clock(struct fsm *f)
{
	int state = f->state, event = f->kind->states[state].clock_event;

	if (event < 0 || !has_row(f->kind, state, event))
		violated(
		    "%s: the clock of state %s is not taken", f->kind->what, f->kind->states[state].name);
	note_event(f, state, event);
	__real_fsm_clock(f);
}

/* ---- the books: jobs without an end, and what must be true of them and of runners at any time */

/* Those that were told their end before it could be written: the next life may not know that. */
static uint64_t told_early[MAX_SHELF];
static int told_early_count;

static bool
was_told_early(uint64_t number)
{
	for (int i = 0; i < told_early_count; i++) {
		if (told_early[i] == number)
			return true;
	}
	return false;
}

void
book_job(struct job *job)
{
	if (open_count == MAX_OPEN)
		violated("%d open jobs", MAX_OPEN);
	open_jobs[open_count] = (struct open_job){.job = job, .number = job->number, .durable = job->durable};
	memcpy(open_jobs[open_count++].id, job->id, sizeof(job->id));
	totals.jobs++;
}

void
forget_early(void)
{
	told_early_count = 0;
}

void
waiters_job_advanced(struct job *job)
{
	if (job_is_final(job))
		violated("job %s: goes on after its end", job->id);
}

void
waiters_job_saved(struct job *job)
{
	struct open_job *o = find_open_job(job->number);
	bool final;

	if (job->durable && !is_shelved(job->number, &final))
		violated("job %s: acknowledged, and not on disk", job->id);
	if (o != NULL)
		o->acknowledged = true;
}

void
waiters_job_put_off(struct job *job)
{
	bool waits = job_state(job) == JOB_QUEUED || job_state(job) == JOB_HELD;

	if (!waits || !job->durable || run.term_us == 0)
		violated("job %s: put off, in state %s", job->id, job_state_name(job));
}

/* Nobody is given up for others' deaths. */
static void
audit_blame(const struct open_job *o)
{
	if (o->job->lost < 3 && (job_state(o->job) == JOB_DEAD || o->job->error.code == ERR_OUT_OF_MEMORY) &&
	    o->lone_deaths < 2)
		violated("job %s: %s, and was alone with %d deaths", o->job->id, job_state_name(o->job),
		    o->lone_deaths);
}

/* What it is charged for and what it was suspended for are different times of its life. */
static void
audit_times(const struct job *job)
{
	double life_s = (double)(job->ended_us - job->submitted_us) * 1e-6;

	if (job_attempt_s(job) < 0 || job_suspended_s(job) < 0 ||
	    job_attempt_s(job) + job_suspended_s(job) > life_s + 1e-6)
		violated("job %s: lived %.6f s, ran %.6f, was suspended %.6f", job->id, life_s,
		    job_attempt_s(job), job_suspended_s(job));
}

/* The end of a job that survives is on disk, or the disk takes nothing. */
static void
audit_told(const struct job *job)
{
	bool final;

	if (!job->durable || job->refused || (is_shelved(job->number, &final) && final))
		return;
	if (daemon_store_error(run.daemon) == 0)
		violated("job %s: %s, and that is not on disk", job->id, job_state_name(job));
	if (!was_told_early(job->number) && told_early_count < MAX_SHELF)
		told_early[told_early_count++] = job->number;
}

void
waiters_job_ended(struct job *job)
{
	struct open_job *o = find_open_job(job->number);

	audit_told(job);
	if (o == NULL && (!job->durable || job->refused || was_told_early(job->number)))
		return; /* nobody waits any more */
	if (o == NULL)
		violated("job %s: ended twice, or never began: %s", job->id, job_state_name(job));
	if (!job_is_final(job) || job->runner != NULL || job->promised != NULL)
		violated("job %s: ended in state %s, and with a runner", job->id, job_state_name(job));
	if (job->refused && o->acknowledged)
		violated("job %s: refused after it was accepted", job->id);
	if (job_state(job) == JOB_DONE &&
	    (job->picture_count != job->count || job->unwritten != 0 || o->unwritten))
		violated("job %s: done with %d of %d pictures", job->id, job->picture_count, job->count);
	if (!job->refused && (job_state(job) == JOB_DONE) != (job->error.code == ERR_NONE))
		violated("job %s: %s with the error '%s'", job->id, job_state_name(job), job->error.text);
	audit_blame(o);
	audit_times(job);
	totals.refused += job->refused;
	totals.ends[job_state(job)]++;
	*o = open_jobs[--open_count];
}

/* It needs the device, and is not suspended. */
static bool
is_at_work(const struct job *job)
{
	bool leaving = job->stage == STAGE_ENCODE && job->picture + 1 == (uint32_t)job->count;

	return job_state(job) == JOB_DISPATCHED || (job_state(job) == JOB_RUNNING && !leaving);
}

/* It waits for others that leave no room, alone, and once in its life; a runner that is being rid of a job,
 * or ended, may have room for a moment. */
static void
audit_suspended(const struct job *job)
{
	int at_work = 0;

	if (job->class == CLASS_HIGH || job->suspensions != 1)
		violated("job %s: of class %s, suspended %d times", job->id, job_class_name(job->class),
		    job->suspensions);
	for (int i = 0; i < open_count; i++) {
		const struct job *other = open_jobs[i].job;
		if (other == NULL || other == job || other->runner != job->runner)
			continue;
		at_work += is_at_work(other);
		if (job_state(other) == JOB_SUSPENDED)
			violated("job %s: suspended, and another one too", job->id);
	}
	if (runner_state(job->runner) == RUNNER_BUSY && at_work < runner_conf(job->runner)->concurrency)
		violated("job %s: suspended, and there is room", job->id);
}

static void
audit_job(const struct open_job *o)
{
	const struct job *job = o->job;
	enum job_state state = job != NULL ? job_state(job) : JOB_STATE_COUNT;

	if (job == NULL)
		return;
	if (job_is_final(job)) {
		if (!job->unsaved && job->in_batches == 0)
			violated("job %s: %s, and nobody was told", job->id, job_state_name(job));
		return;
	}
	if (!ev_is_active(&job->timer))
		violated("job %s: %s without a clock", job->id, job_state_name(job));
	if ((job->turn.client != NULL) != (state == JOB_QUEUED || state == JOB_HELD))
		violated("job %s: %s, and its place is another's", job->id, job_state_name(job));
	if (job->in_queue != (state == JOB_QUEUED))
		violated("job %s: %s, %s the queue", job->id, job_state_name(job),
		    job->in_queue ? "in" : "not in");
	if ((job->runner != NULL) !=
	    (state == JOB_DISPATCHED || state == JOB_RUNNING || state == JOB_SUSPENDED))
		violated("job %s: %s %s runner", job->id, job_state_name(job),
		    job->runner != NULL ? "with a" : "without");
	if ((job->promised != NULL) != (state == JOB_CLAIMED))
		violated("job %s: %s %s a place", job->id, job_state_name(job),
		    job->promised != NULL ? "with" : "without");
	if (state == JOB_SUSPENDED)
		audit_suspended(job);
	if (job->runner == NULL || !job->alone)
		return;
	for (int i = 0; i < open_count; i++) {
		const struct job *other = open_jobs[i].job;
		if (other != NULL && other != job && other->runner == job->runner)
			violated("job %s: must be alone on its runner, and is not", job->id);
	}
}

/* ---- the books: one life after the other */

/* What its client knows must be there, or have ended; what he does not may be. */
static bool
is_there(struct open_job *o)
{
	bool final, shelved = is_shelved(o->number, &final);

	if (o->job != NULL)
		return true; /* it came while the store could not be opened */
	o->job = daemon_find_job(run.daemon, o->id);
	if (o->job != NULL && !o->durable)
		violated("job %s: was not to survive", o->id);
	if (o->job == NULL && o->durable && o->acknowledged && !(shelved && final))
		violated("job %s: acknowledged, and lost", o->id);
	o->unwritten = false;
	return o->job != NULL;
}

static void
audit_unknown(struct job *job)
{
	const struct open_job *o = find_open_job(job->number);

	if (o == NULL && !was_told_early(job->number))
		violated("job %s: has ended, and comes again", job->id);
	if (o == NULL) {
		book_job(job);
		open_jobs[open_count - 1].lone_deaths =
		    job->blamed_deaths + job->memory_deaths; /* of earlier lives */
	}
	totals.replayed += job->revision > 0;
}

void
audit_replay(void)
{
	run.replayed = true;
	for (int i = 0; i < open_count;) {
		if (is_there(&open_jobs[i]))
			i++;
		else
			open_jobs[i] = open_jobs[--open_count];
	}
	for (struct job *job = daemon_next_job(run.daemon, NULL); job != NULL;
	     job = daemon_next_job(run.daemon, job))
		audit_unknown(job);
}

void
audit_kept(void)
{
	bool final;

	for (int i = 0; i < open_count; i++) {
		const struct open_job *o = &open_jobs[i];
		if (o->durable && o->acknowledged && !is_shelved(o->number, &final))
			violated("job %s: open at the end, and not on disk", o->id);
	}
}

static void
audit_runner(struct runner *r)
{
	static const uint32_t resting =
	    FSM_BIT(RUNNER_BACKOFF) | FSM_BIT(RUNNER_FAILED) | FSM_BIT(RUNNER_STOPPED);
	static const uint32_t working = FSM_BIT(RUNNER_BUSY) | FSM_BIT(RUNNER_CANCELLING) |
					FSM_BIT(RUNNER_STOPPING) | FSM_BIT(RUNNER_REAPING);
	enum runner_state state = runner_state(r);
	const char *name = runner_conf(r)->section_name;

	if (!runner_is_sound(r))
		violated("runner %s: in state %d without a clock", name, state);
	if (runner_has_process(r) == ((FSM_BIT(state) & resting) != 0))
		violated("runner %s: in state %d with process %d", name, state, (int)runner_pid(r));
	if (runner_has_jobs(r) && (FSM_BIT(state) & working) == 0)
		violated("runner %s: holds jobs in state %d", name, state);
	if (!runner_has_jobs(r) && (state == RUNNER_BUSY || state == RUNNER_CANCELLING))
		violated("runner %s: holds no job in state %d", name, state);
}

/* The dead are buried soon after it becomes possible. */
static void
audit_processes(void)
{
	for (int i = 0; i < MAX_PROCESSES; i++) {
		const struct process *p = &processes[i];
		if (p->in_use && p->dead && !p->reaped && run.now_us > p->reapable_us + SECOND)
			violated("process %d: dead, and nobody looks at it", (int)p->pid);
	}
}

/* A high one that is due waits for no lower one that could make way. */
static void
audit_interruption(const struct job *job)
{
	for (int i = 0; i < run.runner_count; i++) {
		const struct job *victim = runner_victim(run.runners[i], NULL);
		bool stuck = job->durable && daemon_store_error(run.daemon) != 0;
		if (job->class == CLASS_HIGH && !daemon_is_held_back(run.daemon, job) && victim != NULL &&
		    !stuck)
			violated("job %s: waits, and job %s could make way", job->id, victim->id);
	}
}

/* The loop goes to sleep: nobody may wait who could go on. */
static void
audit_queue(void)
{
	struct job *job = NULL, *high = NULL;

	while ((job = daemon_next_queued(run.daemon, job)) != NULL) {
		if (job->alone && !daemon_is_held_back(run.daemon, job)) /* with or without the disk */
			return; /* a runner is kept for it, others may wait for that */
	}
	while (
	    (job = daemon_next_queued(run.daemon, job)) != NULL &&
	    (daemon_is_held_back(run.daemon, job) || (job->durable && daemon_store_error(run.daemon) != 0)))
		;
	if (job == NULL || run.term_us != 0 || run.upgrade_by_us != 0 ||
	    run.now_us - run.no_memory_us <= SECOND)
		return;
	while ((high = daemon_next_queued(run.daemon, high)) != NULL)
		audit_interruption(high);
	for (int i = 0; i < run.runner_count; i++) {
		if (runner_can_take(run.runners[i], job))
			violated("job %s: waits, and runner %s could take it", job->id,
			    runner_conf(run.runners[i])->section_name);
	}
}

void
audit(void)
{
	for (int i = 0; i < open_count; i++)
		audit_job(&open_jobs[i]);
	for (int i = 0; i < run.runner_count; i++)
		audit_runner(run.runners[i]);
	audit_processes();
	audit_queue();
	audit_orders(daemon_is_saved(run.daemon));
	if (run.settled_us != 0 && run.now_us - run.settled_us > LONGEST_REST_US)
		violated("it does not come to rest");
	if (run.term_us != 0 && run.now_us - run.term_us > LONGEST_END_US)
		violated("it does not end");
}
