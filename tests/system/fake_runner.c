/*
 * A runner without a model, for tests of zitd: speaks the protocol and, by its script, breaks it.
 *
 * zitd starts it like a real one ([runner] command). Its script is the text in $ZIT_FAKE or, when that begins
 * with '/', the file of that name. Without a script it is a good runner whose steps take no time. It takes
 * jobs up to 2048x2048 and answers each with one fixed picture of one pixel.
 *
 *   script    = statement { (";" or newline) statement }        '#' to the end of a line is a comment
 *   statement = "@NAME"                          what follows is for jobs whose prompt begins with that word
 *             | ["try" N] PHASE SECONDS          wait that long when the phase is reached
 *             | ["try" N] PHASE ACTION [ARG]     do it when the phase is reached
 *             | ["try" N] "step" K ACTION [ARG]  ... at the job's step K only, counted from 1
 *
 * "try N": only in attempt N of the job; in phases of the runner's life, only in its generation N. Statements
 * of one phase run in their order. Those before the first "@" are for the life and for jobs that name no
 * section; a job that names one runs by that alone. So `step 0.05; @crash; step 2 kill 11` serves good and
 * bad jobs.
 *
 * PHASE, each before the message of that name is sent, which can be left out by `skip`:
 *   life  hello loading warming ready canary (on CANARY, before CANARY_OK)
 *   job   job (on its arrival, before ACK)  ack (after ACK)  step (before its PROGRESS)
 *         encode (before the PROGRESS that frees the device)  picture  done  after (after DONE)
 *         cancel (on CANCEL, before STOPPED)  suspend (on SUSPEND, before SUSPENDED)  resume (on RESUME)
 *
 * ACTION and its argument: rows[] below says what each one does.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "build_id.h"
#include "ipc/channel.h"
#include "ipc/err.h"
#include "ipc/shm.h"
#include "runner/result.h"

enum {
	MAX_RULES = 200,
	MAX_SECTIONS = 50,
	MAX_JOBS = 8,
	MAX_SCRIPT = 64 * 1024,
	MAX_SAID = 32,
	PACKET_BYTES = 512, /* of a message of its own */
	NAME_BYTES = 40,
	SIDE = 2048
};

/* ---- the script */

enum phase {
	HELLO,
	LOADING,
	WARMING,
	READY,
	CANARY,
	JOB,
	ACK,
	STEP,
	ENCODE,
	PICTURE,
	DONE,
	AFTER,
	CANCEL,
	SUSPEND,
	RESUME,
	PHASES
};

static const char *const phase_names[PHASES] = {"hello", "loading", "warming", "ready", "canary", "job",
    "ack", "step", "encode", "picture", "done", "after", "cancel", "suspend", "resume"};

struct job {
	struct proto_header head;
	uint32_t steps, count;
	uint64_t seed;
	int section;
	uint32_t picture, step; /* where it is */
	bool suspended;
};

/* What an action works on: its statement's argument, and the job in hand (NULL in phases of the life). */
struct scene {
	const char *word;
	double number;
	struct job *job;
};

struct rule {
	int section; /* 0: before the first "@" */
	enum phase phase;
	uint32_t only; /* attempt or generation; 0: every one */
	uint32_t step; /* 0: every one */
	void (*act)(const struct scene *scene);
	const char *word; /* argument, "" for none */
	double number;	  /* the same as a number, 0 if it is none */
};

static struct rule rules[MAX_RULES];
static int rule_count;
static char sections[MAX_SECTIONS][NAME_BYTES] = {""};
static int section_count = 1;

/* ---- the runner */

static struct channel *channel;
static struct status_page *page;
static int status_fd;
static uint32_t generation;
static struct job jobs[MAX_JOBS];
static int job_count;
static bool ignore_cancel, ignore_stop, skip, unsealed, finish;
static double stage_s;	     /* that DONE says of each stage */
static uint64_t extra_bytes; /* that PICTURE claims beyond the truth */
static const char *build = ZIT_BUILD;
static volatile sig_atomic_t interrupted;
static int alarm_fd; /* an eventfd, readable when it is, so that no wait misses it */

