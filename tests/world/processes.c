/*
 * Processes that play runners, and the channels to them.
 */
#include "tests/world/world.h"

/* ---- processes and their channels */

struct process processes[MAX_PROCESSES];

struct process *
find_process(pid_t pid)
{
	for (int i = 0; i < MAX_PROCESSES; i++) {
		if (processes[i].in_use && processes[i].pid == pid)
			return &processes[i];
	}
	return NULL;
}

/* Nothing is left that somebody could ask about. */
void
process_hung_up(struct process *p)
{
	p->hung_up = true;
	if (p->pid == 0 || p->reaped)
		p->in_use = false;
}

struct mail *
mailbox_add(struct mailbox *b)
{
	static struct mail lost; /* its writer would wait for room; it is no worse when it does not */
	struct mail *mail = b->count < MAIL ? &b->mail[(b->first + b->count++) % MAIL] : &lost;

	*mail = (struct mail){0};
	return mail;
}

struct mail *
mailbox_take(struct mailbox *b)
{
	struct mail *mail = &b->mail[b->first];

	b->first = (b->first + 1) % MAIL;
	b->count--;
	return mail;
}

int
channel_pair(int ends[2])
{
	struct process *p = processes;

	if (is_refused(EMFILE))
		return -ERR_SYSTEM;
	while (p < processes + MAX_PROCESSES && p->in_use)
		p++;
	if (p == processes + MAX_PROCESSES)
		violated("more processes than runners");
	*p = (struct process){.in_use = true, .act_us = NEVER, .dies_us = NEVER};
	p->room = 1 << draw(6);
	ends[0] = new_fd(ZITD_END, p);
	ends[1] = new_fd(PEER_END, p);
	return 0;
}

struct channel *
channel_new(int fd, enum proto_sender self)
{
	struct process *p = look_up(fd, "channel_new")->process;

	if (self != PROTO_FROM_ZITD)
		violated("channel_new for the other side");
	if (is_refused(ENOMEM))
		return NULL;
	p->channel = (struct channel){fd, p};
	return &p->channel;
}

void
channel_free(struct channel **c)
{
	if (*c != NULL)
		close((*c)->fd);
	*c = NULL;
}

int
channel_fd(const struct channel *c)
{
	return c->fd;
}

bool
channel_has_output(const struct channel *c)
{
	return c->process->to_process.count > c->process->arrived;
}

void
wake(struct process *p, int64_t delay_us)
{
	int64_t at_us = run.now_us + delay_us;

	if (p->pid == 0 || p->dead || p->hung)
		return;
	at_us = at_us > p->busy_us ? at_us : p->busy_us;
	p->act_us = at_us < p->act_us ? at_us : p->act_us;
}

int
channel_flush(struct channel *c)
{
	struct process *p = c->process;

	if (p->closed || p->dead)
		return -ERR_UNREACHABLE;
	while (p->arrived < p->to_process.count && p->arrived < p->room)
		p->arrived++;
	if (p->arrived > 0)
		wake(p, span_us(10, 5 * MS));
	return 0;
}

/* A job goes to a process that may have it, with a checkpoint that nobody else writes. One that lied about a
 * job's end may still write there what is its own next job's. */
static void
audit_given(struct process *p, const struct mail *mail)
{
	struct open_job *o = find_open_job(mail->m.head.job);
	const struct job *job = o != NULL ? o->job : NULL;
	int64_t most;

	if (job == NULL)
		violated(
		    "job number %llu has ended, and is given away", (unsigned long long)mail->m.head.job);
	audit_recorded(job);
	if (o->given == job->attempt)
		violated("job %s: attempt %u is sent twice", job->id, (unsigned)job->attempt);
	o->given = job->attempt;
	o->undelivered = p->dead || p->closed;
	most = runner_conf(job->runner)->max_jobs;
	if (mail->checkpoint->kind != CHECKPOINT)
		violated("job %s: without its checkpoint", job->id);
	if (job->attempt == 1 && mail->checkpoint->step != 0)
		violated("job %s: begins with a checkpoint of another", job->id);
	if (job->fresh && p->given > 0)
		violated("job %s: wants a fresh process, and is its number %d", job->id, p->given + 1);
	if (most > 0 && p->given >= most && !run.reloaded)
		violated(
		    "job %s: is number %d of a process that may have %d", job->id, p->given + 1, (int)most);
	p->given++;
	for (int i = 0; i < MAX_PROCESSES; i++) {
		const struct process *other = &processes[i];
		for (int k = 0; k < other->work_count; k++) {
			bool own_lie = other == p && p->lied;
			if (other->in_use && !other->dead && !own_lie &&
			    other->works[k].checkpoint == mail->checkpoint)
				violated("job %s: process %d still writes its checkpoint", job->id,
				    (int)other->pid);
		}
	}
}

int
channel_send(struct channel *c, const struct proto_msg *m, const int *fds)
{
	struct process *p = c->process;
	struct mail *mail;

	if (p->to_process.count == MAIL)
		return -ERR_QUEUE_FULL;
	if (is_refused(EMFILE))
		return -ERR_SYSTEM;
	mail = mailbox_add(&p->to_process);
	mail->m = *m;
	if (m->head.type == PROTO_JOB) {
		mail->checkpoint = look_up(fds[0], "channel_send");
		mail->poison = strcmp(m->JOB.prompt, "poison") == 0;
		audit_given(p, mail);
	}
	return channel_flush(c);
}

int
channel_receive(struct channel *c, struct proto_msg *m, int fds[PROTO_MAX_FDS])
{
	struct process *p = c->process;
	struct mail *mail;

	if (p->to_zitd.count == 0)
		return p->closed || p->dead ? -ERR_UNREACHABLE : 0;
	mail = mailbox_take(&p->to_zitd);
	if (mail->garbage)
		return -ERR_PROTOCOL;
	*m = mail->m;
	if (m->head.type == PROTO_PICTURE) {
		fds[0] = new_fd(PICTURE, p);
		descriptors[fds[0] - FIRST_FD].sealed = !mail->unsealed;
		descriptors[fds[0] - FIRST_FD].bytes = mail->bytes;
	}
	return 1;
}
