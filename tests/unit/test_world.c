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
#include "tests/unit/test.h"

#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "build_id.h"
#include "ipc/channel.h"
#include "ipc/clock.h"
#include "ipc/log.h"
#include "supervisor/cgroup.h"
#include "supervisor/client.h"
#include "supervisor/daemon.h"
#include "supervisor/device_lock.h"
#include "supervisor/disk.h"
#include "supervisor/methods.h"
#include "supervisor/notify.h"
#include "supervisor/paths.h"
#include "supervisor/runner.h"
#include "supervisor/runner_log.h"
#include "supervisor/spawn.h"
#include "supervisor/strays.h"
#include "tests/unit/temp_dir.h"

enum {
	RUNS = 100000,
	MAX_RUNNERS = 3,
	MAX_PROCESSES = MAX_RUNNERS + 1, /* one more while a new one is prepared */
	MAX_DESCRIPTORS = 20000,	 /* of one run: numbers are not used again */
	MAX_TIMERS = 256,
	MAX_IOS = 16,
	MAX_TASKS = 256,
	MAX_OPEN = 64,	/* jobs without an end */
	MAIL = 64,	/* messages in one direction */
	MAX_WORKS = 16, /* jobs that a process holds at most, runner/session.c */
	FIRST_FD = 100000,
	FIRST_PID = 1000,
};

#define MS INT64_C(1000)
#define SECOND INT64_C(1000000)
#define NEVER INT64_MAX

/* From the last that people did to the end of all jobs: the longest queue clock, then all clocks of a runner
 * for as often as a job may be tried again. */
#define LONGEST_REST_US (3000 * SECOND)
/* From SIGTERM to the loop's end: drain_timeout, stopwaitsecs, the wait for the reaping, and a slow disk. */
#define LONGEST_END_US (400 * SECOND)
#define WATCHDOG_US (17 * SECOND)

/* ---- the run in hand */

/* How bad this run's world is, each in thousandths. */
struct climate {
	uint32_t fault;	     /* a process's, each time it acts */
	uint32_t defect;     /* one that it is born with */
	uint32_t unkillable; /* SIGKILL does not end it soon, or never */
	uint32_t trouble;    /* a system call's */
};

static struct {
	uint32_t seed;
	uint64_t chance;
	struct climate climate;
	int64_t now_us;
	struct daemon *daemon;
	struct disk *disk;
	struct runner *runners[MAX_RUNNERS];
	int runner_count;
	int actions_left;
	int64_t action_us;
	int64_t settled_us;   /* when the last action was; from there all must come to rest; 0: not yet */
	int64_t term_us;      /* when SIGTERM came; 0: not yet */
	int64_t no_memory_us; /* when a checkpoint could not be had last */
	long long oom_kills;
	pid_t last_pid;
	bool reloaded, pinged, disk_slow, disk_full, device_stolen;
	int pages; /* mapped */
} run;

static struct {
	long long runs, events, jobs, processes, lies, refusals, turns;
	long long ends[JOB_STATE_COUNT];
} totals;

static bool loud;

static void violated(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

static void
violated(const char *format, ...)
{
	char text[400];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	fail_msg("run %u, %.6f s: %s; 'test_world %u' repeats it", run.seed, (double)run.now_us * 1e-6, text,
	    run.seed);
	abort();
}

/* ---- chance */

/* 0 .. n-1; xorshift64*. */
static uint32_t
draw(uint32_t n)
{
	run.chance ^= run.chance >> 12;
	run.chance ^= run.chance << 25;
	run.chance ^= run.chance >> 27;
	return (uint32_t)((run.chance * UINT64_C(0x2545f4914f6cdd1d)) >> 33) % n;
}

static bool
odds(uint32_t per_mille)
{
	return draw(1000) < per_mille;
}

/* Of the order of `least` mostly, of `most` sometimes. */
static int64_t
span_us(int64_t least, int64_t most)
{
	int64_t top = least;

	while (top < most && odds(700))
		top *= 4;
	return least + (int64_t)draw((uint32_t)(top < most ? top : most));
}

static double
draw_seconds(int64_t least_us, int64_t most_us)
{
	return (double)span_us(least_us, most_us) * 1e-6;
}

/* ---- jobs without an end */

struct open_job {
	struct job *job;
	int lone_deaths; /* of runners that had no other one */
	bool unwritten;	 /* a picture of its could not be written */
};

static struct open_job open_jobs[MAX_OPEN];
static int open_count;

/* NULL: it has ended. */
static struct open_job *
find_open_job(uint64_t number)
{
	for (int i = 0; i < open_count; i++) {
		if (open_jobs[i].job->number == number)
			return &open_jobs[i];
	}
	return NULL;
}

/* ---- descriptors: each has one number for ever, so that what is closed twice or not at all is found */

enum kind { CLOSED, ZITD_END, PEER_END, PAGE, CHECKPOINT, PICTURE, OUTPUT, LOCK, PIDFD };

struct process;

struct descriptor {
	enum kind kind;
	struct process *process;
	bool sealed;
	uint64_t bytes;
	uint32_t picture, step; /* of a checkpoint */
};

static struct descriptor descriptors[MAX_DESCRIPTORS];
static int descriptor_count;

int __real_close(int fd);
int __wrap_close(int fd);
int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...);
int __real_fstat(int fd, struct stat *st);
int __wrap_fstat(int fd, struct stat *st);
FILE *__real_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode);

