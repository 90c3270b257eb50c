/*
 * zit-runner-cuda as zitd sees it, on the emulated device (tests/emul): what --probe says with and without
 * devices, a whole life, and how it ends when the device fails. And the real one here: where there is no
 * driver it must say so.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/err.h"
#include "tests/unit/peer.h"

enum { SIDE = 16, ILLEGAL_ADDRESS = 700, OUT_OF_MEMORY = 2 };

/* With sanitizers a life takes ten seconds here; tests of many lives run code that the others run too. */
#ifdef __SANITIZE_ADDRESS__
enum { LIVES_ARE_LONG = 1 };
#else
enum { LIVES_ARE_LONG = 0 };
#endif

static const char model[] = "build/golden-a"; /* the smallest */
static const char *emulated;

/* ---- --probe */

/* What `program --probe` prints, and its exit status. */
static json_t *
probe(const char *program, int *status)
{
	char command[600];
	json_error_t e;
	json_t *answer;
	FILE *pipe;

	snprintf(command, sizeof(command), "%s --probe", program);
	pipe = popen(command, "r");
	assert_non_null(pipe);
	answer = json_loadf(pipe, 0, &e);
	*status = WEXITSTATUS(pclose(pipe));
	if (answer == NULL)
		fail_msg("%s prints no JSON: %s", command, e.text);
	return answer;
}

static void
test_probe_lists_devices(void **state)
{
	int status;
	json_t *answer, *second;

	(void)state;
	setenv("EMUL_DEVICES", "2", 1);
	answer = probe(emulated, &status);
	unsetenv("EMUL_DEVICES");
	second = json_array_get(json_object_get(answer, "devices"), 1);
	assert_int_equal(status, 0);
	assert_int_equal(json_array_size(json_object_get(answer, "devices")), 2);
	assert_string_equal(json_string_value(json_object_get(second, "device")), "cuda:1");
	assert_string_equal(
	    json_string_value(json_object_get(second, "uuid")), "GPU-00112233-4455-6677-8899-aabbccddee01");
	assert_string_equal(json_string_value(json_object_get(second, "name")), "emulated device");
	assert_string_equal(json_string_value(json_object_get(second, "compute_capability")), "9.0");
	assert_int_equal(json_integer_value(json_object_get(second, "memory_bytes")), 1 << 30);
	json_decref(answer);
}

/* No device: 77 and a reason with these words. */
static void
check_no_device(const char *program, const char *words)
{
	int status;
	json_t *answer = probe(program, &status);
	const char *reason = json_string_value(json_object_get(answer, "reason"));

	assert_int_equal(status, RUNNER_EXIT_NO_DEVICE);
	assert_int_equal(json_array_size(json_object_get(answer, "devices")), 0);
	if (reason == NULL || strstr(reason, words) == NULL)
		fail_msg("the reason is '%s', not '%s'", reason, words);
	json_decref(answer);
}

static const struct {
	const char *variable, *value, *words;
} no_devices[] = {
    {"EMUL_DRIVER", "0", "no driver"},
    {"EMUL_DRIVER", "12040", "the driver is too old: it is for CUDA 12.4"},
    {"EMUL_DEVICES", "0", "no device is visible"},
};

static void
test_probe_says_why_there_is_none(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(no_devices) / sizeof(no_devices[0]); i++) {
		setenv(no_devices[i].variable, no_devices[i].value, 1);
		check_no_device(emulated, no_devices[i].words);
		unsetenv(no_devices[i].variable);
	}
	check_no_device(peer_program("zit-runner"), "no devices of backend 'cuda'");
}

static void
test_probe_says_which_cannot_be_used(void **state)
{
	int status;
	json_t *answer;
	const char *own, *all;

	(void)state;
	setenv("EMUL_MAJOR", "7", 1);
	answer = probe(emulated, &status);
	unsetenv("EMUL_MAJOR");
	own = json_string_value(
	    json_object_get(json_array_get(json_object_get(answer, "devices"), 0), "reason"));
	all = json_string_value(json_object_get(answer, "reason"));
	assert_int_equal(status, RUNNER_EXIT_NO_DEVICE);
	if (own == NULL || all == NULL || strcmp(own, all) != 0 || strstr(own, "too old") == NULL)
		fail_msg("the reasons are '%s' and '%s'", own, all);
	json_decref(answer);
}