static void run_phase(enum phase phase, struct job *job);
static void let_out(void);

static void
die(const char *why, const char *what)
{
	let_out();
	fprintf(stderr, "fake_runner: %s '%s'\n", why, what);
	exit(RUNNER_EXIT_USAGE);
}

/* ---- what it says. Messages with nothing between them leave together, as those of a job whose steps take no
 * time: before it does or awaits anything else, and before it ends. */

static struct {
	struct proto_msg m;
	int fd; /* -1: none */
} said[MAX_SAID];
static int said_count;

struct envelope {
	uint8_t bytes[PACKET_BYTES];
	struct iovec part;
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
};

static void
put_into(struct envelope *e, struct msghdr *header, const struct proto_msg *m, int fd)
{
	int count = proto_pack(m, e->bytes, sizeof(e->bytes));

	assert(count > 0); /* what it says of itself is short */
	e->part = (struct iovec){e->bytes, (size_t)count};
	*header = (struct msghdr){.msg_iov = &e->part, .msg_iovlen = 1};
	if (fd < 0)
		return;
	header->msg_control = &e->control;
	header->msg_controllen = sizeof(e->control.space);
	e->control.align = (struct cmsghdr){
	    .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(fd))};
	memcpy(CMSG_DATA(&e->control.align), &fd, sizeof(fd));
}

/* How many of them the socket took. */
static int
send_together(void)
{
	static struct envelope envelopes[MAX_SAID];
	struct mmsghdr headers[MAX_SAID];
	int sent;

	for (int i = 0; i < said_count; i++)
		put_into(&envelopes[i], &headers[i].msg_hdr, &said[i].m, said[i].fd);
	sent = sendmmsg(channel_fd(channel), headers, (unsigned)said_count, MSG_NOSIGNAL | MSG_DONTWAIT);
	return sent > 0 ? sent : 0;
}

/* What the socket does not take, or may not before what waits already, is the channel's. */
static void
let_out(void)
{
	int sent = said_count > 0 && !channel_has_output(channel) ? send_together() : 0;

	for (int i = 0; i < said_count; i++) {
		if (i >= sent && channel_send(channel, &said[i].m, &said[i].fd) == -ERR_UNREACHABLE)
			exit(0);
		if (said[i].fd >= 0)
			close(said[i].fd);
	}
	said_count = 0;
}

/* Takes fd. */
static void
send_message(struct proto_msg *m, int fd)
{
	if (m->head.job == 0) /* a job's messages say what zitd said */
		m->head.generation = generation;
	if (said_count == MAX_SAID)
		let_out();
	said[said_count].m = *m;
	said[said_count++].fd = fd;
}

static void
wait_seconds(double seconds)
{
	struct timespec left = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};

	if (seconds <= 0) /* even that would take the kernel's 50 us */
		return;
	let_out();
	while (nanosleep(&left, &left) != 0 && errno == EINTR)
		;
}

static struct proto_msg
about(const struct job *job, unsigned type)
{
	struct proto_msg m = {0};

	if (job == NULL)
		die("no job in this phase for", proto_name(type));
	m.head = job->head;
	m.head.type = (uint16_t)type;
	return m;
}

/* A PNG of one grey pixel. */
static const uint8_t pixel[] = {0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49,
    0x48, 0x44, 0x52, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x01, 0x08, 0x00, 0x00, 0x00, 0x00, 0x3a,
    0x7e, 0x9b, 0x55, 0x00, 0x00, 0x00, 0x0a, 0x49, 0x44, 0x41, 0x54, 0x78, 0x9c, 0x63, 0x68, 0x00, 0x00,
    0x00, 0x82, 0x00, 0x81, 0x77, 0xcd, 0x72, 0xb6, 0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae,
    0x42, 0x60, 0x82};

