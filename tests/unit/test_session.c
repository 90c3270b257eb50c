/*
 * The real zit-runner on a tiny checkpoint and a CPU, with this program in zitd's place: the life it tells,
 * jobs, cancels, stops, and what it answers to a zitd that breaks the rules. Faults come from outside:
 * signals, limits, bad packets, a closed socket.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "build_id.h"
#include "ipc/err.h"
#include "tests/unit/peer.h"

enum { SIDE = 64 };

static const char model[] = "build/golden";
static const char *program; /* zit-runner */

/* The exit status of a process that ends by itself. */
static int
exit_status(struct peer *p)
{
	int status = peer_wait(p);

	if (!WIFEXITED(status))
		fail_msg("ended by signal %d", WTERMSIG(status));
	return WEXITSTATUS(status);
}

static unsigned
next(struct peer *p, struct proto_msg *m)
{
	unsigned type = peer_next(p, m);

	if (type != 0)
		assert_int_equal(m->head.generation, PEER_GENERATION);
	return type;
}

/* Skips PROGRESS (and LOADING) until something else comes, which must be of that type (0: the end). */
static void
expect(struct peer *p, struct proto_msg *m, unsigned type)
{
	unsigned got;

	do
		got = next(p, m);
	while ((got == PROTO_PROGRESS || got == PROTO_LOADING) && got != type);
	if (got != type)
		fail_msg("%s instead of %s%s%s", got != 0 ? proto_name(got) : "the end",
		    type != 0 ? proto_name(type) : "the end", got == PROTO_FATAL ? ": " : "",
		    got == PROTO_FATAL ? m->FATAL.text : "");
}

static struct proto_msg
job_message(int side, int steps, int count, const char *prompt)
{
	return (struct proto_msg){.JOB = {(uint32_t)side, (uint32_t)side, (uint32_t)steps, (uint32_t)count, 0,
				      0, 42, "job_x", prompt, ""}};
}

static void
give(struct peer *p, uint64_t job, int side, int steps, int count, const char *prompt)
{
	peer_say(p, PROTO_JOB, job, job_message(side, steps, count, prompt));
}

static struct peer
start(void)
{
	struct peer p = peer_start(program, "cpu", model);
	struct proto_msg m;

	expect(&p, &m, PROTO_HELLO);
	expect(&p, &m, PROTO_WARMING);
	expect(&p, &m, PROTO_READY);
	return p;
}

static void
wait_for_step(struct peer *p, uint64_t job)
{
	struct proto_msg m;

	do {
		unsigned type = next(p, &m);
		assert_true(type == PROTO_ACK || type == PROTO_PROGRESS);
	} while (m.head.type != PROTO_PROGRESS || m.head.job != job || m.PROGRESS.step == 0);
}

static void
stop_and_end(struct peer *p)
{
	struct proto_msg m;

	peer_stop(p, true);
	expect(p, &m, 0);
	assert_int_equal(exit_status(p), 0);
	shm_detach(&p->page);
}

/* ---- tests: what goes well */

static void
life_is_told_in_order(void **state)
{
	struct peer p = peer_start(program, "cpu", model);
	struct proto_msg m;
	uint64_t done = 0, total = 1;

	(void)state;
	assert_int_equal(next(&p, &m), PROTO_HELLO);
	assert_int_equal(m.HELLO.version, PROTO_VERSION);
	assert_int_equal(m.HELLO.pid, p.pid);
	assert_string_equal(m.HELLO.build, ZIT_BUILD);
	while (next(&p, &m) == PROTO_LOADING) {
		assert_true(m.LOADING.done_bytes > done || done == 0);
		done = m.LOADING.done_bytes;
		total = m.LOADING.total_bytes;
	}
	assert_int_equal(done, total);
	assert_int_equal(m.head.type, PROTO_WARMING);
	assert_int_equal(next(&p, &m), PROTO_READY);
	assert_string_equal(m.READY.model, "golden");
	assert_non_null(strstr(m.READY.device, "cpu"));
	assert_true(m.READY.default_side >= 16 && m.READY.default_side <= m.READY.max_side);
	assert_true(m.READY.max_pixels >= (uint64_t)m.READY.default_side * m.READY.default_side);
	stop_and_end(&p);
}

