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

void
book_job(struct job *job)
{
	if (open_count == MAX_OPEN)
		violated("%d open jobs", MAX_OPEN);
	open_jobs[open_count++] = (struct open_job){job, 0, false};
	totals.jobs++;
}

void
methods_job_advanced(struct job *job)
{
	if (job_is_final(job))
		violated("job %s: goes on after its end", job->id);
}

/* Nobody is given up for others' deaths. */
static void
audit_blame(const struct open_job *o)
{
	if ((job_state(o->job) == JOB_DEAD || o->job->error.code == ERR_OUT_OF_MEMORY) && o->lone_deaths < 2)
		violated("job %s: %s, and was alone with %d deaths", o->job->id, job_state_name(o->job),
		    o->lone_deaths);
}

void
methods_job_ended(struct job *job)
{
	int at = 0;

	while (at < open_count && open_jobs[at].job != job)
		at++;
	if (at == open_count)
		violated("job %s: ended twice, or never began: %s", job->id, job_state_name(job));
	if (!job_is_final(job) || job->runner != NULL)
		violated("job %s: ended in state %s, and with a runner", job->id, job_state_name(job));
	if (job_state(job) == JOB_DONE &&
	    (job->picture_count != job->count || job->unwritten != 0 || open_jobs[at].unwritten))
		violated("job %s: done with %d of %d pictures", job->id, job->picture_count, job->count);
	if ((job_state(job) == JOB_DONE) != (job->error.code == ERR_NONE))
		violated("job %s: %s with the error '%s'", job->id, job_state_name(job), job->error.text);
	audit_blame(&open_jobs[at]);
	open_jobs[at] = open_jobs[--open_count];
	totals.ends[job_state(job)]++;
}

static void
audit_job(const struct job *job)
{
	enum job_state state = job_state(job);

	if (job_is_final(job))
		violated("job %s: %s, and nobody was told", job->id, job_state_name(job));
	if (!ev_is_active(&job->timer))
		violated("job %s: %s without a clock", job->id, job_state_name(job));
	if ((job->turn.client != NULL) != (state == JOB_QUEUED || state == JOB_HELD))
		violated("job %s: %s, and its place is another's", job->id, job_state_name(job));
	if (job->in_queue != (state == JOB_QUEUED))
		violated("job %s: %s, %s the queue", job->id, job_state_name(job),
		    job->in_queue ? "in" : "not in");
	if ((job->runner != NULL) != (state == JOB_DISPATCHED || state == JOB_RUNNING))
		violated("job %s: %s %s runner", job->id, job_state_name(job),
		    job->runner != NULL ? "with a" : "without");
	if (job->runner == NULL || !job->alone)
		return;
	for (int i = 0; i < open_count; i++) {
		if (open_jobs[i].job != job && open_jobs[i].job->runner == job->runner)
			violated("job %s: must be alone on its runner, and is not", job->id);
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

/* The loop goes to sleep: nobody may wait who could go on. */
static void
audit_queue(void)
{
	struct job *job = NULL;

	while ((job = daemon_next_queued(run.daemon, job)) != NULL) {
		if (job->alone && !daemon_is_held_back(run.daemon, job))
			return; /* a runner is kept for it, others may wait for that */
	}
	while ((job = daemon_next_queued(run.daemon, job)) != NULL &&
	       daemon_is_held_back(run.daemon, job))
		;
	if (job == NULL || run.term_us != 0 || run.now_us - run.no_memory_us <= SECOND)
		return;
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
		audit_job(open_jobs[i].job);
	for (int i = 0; i < run.runner_count; i++)
		audit_runner(run.runners[i]);
	audit_processes();
	audit_queue();
	if (run.settled_us != 0 && run.now_us - run.settled_us > LONGEST_REST_US)
		violated("it does not come to rest");
	if (run.term_us != 0 && run.now_us - run.term_us > LONGEST_END_US)
		violated("it does not end");
}
