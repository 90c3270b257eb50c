/*
 * The state machines of jobs and runners in a world of chance: the objects that zitd is made of, with
 * everything around them played by this program. Time is virtual, processes are small models that say what
 * runners say, and crash, hang, lie, are deaf to orders or refuse to be buried. In each of many runs jobs and
 * orders come at random; then the world calms down, and every job must have come to exactly one end.
 *
 *   test_life [FIRST [COUNT]]       runs with the seeds FIRST .. FIRST + COUNT - 1; 1 and 40000 unless told,
 * 8000 in a sanitized build; all of 40000 must come by every cell of both tables that has a row
 *
 * Linked with --wrap for waitpid, kill, fsm_event and fsm_clock; clock, channel, shm and the like are defined
 * here.
 */
#include "tests/unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "build_id.h"
#include "ipc/clock.h"
#include "ipc/log.h"
#include "supervisor/cgroup.h"
#include "supervisor/daemon.h"
#include "supervisor/device_lock.h"
#include "supervisor/queue.h"
#include "supervisor/runner_inside.h"
#include "supervisor/sched.h"
#include "supervisor/spawn.h"

#define SECOND INT64_C(1000000)

enum {
	RUNNERS = 2,
	JOBS = 14,
	TIMERS = 64,
	PROCS = 64,
	INBOX = 40,
	OUTBOX = 80,
	HELD = 20,
	RUNS = 40000,
	FIRST_PID = 1000
};

/* ---- chance */

static uint64_t seed_now, random_state;

static uint32_t
draw(uint32_t below)
{
	random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)((random_state >> 33) % below);
}

static bool
chance(uint32_t percent)
{
	return draw(100) < percent;
}

/* ---- the world */

/* A process: what it is up to was drawn when it was made. */
struct proc {
	pid_t pid; /* 0: this place is free */
	struct channel *channel;
	uint32_t generation;
	bool dead, traced, deaf_to_cancel, deaf_to_signals, immortal, told_to_end;
	int status, phase; /* phases of its life, then of serving */
	int crash_in;	   /* actions until it dies by itself; -1: never */
	int hang_in;
	bool liar;
	int64_t act_us, bury_us; /* bury: until then nobody can reap it */
	struct {
		struct proto_header head;
		uint32_t steps, count, step, picture;
	} held[HELD];
	int held_count;
	struct proto_msg inbox[INBOX];
	int inbox_count;
};

struct channel {
	struct proc *proc; /* NULL: it has ended or was never there */
	int fd;
	struct proto_msg out[OUTBOX];
	int first, count;
	bool broken; /* the next packet is no message */
};

struct timer {
	struct ev_timer *timer;
	int64_t due_us;
};

struct writing {
	struct job *job;
	int64_t due_us;
	bool full;
};

struct daemon {
	struct conf conf;
	struct queue queue;
	struct runner *runners[RUNNERS];
	struct job *jobs[JOBS];
	int job_count, ended[JOBS];
	struct timer timers[TIMERS];
	struct proc procs[PROCS];
	struct channel *newest; /* of the process that is about to be made */
	struct writing writing[JOBS];
	int writing_count;
	int64_t again_us;
	bool changed, calm;
	int lies; /* that this run's processes told */
};

static struct daemon *world;
static struct ev_loop *loop;
static int64_t now_us;
static pid_t next_pid;
static int null_fd, picture_fd;
static struct status_page page;
static long long events;
static bool driven_job[JOB_STATE_COUNT][JOB_EVENT_COUNT],
    driven_runner[RUNNER_STATE_COUNT][RUNNER_EVENT_COUNT];

static void
fault(const char *what)
{
	fail_msg("seed %llu, %.6f s: %s", (unsigned long long)seed_now, (double)now_us * 1e-6, what);
}

static int
new_fd(void)
{
	int fd = fcntl(null_fd, F_DUPFD_CLOEXEC, 10);

	if (fd < 0)
		fault("no descriptors: they leak");
	return fd;
}

/* ---- what surrounds the machines */

int64_t
clock_now_us(void)
{
	return now_us;
}

int64_t
clock_wall_us(void)
{
	return now_us;
}

struct ev_loop *
daemon_loop(const struct daemon *d)
{
	(void)d;
	return loop;
}

const struct conf *
daemon_conf(const struct daemon *d)
{
	return &d->conf;
}

const char *
daemon_results_dir(const struct daemon *d)
{
	(void)d;
	return "/results";
}