static void
assert_sound_picture(const struct peer *p, const struct proto_msg *m, uint32_t picture)
{
	const int wanted = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK;
	uint8_t head[24];
	struct stat st;

	assert_int_equal(m->PICTURE.picture, picture);
	assert_int_equal(m->PICTURE.seed, 42 + picture);
	assert_int_equal(fcntl(p->got_fd, F_GET_SEALS) & wanted, wanted);
	assert_int_equal(fstat(p->got_fd, &st), 0);
	assert_int_equal(st.st_size, m->PICTURE.bytes);
	assert_int_equal(pread(p->got_fd, head, sizeof(head), 0), sizeof(head));
	assert_memory_equal(head, "\x89PNG\r\n\x1a\n", 8);
	assert_int_equal(head[19], SIDE);
	assert_int_equal(head[23], SIDE);
}

/* Steps 0, 1, 2, 3 of each picture are told, and its stages in order. */
static void
every_step_is_told(void **state)
{
	struct peer p = start();
	struct proto_msg m;
	uint32_t stage = STAGE_NONE, steps[2] = {0, 0}, pictures = 0;

	(void)state;
	give(&p, 1, SIDE, 3, 2, "a cat");
	assert_int_equal(next(&p, &m), PROTO_ACK);
	while (next(&p, &m) != PROTO_DONE) {
		const struct proto_PROGRESS *f = &m.PROGRESS;
		assert_int_equal(m.head.job, 1);
		assert_int_equal(m.head.attempt, 1);
		if (m.head.type == PROTO_PICTURE) {
			assert_sound_picture(&p, &m, pictures++);
			continue;
		}
		assert_int_equal(m.head.type, PROTO_PROGRESS);
		assert_true(f->picture < 2);
		assert_int_equal(f->steps, 3);
		assert_true(f->stage >= stage || f->stage == STAGE_TEXT);
		stage = f->stage;
		if (stage == STAGE_DENOISE && f->step > 0)
			assert_int_equal(f->step, ++steps[f->picture]);
	}
	assert_int_equal(steps[0], 3);
	assert_int_equal(steps[1], 3);
	assert_int_equal(pictures, 2);
	assert_true(m.DONE.tokens > 1);
	assert_int_equal(m.DONE.truncated, 0);
	assert_true(
	    m.DONE.tokenize_s >= 0 && m.DONE.text_s > 0 && m.DONE.denoise_s > 0 && m.DONE.decode_s > 0 &&
	    m.DONE.png_s > 0); /* a short prompt is in tokens within the clock's microsecond, perhaps */
	stop_and_end(&p);
}

static void
status_page_follows_the_job(void **state)
{
	struct peer p = start();
	struct proto_msg m;
	struct status_page page;

	(void)state;
	give(&p, 9, SIDE, 100, 1, "a cat");
	wait_for_step(&p, 9);
	shm_read(p.page, &page);
	assert_int_equal(page.job, 9);
	assert_int_equal(page.stage, STAGE_DENOISE);
	assert_true(page.step >= 1 && page.step <= 100);
	assert_true(page.worked_us > 0 && page.peak_memory_bytes > 1 << 20);
	peer_say(&p, PROTO_CANCEL, 9, (struct proto_msg){.CANCEL = {ERR_CANCELLED}});
	expect(&p, &m, PROTO_STOPPED);
	stop_and_end(&p);
}

static void
jobs_own_faults_fail_the_job_alone(void **state)
{
	char *words = calloc(1, 601 * 2);
	const struct {
		struct proto_msg m;
		enum err_code code;
	} rows[] = {
	    {job_message(72, 1, 1, "x"), ERR_INVALID_PARAM},
	    {job_message(0, 1, 1, "x"), ERR_INVALID_PARAM},
	    {job_message(SIDE, 0, 1, "x"), ERR_INVALID_PARAM},
	    {job_message(SIDE, 1 << 30, 1, "x"), ERR_INVALID_PARAM},
	    {job_message(16384, 1, 1, "x"), ERR_TOO_BIG},
	    {job_message(SIDE, 1, 1, words), ERR_PROMPT_TOO_LONG},
	};
	struct peer p = start();
	struct proto_msg m;

	(void)state;
	for (int i = 0; i < 600; i++)
		memcpy(words + i * 2, "1 ", 2);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		peer_say(&p, PROTO_JOB, i + 1, rows[i].m);
		expect(&p, &m, PROTO_ACK);
		expect(&p, &m, PROTO_FAILED);
		assert_int_equal(m.head.job, i + 1);
		assert_string_equal(err_row((int)m.FAILED.code)->name, err_row(rows[i].code)->name);
		assert_true(strlen(m.FAILED.text) > 0);
	}
	give(&p, 100, SIDE, 1, 1, "a cat");
	expect(&p, &m, PROTO_ACK);
	expect(&p, &m, PROTO_PICTURE);
	expect(&p, &m, PROTO_DONE);
	stop_and_end(&p);
	free(words);
}