static int
new_fd(enum kind kind, struct process *process)
{
	if (descriptor_count == MAX_DESCRIPTORS)
		violated("%d descriptors in one run", MAX_DESCRIPTORS);
	descriptors[descriptor_count] = (struct descriptor){.kind = kind, .process = process};
	return FIRST_FD + descriptor_count++;
}

static struct descriptor *
look_up(int fd, const char *who)
{
	if (fd < FIRST_FD || fd >= FIRST_FD + descriptor_count || descriptors[fd - FIRST_FD].kind == CLOSED)
		violated("%s of descriptor %d, which is not open", who, fd);
	return &descriptors[fd - FIRST_FD];
}

/* A system call that fails now and then. */
static bool
is_refused(int error)
{
	if (!odds(run.climate.trouble))
		return false;
	errno = error;
	return true;
}

static void process_hung_up(struct process *p);

int
__wrap_close(int fd)
{
	struct descriptor *d;

	if (fd >= 0 && fd < FIRST_FD)
		return __real_close(fd);
	d = look_up(fd, "close");
	if (d->kind == ZITD_END)
		process_hung_up(d->process);
	d->kind = CLOSED;
	return 0;
}

int
__wrap_fcntl(int fd, int command, ...)
{
	const int seals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK;
	struct descriptor *d;
	va_list arguments;
	int argument, copy;

	va_start(arguments, command);
	argument = va_arg(arguments, int);
	va_end(arguments);
	if (fd >= 0 && fd < FIRST_FD)
		return __real_fcntl(fd, command, argument);
	d = look_up(fd, "fcntl");
	if (command == F_GET_SEALS)
		return d->sealed ? seals : F_SEAL_GROW;
	if (command != F_DUPFD_CLOEXEC)
		violated("fcntl %d", command);
	if (is_refused(EMFILE))
		return -1;
	copy = new_fd(d->kind, d->process);
	descriptors[copy - FIRST_FD] = *d;
	return copy;
}

int
__wrap_fstat(int fd, struct stat *st)
{
	if (fd >= 0 && fd < FIRST_FD)
		return __real_fstat(fd, st);
	*st = (struct stat){.st_size = (off_t)look_up(fd, "fstat")->bytes};
	return 0;
}

/* What the kernel says of memory; all else is read in truth. */
FILE *
__wrap_fopen(const char *path, const char *mode)
{
	char text[64];
	FILE *file;

	if (strcmp(path, "/proc/vmstat") == 0)
		snprintf(text, sizeof(text), "nr_free 1\noom_kill %lld\nend 0\n", run.oom_kills);
	else if (strncmp(path, "/proc/", 6) == 0)
		snprintf(text, sizeof(text), "9000 %u 0\n", draw(500));
	else
		return __real_fopen(path, mode);
	file = is_refused(EMFILE) ? NULL : fmemopen(NULL, sizeof(text), "w+");
	if (file != NULL) {
		fputs(text, file);
		rewind(file);
	}
	return file;
}

/* ---- processes and their channels */

/* A job that a process holds. */
struct work {
	struct proto_header head;
	uint32_t steps, count;
	uint64_t seed;
	uint32_t picture, step; /* where it is; picture == count: all are with the encoder */
	uint32_t encoding;	/* how many are */
	bool begun, poison;
	struct descriptor *checkpoint;
};