const char *
daemon_runtime_dir(const struct daemon *d)
{
	(void)d;
	return "/run";
}

const char *
daemon_default_command(const struct daemon *d)
{
	(void)d;
	return "/runner";
}

void
daemon_arm_timer(struct daemon *d, struct ev_timer *timer, int64_t clock_us)
{
	struct timer *place = NULL;

	for (int i = 0; i < TIMERS; i++) {
		if (d->timers[i].timer == timer)
			d->timers[i].timer = NULL;
		if (d->timers[i].timer == NULL)
			place = &d->timers[i];
	}
	if (clock_us <= 0)
		return;
	if (place == NULL)
		fault("too many timers");
	*place = (struct timer){timer, now_us + clock_us};
}

void
daemon_changed(struct daemon *d)
{
	d->changed = true;
}

void
daemon_runner_ready(struct daemon *d)
{
	d->changed = true;
}

void
daemon_runner_died(struct daemon *d)
{
	d->changed = true;
}

void
daemon_loading(struct daemon *d)
{
	(void)d;
}

/* The disk takes its time; sometimes it is full, sometimes it never answers. */
void
daemon_store(struct daemon *d, struct job *job)
{
	if (chance(2) && !d->calm)
		return;
	d->writing[d->writing_count++] = (struct writing){job, now_us + draw(100000), chance(3)};
}

void
cgroup_kill(const char *runner)
{
	(void)runner;
}

void
cgroup_remove(const char *runner)
{
	(void)runner;
}

int
cgroup_enter_fd(const char *runner)
{
	(void)runner;
	return -1;
}

int
device_lock_take(const char *dir, const char *name, pid_t *holder)
{
	(void)dir;
	(void)name;
	*holder = 0;
	if (!world->calm && chance(1)) {
		errno = EWOULDBLOCK;
		return -1;
	}
	return new_fd();
}

void
device_lock_note(int fd, pid_t pid)
{
	(void)fd;
	(void)pid;
}

int
device_lock_kill(const char *dir, const char *name, pid_t holder)
{
	(void)dir;
	(void)name;
	(void)holder;
	errno = ESRCH;
	return -1;
}

void
runner_log_init(struct runner_log *l, struct ev_loop *of, const char *name)
{
	(void)of;
	(void)name;
	*l = (struct runner_log){.budget = 0};
}

int
runner_log_open(struct runner_log *l)
{
	(void)l;
	return new_fd();
}

void
runner_log_close(struct runner_log *l)
{
	(void)l;
}

void
runner_log_free(struct runner_log *l)
{
	(void)l;
}

void
runner_log_excerpt(const struct runner_log *l, char *out, size_t size)
{
	(void)l;
	snprintf(out, size, "the last lines\n");
}

const char *
stage_name(uint32_t stage)
{
	return stage < STAGE_COUNT ? "stage" : "?";
}

int
shm_create(const struct status_page **out)
{
	*out = &page;
	return new_fd();
}

void
shm_detach(const struct status_page **out)
{
	*out = NULL;
}

void
shm_read(const struct status_page *from, struct status_page *copy)
{
	*copy = *from;
}

int
shm_create_checkpoint(uint64_t bytes)
{
	(void)bytes;
	return !world->calm && chance(1) ? -1 : new_fd();
}

/* ---- the channel: packets in memory */

int
channel_pair(int ends[2])
{
	ends[0] = new_fd();
	ends[1] = new_fd();
	return 0;
}

struct channel *
channel_new(int fd, enum proto_sender self)
{
	struct channel *c = calloc(1, sizeof(*c));

	assert_int_equal(self, PROTO_FROM_ZITD);
	c->fd = fd;
	world->newest = c;
	return c;
}

void
channel_free(struct channel **c)
{
	if (*c == NULL)
		return;
	for (int i = (*c)->first; i < (*c)->first + (*c)->count; i++) {
		if ((*c)->out[i].head.type == PROTO_PICTURE)
			close((*c)->out[i].PICTURE.picture >> 16); /* as the kernel would */
	}
	if ((*c)->proc != NULL)
		(*c)->proc->channel = NULL;
	close((*c)->fd);
	free(*c);
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
	(void)c;
	return false;
}

int
channel_flush(struct channel *c)
{
	(void)c;
	return 0;
}

