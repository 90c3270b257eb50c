/*
 * Bytes of strangers through the three readers that meet them: proto_read, channel_receive and api_parse.
 * Valid messages and lines, changed at random from a fixed seed, and plain random bytes; each input lies in
 * memory of exactly its size, so that a sanitizer sees every step outside.
 *
 * With -DZIT_LIBFUZZER it has libFuzzer's entry point instead of a main:
 *   clang -fsanitize=fuzzer,address -DZIT_LIBFUZZER ... tests/unit/test_fuzz.c ipc/(all).c -ljansson -lcmocka
 */
#include "tests/unit/test.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/api.h"
#include "ipc/channel.h"
#include "ipc/utf8.h"

/* ---- what must hold of what was read, whatever the bytes */

enum { NOBODY, JOB }; /* the words of the rows */

static bool
lies_within(const void *at, size_t bytes, const void *whole, size_t size)
{
	const uint8_t *a = at, *w = whole;

	return a >= w && bytes <= size && a <= w + size - bytes;
}

static bool
is_text(const char *text, size_t min, size_t max)
{
	size_t bytes = strlen(text);

	return bytes >= min && bytes <= max && utf8_valid(text, bytes);
}

/* Its strings are whole, short enough and in the packet; packed again it gives the same bytes. */
static void
check_message(const struct proto_msg *m, const uint8_t *packet, size_t bytes)
{
	static uint8_t again[PROTO_MAX_BYTES];

	switch (m->head.type) {
#define STR(x, max, help) \
	assert_true(lies_within(f->x, strlen(f->x) + 1, packet, bytes)); \
	assert_true(is_text(f->x, 0, max));
#define MSG(NAME, number, sender, fds, about, fields, help) \
	case PROTO_##NAME: { \
		const struct proto_##NAME *f = &m->NAME; \
		(void)f; \
		assert_true((about == JOB) == (m->head.job != 0)); \
		fields \
	} break;
#include "ipc/proto.def"
	default:
		fail_msg("a message of type %u, which is no row", m->head.type);
	}
	assert_int_equal(proto_pack(m, again, sizeof(again)), (int)bytes);
	assert_memory_equal(again, packet, bytes);
}

/* true: it was a message. */
static bool
check_packet(const uint8_t *packet, size_t bytes)
{
	struct proto_msg m;
	int taken = 0;

	for (int sender = PROTO_FROM_ZITD; sender <= PROTO_FROM_RUNNER; sender++) {
		int status = proto_read(&m, (enum proto_sender)sender, packet, bytes);
		assert_true(status == 0 || status == -ERR_PROTOCOL);
		if (status == 0)
			check_message(&m, packet, bytes);
		taken += status == 0;
	}
	assert_true(taken <= 1); /* each row has one sender */
	return taken == 1;
}

static void
check_ids(const json_t *ids, size_t max)
{
	assert_true(json_is_string(ids) ||
		    (json_is_array(ids) && json_array_size(ids) > 0 && json_array_size(ids) <= max));
	for (size_t i = 0; i < json_array_size(ids); i++)
		assert_true(json_is_string(json_array_get(ids, i)));
}