struct mail {
	struct proto_msg m;
	bool garbage;		       /* no message at all */
	bool unsealed;		       /* PICTURE */
	uint64_t bytes;		       /* its file's true size */
	bool poison;		       /* JOB: one that kills */
	struct descriptor *checkpoint; /* JOB */
};

struct mailbox {
	struct mail mail[MAIL];
	int first, count;
};

/* zitd's end. */
struct channel {
	int fd;
	struct process *process;
};

enum phase { BEFORE_HELLO, BEFORE_LOADING, LOADING, BEFORE_READY, SERVING, PHASES };

/* A process and what ties it to zitd: made by channel_pair, brought to life by spawn_process. */
struct process {
	bool in_use, hung_up; /* hung_up: zitd's end is closed */
	struct channel channel;
	struct status_page page;
	struct mailbox to_zitd, to_process;
	int arrived; /* of to_process; the others are still in zitd's own queue */
	int room;    /* of its socket */

	pid_t pid; /* 0: not born */
	uint32_t generation;
	bool dead, reaped;
	int status;	     /* as waitpid has it */
	int64_t reapable_us; /* a tracer has it until then */
	int64_t act_us, busy_us, dies_us;
	enum phase phase;
	uint64_t loaded_bytes;
	int64_t pace_us; /* of its units */
	struct work works[MAX_WORKS];
	int work_count, given; /* given: in all */
	bool testing, stopping, interrupted;

	/* what is wrong with it */
	bool hung, closed, lied;
	bool deaf_to_cancel, deaf_to_stop, deaf_to_signals;
	bool immune;	 /* no signal reaches it: its user is another one now, say */
	bool unkillable; /* in the kernel: SIGKILL takes long */
};

static struct process processes[MAX_PROCESSES];

static struct process *
find_process(pid_t pid)
{
	for (int i = 0; i < MAX_PROCESSES; i++) {
		if (processes[i].in_use && processes[i].pid == pid)
			return &processes[i];
	}
	return NULL;
}

/* Nothing is left that somebody could ask about. */
static void
process_hung_up(struct process *p)
{
	p->hung_up = true;
	if (p->pid == 0 || p->reaped)
		p->in_use = false;
}

static struct mail *
mailbox_add(struct mailbox *b)
{
	static struct mail lost; /* its writer would wait for room; it is no worse when it does not */
	struct mail *mail = b->count < MAIL ? &b->mail[(b->first + b->count++) % MAIL] : &lost;

	*mail = (struct mail){0};
	return mail;
}

static struct mail *
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

static void
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