int
channel_send(struct channel *c, const struct proto_msg *m, const int *fds)
{
	if ((m->head.type == PROTO_JOB) != (fds != NULL))
		fault("a JOB has its checkpoint, and nothing else has descriptors");
	if (c->proc == NULL || c->proc->dead)
		return -ERR_UNREACHABLE;
	if (c->proc->inbox_count == INBOX)
		return -ERR_QUEUE_FULL;
	c->proc->inbox[c->proc->inbox_count++] = *m;
	return 0;
}

/* A PICTURE's descriptor travels in the upper half of its number. */
int
channel_receive(struct channel *c, struct proto_msg *m, int fds[PROTO_MAX_FDS])
{
	if (c->count == 0 && c->broken)
		return -ERR_PROTOCOL;
	if (c->count == 0)
		return c->proc == NULL || c->proc->dead ? -ERR_UNREACHABLE : 0;
	*m = c->out[c->first++];
	if (--c->count == 0)
		c->first = 0;
	if (m->head.type == PROTO_PICTURE) {
		fds[0] = (int)(m->PICTURE.picture >> 16);
		m->PICTURE.picture &= 0xffff;
	}
	return 1;
}

/* ---- processes */

static struct proc *
find_proc(pid_t pid)
{
	for (int i = 0; i < PROCS; i++) {
		if (world->procs[i].pid == pid)
			return &world->procs[i];
	}
	return NULL;
}

static void
draw_character(struct proc *p)
{
	p->crash_in = p->hang_in = -1;
	if (world->calm)
		return;
	p->deaf_to_cancel = chance(8);
	p->deaf_to_signals = chance(8);
	p->immortal = chance(2);
	p->liar = chance(6);
	p->traced = chance(3);
	if (chance(35))
		p->crash_in = (int)draw(40);
	else if (chance(12))
		p->hang_in = (int)draw(40);
}

pid_t
spawn_process(const struct spawn *s, int *pidfd)
{
	struct proc *p = find_proc(0);

	if (!world->calm && chance(3)) {
		errno = EAGAIN;
		return -1;
	}
	if (p == NULL)
		fault("too many processes");
	*p = (struct proc){.pid = next_pid++, .channel = world->newest, .act_us = now_us + 1 + draw(1000)};
	for (int i = 0; s->argv[i] != NULL; i++) {
		if (strcmp(s->argv[i], "--generation") == 0)
			p->generation = (uint32_t)atoi(s->argv[i + 1]);
	}
	draw_character(p);
	p->channel->proc = p;
	*pidfd = new_fd();
	return p->pid;
}

static void
die(struct proc *p, int status)
{
	p->dead = true;
	p->status = status;
	p->act_us = INT64_MAX;
	if (p->traced && p->liar && p->channel != NULL) {
		world->lies++;
		p->channel->broken = true; /* its last packet is found when it is buried */
	}
	p->bury_us = p->traced ? now_us + draw(120) * SECOND : now_us;
}

int __wrap_kill(pid_t pid, int number);
pid_t __wrap_waitpid(pid_t pid, int *status, int options);
int __wrap_fsm_event(struct fsm *f, int event, void *detail);
int __real_fsm_event(struct fsm *f, int event, void *detail);
void __wrap_fsm_clock(struct fsm *f);
void __real_fsm_clock(struct fsm *f);

int
__wrap_kill(pid_t pid, int number)
{
	struct proc *p = find_proc(pid < 0 ? -pid : pid);

	if (p == NULL || p->dead)
		return -1;
	if (number == SIGKILL && p->immortal) /* for a while */
		p->act_us = now_us + draw(40) * SECOND, p->immortal = false, p->crash_in = 0;
	else if (number == SIGKILL)
		die(p, SIGKILL);
	else if (!p->deaf_to_signals)
		p->told_to_end = true;
	return 0;
}

pid_t
__wrap_waitpid(pid_t pid, int *status, int options)
{
	struct proc *p = find_proc(pid);

	assert_int_equal(options, WNOHANG);
	if (p == NULL)
		fault("waitpid for a process that is gone");
	if (!p->dead || now_us < p->bury_us)
		return 0;
	*status = p->status;
	if (p->channel != NULL)
		p->channel->proc = NULL;
	p->pid = 0;
	return pid;
}

static void
say(struct proc *p, struct proto_msg m)
{
	struct channel *c = p->channel;

	if (c == NULL || c->first + c->count == OUTBOX) {
		if (m.head.type == PROTO_PICTURE)
			close((int)(m.PICTURE.picture >> 16));
		return;
	}
	m.head.generation = m.head.generation != 0 ? m.head.generation : p->generation;
	c->out[c->first + c->count++] = m;
}

