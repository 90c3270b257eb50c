/*
 * Faults of a card and of its memory, on a card: kernels that fail or do not end, and another process that
 * takes the memory at the worst moments. What fails the card is tests/gpu/faulty.cu; the runner is the real
 * one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/err.h"
#include "tests/unit/peer.h"

enum { SIDE = 64, PATIENCE_S = 20, SLACK_MIB = 64 };

static const char model[] = "build/golden";
static const char *runner, *faulty;

/* ---- faulty, as a child with pipes */

struct child {
	pid_t pid;
	FILE *out;
	int in; /* closing it ends a hog */
};

static struct child
child_start(const char *what, const char *argument)
{
	struct child c;
	int in[2], out[2];

	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(out), 0);
	c.pid = fork();
	if (c.pid == 0) {
		dup2(in[0], STDIN_FILENO);
		dup2(out[1], STDOUT_FILENO);
		close(in[1]);
		close(out[0]);
		execl(faulty, faulty, what, argument, NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	c.in = in[1];
	c.out = fdopen(out[0], "r");
	assert_non_null(c.out);
	return c;
}

static void
expect_line(struct child *c, const char *line)
{
	char text[64] = "";

	if (fgets(text, sizeof(text), c->out) == NULL || strncmp(text, line, strlen(line)) != 0)
		fail_msg("'%s' instead of '%s'", text, line);
}

/* Its exit status, or minus its signal. */
static int
child_end(struct child *c)
{
	int status;

	close(c->in);
	assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
	fclose(c->out);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static long
free_mib(void)
{
	struct child c = child_start("memory", NULL);
	char text[64] = "0";
	char *got = fgets(text, sizeof(text), c.out);

	assert_int_equal(child_end(&c), 0);
	assert_non_null(got);
	return atol(text);
}

/* ---- kernels that fail */

static void
test_sticky_kernels(void **state)
{
	static const char *const kinds[] = {"assert", "address"};

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct child c = child_start(kinds[i], NULL);
		expect_line(&c, "launched");
		assert_int_equal(child_end(&c), RUNNER_EXIT_STICKY);
	}
}

static void
test_hang_is_killed_and_memory_comes_back(void **state)
{
	long before = free_mib(), now = 0;
	struct child c = child_start("hang", NULL);
	int64_t begin;

	(void)state;
	expect_line(&c, "launched");
	sleep(2);
	assert_int_equal(waitpid(c.pid, NULL, WNOHANG), 0); /* it is still at it */
	kill(c.pid, SIGKILL);
	begin = clock_now_us();
	assert_int_equal(child_end(&c), -SIGKILL);
	printf("killed, reaped after %.0f ms\n", (double)(clock_now_us() - begin) * 1e-3);
	for (int i = 0; i < PATIENCE_S * 10 && now + SLACK_MIB < before; i++) {
		usleep(100 * 1000);
		now = free_mib();
	}
	printf(
	    "%ld MiB free before, %ld after %.1f s\n", before, now, (double)(clock_now_us() - begin) * 1e-6);
	assert_true(now + SLACK_MIB >= before);
}

/* ---- the runner */

static unsigned
next(struct peer *p, struct proto_msg *m)
{
	unsigned type;

	do
		type = peer_next(p, m);
	while (type == PROTO_PROGRESS || type == PROTO_LOADING || type == PROTO_ACK || type == PROTO_PICTURE);
	return type;
}

static struct peer
start_until_ready(void)
{
	struct peer p = peer_start(runner, "cuda:0", model);
	struct proto_msg m;
	unsigned type;

	while ((type = next(&p, &m)) != PROTO_READY) {
		if (type == PROTO_FATAL || type == 0)
			fail_msg("not ready: %s", type != 0 ? m.FATAL.text : "its end");
	}
	return p;
}

static void
draw(struct peer *p)
{
	struct proto_msg m = {.JOB = {SIDE, SIDE, 4, 1, 0, 0, 42, "job_x", "a cat", ""}};

	peer_say(p, PROTO_JOB, 1, m);
	assert_int_equal(next(p, &m), PROTO_DONE);
}

static void
stop(struct peer *p)
{
	struct proto_msg m;
	int status;

	peer_stop(p, true);
	assert_int_equal(next(p, &m), 0);
	status = peer_wait(p);
	shm_detach(&p->page);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* It must say that memory is what is missing, and end with 72. */
static void
check_out_of_memory(void)
{
	struct peer p = peer_start(runner, "cuda:0", model);
	struct proto_msg m;
	int status;

	while (next(&p, &m) != PROTO_FATAL)
		assert_true(m.head.type == PROTO_HELLO || m.head.type == PROTO_WARMING);
	printf("last words: %s\n", m.FATAL.text);
	assert_int_equal(m.FATAL.exit_status, RUNNER_EXIT_DEVICE_MEMORY);
	status = peer_wait(&p);
	shm_detach(&p.page);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == RUNNER_EXIT_DEVICE_MEMORY);
}

static void
test_no_memory_at_the_start(void **state)
{
	struct child hog = child_start("hog", "64");
	struct peer p;

	(void)state;
	expect_line(&hog, "hogging");
	check_out_of_memory();
	assert_int_equal(child_end(&hog), 0);
	p = start_until_ready(); /* and when it is there again, all is well */
	stop(&p);
}

/* Enough for a context, not for the scratch or the arena. */
static void
test_little_memory_at_the_start(void **state)
{
	struct child hog = child_start("hog", "640");

	(void)state;
	expect_line(&hog, "hogging");
	check_out_of_memory();
	assert_int_equal(child_end(&hog), 0);
}

static void
test_memory_taken_after_ready(void **state)
{
	struct peer p = start_until_ready();
	struct child hog = child_start("hog", "16");

	(void)state;
	expect_line(&hog, "hogging");
	draw(&p); /* all it needs is its own since READY */
	stop(&p);
	assert_int_equal(child_end(&hog), 0);
}

/* A runner is killed, and somebody takes its memory before the next one comes. */
static void
test_memory_taken_before_the_respawn(void **state)
{
	struct peer p = start_until_ready();
	struct child hog;
	int status;

	(void)state;
	kill(p.pid, SIGKILL);
	status = peer_wait(&p);
	shm_detach(&p.page);
	assert_true(WIFSIGNALED(status));
	hog = child_start("hog", "64");
	expect_line(&hog, "hogging");
	check_out_of_memory();
	assert_int_equal(child_end(&hog), 0);
	p = start_until_ready();
	draw(&p);
	stop(&p);
}

/* Until READY, or an end for want of memory with the words for it; whether it was READY. */
static bool
becomes_ready(struct peer *p)
{
	struct proto_msg m;
	unsigned type;

	while ((type = next(p, &m)) != PROTO_READY && type != PROTO_FATAL)
		assert_true(type == PROTO_HELLO || type == PROTO_WARMING);
	if (type == PROTO_FATAL)
		assert_int_equal(m.FATAL.exit_status, RUNNER_EXIT_DEVICE_MEMORY);
	return type == PROTO_READY;
}

/* The hog waits for what the dead runner held while its successor starts: that one has it or says that it is
 * not there, and nothing else. */
static void
test_memory_raced_for_at_the_respawn(void **state)
{
	struct peer p = start_until_ready(), successor;
	struct child hog = child_start("race", "16");
	int status;

	(void)state;
	expect_line(&hog, "hogging");
	kill(p.pid, SIGKILL);
	successor = peer_start(runner, "cuda:0", model);
	peer_wait(&p);
	shm_detach(&p.page);
	if (becomes_ready(&successor)) {
		printf("the successor had its memory first\n");
		draw(&successor);
		stop(&successor);
	} else {
		printf("the hog had it first\n");
		status = peer_wait(&successor);
		shm_detach(&successor.page);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == RUNNER_EXIT_DEVICE_MEMORY);
	}
	assert_int_equal(child_end(&hog), 0);
	p = start_until_ready();
	draw(&p);
	stop(&p);
}

static void
test_killed_runners_leave_nothing(void **state)
{
	long before = free_mib();

	(void)state;
	for (int i = 0; i < 3; i++) {
		struct peer p = start_until_ready();
		kill(p.pid, SIGKILL);
		peer_wait(&p);
		shm_detach(&p.page);
	}
	for (int i = 0; i < PATIENCE_S * 10 && free_mib() + SLACK_MIB < before; i++)
		usleep(100 * 1000);
	assert_true(free_mib() + SLACK_MIB >= before);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_sticky_kernels),
	    cmocka_unit_test(test_hang_is_killed_and_memory_comes_back),
	    cmocka_unit_test(test_no_memory_at_the_start),
	    cmocka_unit_test(test_little_memory_at_the_start),
	    cmocka_unit_test(test_memory_taken_after_ready),
	    cmocka_unit_test(test_memory_taken_before_the_respawn),
	    cmocka_unit_test(test_memory_raced_for_at_the_respawn),
	    cmocka_unit_test(test_killed_runners_leave_nothing),
	};

	runner = strdup(peer_program("zit-runner-cuda")); /* its memory is that of the next one */
	faulty = peer_program("cuda/faulty");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
