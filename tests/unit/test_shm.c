/*
 * ipc/shm: the page is sealed in size, shared, and read safely whatever is written.
 */
#include "tests/unit/test.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/err.h"
#include "ipc/shm.h"

static void
test_page_is_shared_and_sealed(void **state)
{
	const struct status_page *ours;
	struct status_page *theirs, copy;
	int fd = shm_create(&ours);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(shm_attach(fd, &theirs), 0);
	shm_note(theirs, 41, STAGE_DENOISE, 3);
	shm_last_words(theirs, "out of device memory\n");
	shm_read(ours, &copy);
	assert_int_equal(copy.job, 41);
	assert_int_equal(copy.step, 3);
	assert_string_equal(copy.last_words, "out of device memory?");
	assert_string_equal(stage_name(copy.stage), "denoise");
	assert_int_equal(ftruncate(fd, 0), -1); /* nobody can make us read beyond its end */
	memset(theirs->last_words, 0xff, sizeof(theirs->last_words));
	theirs->stage = 999;
	shm_read(ours, &copy);
	assert_int_equal(strlen(copy.last_words), sizeof(copy.last_words) - 1);
	assert_string_equal(stage_name(copy.stage), "?");
	shm_detach(&ours);
	shm_detach((const struct status_page **)&theirs);
	assert_null(ours);
	close(fd);
}

static void
test_other_files_are_refused(void **state)
{
	struct status_page *page;
	int fd = memfd_create("other", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	(void)state;
	assert_int_equal(ftruncate(fd, SHM_BYTES), 0);
	assert_int_equal(shm_attach(fd, &page), -ERR_PROTOCOL); /* not sealed */
	assert_int_equal(shm_attach(STDIN_FILENO, &page), -ERR_PROTOCOL);
	close(fd);
}

/* Wherever it was written: nowhere, all over, at its end. Its memory is given back. */
static void
test_a_cleared_checkpoint_is_zero_and_as_large(void **state)
{
	enum { BYTES = 8192 };
	static const struct {
		size_t from, bytes;
	} writes[] = {{0, 0}, {0, BYTES}, {BYTES - 1, 1}};
	int fd = shm_create_checkpoint(BYTES);
	size_t seen = 0;
	uint8_t *memory = shm_attach_checkpoint(fd, &seen);
	int written = 0;
	struct stat st;

	(void)state;
	assert_non_null(memory);
	for (size_t k = 0; k < sizeof(writes) / sizeof(writes[0]); k++) {
		memset(memory + writes[k].from, 0xa5, writes[k].bytes);
		assert_int_equal(shm_clear_checkpoint(fd, BYTES), 0);
		assert_int_equal(fstat(fd, &st), 0);
		assert_int_equal(st.st_blocks, 0);
		for (size_t i = 0; i < BYTES; i++)
			written += memory[i] != 0;
		assert_int_equal(written, 0);
	}
	shm_detach_checkpoint((void **)&memory, seen);
	assert_non_null(memory = shm_attach_checkpoint(fd, &seen));
	assert_int_equal(seen, BYTES);
	shm_detach_checkpoint((void **)&memory, seen);
	close(fd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_page_is_shared_and_sealed),
	    cmocka_unit_test(test_other_files_are_refused),
	    cmocka_unit_test(test_a_cleared_checkpoint_is_zero_and_as_large)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