static void
say_life(struct proc *p, unsigned type)
{
	struct proto_msg m = {.head.type = (uint16_t)type};

	if (type == PROTO_HELLO)
		m.HELLO = (struct proto_HELLO){PROTO_VERSION, (uint32_t)p->pid, ZIT_BUILD, "a model of one"};
	if (type == PROTO_LOADING)
		m.LOADING = (struct proto_LOADING){1, 1};
	if (type == PROTO_READY)
		m.READY = (struct proto_READY){"model", "device", 64, 1024, 16, 1024 * 1024, 0, 4096};
	if (type == PROTO_FATAL)
		m.FATAL = (struct proto_FATAL){70, "a fatal error"};
	say(p, m);
}

static void
forget(struct proc *p, int i)
{
	p->held[i] = p->held[--p->held_count];
}

static void
take_message(struct proc *p, const struct proto_msg *m)
{
	struct proto_msg answer = {.head = m->head};

	if (m->head.type == PROTO_CANARY) {
		say_life(p, PROTO_CANARY_OK);
	} else if (m->head.type == PROTO_STOP) {
		p->told_to_end = true;
	} else if (m->head.type == PROTO_JOB) {
		if (p->held_count == HELD || m->head.generation != p->generation)
			fault("a JOB too many, or for another generation");
		p->held[p->held_count].head = m->head;
		p->held[p->held_count].steps = m->JOB.steps;
		p->held[p->held_count].count = m->JOB.count;
		p->held[p->held_count].step = draw(3); /* from its checkpoint, say */
		p->held[p->held_count++].picture = m->JOB.first;
		answer.head.type = PROTO_ACK;
		say(p, answer);
	} else if (m->head.type == PROTO_CANCEL && !p->deaf_to_cancel) {
		for (int i = 0; i < p->held_count; i++) {
			if (p->held[i].head.job != m->head.job || p->held[i].head.attempt != m->head.attempt)
				continue;
			answer.head.type = PROTO_STOPPED;
			say(p, answer);
			forget(p, i);
			return;
		}
	}
}

/* One thing that a runner must not say. */
static void
lie(struct proc *p)
{
	struct proto_msg m = {.head = p->held[0].head};

	world->lies++;
	m.head.type = (uint16_t)(PROTO_ACK + draw(PROTO_STOPPED - PROTO_ACK + 1));
	if (m.head.type == PROTO_PICTURE) {
		m.PICTURE.picture = ((uint32_t)new_fd() << 16) | draw(3);
		m.PICTURE.bytes = 1;
	}
	if (m.head.type == PROTO_FAILED)
		m.FAILED = (struct proto_FAILED){ERR_INTERNAL, "a lie"};
	switch (draw(4)) {
	case 0:
		m.head.attempt++;
		break;
	case 1:
		m.head.generation = p->generation + 1;
		break;
	case 2:
		m.head.job += 1000;
		break;
	default:
		if (chance(30) && p->channel != NULL)
			p->channel->broken = true;
		break;
	}
	say(p, m);
	if (chance(10))
		say_life(p, PROTO_READY);
}

static void
tell_picture(struct proc *p, int i)
{
	struct proto_msg m = {.head = p->held[i].head};
	struct job *job = NULL;

	for (int k = 0; k < world->job_count; k++) {
		if (world->jobs[k]->number == m.head.job)
			job = world->jobs[k];
	}
	m.head.type = PROTO_PICTURE;
	m.PICTURE.picture = ((uint32_t)fcntl(picture_fd, F_DUPFD_CLOEXEC, 10) << 16) | p->held[i].picture;
	m.PICTURE.bytes = 1;
	m.PICTURE.seed = job->seed + p->held[i].picture;
	say(p, m);
}