/* Every field is there if it must be, and within its row's bounds. */
static void
check_request(const struct api_request *r)
{
	switch (r->method) {
#define OPTIONAL true
#define REQUIRED false
#define STRING(x, need, min, max, help) \
	assert_true(p->has_##x || need); \
	assert_true(!p->has_##x || is_text(p->x, min, max));
#define INTEGER(x, need, min, max, multiple, help) \
	assert_true(p->has_##x || need); \
	assert_true(!p->has_##x || (p->x >= (min) && p->x <= (max) && p->x % (multiple) == 0));
#define NUMBER(x, need, min, max, help) \
	assert_true(p->has_##x || need); \
	assert_true(!p->has_##x || (p->x >= (min) && p->x <= (max)));
#define BOOLEAN(x, need, help) assert_true(p->has_##x || need);
#define CHOICE(x, need, words, help) \
	assert_true(p->has_##x || need); \
	assert_true(!p->has_##x || api_choice_word(r->method, #x, p->x) != NULL);
#define IDS(x, need, max, help) \
	assert_true(p->has_##x || need); \
	if (p->has_##x) \
		check_ids(p->x, max);
#define METHOD(NAME, role, when, fields, help) \
	case API_##NAME: { \
		const struct api_##NAME *p = &r->NAME; \
		(void)p; \
		fields \
	} break;
#include "ipc/api.def"
	case API_METHOD_COUNT:
		fail_msg("a method that is no row");
	}
}

static bool
is_one_line(const char *text)
{
	for (const char *c = text; *c != '\0'; c++) {
		if ((uint8_t)*c < ' ' || *c == 0x7f)
			return false;
	}
	return utf8_valid(text, strlen(text));
}

/* An error has words that can be sent. */
static void
check_refusal(int status, const struct err *e, const char *param, json_t *id)
{
	char *text = api_error(id, e, param, NULL);
	json_t *reply = json_loads(text, JSON_REJECT_DUPLICATES, NULL);

	assert_true(status == -ERR_PARSE_ERROR || status == -ERR_INVALID_REQUEST ||
		    status == -ERR_UNKNOWN_METHOD || status == -ERR_INVALID_PARAM);
	assert_int_equal(e->code, -status);
	assert_true(e->text[0] != '\0' && is_one_line(e->text));
	assert_true(is_one_line(param));
	assert_non_null(json_string_value(json_object_get(json_object_get(reply, "error"), "message")));
	free(text);
	json_decref(reply);
}

/* true: it was a request. */
static bool
check_line(const char *line, size_t bytes)
{
	struct api_request r;
	struct err e = {0};
	char param[64];
	json_t *id;
	int status = api_parse(&r, line, bytes, &e, param, &id);

	if (status == 0) {
		check_request(&r);
		api_request_clear(&r);
	} else
		check_refusal(status, &e, param, id);
	json_decref(id);
	return status == 0;
}

#ifdef ZIT_LIBFUZZER

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first byte says which reader gets the rest. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 0 && data[0] % 2 == 0)
		check_packet(data + 1, size - 1);
	else if (size > 0)
		check_line((const char *)data + 1, size - 1);
	return 0;
}

#else

/* ---- inputs */

enum { PACKETS = 300000, LINES = 200000, MESSAGES = 60000, ROOM = 4096 };

/* xorshift64*: the same inputs in every run. */
static uint64_t dice_state;

static uint32_t
dice(uint32_t sides)
{
	dice_state ^= dice_state >> 12;
	dice_state ^= dice_state << 25;
	dice_state ^= dice_state >> 27;
	return (uint32_t)((dice_state * UINT64_C(0x2545f4914f6cdd1d)) >> 32) % sides;
}

/* An input that is being made. */
struct input {
	uint8_t data[ROOM];
	size_t bytes;
};

static void
put_in(struct input *in, size_t at, const void *bytes, size_t count)
{
	if (count > ROOM - in->bytes)
		return;
	memmove(in->data + at + count, in->data + at, in->bytes - at);
	memcpy(in->data + at, bytes, count);
	in->bytes += count;
}

static void
cut_out(struct input *in, size_t at, size_t count)
{
	if (count > in->bytes - at)
		count = in->bytes - at;
	memmove(in->data + at, in->data + at + count, in->bytes - at - count);
	in->bytes -= count;
}

/* Words that the readers know, or should not like. */
static const struct {
	const char *text;
	size_t bytes;
} words[] = {
#define WORD(text) \
	{ \
		text, sizeof(text) - 1 \
	}
    WORD("{"),
    WORD("}"),
    WORD("["),
    WORD("]"),
    WORD("\""),
    WORD("\\"),
    WORD(","),
    WORD(":"),
    WORD("\0"),
    WORD("\xff"),
    WORD("\xff\xff\xff\xff"),
    WORD("\0\0\0\0"),
    WORD("\1\0\0\0"),
    WORD("\xed\xa0\x80"),
    WORD("\xe7\x8c"),
    WORD("\\ud800"),
    WORD("\\u0000"),
    WORD("1e999"),
    WORD("-1"),
    WORD("9223372036854775808"),
    WORD("null"),
    WORD("true"),
    WORD("\"id\":"),
    WORD("\"prompt\":"),
    WORD("\"method\":\"submit\""),
    WORD("\"params\":"),
    WORD("[[[[[[[[[[[[[[[[[[[["),
    WORD("0.1e-300"),
    WORD(",null"),
    WORD("\xe7\x8c\xab"),
    WORD("xxxxxxxxxxxxxxxxxxxx"),
#undef WORD
};

enum { WORDS = sizeof(words) / sizeof(words[0]) };

static void
change_once(struct input *in)
{
	size_t at = dice((uint32_t)in->bytes + 1), count = dice(16);
	uint8_t noise[16];
	uint32_t word = dice(WORDS);

	switch (dice(5)) {
	case 0:
		if (at < in->bytes)
			in->data[at] ^= (uint8_t)(1u << dice(8));
		break;
	case 1:
		cut_out(in, at, count);
		break;
	case 2:
		memcpy(noise, in->data + at, count <= in->bytes - at ? count : 0);
		put_in(in, at, noise, count <= in->bytes - at ? count : 0);
		break;
	case 3:
		for (uint32_t times = dice(8) == 0 ? dice(20) : 1; times > 0; times--)
			put_in(in, at, words[word].text, words[word].bytes);
		break;
	default:
		for (size_t i = 0; i < count; i++)
			noise[i] = (uint8_t)dice(256);
		cut_out(in, at, dice(2) * count);
		put_in(in, at, noise, count);
	}
}

static void
fill_with_noise(struct input *in)
{
	in->bytes = dice(200);
	for (size_t i = 0; i < in->bytes; i++)
		in->data[i] = (uint8_t)dice(256);
}

/* In memory of exactly its size, the caller's to free. */
static uint8_t *
exact_copy(const struct input *in)
{
	uint8_t *copy = malloc(in->bytes > 0 ? in->bytes : 1);

	memcpy(copy, in->data, in->bytes);
	return copy;
}

/* ---- messages between zitd and a runner */

static const struct proto_msg messages[] = {
    {.head = {PROTO_HELLO, 0, 0, 1}, .HELLO = {PROTO_VERSION, 7, "build", "a device"}},
    {.head = {PROTO_LOADING, 0, 0, 1}, .LOADING = {1, 2}},
    {.head = {PROTO_READY, 0, 0, 1}, .READY = {"model", "\xe7\x8c\xab", 256, 512, 262144, 1, 4096}},
    {.head = {PROTO_FATAL, 0, 0, 1}, .FATAL = {71, "a sticky error"}},
    {.head = {PROTO_STOP, 0, 0, 1}, .STOP = {1}},
    {.head = {PROTO_JOB, 5, 1, 1},
	.JOB = {256, 256, 8, 1, 0, 0, 7, "job_x", "\xe4\xb8\x80\xe5\x8f\xaa\xe7\x8c\xab a cat", ""}},
    {.head = {PROTO_CANCEL, 5, 1, 1}, .CANCEL = {32022}},
    {.head = {PROTO_ACK, 5, 1, 1}, .ACK = {0}},
    {.head = {PROTO_PROGRESS, 5, 1, 1}, .PROGRESS = {1, 0, 3, 8}},
    {.head = {PROTO_PICTURE, 5, 1, 1}, .PICTURE = {0, 1000, 7}},
    {.head = {PROTO_DONE, 5, 1, 1}, .DONE = {12, 0, 0.05, 0.1, 0.2, 0.3, 0.4}},
    {.head = {PROTO_FAILED, 5, 1, 1}, .FAILED = {32002, "too long"}},
    {.head = {PROTO_STOPPED, 5, 1, 1}, .STOPPED = {3}},
};

/* Some string, or what looks like one, gets longer together with its length. */
static void
grow_a_string(struct input *in)
{
	static const char more[] = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
	uint32_t count, grown = dice(sizeof(more));

	for (size_t at = 24 + dice(40); at + 4 < in->bytes; at++) {
		memcpy(&count, in->data + at, sizeof(count));
		if (count > 300 || at + 4 + count >= in->bytes || in->data[at + 4 + count] != '\0')
			continue;
		put_in(in, at + 4, more, grown);
		count += grown;
		memcpy(in->data + at, &count, sizeof(count));
		return;
	}
}

/* After a change the length in the header is mostly made right again, so that more than that is tried. */
static void
make_packet(struct input *in)
{
	int bytes =
	    proto_pack(&messages[dice(sizeof(messages) / sizeof(messages[0]))], in->data, sizeof(in->data));

	assert_true(bytes > 0);
	in->bytes = (size_t)bytes;
	if (dice(8) == 0) {
		fill_with_noise(in);
		return;
	}
	for (uint32_t changes = dice(4); changes > 0; changes--)
		change_once(in);
	for (uint32_t times = dice(4) == 0 ? dice(6) : 0; times > 0; times--)
		grow_a_string(in);
	if (in->bytes >= 24 && dice(4) != 0) {
		uint32_t payload = (uint32_t)in->bytes - 24;
		memcpy(in->data + 4, &payload, sizeof(payload)); /* tests run on little-endian machines */
	}
}

static void
test_packets(void **state)
{
	int taken = 0;

	(void)state;
	dice_state = 25;
	for (int i = 0; i < PACKETS; i++) {
		struct input in;
		uint8_t *packet;

		make_packet(&in);
		packet = exact_copy(&in);
		taken += check_packet(packet, in.bytes);
		free(packet);
	}
	print_message("packets: %d of %d were messages\n", taken, PACKETS);
	assert_true(taken > PACKETS / 10 && taken < PACKETS * 9 / 10);
}

/* ---- the same through a socket, with descriptors that belong there or not */

static void
send_with_fds(int socket, const struct input *in, int count)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(253 * sizeof(int))];
	} control = {0};
	struct iovec part = {(void *)in->data, in->bytes};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

	if (count > 0) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
		*CMSG_FIRSTHDR(&message) = (struct cmsghdr){.cmsg_level = SOL_SOCKET,
		    .cmsg_type = SCM_RIGHTS,
		    .cmsg_len = CMSG_LEN((size_t)count * sizeof(int))};
		for (int i = 0; i < count; i++)
			((int *)CMSG_DATA(CMSG_FIRSTHDR(&message)))[i] = socket;
	}
	assert_int_equal(sendmsg(socket, &message, 0), (ssize_t)in->bytes);
}

static int
random_fd_count(void)
{
	uint32_t kind = dice(100);

	return kind < 60 ? 0 : kind < 85 ? 1 : kind < 99 ? (int)dice(6) : 253;
}

/* What came with a message is open and closed on exec; it is closed here. */
static void
close_received(const int *fds, int count)
{
	for (int i = 0; i < count; i++) {
		assert_true((fcntl(fds[i], F_GETFD) & FD_CLOEXEC) != 0);
		close(fds[i]);
	}
}

static int
lowest_free_fd(void)
{
	int fd = dup(STDIN_FILENO);

	close(fd);
	return fd;
}

static void
test_channel(void **state)
{
	struct channel *ends[2];
	int taken = 0, pair[2][2], free_fd, open_fds = count_fds();

	(void)state;
	dice_state = 2525;
	for (int i = 0; i < 2; i++) { /* one as zitd's end, one as a runner's; pair[i][1] is the stranger's */
		assert_int_equal(channel_pair(pair[i]), 0);
		ends[i] = channel_new(
		    pair[i][0], (enum proto_sender)(i == 0 ? PROTO_FROM_ZITD : PROTO_FROM_RUNNER));
	}
	free_fd = lowest_free_fd();
	for (int i = 0; i < MESSAGES; i++) {
		int which = (int)dice(2), count = random_fd_count(), fds[PROTO_MAX_FDS], status;
		struct proto_msg m;
		struct input in;

		make_packet(&in);
		send_with_fds(pair[which][1], &in, count);
		status = channel_receive(ends[which], &m, fds);
		assert_true(
		    status == 1 || status == -ERR_PROTOCOL || (status == -ERR_UNREACHABLE && in.bytes == 0));
		if (status == 1) {
			assert_int_equal(proto_fds(m.head.type), count);
			close_received(fds, count);
		}
		taken += status == 1;
		assert_int_equal(lowest_free_fd(), free_fd); /* nothing was kept */
		assert_int_equal(channel_receive(ends[which], &m, fds), 0);
	}
	for (int i = 0; i < 2; i++) {
		channel_free(&ends[i]);
		close(pair[i][1]);
	}
	assert_int_equal(count_fds(), open_fds);
	print_message("through a socket: %d of %d were messages\n", taken, MESSAGES);
	assert_true(taken > MESSAGES / 20);
}

/* ---- lines of the public socket */

static const char *const requests[] = {
    "{\"id\":1,\"method\":\"status\"}",
    "{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"status\",\"params\":{}}",
    "{\"id\":1,\"method\":\"submit\",\"params\":{\"prompt\":\"\xe7\x8c\xab a "
    "cat\",\"width\":256,\"height\":512,"
    "\"steps\":8,\"seed\":7,\"n\":2,\"priority\":\"low\"}}",
    "{\"id\":1,\"method\":\"submit\",\"params\":{\"prompt\":\"x\",\"negative_prompt\":\"y\",\"guidance\":5.5,"
    "\"queue_timeout\":1.5,\"exec_timeout\":2,\"wait\":true,\"events\":true,\"deliver\":\"base64\","
    "\"on_disconnect\":\"keep\",\"truncate\":false}}",
    "{\"id\":1,\"method\":\"wait\",\"params\":{\"job\":\"job_x\",\"deliver\":\"fd\"}}",
    "{\"id\":1,\"method\":\"list\",\"params\":{\"state\":\"final\",\"limit\":1000}}",
    "{\"id\":1,\"method\":\"result\",\"params\":{\"job\":\"job_x\",\"picture\":15}}",
    "{\"id\":1,\"method\":\"cancel\",\"params\":{\"job\":[\"a\",\"b\",\"\\u732b\"]}}",
    "{\"id\":1,\"method\":\"restart\",\"params\":{\"runner\":\"0\"}}",
    "{}",
    "[]",
};

static void
make_line(struct input *in)
{
	const char *line = requests[dice(sizeof(requests) / sizeof(requests[0]))];

	in->bytes = strlen(line);
	memcpy(in->data, line, in->bytes);
	if (dice(16) == 0) {
		fill_with_noise(in);
		return;
	}
	for (uint32_t changes = dice(4); changes > 0; changes--)
		change_once(in);
}

static void
test_lines(void **state)
{
	int taken = 0;

	(void)state;
	dice_state = 252525;
	for (int i = 0; i < LINES; i++) {
		struct input in;
		uint8_t *line;

		make_line(&in);
		line = exact_copy(&in);
		taken += check_line((const char *)line, in.bytes);
		free(line);
	}
	print_message("lines: %d of %d were requests\n", taken, LINES);
	assert_true(taken > LINES / 10 && taken < LINES * 9 / 10);
}

/* Long ones: the reader's own bounds keep the parser from them, or it takes them whole. */
static void
test_long_lines(void **state)
{
	static const char *const beginnings[] = {"", "{\"id\":1,\"method\":\"cancel\",\"params\":{\"job\":[",
	    "{\"id\":\"", "{\"id\":1,\"method\":\"",
	    "{\"id\":1,\"method\":\"submit\",\"params\":{\"prompt\":\""};
	char *line = malloc(API_MAX_LINE);

	(void)state;
	for (size_t b = 0; b < sizeof(beginnings) / sizeof(beginnings[0]); b++) {
		for (int w = 0; w < WORDS; w++) {
			size_t bytes = strlen(beginnings[b]);

			memcpy(line, beginnings[b], bytes);
			while (bytes + words[w].bytes <= API_MAX_LINE / 16) {
				memcpy(line + bytes, words[w].text, words[w].bytes);
				bytes += words[w].bytes;
			}
			check_line(line, bytes);
		}
	}
	free(line);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_packets),
	    cmocka_unit_test(test_channel),
	    cmocka_unit_test(test_lines),
	    cmocka_unit_test(test_long_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