/* A job goes to a process that may have it, with a checkpoint that nobody else writes. */
static void
audit_given(struct process *p, const struct mail *mail)
{
	const struct open_job *o = find_open_job(mail->m.head.job);
	const struct job *job = o != NULL ? o->job : NULL;
	int64_t most;

	if (job == NULL)
		violated(
		    "job number %llu has ended, and is given away", (unsigned long long)mail->m.head.job);
	most = runner_conf(job->runner)->max_jobs;
	if (mail->checkpoint->kind != CHECKPOINT)
		violated("job %s: without its checkpoint", job->id);
	if (job->fresh && p->given > 0)
		violated("job %s: wants a fresh process, and is its number %d", job->id, p->given + 1);
	if (most > 0 && p->given >= most && !run.reloaded)
		violated(
		    "job %s: is number %d of a process that may have %d", job->id, p->given + 1, (int)most);
	p->given++;
	for (int i = 0; i < MAX_PROCESSES; i++) {
		const struct process *other = &processes[i];
		for (int k = 0; k < other->work_count; k++) {
			if (other->in_use && !other->dead && other->works[k].checkpoint == mail->checkpoint)
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

/* ---- what a process does */

/* A message that it sends, to be filled in. */
static struct mail *
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

static void
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
	else if (p->work_count == MAX_WORKS)
		accuse(p, "more JOBs than can be held");
	else if (f->first >= f->count || f->width == 0 || f->height == 0)
		accuse(p, "a JOB with numbers that cannot be");
	else if (p->testing)
		accuse(p, "a JOB before the answer to CANARY");
	else {
		struct work *work = &p->works[p->work_count++];
		*work = (struct work){mail->m.head, f->steps, f->count, f->seed, f->first, 0, 0, false,
		    mail->poison, mail->checkpoint};
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
	} rows[] = {
	    {PROTO_JOB, on_job}, {PROTO_CANCEL, on_cancel}, {PROTO_STOP, on_stop}, {PROTO_CANARY, on_canary}};

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

static void
be_chosen_by_oom_killer(struct process *p)
{
	run.oom_kills++;
	process_end(p, SIGKILL);
}

static void
hang(struct process *p)
{
	p->hung = true;
	p->act_us = NEVER;
}

/* It goes on later, as if nothing had been. */
static void
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
	    PROTO_STOPPED};
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

static void
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
		const struct runner *r = open_jobs[i].job->runner;
		if (r == NULL || runner_pid(r) != pid)
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

/* ---- the event loop: libev's functions, with time that passes when nothing else is to do */

struct ev_loop {
	bool broken;
	struct ev_prepare *prepare;
	struct ev_check *check;
	struct ev_signal *term;
	struct {
		struct ev_timer *watcher;
		int64_t at_us;
	} timers[MAX_TIMERS];
	struct ev_io *ios[MAX_IOS];
	int timer_count, io_count;
};

struct ev_loop *
ev_loop_new(unsigned)
{
	return calloc(1, sizeof(struct ev_loop));
}

void
ev_loop_destroy(struct ev_loop *loop)
{
	if (loop->timer_count > 0 || loop->io_count > 0)
		violated("%d timers and %d watched descriptors are left", loop->timer_count, loop->io_count);
	free(loop);
}

void
ev_break(struct ev_loop *loop, int)
{
	loop->broken = true;
}

/* `active` is the watcher's place in its list, counted from 1. */
void
ev_timer_start(struct ev_loop *loop, struct ev_timer *w)
{
	if (w->active)
		return;
	if (loop->timer_count == MAX_TIMERS)
		violated("%d timers", MAX_TIMERS);
	loop->timers[loop->timer_count].watcher = w;
	loop->timers[loop->timer_count].at_us = run.now_us + (int64_t)(w->at * 1e6 + 0.5);
	w->active = ++loop->timer_count;
}

void
ev_timer_stop(struct ev_loop *loop, struct ev_timer *w)
{
	int at = w->active - 1;

	if (at < 0)
		return;
	loop->timers[at] = loop->timers[--loop->timer_count];
	loop->timers[at].watcher->active = at + 1;
	w->active = 0;
}

void
ev_io_start(struct ev_loop *loop, struct ev_io *w)
{
	if (w->active)
		return;
	look_up(w->fd, "ev_io_start");
	if (loop->io_count == MAX_IOS)
		violated("%d watched descriptors", MAX_IOS);
	loop->ios[loop->io_count] = w;
	w->active = ++loop->io_count;
}

void
ev_io_stop(struct ev_loop *loop, struct ev_io *w)
{
	int at = w->active - 1;

	if (at < 0)
		return;
	loop->ios[at] = loop->ios[--loop->io_count];
	loop->ios[at]->active = at + 1;
	w->active = 0;
}

void
ev_prepare_start(struct ev_loop *loop, struct ev_prepare *w)
{
	loop->prepare = w;
}

void
ev_check_start(struct ev_loop *loop, struct ev_check *w)
{
	loop->check = w;
}

void
ev_signal_start(struct ev_loop *loop, struct ev_signal *w)
{
	if (w->signum == SIGTERM)
		loop->term = w;
}

/* What this descriptor is ready for. */
static int
readiness(const struct ev_io *w)
{
	const struct descriptor *d = look_up(w->fd, "a watcher");
	const struct process *p = d->process;
	bool gone = p->dead || p->closed;
	int events = 0;

	if (d->kind == PIDFD)
		return p->dead ? EV_READ : 0;
	if (p->to_zitd.count > 0 || gone)
		events |= EV_READ;
	if (p->arrived < p->room || gone)
		events |= EV_WRITE;
	return events & w->events;
}

/* One of those that are ready, by chance; false: none is. */
static bool
serve_io(struct ev_loop *loop)
{
	int first = loop->io_count > 0 ? (int)draw((uint32_t)loop->io_count) : 0;

	for (int i = 0; i < loop->io_count; i++) {
		struct ev_io *w = loop->ios[(first + i) % loop->io_count];
		int events = readiness(w);
		if (events == 0)
			continue;
		w->cb(loop, w, events);
		return true;
	}
	return false;
}

static int
first_timer(const struct ev_loop *loop)
{
	int first = 0;

	for (int i = 1; i < loop->timer_count; i++) {
		if (loop->timers[i].at_us < loop->timers[first].at_us)
			first = i;
	}
	return first;
}

static void
serve_timer(struct ev_loop *loop, int at)
{
	struct ev_timer *w = loop->timers[at].watcher;
	bool watchdog = w->repeat == (double)WATCHDOG_US * 1e-6;

	ev_timer_stop(loop, w);
	if (w->repeat > 0) {
		w->at = w->repeat;
		ev_timer_start(loop, w);
	}
	loop->check->cb(loop, loop->check, EV_CHECK);
	run.pinged = false;
	w->cb(loop, w, EV_TIMER);
	if (watchdog && !run.pinged)
		violated("the watchdog was not told that all is well");
}

/* ---- the disk */

struct disk {
	struct disk_task tasks[MAX_TASKS];
	int64_t ready_us[MAX_TASKS];
	int count;
};

struct disk *
disk_new(struct ev_loop *, const char *)
{
	run.disk = calloc(1, sizeof(*run.disk));
	return run.disk;
}

static struct disk_task
take_task(struct disk *d, int at)
{
	struct disk_task task = d->tasks[at];

	d->tasks[at] = d->tasks[--d->count];
	d->ready_us[at] = d->ready_us[d->count];
	if (task.kind == DISK_WRITE)
		close(task.fd);
	return task;
}

void
disk_free(struct disk **d)
{
	while ((*d)->count > 0)
		take_task(*d, 0);
	free(*d);
	*d = NULL;
}

int
disk_put(struct disk *d, const struct disk_task *task)
{
	if (task->kind == DISK_WRITE && look_up(task->fd, "disk_put")->kind != PICTURE)
		violated("a file that is no picture");
	if (is_refused(ENOMEM))
		return -ERR_SYSTEM;
	if (d->count == MAX_TASKS)
		violated("%d files at once", MAX_TASKS);
	d->tasks[d->count] = *task;
	d->ready_us[d->count++] = run.now_us + span_us(MS, run.disk_slow ? 70 * SECOND : 50 * MS);
	return 0;
}

int
disk_pending(struct disk *d)
{
	return d->count;
}

static int
first_task(const struct disk *d)
{
	int first = 0;

	for (int i = 1; i < d->count; i++) {
		if (d->ready_us[i] < d->ready_us[first])
			first = i;
	}
	return first;
}

static void
finish_task(struct disk *d, int at)
{
	static const int errors[] = {ENOSPC, EDQUOT, EIO};
	struct disk_task task = take_task(d, at);
	struct open_job *o = find_open_job(task.arg_number / JOB_MAX_PICTURES);

	task.error = run.disk_full || odds(run.climate.trouble) ? errors[draw(3)] : 0;
	if (task.kind == DISK_WRITE && task.error != 0 && o != NULL)
		o->unwritten = true;
	if (task.done != NULL)
		task.done(&task);
}

/* ---- shared memory, the lock, and the rest of the world, as far as it is asked */

int __wrap_shm_create(const struct status_page **page);
void __wrap_shm_detach(const struct status_page **page);
int __wrap_shm_create_checkpoint(uint64_t bytes);

int
__wrap_shm_create(const struct status_page **page)
{
	/* The last one that channel_pair made: it has no page yet. */
	struct process *p = descriptors[descriptor_count - 1].process;

	if (is_refused(EMFILE))
		return -ERR_SYSTEM;
	*page = &p->page;
	run.pages++;
	return new_fd(PAGE, p);
}

void
__wrap_shm_detach(const struct status_page **page)
{
	run.pages -= *page != NULL;
	*page = NULL;
}

int
__wrap_shm_create_checkpoint(uint64_t bytes)
{
	int fd;

	if (is_refused(ENOMEM)) {
		run.no_memory_us = run.now_us;
		return -ERR_SYSTEM;
	}
	fd = new_fd(CHECKPOINT, NULL);
	descriptors[fd - FIRST_FD].bytes = bytes;
	return fd;
}

int
device_lock_take(const char *, const char *, pid_t *holder)
{
	if (is_refused(EACCES))
		return -1;
	if (!run.device_stolen)
		return new_fd(LOCK, NULL);
	*holder = 1;
	errno = EWOULDBLOCK;
	return -1;
}

void
device_lock_note(int fd, pid_t pid)
{
	look_up(fd, "device_lock_note");
	if (find_process(pid) == NULL)
		violated("the lock is given to %d, which is no process of ours", (int)pid);
}

int
device_lock_kill(const char *, const char *, pid_t)
{
	run.device_stolen = false;
	return 0;
}

void
runner_log_init(struct runner_log *l, struct ev_loop *loop, const char *name)
{
	*l = (struct runner_log){.loop = loop, .name = name, .io.fd = -1};
}

int
runner_log_open(struct runner_log *l)
{
	if (is_refused(EMFILE))
		return -1;
	l->io.fd = new_fd(OUTPUT, NULL);
	return new_fd(OUTPUT, NULL);
}

void
runner_log_close(struct runner_log *l)
{
	if (l->io.fd >= 0)
		close(l->io.fd);
	l->io.fd = -1;
}

void
runner_log_free(struct runner_log *l)
{
	runner_log_close(l);
}

void
runner_log_excerpt(const struct runner_log *l, char *out, size_t size)
{
	snprintf(out, size, "the last line of %s", l->name);
}

bool
strays_sweep(bool (*known)(void *arg, pid_t pid), void *arg)
{
	for (int i = 0; i < MAX_PROCESSES; i++) {
		const struct process *p = &processes[i];
		if (p->in_use && p->pid > 0 && !p->reaped && !known(arg, p->pid))
			violated("process %d is not known to be a runner's", (int)p->pid);
	}
	return odds(300);
}

/* ---- those of whom nothing but an answer is wanted */

/* clang-format off */
#define NOTHING(name, parameters) void name parameters {}
#define ANSWER(type, name, parameters, answer) type name parameters { return answer; }

NOTHING(ev_now_update, (struct ev_loop *))
NOTHING(ev_prepare_stop, (struct ev_loop *, struct ev_prepare *))
NOTHING(ev_check_stop, (struct ev_loop *, struct ev_check *))
NOTHING(ev_signal_stop, (struct ev_loop *, struct ev_signal *))
NOTHING(paths_close, (struct paths *))
NOTHING(clients_free, (struct clients **))
NOTHING(clients_close_listener, (struct clients *))
NOTHING(cgroup_kill, (const char *))
NOTHING(cgroup_remove, (const char *))
NOTHING(strays_open, (void))
NOTHING(notify_ready, (void))
NOTHING(notify_status, (const char *))
NOTHING(notify_extend, (int64_t))
NOTHING(notify_reloading, (void))
NOTHING(notify_reloaded, (void))
NOTHING(notify_stopping, (void))
NOTHING(log_open, (const char *, enum log_level))
NOTHING(log_set_level, (enum log_level))
ANSWER(bool, log_level_parse, (const char *, enum log_level *), true)
ANSWER(int64_t, notify_watchdog_period_us, (void), WATCHDOG_US)
ANSWER(bool, cgroup_open, (void), false)
ANSWER(int, cgroup_enter_fd, (const char *), -1)
ANSWER(int, clients_count, (const struct clients *), 0)
ANSWER(bool, clients_are_flushed, (const struct clients *), odds(800)) /* somebody may not read his answer */
ANSWER(struct clients *, clients_new, (struct daemon *, const char *, int), (struct clients *)&run)
ANSWER(const char *, disk_dir, (const struct disk *), "results")
ANSWER(bool, disk_is_alive, (struct disk *), true)
/* clang-format on */

void
notify_watchdog(void)
{
	run.pinged = true;
}

int
paths_open(struct paths *p, const char *, const char *, const struct conf_zitd *, struct err *)
{
	p->lock_fd = -1;
	return 0;
}

void
log_line(enum log_level level, const char *format, ...)
{
	va_list arguments;

	if (!loud)
		return;
	printf("%12.6f <%d> ", (double)run.now_us * 1e-6, (int)level);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
}

/* ---- the books: events */

enum { MAX_STATES = 32, MAX_EVENTS = 40 };

static long long job_cells[MAX_STATES][MAX_EVENTS], runner_cells[MAX_STATES][MAX_EVENTS];

int __real_fsm_event(struct fsm *f, int event, void *detail);
int __wrap_fsm_event(struct fsm *f, int event, void *detail);
void __real_fsm_clock(struct fsm *f);
void __wrap_fsm_clock(struct fsm *f);

static bool
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

static void
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
		if (job->alone && job->not_before_us <= run.now_us)
			return; /* a runner is kept for it, others may wait for that */
	}
	while ((job = daemon_next_queued(run.daemon, job)) != NULL && job->not_before_us > run.now_us)
		;
	if (job == NULL || run.term_us != 0 || run.now_us - run.no_memory_us <= SECOND)
		return;
	for (int i = 0; i < run.runner_count; i++) {
		if (runner_can_take(run.runners[i], job))
			violated("job %s: waits, and runner %s could take it", job->id,
			    runner_conf(run.runners[i])->section_name);
	}
}