static int
make_picture(void)
{
	int fd = result_create();

	if (fd < 0 || result_write(fd, pixel, sizeof(pixel)) != 0 || (!unsealed && result_seal(fd) != 0))
		die("cannot make a picture:", strerror(errno));
	return fd;
}

static struct proto_msg
picture_message(const struct job *job)
{
	struct proto_msg m = about(job, PROTO_PICTURE);

	m.PICTURE.picture = job->picture;
	m.PICTURE.bytes = sizeof(pixel) + extra_bytes;
	m.PICTURE.seed = job->seed + job->picture;
	return m;
}

static void
send_progress(const struct job *job, enum stage stage, uint32_t step)
{
	struct proto_msg m = about(job, PROTO_PROGRESS);

	m.PROGRESS = (struct proto_PROGRESS){stage, job->picture, step, job->steps};
	shm_note(page, job->head.job, stage, step);
	send_message(&m, -1);
}

/* Past the channel's own checks: any bytes with any number of descriptors. */
static void
send_raw(const void *bytes, size_t count, int fd, int fd_count)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(250 * sizeof(int))];
	} control = {0};
	struct iovec part = {(void *)bytes, count};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	size_t size = (size_t)fd_count * sizeof(int);

	if (fd_count > 250)
		die("at most 250 for", "fds");
	if (fd_count > 0) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(size);
		*CMSG_FIRSTHDR(&message) = (struct cmsghdr){
		    .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(size)};
		for (int i = 0; i < fd_count; i++)
			memcpy(
			    CMSG_DATA(CMSG_FIRSTHDR(&message)) + (size_t)i * sizeof(int), &fd, sizeof(int));
	}
	sendmsg(channel_fd(channel), &message, MSG_NOSIGNAL);
}

/* ---- actions */

static void
act_sleep(const struct scene *s)
{
	wait_seconds(s->number);
}

static void
act_work(const struct scene *s)
{
	for (double left = s->number; left > 0; left -= 0.05) {
		wait_seconds(left < 0.05 ? left : 0.05);
		shm_worked(page);
	}
}

/* Bytes of its weights, one by one. */
static void
act_load(const struct scene *s)
{
	const uint64_t total = (uint64_t)s->number;

	for (uint64_t done = 1; done <= total; done++) {
		struct proto_msg m = {.head.type = PROTO_LOADING, .LOADING = {done, total}};
		wait_seconds(0.05);
		send_message(&m, -1);
	}
}

static void
act_exit(const struct scene *s)
{
	_exit((int)s->number);
}

static void
act_fatal(const struct scene *s)
{
	struct proto_msg m = {.head.type = PROTO_FATAL, .FATAL = {(uint32_t)s->number, "as the script says"}};

	shm_last_words(page, m.FATAL.text);
	send_message(&m, -1);
	let_out();
	_exit((int)s->number);
}

static void
act_kill(const struct scene *s)
{
	signal((int)s->number, SIG_DFL); /* past a sanitizer's handler and ours */
	raise((int)s->number);		 /* 19 stops us; we go on when continued */
}

/* Whoever started it: nobody but zitd does. */
static void
act_kill_zitd(const struct scene *s)
{
	kill(getppid(), (int)s->number);
}

static void
act_hang(const struct scene *s)
{
	(void)s;
	for (;;)
		pause();
}

static void
act_close(const struct scene *s)
{
	channel_free(&channel);
	act_hang(s);
}

static void
act_ignore_cancel(const struct scene *s)
{
	(void)s;
	ignore_cancel = true;
}

static void
act_ignore_stop(const struct scene *s)
{
	(void)s;
	ignore_stop = true;
}

static void
act_ignore_signals(const struct scene *s)
{
	(void)s;
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
}

static void
act_skip(const struct scene *s)
{
	(void)s;
	skip = true;
}

