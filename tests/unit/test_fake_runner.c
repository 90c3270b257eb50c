/*
 * The scripted runner that stands in for a real one in the tests of zitd: each action does what its name
 * says. A row is a script, and what is then heard on the socket, as words.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "build_id.h"
#include "ipc/err.h"
#include "tests/unit/peer.h"

/* Asleep for so long it says nothing more: no script here waits as long. */
enum { SILENCE_MS = 1500, LOOK_MS = 50, STEPS = 2 };

static const char *program;

struct transcript {
	char text[1024];
	size_t length;
};

static void
add(struct transcript *t, const char *word, const char *remark)
{
	t->length += (size_t)snprintf(t->text + t->length, sizeof(t->text) - t->length, "%s%s%s",
	    t->length > 0 ? " " : "", word, remark);
	assert_true(t->length < sizeof(t->text));
}

/* "" for a message as it should be, else what is wrong with it. */
static const char *
remark_of(const struct proto_msg *m, int fd)
{
	struct stat st;

	if (m->head.generation != PEER_GENERATION || (m->head.job != 0 && m->head.attempt != 1))
		return "(stale)";
	if (m->head.type == PROTO_HELLO && strcmp(m->HELLO.build, ZIT_BUILD) != 0)
		return "(build)";
	if (m->head.type == PROTO_PROGRESS && m->PROGRESS.step > STEPS)
		return "(step)";
	if (m->head.type == PROTO_PROGRESS && m->PROGRESS.stage == STAGE_ENCODE)
		return "(encode)";
	if (m->head.type != PROTO_PICTURE)
		return "";
	if ((fcntl(fd, F_GET_SEALS) & F_SEAL_WRITE) == 0)
		return "(unsealed)";
	return fstat(fd, &st) == 0 && (uint64_t)st.st_size == m->PICTURE.bytes ? "" : "(bytes)";
}

/* Neither running nor about to: what a busy machine does not let run is not silent. */
static bool
is_asleep(pid_t pid)
{
	char path[40], state = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%*d (%*[^)]) %c", &state), 1);
	fclose(f);
	return state == 'S' || state == 'T';
}

/* Whether the runner says something, or ends (by what fd is), before it has slept for SILENCE_MS. */
static bool
comes(const struct peer *p, int fd)
{
	struct pollfd wait = {.fd = fd, .events = POLLIN};
	int asleep_ms = 0;

	while (asleep_ms < SILENCE_MS) {
		if (poll(&wait, 1, LOOK_MS) == 1)
			return true;
		asleep_ms = is_asleep(p->pid) ? asleep_ms + LOOK_MS : 0;
	}
	return false;
}

/* Hears one message: its type, 0 for the end of talking (end, silence, nonsense), which is added too. */
static unsigned
hear(struct peer *p, struct transcript *t)
{
	struct proto_msg m;
	int fds[PROTO_MAX_FDS], status = channel_receive(p->channel, &m, fds);

	if (status == 0 && comes(p, channel_fd(p->channel)))
		status = channel_receive(p->channel, &m, fds);
	if (status != 1) {
		add(t, status == 0 ? "silence" : status == -ERR_UNREACHABLE ? "end" : "nonsense", "");
		return 0;
	}
	add(t, proto_name(m.head.type), remark_of(&m, fds[0]));
	if (m.head.type == PROTO_PICTURE)
		close(fds[0]);
	return m.head.type;
}

/* The whole life of a runner with that script: until READY, a job of two steps if there is a prompt
 * (cancelled after the first when asked), then STOP. */
static void
play(struct transcript *t, struct peer *p, const char *script, const char *prompt, bool cancel)
{
	struct proto_msg job = {.JOB = {256, 256, STEPS, 1, 0, 0, 42, "job_x", prompt, ""}};
	unsigned type;

	setenv("ZIT_FAKE", script, 1);
	*t = (struct transcript){0};
	*p = peer_start(program, "cpu", "none");
	do
		type = hear(p, t);
	while (type != 0 && type != PROTO_READY);
	if (type != 0 && prompt != NULL)
		peer_say(p, PROTO_JOB, 1, job);
	while (type != 0 && prompt != NULL && type != PROTO_DONE && type != PROTO_FAILED &&
	       type != PROTO_STOPPED) {
		type = hear(p, t);
		if (cancel && type == PROTO_ACK) {
			peer_say(p, PROTO_CANCEL, 1, (struct proto_msg){.CANCEL = {ERR_CANCELLED}});
			cancel = false;
		}
	}
	if (type == 0)
		return;
	peer_stop(p, true);
	while (hear(p, t) != 0)
		;
}