/* The next thing that a good runner does for a job of its. */
static void
work(struct proc *p)
{
	int i = (int)draw((uint32_t)p->held_count);
	struct proto_msg m = {.head = p->held[i].head};

	if (p->held[i].step < p->held[i].steps) {
		m.head.type = PROTO_PROGRESS;
		m.PROGRESS = (struct proto_PROGRESS){
		    STAGE_DENOISE, p->held[i].picture, ++p->held[i].step, p->held[i].steps};
		say(p, m);
	} else if (p->held[i].step == p->held[i].steps) {
		m.head.type = PROTO_PROGRESS;
		m.PROGRESS = (struct proto_PROGRESS){
		    STAGE_ENCODE, p->held[i].picture, p->held[i].steps, p->held[i].steps};
		p->held[i].step++;
		say(p, m);
	} else if (chance(3)) {
		m.head.type = PROTO_FAILED;
		m.FAILED = (struct proto_FAILED){ERR_PROMPT_TOO_LONG, "too long"};
		say(p, m);
		forget(p, i);
	} else {
		tell_picture(p, i);
		p->held[i].step = 0;
		if (++p->held[i].picture < p->held[i].count)
			return;
		m.head.type = PROTO_DONE;
		m.DONE = (struct proto_DONE){.tokens = 1};
		say(p, m);
		forget(p, i);
	}
}

static int
draw_end(void)
{
	static const int ends[] = {
	    SIGSEGV, SIGKILL, SIGABRT, 70 << 8, 71 << 8, 72 << 8, 72 << 8, 73 << 8, 0, 75 << 8};

	return ends[draw(sizeof(ends) / sizeof(ends[0]))];
}

/* One action of a process. Its end, if this was its last one. */
static void
act(struct proc *p)
{
	static const unsigned life[] = {PROTO_HELLO, PROTO_LOADING, PROTO_WARMING, PROTO_READY};

	p->act_us = now_us + 1000 + draw(60000);
	if (p->crash_in == 0 || p->hang_in == 0) {
		if (p->hang_in == 0)
			p->act_us = INT64_MAX;
		else
			die(p, chance(1) ? 65 << 8 : draw_end());
		return;
	}
	p->crash_in -= p->crash_in > 0;
	p->hang_in -= p->hang_in > 0;
	if (p->liar && chance(5) && p->channel != NULL) {
		world->lies++;
		p->channel->broken = chance(50);
		say_life(p, life[draw(4)]);
	}
	if (p->phase < 4) {
		if (p->told_to_end)
			die(p, 0);
		else
			say_life(p, life[p->phase++]);
		return;
	}
	for (int i = 0; i < p->inbox_count; i++)
		take_message(p, &p->inbox[i]);
	p->inbox_count = 0;
	if (p->told_to_end && !p->deaf_to_signals)
		die(p, 0);
	else if (p->liar && chance(20) && p->held_count > 0)
		lie(p);
	else if (p->held_count > 0)
		work(p);
}

/* ---- the jobs' side */

static void
on_advanced(struct job *job)
{
	(void)job;
}

static void
on_ended(struct job *job)
{
	if (!job_is_final(job) || job->runner != NULL)
		fault("an end that is none");
	world->ended[job->pid]++;
	if (job->in_queue)
		queue_remove(&world->queue, job);
	for (int i = 0; i < job->picture_count; i++) {
		if (job->pictures[i].fd >= 0)
			close(job->pictures[i].fd);
		job->pictures[i].fd = -1;
	}
	world->changed = true;
}

static void
on_requeued(struct job *job)
{
	if (job->runner != NULL)
		fault("a requeued job has a runner");
	queue_push_front(&world->queue, job);
	world->changed = true;
}

static void
on_overdue(struct job *job)
{
	if (job->runner != NULL)
		runner_drop_job(job->runner, job);
}

static void
submit(void)
{
	struct api_submit p = {.prompt = "a cat",
	    .has_prompt = true,
	    .has_seed = true,
	    .seed = 5,
	    .has_steps = true,
	    .has_n = true};
	struct job *job;

	if (world->job_count == JOBS)
		return;
	p.steps = 1 + draw(6);
	p.n = 1 + draw(2);
	p.priority = (int)draw(3);
	p.has_priority = true;
	p.has_exec_timeout = chance(15);
	p.exec_timeout = 0.05;
	p.has_queue_timeout = chance(10);
	p.queue_timeout = 0.5;
	job = job_new(world, &p, 0, world->job_count); /* its pid: where it is counted */
	queue_push(&world->queue, job);
	world->jobs[world->job_count++] = job;
	world->changed = true;
}

