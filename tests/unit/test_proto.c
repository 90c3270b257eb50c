/*
 * ipc/proto: every message packed and read back; every cut and every flipped byte refused or harmless.
 */
#include "tests/unit/test.h"

#include "ipc/err.h"
#include "ipc/proto.h"

/* One of each row, with values that can be told apart. */
static int
make(struct proto_msg *m, int index, enum proto_sender *sender)
{
	static const struct {
		unsigned type;
		enum proto_sender sender;
		int about_job;
	} kinds[] = {
#define ZITD PROTO_FROM_ZITD
#define RUNNER PROTO_FROM_RUNNER
#define NOBODY 0
#define JOB 1
#define MSG(NAME, number, sender, fds, about, fields, help) {number, sender, about},
#include "ipc/proto.def"
	};

	if (index >= (int)(sizeof(kinds) / sizeof(kinds[0])))
		return -1;
	*m = (struct proto_msg){.head = {(uint16_t)kinds[index].type, kinds[index].about_job ? 77 : 0, 3, 9}};
	*sender = kinds[index].sender;
	switch (m->head.type) {
#define U32(x, help) f->x = 0x1000u + (uint32_t)sizeof(#x);
#define U64(x, help) f->x = UINT64_C(0x100000000) + sizeof(#x);
#define F64(x, help) f->x = 0.5 + sizeof(#x);
#define STR(x, max, help) f->x = "\xe7\x8c\xab " #x;
#define MSG(NAME, number, sender, fds, about, fields, help) \
	case PROTO_##NAME: { \
		struct proto_##NAME *f = &m->NAME; \
		fields \
	} break;
#include "ipc/proto.def"
	}
	return 0;
}

static void
check_fields(const struct proto_msg *a, const struct proto_msg *b)
{
	assert_int_equal(a->head.job, b->head.job);
	assert_int_equal(a->head.attempt, b->head.attempt);
	assert_int_equal(a->head.generation, b->head.generation);
	switch (a->head.type) {
#define U32(x, help) assert_int_equal(f->x, g->x);
#define U64(x, help) assert_int_equal(f->x, g->x);
#define F64(x, help) assert_true(f->x == g->x);
#define STR(x, max, help) assert_string_equal(f->x, g->x);
#define MSG(NAME, number, sender, fds, about, fields, help) \
	case PROTO_##NAME: { \
		const struct proto_##NAME *f = &a->NAME, *g = &b->NAME; \
		fields \
	} break;
#include "ipc/proto.def"
	}
}

static void
test_every_message_comes_back(void **state)
{
	static uint8_t packet[PROTO_MAX_BYTES];
	enum proto_sender sender;
	struct proto_msg m, back;

	(void)state;
	for (int i = 0; make(&m, i, &sender) == 0; i++) {
		int bytes = proto_pack(&m, packet, sizeof(packet));
		assert_true(bytes > 0);
		assert_int_equal(proto_read(&back, sender, packet, (size_t)bytes), 0);
		assert_int_equal(back.head.type, m.head.type);
		check_fields(&m, &back);
		assert_int_equal(proto_read(&back, !sender, packet, (size_t)bytes), -ERR_PROTOCOL);
		assert_string_not_equal(proto_name(m.head.type), "?");
	}
}

static void
test_every_cut_is_refused(void **state)
{
	static uint8_t packet[PROTO_MAX_BYTES];
	enum proto_sender sender;
	struct proto_msg m, back;

	(void)state;
	for (int i = 0; make(&m, i, &sender) == 0; i++) {
		int bytes = proto_pack(&m, packet, sizeof(packet));
		for (int cut = 0; cut < bytes; cut++) {
			uint8_t *exact = malloc((size_t)cut + 1); /* so that reading past the end is seen */
			memcpy(exact, packet, (size_t)cut);
			assert_int_equal(proto_read(&back, sender, exact, (size_t)cut), -ERR_PROTOCOL);
			free(exact);
		}
		assert_int_equal(proto_read(&back, sender, packet, (size_t)bytes + 1), -ERR_PROTOCOL);
	}
}

/* A flipped byte gives another number, another text, or a refusal; never a read outside or a broken string.
 */
static void
test_flipped_bytes_are_harmless(void **state)
{
	static uint8_t packet[PROTO_MAX_BYTES];
	enum proto_sender sender;
	struct proto_msg m, back;
	int refused = 0, taken = 0;

	(void)state;
	for (int i = 0; make(&m, i, &sender) == 0; i++) {
		int bytes = proto_pack(&m, packet, sizeof(packet));
		for (int at = 0; at < 8 * bytes; at++) {
			uint8_t *copy = malloc((size_t)bytes);
			memcpy(copy, packet, (size_t)bytes);
			copy[at / 8] ^= (uint8_t)(1 << at % 8);
			if (proto_read(&back, sender, copy, (size_t)bytes) == 0)
				taken++;
			else
				refused++;
			free(copy);
		}
	}
	print_message("flipped bits: %d refused, %d read as another value\n", refused, taken);
	assert_true(refused > 0 && taken > 0);
}

static void
test_what_cannot_be_sent(void **state)
{
	static uint8_t packet[PROTO_MAX_BYTES];
	static char longer[66000];
	struct proto_msg m = {.head = {PROTO_HELLO, 0, 0, 1}, .HELLO = {1, 2, "build", "\xff"}};

	(void)state;
	assert_int_equal(proto_pack(&m, packet, sizeof(packet)), -ERR_PROTOCOL); /* not UTF-8 */
	m.HELLO.device = "fine";
	assert_int_equal(proto_pack(&m, packet, 30), -ERR_PROTOCOL); /* does not fit */
	memset(longer, 'x', sizeof(longer) - 1);
	m.HELLO.device = longer;
	assert_int_equal(proto_pack(&m, packet, sizeof(packet)), -ERR_PROTOCOL); /* over the row's bound */
	m.head.type = 999;
	assert_int_equal(proto_pack(&m, packet, sizeof(packet)), -ERR_PROTOCOL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_every_message_comes_back),
	    cmocka_unit_test(test_every_cut_is_refused),
	    cmocka_unit_test(test_flipped_bytes_are_harmless),
	    cmocka_unit_test(test_what_cannot_be_sent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