/* How it ended; one that does not end by itself is killed: "signal 9". */
static void
add_end(struct transcript *t, struct peer *p)
{
	char end[40];
	int status;
	bool fell_silent = strstr(t->text, " end") == NULL && strncmp(t->text, "end", 3) != 0;

	if (fell_silent || !comes(p, p->pidfd))
		kill(p->pid, SIGKILL);
	status = peer_wait(p);
	shm_detach(&p->page);
	snprintf(end, sizeof(end), WIFEXITED(status) ? "exit %d" : "signal %d",
	    WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
	add(t, end, "");
}

#define START "HELLO LOADING WARMING READY "
#define GOOD START "ACK PROGRESS PROGRESS PROGRESS(encode) PICTURE DONE "

static const struct {
	const char *script, *prompt;
	bool cancel;
	const char *heard;
} rows[] = {
    {"", NULL, false, START "end exit 0"},
    {"", "a cat", false, GOOD "end exit 0"},
    {"step 0.02 # slow\n@other;step 1 exit 9", "a cat", false, GOOD "end exit 0"},
    {"step 1 exit 9;@other", "@other and more words", false, GOOD "end exit 0"},

    {"hello exit 70", NULL, false, "end exit 70"},
    {"loading kill 11", NULL, false, "HELLO end signal 11"},
    {"warming fatal 65", NULL, false, "HELLO LOADING FATAL end exit 65"},
    {"ready skip", NULL, false, "HELLO LOADING WARMING silence signal 9"},
    {"hello build", NULL, false, "HELLO(build) LOADING WARMING READY end exit 0"},
    {"hello 20", NULL, false, "silence signal 9"},
    {"try 7 hello exit 3", NULL, false, "end exit 3"},
    {"try 6 hello exit 3", NULL, false, START "end exit 0"},
    {"ready ready_again", NULL, false, START "READY end exit 0"},

    {"@x;job exit 5", "@x", false, START "end exit 5"},
    {"@x;job skip", "@x", false, START "PROGRESS PROGRESS PROGRESS(encode) PICTURE DONE end exit 0"},
    {"@x;ack exit 5", "@x", false, START "ACK end exit 5"},
    {"@x;try 1 step 2 kill 9", "@x", false, START "ACK PROGRESS end signal 9"},
    {"@x;try 2 step 2 kill 9", "@x", false, GOOD "end exit 0"},
    {"@x;step 1 kill 19", "@x", false, START "ACK silence signal 9"},
    {"@x;step 1 hang", "@x", false, START "ACK silence signal 9"},
    {"@x;step 1 close", "@x", false, START "ACK end signal 9"},
    {"@x;step 1 garbage", "@x", false, START "ACK nonsense signal 9"},
    {"@x;step skip", "@x", false, START "ACK PROGRESS(encode) PICTURE DONE end exit 0"},
    {"@x;step 2 progress 999", "@x", false,
	START "ACK PROGRESS PROGRESS(step) PROGRESS PROGRESS(encode) PICTURE DONE end exit 0"},
    {"@x;step 2 attempt -1", "@x", false,
	START "ACK PROGRESS DONE(stale) PROGRESS PROGRESS(encode) PICTURE DONE end exit 0"},
    {"@x;step 2 generation -1", "@x", false,
	START "ACK PROGRESS DONE(stale) PROGRESS PROGRESS(encode) PICTURE DONE end exit 0"},
    {"@x;step 1 fail out_of_memory", "@x", false, START "ACK FAILED end exit 0"},
    {"@x;picture fds 3;picture skip", "@x", false,
	START "ACK PROGRESS PROGRESS PROGRESS(encode) nonsense signal 9"},
    {"@x;picture fds 0", "@x", false, START "ACK PROGRESS PROGRESS PROGRESS(encode) nonsense signal 9"},
    {"@x;picture unsealed", "@x", false,
	START "ACK PROGRESS PROGRESS PROGRESS(encode) PICTURE(unsealed) DONE end exit 0"},
    {"@x;picture bytes 10", "@x", false,
	START "ACK PROGRESS PROGRESS PROGRESS(encode) PICTURE(bytes) DONE end exit 0"},
    {"@x;after send_picture;after send_done", "@x", false, GOOD "PICTURE DONE end exit 0"},
    {"@x;done skip", "@x", false, START "ACK PROGRESS PROGRESS PROGRESS(encode) PICTURE silence signal 9"},
    {"@x;step 1 flood 100000", "@x", false, GOOD "end exit 0"},
    {"@x;step 1 allocate 1e6;step 1 words bye", "@x", false, GOOD "end exit 0"},

    {"ack 0.5", "a cat", true, START "ACK STOPPED end exit 0"},
    {"@x;ack 0.5;cancel skip", "@x", true, START "ACK silence signal 9"},
    {"@x;ack 0.5;ack ignore_cancel", "@x", true, GOOD "end exit 0"},
    {"@x;ack 0.5;cancel send_picture;cancel send_done", "@x", true,
	START "ACK PICTURE DONE STOPPED end exit 0"},

    {"nonsense 1", NULL, false, "end exit 64"},
    {"hello nonsense", NULL, false, "end exit 64"},
    {"step", NULL, false, "end exit 64"},
    {"step 1 exit 2 3", NULL, false, "end exit 64"},
    {"try hello exit 1", NULL, false, "end exit 64"},
    {"@x", "@y", false, START "end exit 64"},
    {"@x;step 1 fail nonsense", "@x", false, START "ACK end exit 64"},
    {"/nonexistent/script", NULL, false, "end exit 64"},
};

static void
every_action_does_what_it_says(void **state)
{
	int wrong = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct transcript t;
		struct peer p;

		play(&t, &p, rows[i].script, rows[i].prompt, rows[i].cancel);
		add_end(&t, &p);
		if (strcmp(t.text, rows[i].heard) == 0)
			continue;
		print_error("script '%s'\n  heard  %s\n  wanted %s\n", rows[i].script, t.text, rows[i].heard);
		wrong++;
	}
	assert_int_equal(wrong, 0);
}