static void
prompt_is_cut_when_asked(void **state)
{
	char *words = calloc(1, 601 * 2);
	struct peer p = start();
	struct proto_msg m;

	(void)state;
	for (int i = 0; i < 600; i++)
		memcpy(words + i * 2, "1 ", 2);
	m = job_message(32, 1, 1, words);
	m.JOB.truncate = 1;
	peer_say(&p, PROTO_JOB, 1, m);
	expect(&p, &m, PROTO_ACK);
	expect(&p, &m, PROTO_PICTURE);
	expect(&p, &m, PROTO_DONE);
	assert_int_equal(m.DONE.tokens, 512);
	assert_int_equal(m.DONE.truncated, 1);
	stop_and_end(&p);
	free(words);
}

/* ---- cancelling */

static void
cancelled_job_stops_at_the_next_step(void **state)
{
	struct peer p = start();
	struct proto_msg m;

	(void)state;
	give(&p, 1, SIDE, 100, 1, "a cat");
	wait_for_step(&p, 1);
	peer_say(&p, PROTO_CANCEL, 1, (struct proto_msg){.CANCEL = {ERR_CANCELLED}});
	expect(&p, &m, PROTO_STOPPED);
	assert_int_equal(m.head.job, 1);
	assert_true(m.STOPPED.step >= 1 && m.STOPPED.step < 100);
	give(&p, 2, SIDE, 1, 1, "a dog");
	expect(&p, &m, PROTO_ACK); /* and nothing more of job 1 */
	assert_int_equal(m.head.job, 2);
	expect(&p, &m, PROTO_PICTURE);
	assert_int_equal(m.head.job, 2);
	expect(&p, &m, PROTO_DONE);
	stop_and_end(&p);
}

/* The cancel reaches it with a picture at the encoder: that is dropped, and the encoder has room again. What
 * is sent is either all of the job or, most times, STOPPED and nothing more. */
static void
cancel_while_encoding_drops_the_picture(void **state)
{
	struct peer p = start();
	struct proto_msg m;
	int stopped = 0;

	(void)state;
	for (uint64_t job = 1; job <= 20; job++) {
		give(&p, job, 128, 1, 1, "a cat");
		do {
			assert_int_not_equal(next(&p, &m), 0);
			assert_int_equal(m.head.job, job);
			if (m.head.type == PROTO_PROGRESS && m.PROGRESS.stage == STAGE_ENCODE)
				peer_say(
				    &p, PROTO_CANCEL, job, (struct proto_msg){.CANCEL = {ERR_CANCELLED}});
		} while (m.head.type != PROTO_STOPPED && m.head.type != PROTO_DONE);
		stopped += m.head.type == PROTO_STOPPED;
	}
	print_message("%d of 20 cancels overtook the encoder\n", stopped);
	stop_and_end(&p);
}

static void
cancel_of_one_of_two_leaves_the_other(void **state)
{
	struct peer p = start();
	struct proto_msg m;

	(void)state;
	give(&p, 1, SIDE, 100, 1, "first");
	give(&p, 2, SIDE, 100, 1, "second");
	expect(&p, &m, PROTO_ACK);
	expect(&p, &m, PROTO_ACK);
	wait_for_step(&p, 1);
	peer_say(&p, PROTO_CANCEL, 2, (struct proto_msg){.CANCEL = {ERR_CANCELLED}});
	expect(&p, &m, PROTO_STOPPED);
	assert_int_equal(m.head.job, 2);
	assert_in_range(m.STOPPED.step, 0, 99); /* they take turns */
	wait_for_step(&p, 1);
	peer_say(&p, PROTO_CANCEL, 1, (struct proto_msg){.CANCEL = {ERR_CANCELLED}});
	expect(&p, &m, PROTO_STOPPED);
	assert_int_equal(m.head.job, 1);
	stop_and_end(&p);
}

