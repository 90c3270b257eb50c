/*
 * What a process does: its life, its jobs, and what goes wrong with it.
 */
#include "tests/world/world.h"

/* ---- what a process does */

/* A message that it sends, to be filled in. */
struct mail *
say(struct process *p, unsigned type, const struct work *work)
{
	static struct mail nowhere;
	struct mail *mail = p->closed ? &nowhere : mailbox_add(&p->to_zitd);

	if (work != NULL)
		mail->m.head = work->head;
	mail->m.head.type = (uint16_t)type;
	mail->m.head.generation = p->generation;
	return mail;
}

void
process_end(struct process *p, int status)
{
	p->dead = true;
	p->status = status;
	p->act_us = p->dies_us = NEVER;
	p->reapable_us = run.now_us;
	if (odds(run.climate.defect / 2))
		p->reapable_us += span_us(10 * MS, odds(100) ? 15 * SECOND : SECOND);
}

/* Waitpid's status of an exit, and of a signal. */
static int
exit_status(int status)
{
	return status << 8;
}

static void
process_exit(struct process *p, int status)
{
	if (status != 0 && odds(500))
		say(p, PROTO_FATAL, NULL)->m.FATAL = (struct proto_FATAL){(uint32_t)status, "it had to end"};
	else if (status != 0)
		strcpy(p->page.last_words, "its last words");
	process_end(p, exit_status(status));
}

/* zitd did what no zitd may do to a runner that kept to the protocol. */
static void
accuse(struct process *p, const char *what)
{
	if (!p->lied)
		violated("generation %u, process %d: zitd sent %s", p->generation, (int)p->pid, what);
	process_exit(p, RUNNER_EXIT_PROTOCOL);
}

/* ---- before it is ready */

static void
start_hello(struct process *p)
{
	say(p, PROTO_HELLO, NULL)->m.HELLO =
	    (struct proto_HELLO){PROTO_VERSION, (uint32_t)p->pid, ZIT_BUILD, "a device"};
	p->phase = BEFORE_LOADING;
	p->act_us = run.now_us + span_us(MS, 4 * SECOND);
}

static void
start_loading(struct process *p)
{
	p->loaded_bytes += odds(900); /* else no progress */
	say(p, PROTO_LOADING, NULL)->m.LOADING = (struct proto_LOADING){p->loaded_bytes, 9};
	p->phase = odds(300) ? LOADING : BEFORE_LOADING;
	p->act_us = run.now_us + span_us(MS, 30 * SECOND);
}

static void
start_warming(struct process *p)
{
	say(p, PROTO_WARMING, NULL);
	p->phase = BEFORE_READY;
	p->act_us = run.now_us + span_us(10 * MS, 20 * SECOND);
}

static void
start_ready(struct process *p)
{
	say(p, PROTO_READY, NULL)->m.READY = (struct proto_READY){.model = "a model",
	    .device = "a device",
	    .default_side = 256,
	    .max_side = 512,
	    .granule = 16,
	    .max_pixels = 512 * 512,
	    .checkpoint_bytes = 64};
	p->phase = SERVING;
	p->act_us = run.now_us;
}

/* ---- its jobs */

static struct work *
find_work(struct process *p, const struct proto_header *head)
{
	for (int i = 0; i < p->work_count; i++) {
		if (p->works[i].head.job == head->job && p->works[i].head.attempt == head->attempt)
			return &p->works[i];
	}
	return NULL;
}

/* Jobs that need the device. */
static int
slots_taken(const struct process *p)
{
	int count = 0;

	for (int i = 0; i < p->work_count; i++)
		count += p->works[i].picture < p->works[i].count;
	return count;
}

static bool
holds_suspended(const struct process *p)
{
	for (int i = 0; i < p->work_count; i++) {
		if (p->works[i].suspended)
			return true;
	}
	return false;
}

