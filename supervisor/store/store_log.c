/*
 * SQLite's log (its file format, section 4), read beside SQLite.
 *
 * Every frame has a checksum over all before it. Where it is wrong, SQLite takes that for the end, as it has
 * to: power may have been lost while the frame was written. It was not if one bit explains it. Nor was it
 * where two transactions end behind it, for each is synced before the next one begins.
 */
#include "supervisor/store/store_log.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	HEAD_SUMMED = 24, /* bytes of the head under its checksum, which follows them */
	FRAME_SUMMED = 8, /* likewise of a frame's head; the page is under it, too */
	SIZE_AT = 4,	  /* in a frame: not 0 where a transaction ends */
	SALTS_AT = 8,
	HEAD_SALTS_AT = 16,
	SALTS = 8,   /* a log's generation, in its head and in each frame */
	SUM_AT = 16, /* in a frame */
	PAGE_AT = 24,
	PAGE = STORE_LOG_FRAME - PAGE_AT,
	MAX_BYTES = 64 * 1024 * 1024, /* that are looked through */
};

struct sum {
	uint32_t a, b;
};

uint32_t
store_big_endian(const char *bytes)
{
	const uint8_t *p = (const uint8_t *)bytes;

	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static struct sum
read_sum(const char *bytes)
{
	return (struct sum){store_big_endian(bytes), store_big_endian(bytes + 4)};
}

static bool
is_equal(struct sum x, struct sum y)
{
	return x.a == y.a && x.b == y.b;
}

/* SQLite's, on a machine of the usual byte order; it writes no other logs here. */
static struct sum
add_bytes(struct sum sum, const char *bytes, size_t count)
{
	uint32_t words[2];

	for (size_t i = 0; i < count; i += sizeof(words)) {
		memcpy(words, bytes + i, sizeof(words));
		sum.a += words[0] + sum.b;
		sum.b += words[1] + sum.a;
	}
	return sum;
}

static char *
frame_of(const struct store_log *l, int at)
{
	return l->bytes + STORE_LOG_HEAD + (size_t)at * STORE_LOG_FRAME;
}

static struct sum
sum_of_frame(const char *frame, struct sum before)
{
	return add_bytes(add_bytes(before, frame, FRAME_SUMMED), frame + PAGE_AT, PAGE);
}

static bool
is_of_this_log(const struct store_log *l, const char *frame)
{
	return memcmp(frame + SALTS_AT, l->salts, SALTS) == 0;
}

static bool
ends_transaction(const char *frame)
{
	return store_big_endian(frame + SIZE_AT) != 0;
}

/* ---- whether one bit explains it */

static bool
differ_by_a_bit(const char *x, const char *y, size_t count)
{
	int bits = 0;

	for (size_t i = 0; i < count; i++)
		bits += __builtin_popcount((uint8_t)(x[i] ^ y[i]));
	return bits == 1;
}

/* One of `count` bytes, the last ones under a checksum that is wrong by so much. What a bit adds depends on
 * its place: from the end, each pair of words makes (a, b) of what comes before it (a + b, a + 2b). *effect:
 * of the first word of the last pair, and then of the pair before these bytes. */
static bool
a_bit_explains(const char *bytes, size_t count, struct sum wrong)
{
	struct sum effect = {1, 1}; /* of the first word of the last pair */

	for (size_t pair = count / 8; pair-- > 0;) {
		const struct sum effects[2] = {effect, {effect.b - effect.a, effect.a}};
		for (int bit = 0; bit < 64; bit++) {
			bool is_set = (bytes[pair * 8 + (size_t)bit / 8] >> bit % 8 & 1) != 0;
			uint32_t change = UINT32_C(1) << bit % 32;
			struct sum by = effects[bit / 32];
			change = is_set ? change : -change; /* back to what it was */
			if (by.a * change == -wrong.a && by.b * change == -wrong.b)
				return true;
		}
		effect = (struct sum){effect.a + effect.b, effect.a + 2 * effect.b};
	}
	return false;
}

/* `sum` is what the bytes have, *stored what they should have. */
static struct sum
error_of(struct sum sum, struct sum stored)
{
	return (struct sum){stored.a - sum.a, stored.b - sum.b};
}

static bool
sums_differ_by_a_bit(struct sum x, struct sum y)
{
	return __builtin_popcount(x.a ^ y.a) + __builtin_popcount(x.b ^ y.b) == 1;
}

/* ---- the walk */

enum verdict { SOUND, ONE_BIT, BAD };

/* What the next frame goes on from: one of these, for which of a sum and its bytes was hit nobody knows. */
struct chain {
	struct sum stored, computed;
};

/* Turns the bit of the frame's head that explains it. Where one of the page explains it, too, and this one is
 * of the page's number, nobody here can tell: it stays. */
static bool
turn_head_bit(struct store_log *l, char *frame, struct sum before, bool in_page)
{
	const struct sum stored = read_sum(frame + SUM_AT);

	for (int bit = 0; bit < 8 * FRAME_SUMMED; bit++) {
		char *byte = &frame[bit / 8];
		*byte ^= (char)(1 << bit % 8);
		if (is_equal(sum_of_frame(frame, before), stored)) {
			if (!in_page || bit >= 8 * SIZE_AT)
				return true;
			l->doubtful = (int)((size_t)(frame - frame_of(l, 0)) / STORE_LOG_FRAME);
			l->other_number = store_big_endian(frame);
			*byte ^= (char)(1 << bit % 8);
			return true;
		}
		*byte ^= (char)(1 << bit % 8);
	}
	return false;
}

static enum verdict
judge_from(struct store_log *l, char *frame, struct sum before, struct sum *sum)
{
	const struct sum stored = read_sum(frame + SUM_AT);
	bool in_page;

	*sum = sum_of_frame(frame, before);
	if (is_equal(*sum, stored) && is_of_this_log(l, frame))
		return SOUND;
	if (is_equal(*sum, stored))
		return differ_by_a_bit(frame + SALTS_AT, l->salts, SALTS) ? ONE_BIT : BAD;
	if (!is_of_this_log(l, frame))
		return BAD;
	in_page = sums_differ_by_a_bit(*sum, stored) ||
		  a_bit_explains(frame + PAGE_AT, PAGE, error_of(*sum, stored));
	return turn_head_bit(l, frame, before, in_page) || in_page ? ONE_BIT : BAD;
}

static enum verdict
judge_frame(struct store_log *l, char *frame, struct chain *chain)
{
	struct sum sum;
	enum verdict verdict = judge_from(l, frame, chain->stored, &sum);

	if (verdict == BAD && !is_equal(chain->stored, chain->computed))
		verdict = judge_from(l, frame, chain->computed, &sum);
	*chain = (struct chain){read_sum(frame + SUM_AT), sum};
	return verdict;
}

/* A damaged head does not say which frames are its own: the first one is. */
static enum verdict
judge_head(struct store_log *l, struct chain *chain)
{
	enum verdict verdict = BAD;

	*chain = (struct chain){
	    read_sum(l->bytes + HEAD_SUMMED), add_bytes((struct sum){0, 0}, l->bytes, HEAD_SUMMED)};
	memcpy(l->salts, l->bytes + HEAD_SALTS_AT, SALTS);
	if (is_equal(chain->stored, chain->computed))
		return SOUND;
	if (sums_differ_by_a_bit(chain->stored, chain->computed) ||
	    a_bit_explains(l->bytes, HEAD_SUMMED, error_of(chain->computed, chain->stored)))
		verdict = ONE_BIT;
	memcpy(l->salts, frame_of(l, 0) + SALTS_AT, SALTS);
	return verdict;
}

static int
frames_there(const struct store_log *l)
{
	return (int)((l->size - STORE_LOG_HEAD) / STORE_LOG_FRAME);
}

/* Takes what follows, each frame from the one before, behind the bad one, if two transactions end there. */
static void
look_behind(struct store_log *l, int bad)
{
	int ends = 0, last = bad;

	for (int at = bad + 1; at < frames_there(l); at++) {
		struct chain chain = {read_sum(frame_of(l, at - 1) + SUM_AT), {0, 0}};
		chain.computed = chain.stored;
		if (judge_frame(l, frame_of(l, at), &chain) != SOUND)
			break;
		ends += ends_transaction(frame_of(l, at));
		last = ends_transaction(frame_of(l, at)) ? at + 1 : last;
	}
	if (ends < 2)
		return;
	l->frames = last;
	l->damaged = true;
}

static void
walk(struct store_log *l)
{
	struct chain chain;
	enum verdict verdict = judge_head(l, &chain);
	bool doubtful = verdict == ONE_BIT;
	int at;

	for (at = 0; at < frames_there(l) && verdict != BAD; at++) {
		verdict = judge_frame(l, frame_of(l, at), &chain);
		if (verdict == BAD)
			break;
		doubtful = doubtful || verdict == ONE_BIT;
		if (!ends_transaction(frame_of(l, at)))
			continue;
		l->frames = at + 1;
		l->damaged = doubtful;
	}
	if (at < frames_there(l))
		look_behind(l, at);
}

/* ---- the file */

static bool
read_all(int fd, char *bytes, size_t size)
{
	ssize_t n;

	for (size_t done = 0; done < size; done += (size_t)n) {
		n = read(fd, bytes + done, size - done);
		if (n <= 0)
			return false;
	}
	return true;
}

void
store_log_read(struct store_log *l, const char *path)
{
	char log_path[PATH_MAX];
	struct stat st;
	int fd;

	*l = (struct store_log){0};
	snprintf(log_path, sizeof(log_path), "%.4000s-wal", path);
	fd = open(log_path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0 && st.st_size >= STORE_LOG_HEAD + STORE_LOG_FRAME && st.st_size <= MAX_BYTES)
		l->bytes = malloc((size_t)st.st_size);
	if (l->bytes != NULL) {
		l->size = (size_t)st.st_size;
		if (read_all(fd, l->bytes, l->size))
			walk(l);
		else
			store_log_clear(l);
	}
	close(fd);
}

void
store_log_clear(struct store_log *l)
{
	free(l->bytes);
	*l = (struct store_log){0};
}

const char *
store_log_page(const struct store_log *l, int at, uint32_t *number)
{
	const char *frame = frame_of(l, at);

	*number = store_big_endian(frame);
	return frame + PAGE_AT;
}