static void
test_probe_without_a_driver(void **state)
{
	const char *program = peer_program("zit-runner-cuda");

	(void)state;
	if (access(program, X_OK) != 0 || access("/dev/nvidiactl", F_OK) == 0)
		skip(); /* not built, or there is a driver */
	check_no_device(program, "no driver");
}

/* ---- a life */

/* Whose usual size is SIDE, too, so that it is soon warm. */
static struct peer
start(void)
{
	return peer_start_with(emulated, "cuda:0", model, "--max-pixels", "256");
}

/* Skips PROGRESS, LOADING, ACK and PICTURE. */
static unsigned
next(struct peer *p, struct proto_msg *m)
{
	unsigned type;

	do
		type = peer_next(p, m);
	while (type == PROTO_PROGRESS || type == PROTO_LOADING || type == PROTO_ACK || type == PROTO_PICTURE);
	return type;
}

static int
exit_status(struct peer *p)
{
	int status = peer_wait(p);

	shm_detach(&p->page);
	if (!WIFEXITED(status))
		fail_msg("ended by signal %d", WTERMSIG(status));
	return WEXITSTATUS(status);
}

static void
give(struct peer *p, int side, int steps)
{
	struct proto_msg m = {
	    .JOB = {(uint32_t)side, (uint32_t)side, (uint32_t)steps, 1, 0, 0, 42, "job_x", "a cat", ""}};

	peer_say(p, PROTO_JOB, 1, m);
}

/* Standard error of processes started from here on goes to a file that has no name; returns what it was. */
static int
catch_log(FILE *log)
{
	int before = dup(STDERR_FILENO);

	assert_true(before >= 0 && dup2(fileno(log), STDERR_FILENO) >= 0);
	return before;
}

/* All of it; closes it. */
static void
read_log(FILE *log, char *text, size_t size)
{
	size_t length;

	rewind(log);
	length = fread(text, 1, size - 1, log);
	text[length] = '\0';
	fclose(log);
}

/* What this process takes of the device's memory after READY: nothing. What the driver takes for recorded
 * steps: that of the usual size is recorded before, another's is not. */
static void
test_life_without_new_memory(void **state)
{
	static const struct {
		int side;
		long taken_mib;
	} rows[] = {{SIDE, 0}, {SIDE / 2, 3}};
	struct proto_msg m;
	char text[4096];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		FILE *log = tmpfile();
		int before = catch_log(log);
		struct peer p = start();
		const char *figures;
		dup2(before, STDERR_FILENO);
		close(before);
		assert_int_equal(next(&p, &m), PROTO_HELLO);
		assert_int_equal(next(&p, &m), PROTO_WARMING);
		assert_int_equal(next(&p, &m), PROTO_READY);
		assert_non_null(strstr(m.READY.device, "emulated device"));
		give(&p, rows[i].side, 3);
		assert_int_equal(next(&p, &m), PROTO_DONE);
		peer_stop(&p, true);
		assert_int_equal(next(&p, &m), 0);
		assert_int_equal(exit_status(&p), 0);
		read_log(log, text, sizeof(text));
		figures = strstr(text, " before READY, 0 after; of the device ");
		if (figures == NULL ||
		    atol(figures + 38) - atol(strstr(figures, "free, ") + 6) != rows[i].taken_mib)
			fail_msg("its log is: %s", text);
	}
}

/* What a picture was begun with is in the device's name, so it is not resumed with other kernels. */
static void
test_portable_kernels_are_told(void **state)
{
	struct peer p = peer_start_with(emulated, "cuda:0", model, "--kernels", "portable");
	struct proto_msg m;

	(void)state;
	while (next(&p, &m) != PROTO_READY)
		assert_true(m.head.type == PROTO_HELLO || m.head.type == PROTO_WARMING);
	assert_non_null(strstr(m.READY.device, "portable"));
	give(&p, SIDE, 1);
	assert_int_equal(next(&p, &m), PROTO_DONE);
	peer_stop(&p, true);
	assert_int_equal(next(&p, &m), 0);
	assert_int_equal(exit_status(&p), 0);
}