static void
drop_work(struct process *p, struct work *work)
{
	memmove(work, work + 1, (size_t)(p->works + p->work_count - (work + 1)) * sizeof(*work));
	p->work_count--;
}

static void
on_job(struct process *p, const struct mail *mail)
{
	const struct proto_JOB *f = &mail->m.JOB;

	if (find_work(p, &mail->m.head) != NULL)
		accuse(p, "a JOB that is held already");
	else if (p->work_count == MAX_WORKS || slots_taken(p) == MAX_SLOTS)
		accuse(p, "more JOBs than can be held");
	else if (f->first >= f->count || f->width == 0 || f->height == 0)
		accuse(p, "a JOB with numbers that cannot be");
	else if (holds_suspended(p) && p->newcomers++ > 0)
		accuse(p, "a JOB in the place of one that is suspended");
	else if (p->testing)
		accuse(p, "a JOB before the answer to CANARY");
	else {
		struct work *work = &p->works[p->work_count++];
		*work = (struct work){mail->m.head, f->steps, f->count, f->seed, f->first, 0, 0, false,
		    mail->poison, false, mail->checkpoint};
		say(p, PROTO_ACK, work);
	}
}

static void
on_cancel(struct process *p, const struct mail *mail)
{
	struct work *work = find_work(p, &mail->m.head);

	if (work == NULL || p->deaf_to_cancel)
		return;
	say(p, PROTO_STOPPED, work)->m.STOPPED.step = work->step;
	drop_work(p, work);
}

static void
on_suspend(struct process *p, const struct mail *mail)
{
	struct work *work = find_work(p, &mail->m.head);

	if (holds_suspended(p))
		accuse(p, "a SUSPEND while one is suspended");
	if (p->dead || work == NULL || work->picture == work->count)
		return;
	work->suspended = true;
	p->newcomers = 0;
	say(p, PROTO_SUSPENDED, work)->m.SUSPENDED.step = work->step;
}

static void
on_resume(struct process *p, const struct mail *mail)
{
	struct work *work = find_work(p, &mail->m.head);

	if (work != NULL && !work->suspended)
		accuse(p, "a RESUME of a job that is not suspended");
	else if (work != NULL)
		work->suspended = false;
}

static void
on_stop(struct process *p, const struct mail *mail)
{
	(void)mail;
	if (!p->deaf_to_stop)
		p->stopping = true;
}

static void
on_canary(struct process *p, const struct mail *mail)
{
	(void)mail;
	if (p->work_count > 0 || p->testing)
		accuse(p, "a CANARY that is not due");
	p->testing = true;
	p->act_us = p->busy_us = run.now_us + span_us(p->pace_us, 20 * SECOND);
}

static void
read_mail(struct process *p)
{
	static const struct {
		unsigned type;
		void (*act)(struct process *p, const struct mail *mail);
	} rows[] = {{PROTO_JOB, on_job}, {PROTO_CANCEL, on_cancel}, {PROTO_STOP, on_stop},
	    {PROTO_CANARY, on_canary}, {PROTO_SUSPEND, on_suspend}, {PROTO_RESUME, on_resume}};

	while (p->arrived > 0 && !p->dead) {
		struct mail mail = *mailbox_take(&p->to_process);
		p->arrived--;
		if (mail.m.head.generation != p->generation)
			accuse(p, "a message for another generation");
		else if (p->phase < SERVING && mail.m.head.type != PROTO_STOP)
			accuse(p, "a message before READY");
		for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]) && !p->dead; i++) {
			if (rows[i].type == mail.m.head.type)
				rows[i].act(p, &mail);
		}
	}
}

static void
tell_progress(struct process *p, const struct work *work, enum stage stage, uint32_t step)
{
	say(p, PROTO_PROGRESS, work)->m.PROGRESS =
	    (struct proto_PROGRESS){stage, work->picture, step, work->steps};
}