static void
act_garbage(const struct scene *s)
{
	size_t count = s->number > 0 && s->number < PROTO_MAX_BYTES ? (size_t)s->number : 64;
	uint8_t *bytes = malloc(count);

	memset(bytes, 0xa5, count);
	send_raw(bytes, count, -1, 0);
	free(bytes);
}

static void
act_fds(const struct scene *s)
{
	struct proto_msg m = picture_message(s->job);
	uint8_t packet[256];
	int fd = make_picture(), count;

	m.head.generation = generation;
	count = proto_pack(&m, packet, sizeof(packet));
	send_raw(packet, (size_t)count, fd, (int)s->number);
	close(fd);
}

static void
act_unsealed(const struct scene *s)
{
	(void)s;
	unsealed = true;
}

static void
act_bytes(const struct scene *s)
{
	extra_bytes = (uint64_t)s->number;
}

static void
act_times(const struct scene *s)
{
	stage_s = s->number;
}

/* A DONE of another attempt. */
static void
act_attempt(const struct scene *s)
{
	struct proto_msg m = about(s->job, PROTO_DONE);

	m.head.attempt += (uint32_t)(int)s->number;
	send_message(&m, -1);
}

static void
act_generation(const struct scene *s)
{
	struct proto_msg m = about(s->job, PROTO_DONE);

	m.head.generation = generation + (uint32_t)(int)s->number;
	send_message(&m, -1);
}

static void
act_progress(const struct scene *s)
{
	send_progress(s->job, STAGE_DENOISE, (uint32_t)s->number);
}

static void
act_send_picture(const struct scene *s)
{
	struct proto_msg m = picture_message(s->job);
	int fd = make_picture();

	send_message(&m, fd);
}

static void
act_send_done(const struct scene *s)
{
	struct proto_msg m = about(s->job, PROTO_DONE);

	m.DONE = (struct proto_DONE){1, 0, stage_s, stage_s, stage_s, stage_s, stage_s};
	send_message(&m, -1);
}

static void
act_send_suspended(const struct scene *s)
{
	struct proto_msg m = about(s->job, PROTO_SUSPENDED);

	m.SUSPENDED.step = s->job->step;
	send_message(&m, -1);
}

static void
act_ready_again(const struct scene *s)
{
	struct proto_msg m = {.head.type = PROTO_READY,
	    .READY = {"fake", "no device", 256, SIDE, 16, (uint64_t)SIDE * SIDE, 0, 4096}};

	(void)s;
	send_message(&m, -1);
}

static void
act_build(const struct scene *s)
{
	(void)s;
	build = "another build";
}

/* FAILED instead of the picture; the job is over. */
static void
act_fail(const struct scene *s)
{
	const struct err_row *row = err_row_by_name(s->word);
	struct proto_msg m = about(s->job, PROTO_FAILED);

	if (row == NULL)
		die("no such error", s->word);
	m.FAILED = (struct proto_FAILED){(uint32_t)row->code, "as the script says"};
	send_message(&m, -1);
	s->job->head.job = 0;
}

static void
act_scribble(const struct scene *s)
{
	(void)s;
	memset(page, 0xff, SHM_BYTES);
}

/* zitd reads the page: were it not sealed in size, this would be its SIGBUS. */
static void
act_truncate(const struct scene *s)
{
	(void)s;
	if (ftruncate(status_fd, 0) == 0)
		fprintf(stderr, "fake_runner: the status page could be truncated\n");
}

static void
act_flood(const struct scene *s)
{
	char line[1000];
	size_t left = (size_t)s->number;

	memset(line, 'x', sizeof(line));
	line[sizeof(line) - 1] = '\n';
	while (left > 0) {
		ssize_t n = write(STDERR_FILENO, line, left < sizeof(line) ? left : sizeof(line));
		if (n <= 0)
			return;
		left -= (size_t)n;
	}
}

