/*
 * runner/resume: what is kept comes back with the same bits; what is torn, damaged or another picture's does
 * not.
 */
#include "tests/unit/test.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ipc/shm.h"
#include "runner/resume.h"

enum { COUNT = 1000 };

static const struct resume_picture cat = {"hash", "cpu", "a cat", 42, 64, 64, 8, false};

struct memory {
	int fd;
	uint8_t *bytes; /* as somebody else sees it */
	size_t size;
};

static struct memory
make_memory(void)
{
	struct memory m = {.size = (size_t)resume_bytes(COUNT)};

	m.fd = shm_create_checkpoint(m.size);
	assert_true(m.fd >= 0);
	m.bytes = mmap(NULL, m.size, PROT_READ | PROT_WRITE, MAP_SHARED, m.fd, 0);
	assert_ptr_not_equal(m.bytes, MAP_FAILED);
	return m;
}

static void
drop_memory(struct memory *m)
{
	munmap(m->bytes, m->size);
	close(m->fd);
}

/* A process that comes to the memory anew. */
static struct resume *
enter(const struct memory *m, const struct resume_picture *p)
{
	struct resume *r = resume_open(dup(m->fd));

	assert_non_null(r);
	resume_begin(r, p);
	return r;
}

static void
fill(float *latent, int step)
{
	for (int i = 0; i < COUNT; i++)
		latent[i] = (float)(step * 10000 + i) / 7.0f;
}

static void
keep(struct resume *r, int step)
{
	float latent[COUNT];

	fill(latent, step);
	resume_save(r, step, latent, COUNT);
}

/* The step that a newcomer finds, its bits looked at. */
static int
found(const struct memory *m, const struct resume_picture *p)
{
	float latent[COUNT] = {0}, wanted[COUNT] = {0};
	struct resume *r = enter(m, p);
	int step = resume_load(r, latent, COUNT);

	if (step > 0)
		fill(wanted, step);
	assert_memory_equal(latent, wanted, sizeof(latent));
	resume_close(&r);
	return step;
}

static void
test_the_latest_step_comes_back(void **state)
{
	struct memory m = make_memory();
	struct resume *r;

	(void)state;
	assert_int_equal(found(&m, &cat), 0);
	r = enter(&m, &cat);
	for (int step = 1; step <= 8; step++) {
		keep(r, step);
		assert_int_equal(found(&m, &cat), step);
	}
	resume_close(&r);
	drop_memory(&m);
}

/* Who goes on writes over the older half first: at no moment is the latest one at risk. */
static void
test_going_on_spares_the_latest(void **state)
{
	struct memory m = make_memory();
	float latent[COUNT];
	struct resume *r;

	(void)state;
	for (int last = 2; last <= 3; last++) {
		r = enter(&m, &cat);
		for (int step = 1; step <= last; step++)
			keep(r, step);
		resume_close(&r);
		r = enter(&m, &cat);
		assert_int_equal(resume_load(r, latent, COUNT), last);
		keep(r, 1); /* it replaces the one before the latest */
		assert_int_equal(found(&m, &cat), last);
		resume_close(&r);
	}
	drop_memory(&m);
}

static void
test_other_pictures_do_not_count(void **state)
{
	struct resume_picture others[] = {cat, cat, cat, cat, cat, cat, cat, cat};
	struct memory m = make_memory();
	struct resume *r = enter(&m, &cat);
	float latent[COUNT];

	(void)state;
	others[0].model_hash = "another";
	others[1].device = "cuda:0";
	others[2].prompt = "a dog";
	others[3].seed = 43;
	others[4].width = 80;
	others[5].height = 80;
	others[6].steps = 9;
	others[7].truncate = true;
	keep(r, 5);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		assert_int_equal(found(&m, &others[i]), 0);
	assert_int_equal(resume_load(r, latent, COUNT - 1), 0); /* nor another size */
	assert_int_equal(found(&m, &cat), 5);
	resume_close(&r);
	drop_memory(&m);
}

/* Every bit that counts, changed, takes its half away; the other half is then the latest. */
static void
test_every_changed_bit_is_seen(void **state)
{
	struct memory m = make_memory();
	struct resume *r = enter(&m, &cat);
	size_t used = 16 + 48 + COUNT * sizeof(float), seen = 0; /* magic and checksum, what it covers */

	(void)state;
	keep(r, 1);
	keep(r, 2);
	for (size_t byte = 0; byte < m.size / 2 + used; byte++) {
		bool second = byte >= m.size / 2;
		int before = found(&m, &cat), after;
		if (byte % (m.size / 2) >= used)
			continue;
		m.bytes[byte] ^= 1 << (byte % 8);
		after = found(&m, &cat);
		seen += after != before;
		assert_int_equal(after, second ? 1 : 2);
		m.bytes[byte] ^= 1 << (byte % 8);
	}
	assert_int_equal(seen, used);
	resume_close(&r);
	drop_memory(&m);
}

/* A memory of another size, or none, is no reason to fail. */
static void
test_memory_that_does_not_fit(void **state)
{
	struct memory m = make_memory();
	struct resume *r = enter(&m, &cat);
	float *large = calloc(4 * COUNT, sizeof(float));

	(void)state;
	resume_save(r, 3, large, 4 * COUNT);
	assert_int_equal(resume_load(r, large, 4 * COUNT), 0);
	free(large);
	resume_close(&r);
	drop_memory(&m);
	assert_null(resume_open(STDIN_FILENO));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_the_latest_step_comes_back),
	    cmocka_unit_test(test_going_on_spares_the_latest),
	    cmocka_unit_test(test_other_pictures_do_not_count),
	    cmocka_unit_test(test_every_changed_bit_is_seen),
	    cmocka_unit_test(test_memory_that_does_not_fit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