/* A whole life with the library for sensors in that directory, or without it, and the status page at its end.
 */
static struct status_page
live_with_sensors(const char *directory)
{
	struct peer p;
	struct proto_msg m;
	struct status_page page;

	if (directory != NULL)
		setenv("LD_LIBRARY_PATH", directory, 1);
	p = start();
	unsetenv("LD_LIBRARY_PATH");
	while (next(&p, &m) != PROTO_READY)
		assert_true(m.head.type == PROTO_HELLO || m.head.type == PROTO_WARMING);
	peer_stop(&p, true);
	assert_int_equal(next(&p, &m), 0);
	assert_int_equal(WEXITSTATUS(peer_wait(&p)), 0); /* its thread does not keep it */
	shm_read(p.page, &page);
	shm_detach(&p.page);
	return page;
}

static void
test_sensors(void **state)
{
	struct status_page page = live_with_sensors(NULL);

	(void)state;
	assert_int_equal(page.sensed_us, 0);
	page = live_with_sensors(peer_program("emul/nvml"));
	assert_true(page.sensed_us > 0);
	assert_true(page.readings.memory_used_bytes == 700);
	assert_true(page.readings.utilization == 0.25);
	assert_true(page.readings.temperature_celsius == 61);
	assert_true(page.readings.energy_joules == -1);
}

/* The packed rows of the one picture of a job; its metadata has times. */
static size_t
draw(struct peer *p, int steps, uint8_t *rows, size_t size)
{
	static uint8_t png[1 << 16];
	struct proto_msg m;
	const uint8_t *chunk;
	ssize_t length;
	size_t bytes;

	give(p, SIDE, steps);
	assert_int_equal(next(p, &m), PROTO_DONE);
	length = pread(p->got_fd, png, sizeof(png), 0);
	assert_true(length > 0 && (size_t)length < sizeof(png));
	chunk = memmem(png, (size_t)length, "IDAT", 4);
	assert_non_null(chunk);
	bytes = (size_t)chunk[-2] << 8 | chunk[-1];
	assert_true(bytes > 0 && bytes <= size && chunk + 4 + bytes <= png + length);
	memcpy(rows, chunk + 4, bytes);
	return bytes;
}

/* Steps are recorded as graphs where the driver takes them, and the picture is the same where it does not. */
static void
test_pictures_do_not_depend_on_graphs(void **state)
{
	static uint8_t first[1 << 16], other[1 << 16];
	static const char *const allowed[] = {"2", "1", "0"};
	size_t length = 0;

	(void)state;
	if (LIVES_ARE_LONG)
		skip();
	for (int i = 0; i < 3; i++) {
		struct proto_msg m;
		struct peer p;
		setenv("EMUL_GRAPHS", allowed[i], 1);
		p = start();
		unsetenv("EMUL_GRAPHS");
		while (next(&p, &m) != PROTO_READY)
			assert_true(m.head.type == PROTO_HELLO || m.head.type == PROTO_WARMING);
		if (i == 0)
			length = draw(&p, 3, first, sizeof(first));
		else {
			assert_int_equal(draw(&p, 3, other, sizeof(other)), length);
			assert_memory_equal(first, other, length);
		}
		peer_stop(&p, true);
		assert_int_equal(next(&p, &m), 0);
		assert_int_equal(exit_status(&p), 0);
	}
}

/* Until the job has made so many steps. */
static void
await_step(struct peer *p, uint64_t job, uint32_t step)
{
	struct proto_msg m;

	while (peer_next(p, &m) != PROTO_PROGRESS || m.head.job != job || m.PROGRESS.step < step)
		assert_true(m.head.type == PROTO_ACK || m.head.type == PROTO_PROGRESS);
}