static void
act_allocate(const struct scene *s)
{
	size_t bytes = (size_t)s->number;
	char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		_exit(RUNNER_EXIT_HOST_MEMORY);
	memset(memory, 1, bytes); /* and kept */
}

static void
act_fork(const struct scene *s)
{
	if (fork() == 0) {
		wait_seconds(s->number);
		_exit(0);
	}
}

static void
act_daemonize(const struct scene *s)
{
	if (fork() == 0) {
		setsid();
		act_fork(s);
		_exit(0);
	}
}

static void
act_words(const struct scene *s)
{
	shm_last_words(page, s->word);
}

static void
act_sensors(const struct scene *s)
{
	shm_sensed(page, &(struct shm_readings){s->number, 0.25, 61, -1});
}

static const struct {
	const char *name;
	void (*act)(const struct scene *scene);
} rows[] = {
    {"sleep", act_sleep},		    /* SECONDS, without looking at the socket */
    {"work", act_work},			    /* likewise, but its page says that it works */
    {"load", act_load},			    /* N times LOADING, 20 a second, each with more than the last */
    {"exit", act_exit},			    /* with that status and without a word */
    {"fatal", act_fatal},		    /* the same after FATAL and last words */
    {"kill", act_kill},			    /* itself with that signal: 11, 9, 19 to be stopped */
    {"kill_zitd", act_kill_zitd},	    /* with that signal */
    {"hang", act_hang},			    /* for ever: neither reads nor ends */
    {"close", act_close},		    /* the socket, then hang */
    {"ignore_cancel", act_ignore_cancel},   /* from here on */
    {"ignore_stop", act_ignore_stop},	    /* the message, from here on */
    {"ignore_signals", act_ignore_signals}, /* INT and TERM, from here on */
    {"skip", act_skip},			    /* this phase's own message */
    {"garbage", act_garbage},		    /* a packet of N bytes that is no message; 64 unless told */
    {"fds", act_fds},			    /* a PICTURE with N descriptors */
    {"unsealed", act_unsealed},		    /* pictures from here on */
    {"bytes", act_bytes},		    /* pictures from here on claim N more than they have */
    {"times", act_times},		    /* a DONE from here on says N seconds for each stage */
    {"attempt", act_attempt},		    /* a DONE of an attempt N later (negative: earlier) */
    {"generation", act_generation},	    /* a DONE of a generation N later */
    {"progress", act_progress},		    /* a PROGRESS with step N */
    {"send_picture", act_send_picture},	    /* one more PICTURE */
    {"send_done", act_send_done},	    /* one more DONE */
    {"send_suspended", act_send_suspended}, /* one more SUSPENDED */
    {"ready_again", act_ready_again},	    /* one more READY */
    {"build", act_build},		    /* HELLO names another one */
    {"fail", act_fail},			    /* FAILED with that error of err.def; the job is over */
    {"scribble", act_scribble},		    /* over the whole status page */
    {"truncate", act_truncate},		    /* the status page to nothing */
    {"flood", act_flood},		    /* N bytes to stderr */
    {"allocate", act_allocate},		    /* N bytes, touched and kept */
    {"fork", act_fork},			    /* a child that lives S seconds */
    {"daemonize", act_daemonize},	    /* a grandchild in a session of its own that lives S seconds */
    {"sensors", act_sensors},		    /* say that N bytes are in use; one is not there */
    {"words", act_words},		    /* last words, one word of text */
};

/* ---- reading the script */

/* The section of that name; a new one when `add`; -1. */
static int
section_index(const char *name, size_t length, bool add)
{
	for (int i = 1; i < section_count; i++) {
		if (strlen(sections[i]) == length && memcmp(sections[i], name, length) == 0)
			return i;
	}
	if (!add)
		return -1;
	if (section_count == MAX_SECTIONS || length >= NAME_BYTES)
		die("too many sections, or too long a name:", name);
	memcpy(sections[section_count], name, length);
	return section_count++;
}