static void
unit_begin(struct process *p, struct work *work)
{
	const struct descriptor *c = work->checkpoint;

	work->begun = true;
	work->step = c->picture == work->picture && c->step <= work->steps ? c->step : 0;
	tell_progress(p, work, STAGE_TEXT, 0);
	tell_progress(p, work, STAGE_DENOISE, work->step);
}

static void
unit_step(struct process *p, struct work *work)
{
	work->step++;
	work->checkpoint->picture = work->picture;
	work->checkpoint->step = work->step;
	tell_progress(p, work, STAGE_DENOISE, work->step);
}

static void
unit_decode(struct process *p, struct work *work)
{
	tell_progress(p, work, STAGE_DECODE, work->steps);
	tell_progress(p, work, STAGE_ENCODE, work->steps);
	work->begun = false;
	work->encoding++;
	work->picture++;
}

static void
send_done(struct process *p, struct work *work)
{
	say(p, PROTO_DONE, work);
	drop_work(p, work);
}

/* The encoder has one ready. */
static void
send_picture(struct process *p, struct work *work)
{
	uint32_t picture = work->picture - work->encoding--;
	struct mail *mail = say(p, PROTO_PICTURE, work);

	mail->m.PICTURE = (struct proto_PICTURE){picture, 100, work->seed + picture};
	mail->bytes = 100;
	if (work->picture < work->count || work->encoding > 0)
		return;
	if (odds(800)) /* else with its next turn */
		send_done(p, work);
}

static void
fail_work(struct process *p, struct work *work)
{
	static const enum err_code codes[] = {
	    ERR_PROMPT_TOO_LONG, ERR_INVALID_PARAM, ERR_TOO_BIG, ERR_INTERNAL};

	say(p, PROTO_FAILED, work)->m.FAILED = (struct proto_FAILED){codes[draw(4)], "the job's own fault"};
	drop_work(p, work);
}

static void crash(struct process *p);

/* One unit of the job whose turn it is, or one picture out of the encoder. */
static void
do_unit(struct process *p)
{
	struct work *work = &p->works[draw((uint32_t)p->work_count)];

	if (work->poison && odds(300))
		crash(p);
	else if (odds(3))
		fail_work(p, work);
	else if (work->encoding > 0 && (work->picture == work->count || odds(500)))
		send_picture(p, work);
	else if (work->picture == work->count)
		send_done(p, work);
	else if (work->suspended)
		; /* the turn is another's */
	else if (!work->begun)
		unit_begin(p, work);
	else if (work->step < work->steps)
		unit_step(p, work);
	else
		unit_decode(p, work);
}

static void
serve(struct process *p)
{
	if (p->testing && p->busy_us <= run.now_us) {
		p->testing = false;
		say(p, PROTO_CANARY_OK, NULL);
	} else if (p->work_count > 0)
		do_unit(p);
	if (p->dead || (p->work_count == 0 && !p->testing))
		return;
	if (!p->testing)
		p->busy_us = run.now_us + span_us(p->pace_us, odds(10) ? 40 * SECOND : 8 * p->pace_us);
	p->act_us = p->busy_us;
}

/* ---- what goes wrong */

static void
crash(struct process *p)
{
	static const int exits[] = {0, 1, 64, 65, 70, 71, 71, 72, 72, 73, 75, 76, 77, 78, 127};
	static const int signals[] = {SIGSEGV, SIGABRT, SIGKILL, SIGBUS, SIGTERM};

	if (odds(500))
		process_exit(p, exits[draw(sizeof(exits) / sizeof(exits[0]))]);
	else
		process_end(p, signals[draw(5)]);
}

void
be_chosen_by_oom_killer(struct process *p)
{
	run.oom_kills++;
	process_end(p, SIGKILL);
}

void
hang(struct process *p)
{
	p->hung = true;
	p->act_us = NEVER;
}