static void
say_about(struct peer *p, unsigned type, uint64_t job)
{
	peer_say(p, type, job, (struct proto_msg){.head = {0}});
}

/* A job whose steps are replayed by now is told to stop, and does at its next one. */
static void
check_cancel(struct peer *p, uint64_t job)
{
	struct proto_msg m = {.JOB = {SIDE, SIDE, 100, 1, 0, 0, 42, "job_x", "a cat", ""}};

	peer_say(p, PROTO_JOB, job, m);
	await_step(p, job, 4);
	peer_say(p, PROTO_CANCEL, job, (struct proto_msg){.CANCEL = {ERR_CANCELLED}});
	assert_int_equal(next(p, &m), PROTO_STOPPED);
	assert_in_range(m.STOPPED.step, 4, 99);
}

/* Another job comes between two steps, with a graph of its own; the picture is that of an undisturbed one. */
static void
check_preemption(struct peer *p, uint64_t job, const uint8_t *rows, size_t length)
{
	static uint8_t png[1 << 16];
	struct proto_msg m = {.JOB = {SIDE, SIDE, 3, 1, 0, 0, 42, "job_x", "a cat", ""}}, other = m;
	const uint8_t *chunk;
	ssize_t size;

	other.JOB.seed = 7;
	peer_say(p, PROTO_JOB, job, m);
	await_step(p, job, 1);
	say_about(p, PROTO_SUSPEND, job);
	peer_say(p, PROTO_JOB, job + 1, other);
	assert_int_equal(next(p, &m), PROTO_SUSPENDED);
	assert_in_range(m.SUSPENDED.step, 1, 2);
	assert_int_equal(next(p, &m), PROTO_DONE);
	assert_int_equal(m.head.job, job + 1);
	say_about(p, PROTO_RESUME, job);
	assert_int_equal(next(p, &m), PROTO_DONE);
	assert_int_equal(m.head.job, job);
	size = pread(p->got_fd, png, sizeof(png), 0);
	chunk = size > 0 ? memmem(png, (size_t)size, "IDAT", 4) : NULL;
	assert_non_null(chunk);
	assert_memory_equal(chunk + 4, rows, length);
}

static void
test_cancel_and_preemption_between_recorded_steps(void **state)
{
	static uint8_t rows[1 << 16];
	struct peer p = start();
	struct proto_msg m;
	size_t length;

	(void)state;
	while (next(&p, &m) != PROTO_READY)
		assert_true(m.head.type == PROTO_HELLO || m.head.type == PROTO_WARMING);
	length = draw(&p, 3, rows, sizeof(rows));
	check_cancel(&p, 2);
	check_preemption(&p, 3, rows, length);
	peer_stop(&p, true);
	assert_int_equal(next(&p, &m), 0);
	assert_int_equal(exit_status(&p), 0);
}

/* ---- choices of ways to multiply, which the first process makes */

static long
file_bytes(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? (long)st.st_size : -1;
}

/* A whole life with a picture, on a device whose fastest way is that one; the rows of the picture. */
static size_t
live(const char *fastest, uint8_t *rows, size_t size)
{
	struct proto_msg m;
	struct peer p;
	size_t length;

	setenv("EMUL_FASTEST", fastest, 1);
	p = start();
	unsetenv("EMUL_FASTEST");
	while (next(&p, &m) != PROTO_READY)
		assert_true(m.head.type == PROTO_HELLO || m.head.type == PROTO_WARMING);
	length = draw(&p, 8, rows, size); /* as many as the device is warmed up for */
	peer_stop(&p, true);
	assert_int_equal(next(&p, &m), 0);
	assert_int_equal(exit_status(&p), 0);
	return length;
}

/* All that a job of the usual size needs is tried before READY, and the next process has nothing to try: its
 * picture has the same bits, though another way is the fastest by now. */