static void
cancel_of_an_unknown_job_is_passed_over(void **state)
{
	struct peer p = start();
	struct proto_msg m;

	(void)state;
	peer_say(&p, PROTO_CANCEL, 77, (struct proto_msg){.CANCEL = {ERR_CANCELLED}});
	give(&p, 1, SIDE, 1, 1, "a cat");
	expect(&p, &m, PROTO_ACK);
	expect(&p, &m, PROTO_PICTURE);
	expect(&p, &m, PROTO_DONE);
	stop_and_end(&p);
}

/* ---- making way */

static void
say_about(struct peer *p, unsigned type, uint64_t job)
{
	peer_say(p, type, job, (struct proto_msg){.head = {0}});
}

/* The next unit is the newcomer's, and all others until its end; then the first goes on where it stood. */
static void
suspended_job_stays_where_it_is(void **state)
{
	struct peer p = start();
	struct proto_msg m;
	uint32_t step;

	(void)state;
	give(&p, 1, SIDE, 100, 1, "a cat");
	wait_for_step(&p, 1);
	say_about(&p, PROTO_SUSPEND, 1);
	give(&p, 2, SIDE, 3, 1, "a dog");
	expect(&p, &m, PROTO_SUSPENDED);
	assert_int_equal(m.head.job, 1);
	step = m.SUSPENDED.step;
	assert_in_range(step, 1, 99);
	do {
		next(&p, &m);
		assert_int_equal(m.head.job, 2);
	} while (m.head.type != PROTO_DONE);
	say_about(&p, PROTO_RESUME, 1);
	assert_int_equal(next(&p, &m), PROTO_PROGRESS);
	assert_int_equal(m.head.job, 1);
	assert_int_equal(m.PROGRESS.step, step + 1);
	say_about(&p, PROTO_CANCEL, 1);
	expect(&p, &m, PROTO_STOPPED);
	stop_and_end(&p);
}

/* One that has not begun yet, and one that is cancelled while it waits; the runner is idle then. */
static void
suspended_jobs_are_cancelled_at_once(void **state)
{
	struct peer p = start();
	struct proto_msg m;

	(void)state;
	give(&p, 1, SIDE, 100, 1, "a cat");
	wait_for_step(&p, 1);
	say_about(&p, PROTO_SUSPEND, 1);
	expect(&p, &m, PROTO_SUSPENDED);
	give(&p, 2, SIDE, 100, 1, "a dog");
	say_about(&p, PROTO_SUSPEND, 2);
	expect(&p, &m, PROTO_ACK);
	expect(&p, &m, PROTO_SUSPENDED);
	assert_int_equal(m.head.job, 2);
	for (uint64_t job = 1; job <= 2; job++) {
		say_about(&p, PROTO_CANCEL, job);
		assert_int_equal(next(&p, &m), PROTO_STOPPED);
		assert_int_equal(m.head.job, job);
	}
	stop_and_end(&p);
}

static void
suspend_of_an_unknown_job_is_passed_over(void **state)
{
	struct peer p = start();
	struct proto_msg m;

	(void)state;
	say_about(&p, PROTO_SUSPEND, 5);
	say_about(&p, PROTO_RESUME, 5);
	give(&p, 6, SIDE, 1, 1, "a cat");
	assert_int_equal(next(&p, &m), PROTO_ACK);
	expect(&p, &m, PROTO_PICTURE);
	expect(&p, &m, PROTO_DONE);
	stop_and_end(&p);
}

/* ---- stopping */

