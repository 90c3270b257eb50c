/*
 * supervisor/socket: whole lines in, answers out with what comes with them, clocks, and who must wait. It is
 * linked with what it stands on and nothing else of zitd.
 */
#include "tests/unit/test.h"

#include <ev.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ipc/fds.h"
#include "supervisor/socket/attachment.h"
#include "supervisor/socket/client.h"
#include "supervisor/socket/outbox.h"

/* What was told, of the last client that told something. */
static struct told {
	char lines[256]; /* each with '|' behind it */
	int gone, connecting, stalling;
	struct client *client;
} told;

static struct ev_loop *loop;
static struct clients *clients;
static struct sockaddr_un address;
static socklen_t address_size;

static void
on_line(void *arg, struct client *c, const char *line, size_t bytes)
{
	size_t used = strlen(told.lines);

	assert_ptr_equal(arg, &told);
	snprintf(told.lines + used, sizeof(told.lines) - used, "%.*s|", (int)bytes, line);
	told.client = c;
}

static void
on_gone(void *arg, struct client *c)
{
	(void)arg;
	told.gone++;
	if (told.client == c)
		told.client = NULL;
}

static void
on_timed_out(void *arg, bool introduced)
{
	(void)arg;
	told.stalling += introduced;
	told.connecting += !introduced;
}

static void
on_caught_up(void *arg, struct client *c)
{
	(void)arg;
	(void)c;
}

static const struct clients_world world = {&told, on_line, on_gone, on_caught_up, on_timed_out};

static void
open_with(struct clients_limits limits)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	alarm(60); /* what has not come by then never does */
	memset(&told, 0, sizeof(told));
	address = (struct sockaddr_un){.sun_family = AF_UNIX};
	address_size = sizeof(address);
	assert_int_equal(
	    bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t)), 0); /* a name of the kernel's */
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &address_size), 0);
	assert_int_equal(listen(fd, 8), 0);
	loop = ev_loop_new(EVFLAG_NOENV);
	clients = clients_new(loop, fd, NULL, &limits, &world);
	assert_non_null(clients);
}

static void
close_all(void)
{
	clients_free(&clients);
	ev_loop_destroy(loop);
}

static int
connect_one(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&address, address_size), 0);
	return fd;
}

static void
say(int fd, const char *bytes)
{
	assert_int_equal(write(fd, bytes, strlen(bytes)), (ssize_t)strlen(bytes));
}

/* Whatever can happen without waiting. */
static void
run(void)
{
	for (int i = 0; i < 20; i++)
		ev_run(loop, EVRUN_NOWAIT);
}

static const struct clients_limits generous = {60, 60, 10};

static void
test_lines_are_whole_and_never_empty(void **state)
{
	int fd;

	(void)state;
	open_with(generous);
	fd = connect_one();
	say(fd, "on");
	run();
	assert_string_equal(told.lines, "");
	say(fd, "e\n\ntwo\nthr");
	run();
	assert_string_equal(told.lines, "one|two|");
	close(fd);
	close_all();
}

static void
test_who_goes_is_told_once(void **state)
{
	int before = count_fds(), fd;

	(void)state;
	open_with(generous);
	fd = connect_one();
	say(fd, "one\n");
	run();
	assert_int_equal(clients_count(clients), 1);
	close(fd);
	run();
	assert_int_equal(told.gone, 1);
	assert_int_equal(clients_count(clients), 0);
	close_all();
	assert_int_equal(told.gone, 1);
	assert_int_equal(count_fds(), before);
}

static void
test_beyond_max_clients_one_waits_for_another_to_go(void **state)
{
	int first, second;

	(void)state;
	open_with((struct clients_limits){60, 60, 1});
	first = connect_one();
	say(first, "first\n");
	run();
	second = connect_one();
	say(second, "second\n");
	run();
	assert_string_equal(told.lines, "first|");
	close(first);
	run();
	assert_string_equal(told.lines, "first|second|");
	close(second);
	close_all();
}

static void
test_limits_count_from_when_they_are_set(void **state)
{
	int first, second;

	(void)state;
	open_with((struct clients_limits){60, 60, 1});
	first = connect_one();
	run();
	clients_set_limits(clients, &generous);
	second = connect_one();
	while (clients_count(clients) < 2)
		ev_run(loop, EVRUN_ONCE); /* it looked too early, and looks again */
	close(first);
	close(second);
	close_all();
}

static void
test_its_clocks_end_one_that_is_silent(void **state)
{
	int fd;

	(void)state;
	open_with((struct clients_limits){0.01, 60, 10});
	fd = connect_one();
	while (told.gone == 0)
		ev_run(loop, EVRUN_ONCE);
	assert_int_equal(told.connecting, 1);
	close(fd);
	close_all();

	open_with((struct clients_limits){60, 0.01, 10});
	fd = connect_one();
	say(fd, "one\n");
	while (told.gone == 0)
		ev_run(loop, EVRUN_ONCE);
	assert_int_equal(told.stalling, 1);
	close(fd);
	close_all();
}

static void
test_one_that_waits_for_an_answer_may_be_silent(void **state)
{
	char answer[8] = "";
	int fd;

	(void)state;
	open_with(generous);
	fd = connect_one();
	say(fd, "one\n");
	run();
	client_hold(told.client, 0, 0);
	shutdown(fd, SHUT_WR);
	run();
	assert_int_equal(told.gone, 0); /* it only sends no more */
	client_answer(told.client, 0, 0, strdup("done"), NULL);
	run();
	assert_int_equal(read(fd, answer, sizeof(answer)), 5);
	assert_memory_equal(answer, "done\n", 5);
	assert_int_equal(told.gone, 1);
	close(fd);
	close_all();
}