static bool
is_number(const char *word, double *number)
{
	char *end;

	*number = strtod(word, &end);
	return end != word && *end == '\0';
}

static void
set_action(struct rule *r, const char *name)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (strcmp(rows[i].name, name) == 0)
			r->act = rows[i].act;
	}
	if (r->act == NULL)
		die("no such action", name);
}

static enum phase
phase_of(const char *name)
{
	for (int i = 0; i < PHASES; i++) {
		if (strcmp(phase_names[i], name) == 0)
			return (enum phase)i;
	}
	die("no such phase", name);
	return PHASES;
}

/* The words after "try N" as a rule. */
static void
read_rule(struct rule *r, char **words, int count)
{
	double number;
	int at = 1;

	r->phase = phase_of(words[0]);
	r->word = "";
	if (count == 2 && is_number(words[1], &r->number)) {
		r->act = act_sleep;
		return;
	}
	if (count > 2 && r->phase == STEP && is_number(words[1], &number)) {
		r->step = (uint32_t)number;
		at = 2;
	}
	if (at >= count || count > at + 2)
		die("an action and at most one argument belong after", words[0]);
	set_action(r, words[at]);
	if (at + 1 < count) {
		r->word = words[at + 1];
		is_number(r->word, &r->number);
	}
}

/* One statement; it is cut into words in place, which the rules keep. */
static void
read_statement(char *text, int *section)
{
	char *words[6], *rest;
	int count = 0;
	double number;

	for (char *w = strtok_r(text, " \t\r", &rest); w != NULL; w = strtok_r(NULL, " \t\r", &rest)) {
		if (count == 6)
			die("too many words before", w);
		words[count++] = w;
	}
	if (count == 0)
		return;
	if (words[0][0] == '@') {
		*section = section_index(words[0] + 1, strlen(words[0] + 1), true);
		return;
	}
	if (rule_count == MAX_RULES)
		die("too many statements at", words[0]);
	rules[rule_count].section = *section;
	if (strcmp(words[0], "try") != 0)
		read_rule(&rules[rule_count], words, count);
	else if (count > 2 && is_number(words[1], &number)) {
		rules[rule_count].only = (uint32_t)number;
		read_rule(&rules[rule_count], words + 2, count - 2);
	} else
		die("a number and a statement belong after", "try");
	rule_count++;
}

static void
read_script(char *text)
{
	char *rest;
	int section = 0;
	bool comment = false;

	for (char *c = text; *c != '\0'; c++) {
		comment = *c != '\n' && (comment || *c == '#');
		if (comment)
			*c = ' ';
	}
	for (char *s = strtok_r(text, ";\n", &rest); s != NULL; s = strtok_r(NULL, ";\n", &rest))
		read_statement(s, &section);
}

static void
load_script(void)
{
	static char text[MAX_SCRIPT]; /* rules point into it */
	const char *script = getenv("ZIT_FAKE");
	FILE *f;

	if (script == NULL)
		return;
	if (script[0] != '/') {
		if (strlen(script) >= sizeof(text))
			die("too long a script:", "ZIT_FAKE");
		strcpy(text, script);
	} else {
		f = fopen(script, "re");
		if (f == NULL || fread(text, 1, sizeof(text) - 1, f) == sizeof(text) - 1)
			die("cannot be read, or too long:", script);
		fclose(f);
	}
	read_script(text);
}

/* ---- jobs */

static void
run_phase(enum phase phase, struct job *job)
{
	uint32_t now = job != NULL ? job->head.attempt : generation;

	skip = false;
	for (int i = 0; i < rule_count; i++) {
		const struct rule *r = &rules[i];
		struct scene scene = {r->word, r->number, job};
		if (r->section != (job != NULL ? job->section : 0) || r->phase != phase ||
		    (r->only != 0 && r->only != now) || (r->step != 0 && r->step != job->step))
			continue;
		if (r->act != act_sleep) /* which does so itself, unless it takes no time */
			let_out();
		r->act(&scene);
	}
}