static void
stop_finishes_what_is_held(void **state)
{
	struct peer p = start();
	struct proto_msg m;

	(void)state;
	give(&p, 1, SIDE, 2, 2, "a cat");
	give(&p, 2, SIDE, 2, 1, "a dog");
	peer_stop(&p, true);
	for (int pictures = 0, done = 0; done < 2;) {
		unsigned type = next(&p, &m);
		pictures += type == PROTO_PICTURE;
		done += type == PROTO_DONE;
		assert_int_not_equal(type, 0);
		assert_true(done < 2 || pictures == 3);
	}
	expect(&p, &m, 0);
	assert_int_equal(exit_status(&p), 0);
	shm_detach(&p.page);
}

static void
send_stop(struct peer *p)
{
	peer_stop(p, false);
}

static void
send_int(struct peer *p)
{
	kill(p->pid, SIGINT);
}

static void
send_term(struct peer *p)
{
	kill(p->pid, SIGTERM);
}

static void
hang_up(struct peer *p)
{
	channel_free(&p->channel);
}

static void (*const ways_to_stop[])(struct peer *p) = {send_stop, send_int, send_term, hang_up};

enum { WAYS = sizeof(ways_to_stop) / sizeof(ways_to_stop[0]) };

static void
every_way_to_stop_ends_a_busy_runner(void **state)
{
	(void)state;
	for (int i = 0; i < WAYS; i++) {
		struct peer p = start();
		give(&p, 1, SIDE, 100, 1, "a cat");
		wait_for_step(&p, 1);
		ways_to_stop[i](&p);
		assert_int_equal(exit_status(&p), 0);
		shm_detach(&p.page);
	}
}

static void
every_way_to_stop_ends_an_idle_runner(void **state)
{
	(void)state;
	for (int i = 0; i < WAYS; i++) {
		struct peer p = start();
		ways_to_stop[i](&p);
		assert_int_equal(exit_status(&p), 0);
		shm_detach(&p.page);
	}
}

static void
every_way_to_stop_ends_a_loading_runner(void **state)
{
	(void)state;
	for (int i = 0; i < WAYS; i++) {
		struct peer p = peer_start(program, "cpu", model);
		struct proto_msg m;
		expect(&p, &m, PROTO_HELLO);
		ways_to_stop[i](&p);
		assert_int_equal(exit_status(&p), 0);
		shm_detach(&p.page);
	}
}

/* ---- a zitd that breaks the rules, and other ends */

/* FATAL, the same words on the page, and the status. */
static void
assert_fatal(struct peer *p, int status, const char *word)
{
	struct proto_msg m;
	struct status_page page;

	do
		assert_int_not_equal(next(p, &m), 0);
	while (m.head.type != PROTO_FATAL);
	assert_int_equal(m.FATAL.exit_status, status);
	if (strstr(m.FATAL.text, word) == NULL)
		fail_msg("'%s' does not name '%s'", m.FATAL.text, word);
	shm_read(p->page, &page);
	assert_string_equal(page.last_words, m.FATAL.text);
	assert_int_equal(exit_status(p), status);
	shm_detach(&p->page);
}

static void
send_garbage(struct peer *p)
{
	assert_int_equal(send(channel_fd(p->channel), "garbage", 7, 0), 7);
}

static void
send_huge_packet(struct peer *p)
{
	uint8_t *bytes = calloc(1, PROTO_MAX_BYTES + 1);

	assert_int_equal(send(channel_fd(p->channel), bytes, PROTO_MAX_BYTES + 1, 0), PROTO_MAX_BYTES + 1);
	free(bytes);
}

static void
send_runners_message(struct peer *p)
{
	struct proto_msg m = {.head.type = PROTO_WARMING};
	uint8_t packet[64];
	int count = proto_pack(&m, packet, sizeof(packet));

	assert_int_equal(send(channel_fd(p->channel), packet, (size_t)count, 0), count);
}

static void
send_job_twice(struct peer *p)
{
	give(p, 1, SIDE, 100, 1, "a cat");
	give(p, 1, SIDE, 100, 1, "a cat");
}

static void
send_job_without_pictures(struct peer *p)
{
	give(p, 1, SIDE, 1, 0, "a cat");
}

static void
send_job_of_huge_numbers(struct peer *p)
{
	struct proto_msg m = job_message(SIDE, 1, 1, "a cat");

	m.JOB.width = UINT32_MAX;
	peer_say(p, PROTO_JOB, 1, m);
}