/* Something that people do. */
static void
interfere(void)
{
	static void (*const orders[])(struct runner *) = {
	    runner_start, runner_restart, runner_restart, runner_drain, runner_resume, runner_resume};
	struct runner *r = world->runners[draw(RUNNERS)];

	if (chance(65))
		submit();
	else if (chance(60) && world->job_count > 0) {
		struct job *job = world->jobs[draw((uint32_t)world->job_count)];
		struct err e;
		err_set(&e, ERR_POISONED, "one like it died");
		if (job_state(job) == JOB_QUEUED && chance(20))
			job_event_error(job, JOB_EVENT_FAULT, &e);
		else if (!job_is_final(job))
			job_event(job, JOB_EVENT_CANCEL);
	} else if (chance(80))
		orders[draw(6)](r);
	else
		runner_stop(r, chance(30));
}

/* ---- what must hold at every moment */

static bool
is_armed(const struct ev_timer *timer)
{
	for (int i = 0; i < TIMERS; i++) {
		if (world->timers[i].timer == timer)
			return true;
	}
	return false;
}

static void
look_at_job(const struct job *job)
{
	bool held = job_state(job) == JOB_DISPATCHED || job_state(job) == JOB_RUNNING;
	int places = 0;

	if (job_kind.states[job->fsm.state].clock_event >= 0 && !is_armed(&job->timer))
		fault("a job waits without a clock");
	if (job->in_queue != (job_state(job) == JOB_QUEUED))
		fault("a job is queued and not in the queue, or the other way round");
	for (int i = 0; i < RUNNERS; i++) {
		for (int k = 0; k < RUNNER_MAX_HELD; k++)
			places += world->runners[i]->held[k].job == job;
	}
	if (places != held || (job->runner != NULL) != held)
		fault("a job is held by none or by two, or by one that should not");
	if (world->ended[job->pid] != job_is_final(job))
		fault("a job has no end, or two");
	if (job->fsm.refusals > 0)
		fault("a job refused an event");
}

static void
look_at_runner(struct runner *r)
{
	const struct fsm_state *state = &runner_kind.states[r->fsm.state];
	int held = runner_held_count(r), on_device = 0;

	for (int i = 0; i < RUNNER_MAX_HELD; i++)
		on_device += r->held[i].head.job != 0 && !r->held[i].device_over;
	if (state->clock_event >= 0 && state->clock_us(r) > 0 && !is_armed(&r->timer))
		fault("a runner waits without a clock");
	if (r->pid == 0 && held > 0)
		fault("a runner without a process holds jobs");
	if ((r->fsm.state == RUNNER_BUSY || r->fsm.state == RUNNER_CANCELLING) != (held > 0) &&
	    (r->fsm.state == RUNNER_IDLE || r->fsm.state == RUNNER_BUSY ||
		r->fsm.state == RUNNER_CANCELLING || r->fsm.state == RUNNER_TESTING))
		fault("idle with jobs, or busy without");
	if (on_device > r->conf.concurrency)
		fault("more jobs on the device than it may have");
	if (r->fsm.refusals > 0 && world->lies == 0)
		fault("a runner refused an event, though nobody lied");
}

static void
look(void)
{
	for (int i = 0; i < world->job_count; i++)
		look_at_job(world->jobs[i]);
	for (int i = 0; i < RUNNERS; i++)
		look_at_runner(world->runners[i]);
}

/* ---- time */

static void
schedule(void)
{
	world->changed = false;
	world->again_us = sched_run(&world->queue, world->runners, RUNNERS);
}

static int64_t
earlier(int64_t a_us, int64_t b_us)
{
	return a_us < b_us ? a_us : b_us;
}

/* When something happens next. */
static int64_t
next_us(void)
{
	int64_t next = INT64_MAX;

	for (int i = 0; i < TIMERS; i++) {
		if (world->timers[i].timer != NULL)
			next = earlier(next, world->timers[i].due_us);
	}
	for (int i = 0; i < PROCS; i++) {
		if (world->procs[i].pid != 0 && !world->procs[i].dead)
			next = earlier(next, world->procs[i].act_us);
	}
	for (int i = 0; i < world->writing_count; i++)
		next = earlier(next, world->writing[i].due_us);
	return world->again_us > 0 ? earlier(next, world->again_us) : next;
}

static void
fire_timers(void)
{
	for (int i = 0; i < TIMERS; i++) {
		struct ev_timer *timer = world->timers[i].timer;
		if (timer == NULL || world->timers[i].due_us > now_us)
			continue;
		world->timers[i].timer = NULL;
		ev_invoke(loop, timer, EV_TIMER);
		events++;
	}
}