static void
signals_end_it_unless_ignored(void **state)
{
	static const struct {
		const char *script;
		int status; /* as of wait */
	} cases[] = {{"", 0}, {"hello ignore_signals", SIGKILL}};

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct transcript t;
		struct peer p;

		setenv("ZIT_FAKE", cases[i].script, 1);
		t = (struct transcript){0};
		p = peer_start(program, "cpu", "none");
		while (hear(&p, &t) != PROTO_READY)
			;
		kill(p.pid, SIGTERM);
		if (!comes(&p, p.pidfd))
			kill(p.pid, SIGKILL);
		assert_int_equal(peer_wait(&p), cases[i].status);
		shm_detach(&p.page);
	}
}

/* The page is sealed in size, so it can be scribbled over and still be read. */
static void
page_can_be_scribbled_over_but_not_cut(void **state)
{
	struct transcript t;
	struct peer p;
	struct status_page page;

	(void)state;
	play(&t, &p, "@x;after scribble;after truncate", "@x", false);
	shm_read(p.page, &page);
	assert_int_equal(page.magic, 0xffffffff);
	assert_int_equal(page.step, 0xffffffff);
	assert_int_equal(page.last_words[0], '?');
	add_end(&t, &p);
	assert_string_equal(t.text, GOOD "end exit 0");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_action_does_what_it_says),
	    cmocka_unit_test(signals_end_it_unless_ignored),
	    cmocka_unit_test(page_can_be_scribbled_over_but_not_cut),
	};

	struct rlimit none = {0, 0}; /* its crashes leave no cores */

	setrlimit(RLIMIT_CORE, &none);
	signal(SIGPIPE, SIG_IGN);
	program = peer_program("tests/fake_runner");
	return cmocka_run_group_tests_name("fake_runner", tests, NULL, NULL);
}