/* The job is forgotten: it ended, or `fail` ended it. */
static void
drop_job(struct job *job)
{
	int i = (int)(job - jobs);

	memmove(job, job + 1, (size_t)(--job_count - i) * sizeof(*job));
}

static void
take_job(const struct proto_msg *m)
{
	struct job *job = &jobs[job_count];
	struct proto_msg ack;

	if (job_count == MAX_JOBS)
		die("too many jobs before", m->JOB.id);
	job_count++;
	*job = (struct job){m->head, m->JOB.steps, m->JOB.count, m->JOB.seed, 0, m->JOB.first, 0, false};
	if (m->JOB.prompt[0] == '@')
		job->section = section_index(m->JOB.prompt + 1, strcspn(m->JOB.prompt + 1, " "), false);
	if (job->section < 0)
		die("the script has no section for the prompt", m->JOB.prompt);
	run_phase(JOB, job);
	ack = about(job, PROTO_ACK);
	if (!skip)
		send_message(&ack, -1);
	run_phase(ACK, job);
	if (job->head.job == 0)
		drop_job(job);
}

static struct job *
find_job(const struct proto_msg *m)
{
	for (struct job *job = jobs; job < jobs + job_count; job++) {
		if (job->head.job == m->head.job && job->head.attempt == m->head.attempt)
			return job;
	}
	return NULL;
}

static void
take_cancel(const struct proto_msg *m)
{
	struct job *job = find_job(m);
	struct proto_msg answer;

	if (job == NULL)
		return;
	answer = about(job, PROTO_STOPPED);
	answer.STOPPED.step = job->step;
	run_phase(CANCEL, job);
	if (!skip)
		send_message(&answer, -1);
	drop_job(job);
}

static void
take_suspend(const struct proto_msg *m)
{
	struct job *job = find_job(m);
	const struct scene scene = {"", 0, job};

	if (job == NULL)
		return;
	job->suspended = true;
	run_phase(SUSPEND, job);
	if (!skip)
		act_send_suspended(&scene);
}

static void
take_resume(const struct proto_msg *m)
{
	struct job *job = find_job(m);

	if (job == NULL)
		return;
	job->suspended = false;
	run_phase(RESUME, job);
}

static void
answer_canary(void)
{
	struct proto_msg m = {.head.type = PROTO_CANARY_OK};

	run_phase(CANARY, NULL);
	if (!skip)
		send_message(&m, -1);
}

/* Until there is something to read, or room for what is still to be sent, or it is interrupted. */
static void
await(void)
{
	struct pollfd waits[] = {{.fd = channel_fd(channel)}, {.fd = alarm_fd, .events = POLLIN}};

	let_out();
	waits[0].events = (short)(POLLIN | (channel_has_output(channel) ? POLLOUT : 0));
	poll(waits, 2, -1);
}

static void
take_message(const struct proto_msg *m, const int *fds)
{
	if (m->head.type == PROTO_JOB) {
		close(fds[0]); /* it keeps no checkpoints */
		take_job(m);
	} else if (m->head.type == PROTO_CANARY)
		answer_canary();
	else if (m->head.type == PROTO_CANCEL && !ignore_cancel)
		take_cancel(m);
	else if (m->head.type == PROTO_SUSPEND)
		take_suspend(m);
	else if (m->head.type == PROTO_RESUME)
		take_resume(m);
	else if (m->head.type == PROTO_STOP && !ignore_stop) {
		finish = true;
		interrupted |= m->STOP.finish_jobs == 0;
	}
}

/* Until there are none: taking some may have lasted, and others have come. */
static void
take_messages(bool idle)
{
	struct proto_msg m;
	int fds[PROTO_MAX_FDS], status, taken;

	if (idle)
		await();
	channel_flush(channel);
	do {
		taken = 0;
		while ((status = channel_receive(channel, &m, fds)) == 1) {
			take_message(&m, fds);
			taken++;
		}
	} while (status == 0 && taken > 0);
	if (status == 0)
		return;
	let_out();
	_exit(status == -ERR_UNREACHABLE ? 0 : RUNNER_EXIT_PROTOCOL);
}

