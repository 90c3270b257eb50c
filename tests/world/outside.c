/*
 * Shared memory, the lock, and the rest of the world, as far as it is asked.
 */
#include "supervisor/daemon_handover.h"
#include "supervisor/methods/job_record.h"
#include "supervisor/journal.h"
#include "supervisor/socket/listener.h"
#include "supervisor/upgrade.h"
#include "tests/world/world.h"

/* ---- shared memory, the lock, and the rest of the world, as far as it is asked */

int __wrap_shm_create(const struct status_page **page);
int __wrap_shm_watch(int fd, const struct status_page **page);
void __wrap_shm_detach(const struct status_page **page);
int __wrap_shm_create_checkpoint(uint64_t bytes);
int __wrap_shm_clear_checkpoint(int fd, uint64_t bytes);

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

int
__wrap_shm_watch(int fd, const struct status_page **page)
{
	const struct descriptor *d = look_up(fd, "shm_watch");

	if (d->kind != PAGE)
		violated("descriptor %d is no status page", fd);
	*page = &d->process->page;
	run.pages++;
	return 0;
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
__wrap_shm_clear_checkpoint(int fd, uint64_t bytes)
{
	struct descriptor *d = look_up(fd, "shm_clear_checkpoint");

	if (d->kind != CHECKPOINT || d->bytes != bytes)
		violated("a checkpoint of %llu bytes is cleared as one of %llu", (unsigned long long)d->bytes,
		    (unsigned long long)bytes);
	d->picture = d->step = 0;
	return is_refused(ENOMEM) ? -ERR_SYSTEM : 0;
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
runner_log_init(struct runner_log *l, struct ev_loop *loop, const struct runner *runner)
{
	*l = (struct runner_log){.loop = loop, .runner = runner, .io.fd = -1};
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

json_t *
runner_log_hand_over(const struct runner_log *l, struct handover *h)
{
	return handover_fd(h, l->io.fd);
}

void
runner_log_take_over(struct runner_log *l, const json_t *log)
{
	l->io.fd = handover_take_fd(log);
}

void
runner_log_free(struct runner_log *l)
{
	runner_log_close(l);
}

void
runner_log_excerpt(const struct runner_log *l, char *out, size_t size)
{
	snprintf(out, size, "the last line of %s", runner_conf(l->runner)->section_name);
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
NOTHING(paths_find, (struct paths *, const struct conf_zitd *))
NOTHING(clients_free, (struct clients **))
NOTHING(clients_close_listener, (struct clients *))
NOTHING(cgroup_kill, (const char *))
NOTHING(cgroup_remove, (const char *))
NOTHING(strays_open, (void))
NOTHING(notify_extend, (int64_t))
NOTHING(notify_reloading, (void))
NOTHING(notify_reloaded, (void))
NOTHING(notify_stopping, (int64_t))
NOTHING(notify_end, (void))
NOTHING(lookups_send, (struct daemon *))
ANSWER(bool, lookups_are_done, (void), true)
NOTHING(upgrade_init, (struct daemon *))
NOTHING(upgrade_turn, (struct daemon *))
ANSWER(bool, upgrade_is_trial, (const struct daemon *, pid_t), false)
NOTHING(upgrade_finish, (struct daemon *, const struct handover *))
NOTHING(notify_upgraded, (bool))
NOTHING(clients_take_over, (struct clients *, const json_t *, const char *))
ANSWER(json_t *, clients_hand_over, (const struct clients *, struct handover *), json_object())
ANSWER(int, clients_listener, (const json_t *), -1)
NOTHING(log_open, (const char *, enum log_level))
NOTHING(log_set_level, (enum log_level))
NOTHING(journal_set_form, (const char *))
NOTHING(job_facts, (const struct job *, struct journal_facts *))
NOTHING(journal_set_objects, (void (*)(const struct job *, struct journal_facts *), void (*)(const struct runner *, struct journal_facts *)))
NOTHING(journal_set_prompts, (const char *))
ANSWER(bool, log_level_parse, (const char *, enum log_level *), true)
ANSWER(int64_t, notify_watchdog_period_us, (void), WATCHDOG_US)
ANSWER(bool, cgroup_open, (void), false)
ANSWER(int, cgroup_enter_fd, (const char *), -1)
ANSWER(int, clients_count, (const struct clients *), 0)
ANSWER(bool, clients_are_flushed, (const struct clients *), odds(800)) /* somebody may not read his answer */
ANSWER(int, listener_open, (struct listener *, const char *), 0)
ANSWER(struct clients *, clients_new, (struct ev_loop *, int, const char *, const struct clients_limits *, const struct clients_world *), (struct clients *)&run)
NOTHING(clients_set_limits, (struct clients *, const struct clients_limits *))
ANSWER(const char *, disk_dir, (const struct disk *), "results")
ANSWER(bool, disk_is_alive, (struct disk *), true)
/* clang-format on */

/* Numbers have no gaps. */
void
events_tell(const struct store_event *events, int count)
{
	for (int i = 0; i < count; i++)
		if (events[i].seq != daemon_last_event(run.daemon) - count + 1 + i)
			violated("event %lld out of order", (long long)events[i].seq);
}

bool
waiters_need_files(const struct job *job)
{
	return job->durable || odds(500);
}

bool
events_make(struct store_event *event, int64_t seq, const struct job *job, enum job_state state)
{
	(void)job;
	(void)state;
	*event = (struct store_event){seq, NULL};
	return true;
}

static struct {
	void (*describe)(const void *arg, char *text, size_t size);
	const void *arg;
} status;

void
notify_open(struct ev_loop *, void (*describe)(const void *arg, char *text, size_t size), const void *arg)
{
	status.describe = describe;
	status.arg = arg;
}

/* Somebody always listens. */
void
notify_status(void)
{
	char text[NOTIFY_STATUS] = "";

	status.describe(status.arg, text, sizeof(text));
	if (text[0] == '\0')
		violated("a status without a word");
}

void
notify_ready(void)
{
	notify_status();
}

void
notify_watchdog(void)
{
	run.pinged = true;
}

void
notify_trigger(void)
{
	violated("what must hold does not");
}

int
paths_open(struct paths *p, const struct conf_zitd *, struct err *)
{
	p->lock_fd = -1;
	return 0;
}

void
journal_event(enum event event, const struct journal_facts *facts, const struct journal_place *place)
{
	static const char *const names[EVENT_COUNT] = {
#define LOG_EVENT(name, ...) #name,
#include "supervisor/journal.def"
	};

	(void)place;
	log_line(LOG_LEVEL_INFO, "%s %s %s", names[event], facts->job != NULL ? facts->job->id : "",
	    facts->detail != NULL ? facts->detail : "");
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

/* ---- the other side of zitd */

static void
clear(void)
{
}

static bool
hand_over(json_t *document)
{
	(void)document;
	return true;
}

static void
take_over(struct daemon *d, struct clients *clients, const json_t *document)
{
	(void)d;
	(void)clients;
	(void)document;
}

const struct daemon_public world_public = {
    .job_advanced = waiters_job_advanced,
    .job_saved = waiters_job_saved,
    .job_ended = waiters_job_ended,
    .job_put_off = waiters_job_put_off,
    .job_needs_files = waiters_need_files,
    .event_make = events_make,
    .events_tell = events_tell,
    .lookups_send = lookups_send,
    .lookups_are_done = lookups_are_done,
    .acks_send = acks_send,
    .job_facts = job_facts,
    .clear = clear,
    .hand_over = hand_over,
    .take_over = take_over,
};