/* It goes on later, as if nothing had been. */
void
stall(struct process *p)
{
	p->act_us = p->busy_us = run.now_us + span_us(SECOND, 60 * SECOND);
}

static void
close_channel(struct process *p)
{
	p->closed = true;
	p->act_us = run.now_us + p->pace_us;
}

static void
send_garbage(struct process *p)
{
	p->lied = true;
	say(p, PROTO_FATAL, NULL)->garbage = true;
}

/* Any message at a wrong time, its numbers near the right ones. */
static void
tell_lie(struct process *p)
{
	static const unsigned types[] = {PROTO_HELLO, PROTO_LOADING, PROTO_WARMING, PROTO_READY,
	    PROTO_CANARY_OK, PROTO_ACK, PROTO_PROGRESS, PROTO_PICTURE, PROTO_DONE, PROTO_FAILED,
	    PROTO_STOPPED, PROTO_SUSPENDED};
	struct work *work = p->work_count > 0 ? &p->works[draw((uint32_t)p->work_count)] : NULL;
	struct mail *mail = say(p, types[draw(sizeof(types) / sizeof(types[0]))], work);
	struct proto_msg *m = &mail->m;
	uint32_t off = draw(2);

	p->lied = true;
	totals.lies++;
	if (m->head.type == PROTO_HELLO)
		m->HELLO =
		    (struct proto_HELLO){PROTO_VERSION + off, 1, odds(500) ? ZIT_BUILD : "another", ""};
	else if (m->head.type == PROTO_LOADING)
		m->LOADING = (struct proto_LOADING){++p->loaded_bytes, 9};
	else if (m->head.type == PROTO_READY)
		m->READY = (struct proto_READY){.model = "",
		    .device = "",
		    .default_side = 256 * off,
		    .max_side = 512,
		    .granule = 16,
		    .max_pixels = 512 * 512,
		    .checkpoint_bytes = 64};
	else if (m->head.type == PROTO_FAILED)
		m->FAILED = (struct proto_FAILED){draw(40000), ""};
	else if (m->head.type == PROTO_PROGRESS)
		m->PROGRESS = (struct proto_PROGRESS){draw(STAGE_COUNT + 1), draw(3), draw(6), 4};
	else if (m->head.type == PROTO_PICTURE) {
		uint32_t picture = work != NULL ? work->picture - work->encoding + off : 0;
		m->PICTURE = (struct proto_PICTURE){picture, 100, work != NULL ? work->seed + picture : 0};
		mail->bytes = 100 + draw(2);
		mail->unsealed = odds(300);
	}
	if (odds(200))
		m->head.attempt += 1 - 2 * draw(2);
	if (odds(200))
		m->head.generation--;
	if (odds(100))
		m->head.job += draw(3);
}

static bool
goes_wrong(struct process *p)
{
	static const struct {
		uint32_t weight;
		void (*strike)(struct process *p);
	} faults[] = {{30, crash}, {8, be_chosen_by_oom_killer}, {8, hang}, {8, stall}, {4, close_channel},
	    {4, send_garbage}, {38, tell_lie}};
	uint32_t n;

	if (!odds(run.climate.fault))
		return false;
	n = draw(100);
	for (size_t i = 0; n < 100; i++) {
		if (n < faults[i].weight) {
			faults[i].strike(p);
			return faults[i].strike != tell_lie && faults[i].strike != send_garbage;
		}
		n -= faults[i].weight;
	}
	return false;
}

void
process_act(struct process *p)
{
	static void (*const acts[PHASES])(struct process * p) = {
	    start_hello, start_loading, start_warming, start_ready, serve};

	p->act_us = NEVER;
	if (goes_wrong(p))
		return;
	if (p->interrupted || p->hung_up) {
		process_exit(p, 0);
		return;
	}
	if (!p->closed)
		read_mail(p);
	if (!p->dead && p->stopping)
		process_exit(p, 0);
	else if (!p->dead)
		acts[p->phase](p);
}
