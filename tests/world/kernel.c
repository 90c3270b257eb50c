/*
 * What the kernel does with processes: signals, death, burial.
 */
#include "tests/world/world.h"

/* ---- what the kernel does with processes */

int __wrap_kill(pid_t pid, int number);
pid_t __wrap_waitpid(pid_t pid, int *status, int options);

static uint32_t
argument_number(char *const *argv, const char *name)
{
	for (; *argv != NULL; argv++) {
		if (strcmp(*argv, name) == 0)
			return (uint32_t)atoi(argv[1]);
	}
	violated("a runner without %s", name);
}

static void
be_born_with_defects(struct process *p)
{
	uint32_t defect = run.climate.defect;

	p->deaf_to_cancel = odds(defect);
	p->deaf_to_stop = odds(defect);
	p->deaf_to_signals = odds(defect);
	p->unkillable = odds(run.climate.unkillable);
	p->immune = odds(run.climate.unkillable / 4);
}

pid_t
spawn_process(const struct spawn *s, int *pidfd)
{
	struct process *p = look_up(s->fds[0], "spawn_process")->process;

	if (is_refused(odds(500) ? EAGAIN : ENOENT))
		return -1;
	if (look_up(s->fds[1], "spawn_process")->kind != PAGE ||
	    look_up(s->fds[2], "spawn_process")->kind != LOCK ||
	    look_up(s->output, "spawn_process")->kind != OUTPUT || s->fd_count != 3)
		violated("a process with the wrong descriptors");
	p->pid = ++run.last_pid;
	p->generation = argument_number(s->argv, "--generation");
	p->pace_us = span_us(MS, SECOND);
	p->act_us = run.now_us + span_us(100, odds(20) ? 8 * SECOND : 100 * MS);
	be_born_with_defects(p);
	*pidfd = new_fd(PIDFD, p);
	totals.processes++;
	return p->pid;
}

static void
take_signal(struct process *p, int number)
{
	if (number == SIGKILL) {
		hang(p); /* not one instruction more */
		p->dies_us = p->dies_us != NEVER
				 ? p->dies_us
				 : run.now_us + (p->unkillable ? span_us(SECOND, 200 * SECOND) : draw(2000));
	} else if (p->phase == BEFORE_HELLO && odds(300))
		process_end(p, number); /* its handler is not there yet */
	else if (!p->deaf_to_signals) {
		p->interrupted = true;
		wake(p, draw(5000));
	}
}

/* A number that was reaped may be anybody's; the group of the dead leader may be asked for once more, by who
 * has not let go of it. */
int
__wrap_kill(pid_t pid, int number)
{
	struct process *p = find_process(pid < 0 ? -pid : pid);

	if (p == NULL || (p->reaped && pid > 0))
		violated("signal %d to %d, which is no process of ours", number, (int)pid);
	if (p->dead) {
		errno = ESRCH;
		return p->reaped ? -1 : 0;
	}
	if (p->immune) {
		errno = EPERM;
		return -1;
	}
	take_signal(p, number);
	return 0;
}

static void
note_death(pid_t pid)
{
	struct open_job *held = NULL;
	int count = 0;

	for (int i = 0; i < open_count; i++) {
		const struct job *job = open_jobs[i].job;
		const struct runner *r = job != NULL ? job->runner : NULL;
		if (r == NULL || runner_pid(r) != pid || open_jobs[i].undelivered ||
		    open_jobs[i].given != job->attempt)
			continue;
		held = &open_jobs[i];
		count++;
	}
	if (count == 1)
		held->lone_deaths++;
}

pid_t
__wrap_waitpid(pid_t pid, int *status, int options)
{
	struct process *p = find_process(pid);

	if (p == NULL || p->reaped || options != WNOHANG)
		violated("waitpid for %d, which is no process of ours", (int)pid);
	if (!p->dead || p->reapable_us > run.now_us)
		return 0;
	p->reaped = true;
	*status = p->status;
	note_death(pid);
	return pid;
}