static void
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
	    .wait = odds(500),
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
	if (open_count > 0)
		job_event(open_jobs[draw((uint32_t)open_count)].job, JOB_EVENT_CANCEL);
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

	json_decref(daemon_order(run.daemon, names[draw(4)], "an order", orders[draw(6)]));
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

static struct job *
any_dead_letter(void)
{
	struct job *job = NULL;

	while ((job = daemon_next_job(run.daemon, job)) != NULL) {
		if (job_state(job) == JOB_DEAD)
			return job;
	}
	return NULL;
}

static void
act_retry(void)
{
	struct job *dead = any_dead_letter(), *job = NULL;
	json_t *data = NULL;
	struct err e;

	if (dead != NULL && open_count < MAX_OPEN)
		job = daemon_retry(run.daemon, dead, odds(300), &e, &data);
	if (job != NULL)
		book_job(job);
	json_decref(data);
}

static void
act_drop(void)
{
	struct job *dead = any_dead_letter();

	if (dead != NULL)
		daemon_drop_dead(run.daemon, dead);
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

static void
act_wait(void)
{
	run.action_us += span_us(SECOND, 100 * SECOND);
}

static void
act(void)
{
	static const struct {
		uint32_t weight; /* of 1000 */
		void (*act)(void);
	} actions[] = {{520, act_submit}, {120, act_cancel}, {110, act_order}, {60, act_kill},
	    {30, act_freeze}, {30, act_retry}, {10, act_drop}, {2, act_reload}, {18, act_turn_of_luck},
	    {100, act_wait}};
	uint32_t n = draw(1000);
	size_t i = 0;

	run.actions_left--;
	run.action_us = run.now_us + span_us(MS, 20 * SECOND);
	while (n >= actions[i].weight)
		n -= actions[i++].weight;
	actions[i].act();
}

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

/* Nobody has work, and nobody holds any. A wedged process holds what it held. */
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
	while (!loop->broken) {
		uint32_t wakeups = odds(200) ? 2 + draw(3) : 1;
		bool busy = true;

		totals.turns++;
		loop->prepare->cb(loop, loop->prepare, EV_PREPARE);
		if (loop->broken)
			break;
		audit();
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
	run.actions_left = 3 + (int)draw(40);
	run.last_pid = FIRST_PID;
	srandom(seed); /* runners' back-off */
}

/* All are gone but those that nobody can kill, and nothing is left of anything. */
static void
audit_end(void)
{
	if (open_count > 0)
		violated(
		    "job %s: still %s at the end", open_jobs[0].job->id, job_state_name(open_jobs[0].job));
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

static void
lead_run(uint32_t seed)
{
	static struct conf conf;
	static char path[64];
	const struct daemon_options options = {.config = path};
	struct err e;

	snprintf(path, sizeof(path), "%s/zitd.conf", dir);
	begin_run(seed);
	draw_conf(&conf);
	if (daemon_start(&run.daemon, &options, &conf, &e) != 0)
		violated("daemon_start: %s", e.text);
	json_decref(daemon_order(run.daemon, NULL, "a look", note_runner));
	daemon_run(run.daemon);
	audit_end();
	daemon_free(&run.daemon);
	audit_remains();
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
	fputs("[runner]\nmodel = m\n[runner:a]\n[runner:b]\n[runner:c]\n", file);
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
	printf("%lld runs, %lld turns, %lld events, %lld processes, %lld lies, %lld refused, %lld jobs:",
	    totals.runs, totals.turns, totals.events, totals.processes, totals.lies, totals.refusals,
	    totals.jobs);
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