static void
finish_writing(void)
{
	for (int i = 0; i < world->writing_count; i++) {
		struct writing w = world->writing[i];
		struct err e;
		if (w.due_us > now_us)
			continue;
		world->writing[i--] = world->writing[--world->writing_count];
		if (job_state(w.job) != JOB_STORED)
			continue;
		err_set(&e, ERR_DISK_FULL, "full");
		if (w.full)
			job_event_error(w.job, JOB_EVENT_FAULT, &e);
		else
			job_event(w.job, JOB_EVENT_WRITTEN);
	}
}

/* Processes act; then zitd hears what they said, and of those that died. */
static void
run_processes(void)
{
	for (int i = 0; i < PROCS; i++) {
		if (world->procs[i].pid != 0 && !world->procs[i].dead && world->procs[i].act_us <= now_us)
			act(&world->procs[i]);
	}
	for (int i = 0; i < RUNNERS; i++) {
		struct runner *r = world->runners[i];
		struct proc *p = r->pid > 0 ? find_proc(r->pid) : NULL;
		if (r->channel != NULL && ev_is_active(&r->channel_io) &&
		    (r->channel->count > 0 || r->channel->broken))
			ev_invoke(loop, &r->channel_io, EV_READ);
		if (p != NULL && p->dead && ev_is_active(&r->death_io))
			ev_invoke(loop, &r->death_io, EV_READ);
	}
}

static void
advance(int64_t until_us)
{
	while (true) {
		int64_t next = next_us();
		if (next > until_us)
			break;
		now_us = next > now_us ? next : now_us;
		if (world->again_us > 0 && world->again_us <= now_us)
			world->changed = true;
		fire_timers();
		finish_writing();
		run_processes();
		if (world->changed)
			schedule();
		look();
		if (++events % 1000000000 == 0)
			fault("it never ends");
	}
	now_us = until_us;
}

/* ---- one run */

static void
set_conf(struct conf_runner *c, int i)
{
	*c = (struct conf_runner){.exec_timeout = 2,
	    .hang_timeout = 1,
	    .startretries = 3,
	    .stopsignal = SIGINT,
	    .stopwaitsecs = 2,
	    .stopwaitsecs_timeout = 0.5,
	    .concurrency = 1 + draw(3),
	    .canary_interval = chance(50) ? 1 : 0,
	    .max_jobs = chance(30) ? 1 + draw(5) : 0,
	    .max_age = chance(10) ? 3 : 0};
	snprintf(c->section_name, sizeof(c->section_name), "%d", i);
	snprintf(c->autostart, sizeof(c->autostart), "%s", chance(90) ? "true" : "false");
	snprintf(c->autorestart, sizeof(c->autorestart), "%s",
	    chance(80)	 ? "true"
	    : chance(50) ? "false"
			 : "unexpected");
}

static bool
all_final(void)
{
	for (int i = 0; i < world->job_count; i++) {
		if (!job_is_final(world->jobs[i]))
			return false;
	}
	return true;
}

/* No more harm: what is hung is found by its clock, what is waiting gets a runner, or its own clock ends it.
 */
static void
calm_down(void)
{
	world->calm = true;
	for (int i = 0; i < RUNNERS; i++) {
		runner_resume(world->runners[i]);
		if (chance(70))
			runner_start(world->runners[i]);
	}
	for (int i = 0; i < 700 && !all_final(); i++)
		advance(now_us + SECOND);
	if (!all_final())
		fault("a job does not end");
}

static bool
all_stopped(void)
{
	for (int i = 0; i < RUNNERS; i++) {
		if (runner_state(world->runners[i]) != RUNNER_STOPPED)
			return false;
	}
	return true;
}

static void
close_down(void)
{
	for (int i = 0; i < RUNNERS; i++)
		runner_stop(world->runners[i], false);
	for (int i = 0; i < 200 && !all_stopped(); i++)
		advance(now_us + SECOND);
	for (int i = 0; i < RUNNERS; i++) {
		if (runner_has_process(world->runners[i]) ||
		    runner_state(world->runners[i]) != RUNNER_STOPPED)
			fault("a runner does not stop");
		runner_free(&world->runners[i]);
	}
	for (int i = 0; i < world->job_count; i++)
		job_free(&world->jobs[i]);
	for (int i = 0; i < TIMERS; i++) {
		if (world->timers[i].timer != NULL)
			fault("a timer is left");
	}
}