static void
test_choices_outlive_the_process(void **state)
{
	static uint8_t first[1 << 16], other[1 << 16];
	char directory[] = "/tmp/zit-choices-XXXXXX", path[100];
	size_t length;
	long bytes;

	(void)state;
	if (LIVES_ARE_LONG)
		skip();
	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/gemm-130000-emulated-device", directory);
	setenv("CACHE_DIRECTORY", directory, 1);
	setenv("EMUL_REFUSED", "0", 1); /* all products have choices, those of times, too */
	length = live("1", first, sizeof(first));
	bytes = file_bytes(path);
	assert_true(bytes > 0);
	assert_int_equal(live("0", other, sizeof(other)), length);
	assert_memory_equal(first, other, length);
	assert_int_equal(file_bytes(path), bytes);
	unlink(path);
	live("0", other, sizeof(other)); /* without the file they are made anew, and differ */
	assert_memory_not_equal(first, other, length);
	unsetenv("CACHE_DIRECTORY");
	unsetenv("EMUL_REFUSED");
	unlink(path);
	assert_int_equal(rmdir(directory), 0);
}

static void
test_no_device_is_permanent(void **state)
{
	struct proto_msg m;
	struct peer p;

	(void)state;
	setenv("EMUL_MAJOR", "7", 1);
	p = start();
	unsetenv("EMUL_MAJOR");
	assert_int_equal(next(&p, &m), PROTO_HELLO);
	assert_int_equal(next(&p, &m), PROTO_FATAL);
	assert_int_equal(m.FATAL.exit_status, RUNNER_EXIT_NO_DEVICE);
	assert_non_null(strstr(m.FATAL.text, "compute capability 7.0"));
	assert_int_equal(exit_status(&p), RUNNER_EXIT_NO_DEVICE);
}

/* Wherever in its life the device fails, the process says what failed and ends with that status. */
static void
check_failing_device(int call, int error, int status)
{
	char number[16], code[16];
	struct proto_msg m;
	struct peer p;
	unsigned type;

	snprintf(number, sizeof(number), "%d", call);
	snprintf(code, sizeof(code), "%d", error);
	setenv("EMUL_FAIL_CALL", number, 1);
	setenv("EMUL_FAIL_ERROR", code, 1);
	p = start();
	unsetenv("EMUL_FAIL_CALL");
	unsetenv("EMUL_FAIL_ERROR");
	while ((type = next(&p, &m)) != PROTO_FATAL) {
		if (type == PROTO_READY)
			give(&p, SIDE, 50);
		if (type == 0 || type == PROTO_DONE)
			fail_msg("call %d fails with %d, and nothing is said", call, error);
	}
	assert_int_equal(m.FATAL.exit_status, status);
	assert_true(m.FATAL.text[0] != '\0');
	assert_int_equal(exit_status(&p), status);
}

static const int calls[] = {3, 40, 700, 1500}; /* opening, loading, the first picture, the job */

static void
test_sticky_errors(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		check_failing_device(calls[i], ILLEGAL_ADDRESS, RUNNER_EXIT_STICKY);
}

static void
test_out_of_memory(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		check_failing_device(calls[i], OUT_OF_MEMORY, RUNNER_EXIT_DEVICE_MEMORY);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_probe_lists_devices),
	    cmocka_unit_test(test_probe_says_why_there_is_none),
	    cmocka_unit_test(test_probe_says_which_cannot_be_used),
	    cmocka_unit_test(test_probe_without_a_driver),
	    cmocka_unit_test(test_life_without_new_memory),
	    cmocka_unit_test(test_portable_kernels_are_told),
	    cmocka_unit_test(test_sensors),
	    cmocka_unit_test(test_pictures_do_not_depend_on_graphs),
	    cmocka_unit_test(test_cancel_and_preemption_between_recorded_steps),
	    cmocka_unit_test(test_choices_outlive_the_process),
	    cmocka_unit_test(test_no_device_is_permanent),
	    cmocka_unit_test(test_sticky_errors),
	    cmocka_unit_test(test_out_of_memory),
	};

	setenv("OMP_WAIT_POLICY", "passive", 0);	    /* threads that spin are slow on a busy machine */
	emulated = strdup(peer_program("emul/zit-runner")); /* its memory is that of the next one */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