/* ---- what comes with an answer */

static int
file_with(const char *text)
{
	int fd = memfd_create("picture", MFD_CLOEXEC);

	say(fd, text);
	return fd;
}

static void
test_descriptors_are_passed(void **state)
{
	struct attachment a = {.count = 2};
	union fds_control control;
	char text[16] = "", content[8] = "";
	struct iovec part = {text, sizeof(text)};
	struct msghdr message = {
	    .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	int fd, before = count_fds(), fds[FDS_MAX_RECEIVED];

	(void)state;
	open_with(generous);
	fd = connect_one();
	say(fd, "one\n");
	run();
	a.fds[0] = file_with("abc");
	a.fds[1] = file_with("defg");
	client_send(told.client, strdup("two"), &a);
	assert_int_equal(recvmsg(fd, &message, MSG_CMSG_CLOEXEC), 4);
	assert_int_equal(fds_received(&message, fds), 2);
	assert_int_equal(pread(fds[1], content, sizeof(content), 0), 4);
	assert_string_equal(content, "defg");
	close(fds[0]);
	close(fds[1]);
	close(fd);
	close_all();
	assert_int_equal(count_fds(), before);
}

static void
test_bytes_take_the_place_that_was_kept_for_them(void **state)
{
	struct attachment a = {.count = 1, .inline_base64 = true};
	char mark[48], *line = NULL, text[64] = "";
	int fd;

	(void)state;
	open_with(generous);
	fd = connect_one();
	say(fd, "one\n");
	run();
	attachment_placeholder(0, mark);
	assert_true(asprintf(&line, "[%s]", mark) > 0);
	a.fds[0] = file_with("zit!");
	client_send(told.client, line, &a);
	assert_true(read(fd, text, sizeof(text)) > 0);
	assert_string_equal(text, "[eml0IQ==]\n");
	close(fd);
	close_all();
}

/* What arrives when the file is to stand in brackets; `lent`: its bytes, or 0. */
static void
show_file(int fd, int file, size_t lent, char *text, size_t size)
{
	struct attachment a = {.count = 1, .inline_base64 = true, .fds = {file}, .lent = {lent}};
	char mark[48], *line = NULL;
	size_t got = 0;

	attachment_placeholder(0, mark);
	assert_true(asprintf(&line, "[%s]", mark) > 0);
	client_send(told.client, line, &a);
	while (got == 0 || text[got - 1] != '\n') {
		ssize_t n = read(fd, text + got, size - got);
		assert_true(n > 0);
		got += (size_t)n;
		run();
	}
	text[got] = '\0';
}

/* [base64] and a newline, bit by bit. */
static void
expect_base64(const char *text, const char *bytes, size_t count)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	assert_int_equal(*text++, '[');
	for (size_t sextet = 0; sextet < (count + 2) / 3 * 4; sextet++) {
		unsigned int value = 0;

		for (size_t bit = 6 * sextet; bit < 6 * sextet + 6; bit++)
			value = value << 1 |
				(bit / 8 < count ? (uint8_t)bytes[bit / 8] >> (7 - bit % 8) & 1u : 0);
		if (*text++ != (6 * sextet < 8 * count ? alphabet[value] : '='))
			fail_msg("of %zu bytes, character %zu is %c", count, sextet, text[-1]);
	}
	assert_string_equal(text, "]\n");
}

/* The same text either way, whatever the last group of three holds; the file is still its owner's. */
static void
test_what_is_lent_is_read_at_once(void **state)
{
	static const size_t sizes[] = {1, 2, 3, 67, OUTBOX_SMALL};
	static char bytes[OUTBOX_SMALL], lent[2 * OUTBOX_SMALL], taken[2 * OUTBOX_SMALL];
	int fd, file;

	(void)state;
	open_with(generous);
	fd = connect_one();
	say(fd, "one\n");
	run();
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)(i * 7 + i / 251);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		file = memfd_create("picture", MFD_CLOEXEC);
		assert_int_equal(write(file, bytes, sizes[i]), sizes[i]);
		show_file(fd, file, sizes[i], lent, sizeof(lent));
		assert_true(fcntl(file, F_GETFD) >= 0);
		show_file(fd, file, 0, taken, sizeof(taken));
		assert_int_equal(fcntl(file, F_GETFD), -1);
		assert_string_equal(lent, taken);
		expect_base64(lent, bytes, sizes[i]);
	}
	close(fd);
	close_all();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_lines_are_whole_and_never_empty),
	    cmocka_unit_test(test_who_goes_is_told_once),
	    cmocka_unit_test(test_beyond_max_clients_one_waits_for_another_to_go),
	    cmocka_unit_test(test_limits_count_from_when_they_are_set),
	    cmocka_unit_test(test_its_clocks_end_one_that_is_silent),
	    cmocka_unit_test(test_one_that_waits_for_an_answer_may_be_silent),
	    cmocka_unit_test(test_descriptors_are_passed),
	    cmocka_unit_test(test_bytes_take_the_place_that_was_kept_for_them),
	    cmocka_unit_test(test_what_is_lent_is_read_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