static void
send_job_of_another_generation(struct peer *p)
{
	struct proto_msg m = job_message(SIDE, 1, 1, "a cat");

	m.head.generation = PEER_GENERATION - 1;
	peer_say(p, PROTO_JOB, 1, m);
}

static void
send_job_after_stop(struct peer *p)
{
	give(p, 1, SIDE, 100, 1, "a cat");
	peer_stop(p, true);
	give(p, 2, SIDE, 1, 1, "a cat");
}

static void
send_too_many_jobs(struct peer *p)
{
	for (uint64_t job = 1; job <= 17; job++)
		give(p, job, SIDE, 100, 1, "a cat");
}

static void
broken_rules_end_the_process_with_their_name(void **state)
{
	static const struct {
		void (*act)(struct peer *p);
		const char *word;
	} rows[] = {
	    {send_garbage, "not a message"},
	    {send_huge_packet, "not a message"},
	    {send_runners_message, "not a message"},
	    {send_job_twice, "held already"},
	    {send_job_without_pictures, "numbers"},
	    {send_job_of_huge_numbers, "numbers"},
	    {send_job_of_another_generation, "generation 6"},
	    {send_job_after_stop, "after STOP"},
	    {send_too_many_jobs, "more JOBs"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct peer p = start();
		rows[i].act(&p);
		assert_fatal(&p, RUNNER_EXIT_PROTOCOL, rows[i].word);
	}
}

static void
job_before_ready_is_against_the_rules(void **state)
{
	struct peer p = peer_start(program, "cpu", model);

	(void)state;
	give(&p, 1, SIDE, 1, 1, "a cat");
	assert_fatal(&p, RUNNER_EXIT_PROTOCOL, "JOB before READY");
}

/* The memory file of a picture cannot grow: the machine is out of memory, the job is not to blame. */
static void
full_memory_file_ends_the_process(void **state)
{
	struct rlimit limit = {100, RLIM_INFINITY};
	struct peer p = start();

	(void)state;
	assert_int_equal(prlimit(p.pid, RLIMIT_FSIZE, &limit, NULL), 0);
	give(&p, 1, SIDE, 1, 1, "a cat");
	assert_fatal(&p, RUNNER_EXIT_HOST_MEMORY, "cannot be written");
}

/* No more address space: whatever is asked for first is named, and a new process may fare better. */
static void
memory_that_runs_out_ends_the_process(void **state)
{
	struct rlimit limit = {1 << 20, RLIM_INFINITY};
	struct peer p;
	struct proto_msg m;
	int status;

	(void)state;
	if (strstr(program, "build-san") != NULL)
		skip(); /* ASAN itself ends when it gets no memory */
	p = start();
	assert_int_equal(prlimit(p.pid, RLIMIT_AS, &limit, NULL), 0);
	give(&p, 1, 256, 2, 1, "a cat");
	do
		assert_int_not_equal(next(&p, &m), 0);
	while (m.head.type != PROTO_FATAL);
	print_message("%s\n", m.FATAL.text);
	status = exit_status(&p);
	assert_true(status == RUNNER_EXIT_HOST_MEMORY || status == RUNNER_EXIT_DEVICE_MEMORY);
	assert_int_equal(m.FATAL.exit_status, status);
	shm_detach(&p.page);
}

static void
missing_model_and_device_are_told(void **state)
{
	static const struct {
		const char *device, *dir;
		int status;
		const char *word;
	} rows[] = {
	    {"ref", "build/no-such-model", RUNNER_EXIT_WEIGHTS, "no-such-model"},
	    {"abacus", "build/golden", RUNNER_EXIT_NO_DEVICE, "abacus"},
	    {"ref:x", "build/golden", RUNNER_EXIT_NO_DEVICE, "index"},
	    {"ref:-1", "build/golden", RUNNER_EXIT_NO_DEVICE, "index"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct peer p = peer_start(program, rows[i].device, rows[i].dir);
		assert_fatal(&p, rows[i].status, rows[i].word);
	}
}

/* ---- command lines */

enum { NOTHING, SOCKET, PAGE }; /* what is at descriptors 3 and 4 */

static int
open_as(int kind)
{
	const struct status_page *page = NULL;
	int ends[2], fd;

	if (kind == SOCKET) {
		assert_int_equal(channel_pair(ends), 0);
		return ends[1]; /* the other end leaks, so that it is not a closed one */
	}
	fd = kind == PAGE ? shm_create(&page) : open("/dev/null", O_RDWR | O_CLOEXEC);
	shm_detach(&page);
	return fd;
}

static void
wrong_command_lines_are_refused(void **state)
{
	static const struct {
		int status, channel, page;
		const char *arguments[10];
	} rows[] = {
	    {64, SOCKET, PAGE, {NULL}},
	    {64, SOCKET, PAGE, {"--model", "m", NULL}},
	    {64, SOCKET, PAGE, {"--channel", "x", NULL}},
	    {64, SOCKET, PAGE, {"--nonsense", NULL}},
	    {64, SOCKET, PAGE, {"--channel", "3", "--status", "4", "--model", "m", "word", NULL}},
	    {64, SOCKET, PAGE, {"--channel", "3", "--status", "4", "--model", "\xff", NULL}},
	    {64, SOCKET, PAGE,
		{"--channel", "3", "--status", "4", "--model", "m", "--precision", "f8", NULL}},
	    {64, SOCKET, PAGE,
		{"--channel", "3", "--status", "4", "--model", "m", "--kernels", "fast", NULL}},
	    {64, SOCKET, PAGE,
		{"--channel", "3", "--status", "4", "--model", "m", "--text-encoder", "host", NULL}},
	    {64, SOCKET, PAGE, {"--channel", "3", "--status", "4", "--model", "m", "--threads", "-1", NULL}},
	    {64, NOTHING, PAGE, {"--channel", "3", "--status", "4", "--model", "m", NULL}},
	    {76, SOCKET, NOTHING, {"--channel", "3", "--status", "4", "--model", "m", NULL}},
	    {0, NOTHING, NOTHING, {"--version", NULL}},
	    {0, NOTHING, NOTHING, {"--help", NULL}},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char *argv[PEER_MAX_ARGUMENTS] = {(char *)program};
		int channel = open_as(rows[i].channel), page = open_as(rows[i].page), status;
		for (int k = 0; rows[i].arguments[k] != NULL; k++)
			argv[k + 1] = (char *)rows[i].arguments[k];
		waitpid(peer_spawn(program, channel, page, argv), &status, 0);
		if (!WIFEXITED(status) || WEXITSTATUS(status) != rows[i].status)
			fail_msg("row %zu: wait status 0x%x instead of exit %d", i, status, rows[i].status);
		close(channel);
		close(page);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(life_is_told_in_order),
	    cmocka_unit_test(every_step_is_told),
	    cmocka_unit_test(status_page_follows_the_job),
	    cmocka_unit_test(jobs_own_faults_fail_the_job_alone),
	    cmocka_unit_test(prompt_is_cut_when_asked),
	    cmocka_unit_test(cancelled_job_stops_at_the_next_step),
	    cmocka_unit_test(cancel_while_encoding_drops_the_picture),
	    cmocka_unit_test(cancel_of_one_of_two_leaves_the_other),
	    cmocka_unit_test(cancel_of_an_unknown_job_is_passed_over),
	    cmocka_unit_test(suspended_job_stays_where_it_is),
	    cmocka_unit_test(suspended_jobs_are_cancelled_at_once),
	    cmocka_unit_test(suspend_of_an_unknown_job_is_passed_over),
	    cmocka_unit_test(stop_finishes_what_is_held),
	    cmocka_unit_test(every_way_to_stop_ends_a_busy_runner),
	    cmocka_unit_test(every_way_to_stop_ends_an_idle_runner),
	    cmocka_unit_test(every_way_to_stop_ends_a_loading_runner),
	    cmocka_unit_test(broken_rules_end_the_process_with_their_name),
	    cmocka_unit_test(job_before_ready_is_against_the_rules),
	    cmocka_unit_test(full_memory_file_ends_the_process),
	    cmocka_unit_test(memory_that_runs_out_ends_the_process),
	    cmocka_unit_test(missing_model_and_device_are_told),
	    cmocka_unit_test(wrong_command_lines_are_refused),
	};

	program = peer_program("zit-runner");
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
