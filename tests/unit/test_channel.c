/*
 * ipc/channel: messages and descriptors between two ends, and peers that break the rules. No descriptor is
 * ever kept.
 */
#include "tests/unit/test.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/channel.h"
#include "ipc/err.h"

struct ends {
	struct channel *zitd, *runner;
	int raw; /* the runner's end without a channel, or -1 */
	int fds_before;
};

static void
open_ends(struct ends *e, bool raw)
{
	int pair[2];

	e->fds_before = count_fds();
	assert_int_equal(channel_pair(pair), 0);
	e->zitd = channel_new(pair[0], PROTO_FROM_ZITD);
	e->runner = raw ? NULL : channel_new(pair[1], PROTO_FROM_RUNNER);
	e->raw = raw ? pair[1] : -1;
}

static void
close_ends(struct ends *e)
{
	channel_free(&e->zitd);
	channel_free(&e->runner);
	if (e->raw >= 0)
		close(e->raw);
	assert_int_equal(count_fds(), e->fds_before);
}

static struct proto_msg
picture(void)
{
	return (struct proto_msg){.head = {PROTO_PICTURE, 5, 1, 1}, .PICTURE = {0, 10, 7}};
}

static void
test_message_with_a_descriptor(void **state)
{
	struct proto_msg m = picture(), got;
	struct ends e;
	int fds[PROTO_MAX_FDS], fd;

	(void)state;
	open_ends(&e, false);
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_equal(channel_receive(e.zitd, &got, fds), 0);
	assert_int_equal(channel_send(e.runner, &m, &fd), 0);
	assert_int_equal(channel_receive(e.zitd, &got, fds), 1);
	assert_int_equal(got.PICTURE.seed, 7);
	assert_true((fcntl(fds[0], F_GETFD) & FD_CLOEXEC) != 0);
	close(fds[0]);
	close(fd);
	close_ends(&e);
}

/* A peer that does not read: the queue is bounded, and what was queued arrives in order. */
static void
test_queue_is_bounded_and_ordered(void **state)
{
	struct proto_msg m = {.head = {PROTO_PROGRESS, 5, 1, 1}}, got;
	struct ends e;
	int fds[PROTO_MAX_FDS], status;
	uint32_t sent = 0, seen = 0;

	(void)state;
	open_ends(&e, false);
	do {
		m.PROGRESS.step = sent;
		status = channel_send(e.runner, &m, NULL);
		sent += status == 0;
	} while (status == 0 && sent < 1000000);
	assert_int_equal(status, -ERR_QUEUE_FULL);
	assert_true(channel_has_output(e.runner));
	while (seen < sent) {
		while (channel_receive(e.zitd, &got, fds) == 1)
			assert_int_equal(got.PROGRESS.step, seen++);
		assert_int_equal(channel_flush(e.runner), 0);
	}
	assert_false(channel_has_output(e.runner));
	close_ends(&e);
}

static void
test_largest_message_passes(void **state)
{
	static char prompt[65537], negative[65537];
	struct proto_msg m = {.head = {PROTO_JOB, 5, 1, 1}}, got;
	struct ends e;
	int fds[PROTO_MAX_FDS], checkpoint = STDIN_FILENO; /* any descriptor */

	(void)state;
	memset(prompt, 'p', 65536);
	memset(negative, 'n', 65536);
	m.JOB = (struct proto_JOB){256, 256, 8, 1, 0, 0, 1, "job", prompt, negative};
	open_ends(&e, false);
	assert_int_equal(channel_send(e.zitd, &m, &checkpoint), 0);
	assert_int_equal(channel_receive(e.runner, &got, fds), 1);
	close(fds[0]);
	assert_int_equal(strlen(got.JOB.negative_prompt), 65536);
	close_ends(&e);
}