static void
finish_picture(struct job *job)
{
	const struct scene scene = {"", 0, job};

	run_phase(ENCODE, job);
	if (!skip && job->head.job != 0)
		send_progress(job, STAGE_ENCODE, job->steps);
	run_phase(PICTURE, job);
	if (job->head.job == 0) {
		drop_job(job);
		return;
	}
	if (!skip)
		act_send_picture(&scene);
	job->picture++;
	job->step = 0;
	if (job->picture < job->count)
		return;
	job->picture--; /* what `after` sends once more is the last one */
	run_phase(DONE, job);
	if (!skip && job->head.job != 0)
		act_send_done(&scene);
	run_phase(AFTER, job);
	drop_job(job);
}

static void
make_step(struct job *job)
{
	job->step++;
	run_phase(STEP, job);
	if (job->head.job == 0)
		drop_job(job);
	else if (!skip)
		send_progress(job, STAGE_DENOISE, job->step);
}

/* The oldest one that is not suspended, or NULL. */
static struct job *
next_job(void)
{
	for (struct job *job = jobs; job < jobs + job_count; job++) {
		if (!job->suspended)
			return job;
	}
	return NULL;
}

/* It was told to finish, and has. */
static bool
is_finished(void)
{
	if (!finish || job_count > 0)
		return false;
	let_out();
	return !channel_has_output(channel);
}

static void
serve(void)
{
	struct job *job;

	while (!interrupted && !is_finished()) {
		take_messages(next_job() == NULL);
		job = next_job();
		if (job == NULL || interrupted)
			continue;
		if (job->step < job->steps)
			make_step(job);
		else
			finish_picture(job);
	}
}

/* ---- the life */

static void
live(void)
{
	struct proto_msg loading = {.head.type = PROTO_LOADING, .LOADING = {1, 1}};
	struct proto_msg warming = {.head.type = PROTO_WARMING};
	struct proto_msg hello = {.head.type = PROTO_HELLO};
	const struct scene scene = {"", 0, NULL};

	run_phase(HELLO, NULL);
	hello.HELLO = (struct proto_HELLO){PROTO_VERSION, (uint32_t)getpid(), build, "no device"};
	if (!skip)
		send_message(&hello, -1);
	run_phase(LOADING, NULL);
	if (!skip)
		send_message(&loading, -1);
	run_phase(WARMING, NULL);
	if (!skip)
		send_message(&warming, -1);
	run_phase(READY, NULL);
	if (!skip)
		act_ready_again(&scene);
	serve();
}

static void
on_signal(int number)
{
	(void)number;
	interrupted = 1;
	eventfd_write(alarm_fd, 1);
}

/* The options that matter here; the others of zit-runner are taken and not looked at. */
static int
option(int argc, char **argv, const char *name)
{
	for (int i = 1; i + 1 < argc; i++) {
		if (strcmp(argv[i], name) == 0)
			return atoi(argv[i + 1]);
	}
	die("option missing:", name);
	return -1;
}

int
main(int argc, char **argv)
{
	struct sigaction stop = {.sa_handler = on_signal};

	alarm_fd = eventfd(0, EFD_CLOEXEC);
	sigaction(SIGINT, &stop, NULL);
	sigaction(SIGTERM, &stop, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_IGN); /* its children are for zitd to find */
	load_script();
	generation = (uint32_t)option(argc, argv, "--generation");
	status_fd = option(argc, argv, "--status");
	if (shm_attach(status_fd, &page) != 0)
		die("not a status page:", "--status");
	channel = channel_new(option(argc, argv, "--channel"), PROTO_FROM_RUNNER);
	live();
	let_out();
	channel_free(&channel);
	return 0;
}