static void
run_once(uint64_t seed)
{
	int fds = count_fds();

	seed_now = seed;
	random_state = seed * UINT64_C(0x9e3779b97f4a7c15);
	srandom((unsigned)seed);
	now_us = SECOND;
	next_pid = FIRST_PID;
	world = calloc(1, sizeof(*world));
	queue_init(&world->queue);
	world->conf.queue.queue_timeout = 300;
	snprintf(world->conf.zitd.orphans, sizeof(world->conf.zitd.orphans), "report");
	for (int i = 0; i < RUNNERS; i++) {
		struct conf_runner conf;
		set_conf(&conf, i);
		world->runners[i] = runner_new(world, &conf);
	}
	for (int i = (int)draw(60); i > 0; i--) {
		advance(now_us + draw(chance(10) ? 5000000 : 100000));
		interfere();
		if (world->changed)
			schedule();
		look();
	}
	calm_down();
	close_down();
	free(world);
	if (count_fds() != fds)
		fault("descriptors are left");
}

/* ---- which cells were driven */

int
__wrap_fsm_event(struct fsm *f, int event, void *detail)
{
	if (f->kind == &job_kind)
		driven_job[f->state][event] = true;
	else if (f->kind == &runner_kind)
		driven_runner[f->state][event] = true;
	return __real_fsm_event(f, event, detail);
}

void
__wrap_fsm_clock(struct fsm *f)
{
	int event = f->kind->states[f->state].clock_event;

	if (f->kind == &job_kind)
		driven_job[f->state][event] = true;
	else if (f->kind == &runner_kind)
		driven_runner[f->state][event] = true;
	__real_fsm_clock(f);
}

/* Rows that stand there for a whole group of states, and cannot be come by in this one. */
static bool
is_excepted(const struct fsm_kind *kind, int state, int event)
{
	/* what is being stopped has its planned end, which is never for good */
	return kind == &runner_kind && state == RUNNER_STOPPING && event == RUNNER_EVENT_DIED_FOR_GOOD;
}

/* Cells with a row that no run has come by. */
static int
count_missed(const struct fsm_kind *kind, const bool *driven, int *rows)
{
	int missed = 0;

	*rows = 0;
	for (int state = 0; state < kind->state_count; state++) {
		for (int event = 0; event < kind->event_count; event++) {
			bool has_row = false;
			for (size_t i = 0; i < kind->row_count; i++)
				has_row |= kind->rows[i].event == event &&
					   (kind->rows[i].states & FSM_BIT(state)) != 0;
			*rows += has_row;
			if (!has_row || driven[state * kind->event_count + event] ||
			    is_excepted(kind, state, event))
				continue;
			missed++;
			print_message("%s: never: %s on %s\n", kind->what, kind->event_names[event],
			    kind->states[state].name);
		}
	}
	return missed;
}

#ifdef __SANITIZE_ADDRESS__
static uint64_t first_seed = 1, run_count = RUNS / 5;
#else
static uint64_t first_seed = 1, run_count = RUNS;
#endif

static void
every_job_ends_once(void **state)
{
	int jobs, runners, missed;

	(void)state;
	for (uint64_t i = 0; i < run_count; i++)
		run_once(first_seed + i);
	missed = count_missed(&job_kind, &driven_job[0][0], &jobs);
	missed += count_missed(&runner_kind, &driven_runner[0][0], &runners);
	print_message(
	    "%llu runs from seed %llu, %lld events; cells with a row: jobs %d, runners %d, never driven %d\n",
	    (unsigned long long)run_count, (unsigned long long)first_seed, events, jobs, runners, missed);
	if (run_count >= RUNS)
		assert_int_equal(missed, 0);
}

static void
make_picture(void)
{
	picture_fd = memfd_create("picture", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(write(picture_fd, "x", 1), 1);
	assert_int_equal(fcntl(picture_fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK), 0);
}

int
main(int argc, char **argv)
{
	static const struct job_hooks hooks = {on_advanced, on_ended, on_requeued, on_overdue};
	const struct CMUnitTest tests[] = {cmocka_unit_test(every_job_ends_once)};

	if (argc > 1)
		first_seed = run_count = strtoull(argv[1], NULL, 10);
	if (argc > 1)
		run_count = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
	log_open("test_life", LOG_LEVEL_ERR);
	log_set_level(argc > 1 && run_count == 1 ? LOG_LEVEL_DEBUG : (enum log_level)0);
	loop = ev_loop_new(EVFLAG_NOENV);
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	make_picture();
	job_set_hooks(&hooks);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