static void
send_raw(int socket, const void *bytes, size_t count, int copies)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(253 * sizeof(int))];
	} control = {0};
	struct iovec part = {(void *)bytes, count};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

	if (copies > 0) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE((size_t)copies * sizeof(int));
		*CMSG_FIRSTHDR(&message) = (struct cmsghdr){.cmsg_level = SOL_SOCKET,
		    .cmsg_type = SCM_RIGHTS,
		    .cmsg_len = CMSG_LEN((size_t)copies * sizeof(int))};
		for (int i = 0; i < copies; i++)
			((int *)CMSG_DATA(CMSG_FIRSTHDR(&message)))[i] = STDIN_FILENO;
	}
	assert_int_equal(sendmsg(socket, &message, 0), (ssize_t)count);
}

static void
test_wrong_number_of_descriptors(void **state)
{
	static const int counts[] = {0, 2, 5, 253};
	struct proto_msg m = picture(), got;
	uint8_t packet[200];
	int bytes = proto_pack(&m, packet, sizeof(packet)), fds[PROTO_MAX_FDS];

	(void)state;
	for (int i = 0; i < 4; i++) {
		struct ends e;
		open_ends(&e, true);
		send_raw(e.raw, packet, (size_t)bytes, counts[i]);
		assert_int_equal(channel_receive(e.zitd, &got, fds), -ERR_PROTOCOL);
		close_ends(&e);
	}
}

static void
test_garbage(void **state)
{
	static uint8_t large[PROTO_MAX_BYTES + 1];
	struct proto_msg got;
	int fds[PROTO_MAX_FDS];
	struct ends e;

	(void)state;
	open_ends(&e, true);
	send_raw(e.raw, "hello", 5, 3);
	assert_int_equal(channel_receive(e.zitd, &got, fds), -ERR_PROTOCOL);
	close_ends(&e);
	open_ends(&e, true);
	send_raw(e.raw, large, sizeof(large), 0); /* longer than any message: cut by the kernel, seen by us */
	assert_int_equal(channel_receive(e.zitd, &got, fds), -ERR_PROTOCOL);
	close_ends(&e);
}

/* Heard to the last one, though it came together with the end. */
static void
test_the_end_comes_after_the_last_words(void **state)
{
	struct proto_msg m = picture(), got;
	int fds[PROTO_MAX_FDS], fd = open("/dev/null", O_RDONLY | O_CLOEXEC), heard = 0, status;
	struct ends e;

	(void)state;
	for (int said = 0; said < 40; said++) {
		open_ends(&e, false);
		for (int i = 0; i < said; i++)
			assert_int_equal(channel_send(e.runner, &m, &fd), 0);
		channel_free(&e.runner);
		while ((status = channel_receive(e.zitd, &got, fds)) >= 0) {
			heard += status;
			if (status == 1)
				close(fds[0]);
		}
		assert_int_equal(status, -ERR_UNREACHABLE);
		assert_int_equal(heard, said);
		heard = 0;
		close_ends(&e);
	}
	close(fd);
}

/* What nobody takes is closed with the channel, whether it was received already or not. */
static void
test_what_is_not_taken_is_closed(void **state)
{
	struct proto_msg m = picture(), got;
	int fds[PROTO_MAX_FDS], fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct ends e;

	(void)state;
	open_ends(&e, false);
	for (int i = 0; i < 40; i++)
		assert_int_equal(channel_send(e.runner, &m, &fd), 0);
	assert_int_equal(channel_receive(e.zitd, &got, fds), 1);
	close(fds[0]);
	close_ends(&e);
	close(fd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_message_with_a_descriptor),
	    cmocka_unit_test(test_queue_is_bounded_and_ordered),
	    cmocka_unit_test(test_largest_message_passes),
	    cmocka_unit_test(test_wrong_number_of_descriptors),
	    cmocka_unit_test(test_garbage),
	    cmocka_unit_test(test_the_end_comes_after_the_last_words),
	    cmocka_unit_test(test_what_is_not_taken_is_closed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
