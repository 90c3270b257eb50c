/*
 * The status page: made and sealed by zitd, written by a runner, read as hostile. And memory for checkpoints.
 */
#include "ipc/shm.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/err.h"
#include "ipc/utf8.h"

_Static_assert(sizeof(struct status_page) <= SHM_BYTES, "the page must hold the struct");

/* With these no process can shrink the file under our mapping and make us read beyond its end. */
enum { SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL };

static const char *const stage_names[] = {
#define STAGE(name, text) text,
    SHM_STAGES(STAGE)
#undef STAGE
};

const char *
stage_name(uint32_t stage)
{
	return stage < STAGE_COUNT ? stage_names[stage] : "?";
}

/* A memfd of that size, sealed in it; -ERR_SYSTEM with errno. */
static int
create_sealed(const char *name, uint64_t bytes)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING), error;

	if (fd < 0)
		return -ERR_SYSTEM;
	if (ftruncate(fd, (off_t)bytes) == 0 && fcntl(fd, F_ADD_SEALS, SEALS) == 0)
		return fd;
	error = errno;
	close(fd);
	errno = error;
	return -ERR_SYSTEM;
}

int
shm_watch(int fd, const struct status_page **page)
{
	void *memory = mmap(NULL, SHM_BYTES, PROT_READ, MAP_SHARED, fd, 0);

	if (memory == MAP_FAILED)
		return -ERR_SYSTEM;
	*page = memory;
	return 0;
}

int
shm_create(const struct status_page **page)
{
	struct status_page first = {.magic = SHM_MAGIC, .version = SHM_VERSION};
	int fd = create_sealed("zit-status", SHM_BYTES);

	if (fd < 0)
		return -ERR_SYSTEM;
	if (pwrite(fd, &first, sizeof(first), 0) == (ssize_t)sizeof(first) && shm_watch(fd, page) == 0)
		return fd;
	close(fd);
	return -ERR_SYSTEM;
}

int
shm_attach(int fd, struct status_page **page)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;
	struct status_page *memory;

	if (seals < 0 || (seals & F_SEAL_SHRINK) == 0 || fstat(fd, &st) != 0 || st.st_size != SHM_BYTES)
		return -ERR_PROTOCOL;
	memory = mmap(NULL, SHM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		return -ERR_SYSTEM;
	if (memory->magic != SHM_MAGIC || memory->version != SHM_VERSION) {
		munmap(memory, SHM_BYTES);
		return -ERR_PROTOCOL;
	}
	*page = memory;
	return 0;
}

void
shm_detach(const struct status_page **page)
{
	if (*page != NULL)
		munmap((void *)*page, SHM_BYTES);
	*page = NULL;
}

int
shm_create_checkpoint(uint64_t bytes)
{
	return create_sealed("zit-checkpoint", bytes);
}

int
shm_clear_checkpoint(int fd, uint64_t bytes)
{
	int status;

	if (lseek(fd, 0, SEEK_DATA) < 0 && errno == ENXIO)
		return 0; /* nobody wrote there: asking is cheaper than emptying */
	status = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)bytes);
	return status == 0 ? 0 : -ERR_SYSTEM;
}

void *
shm_attach_checkpoint(int fd, size_t *bytes)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;
	void *memory;

	if (seals < 0 || (seals & F_SEAL_SHRINK) == 0 || fstat(fd, &st) != 0 || st.st_size <= 0)
		return NULL;
	memory = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		return NULL;
	*bytes = (size_t)st.st_size;
	return memory;
}

void
shm_detach_checkpoint(void **memory, size_t bytes)
{
	if (*memory != NULL)
		munmap(*memory, bytes);
	*memory = NULL;
}

void
shm_read(const struct status_page *page, struct status_page *copy)
{
	memcpy(copy, page, sizeof(*copy));
	copy->last_words[sizeof(copy->last_words) - 1] = '\0';
	utf8_make_line(copy->last_words);
}

void
shm_note(struct status_page *page, uint64_t job, enum stage stage, uint32_t step)
{
	page->job = job;
	page->stage = stage;
	page->step = step;
	shm_worked(page);
}

void
shm_worked(struct status_page *page)
{
	page->worked_us = (uint64_t)clock_now_us();
}

void
shm_sensed(struct status_page *page, const struct shm_readings *readings)
{
	page->readings = *readings;
	page->sensed_us = (uint64_t)clock_now_us();
}

void
shm_last_words(struct status_page *page, const char *text)
{
	size_t count = strnlen(text, sizeof(page->last_words) - 1);

	memcpy(page->last_words, text, count);
	page->last_words[count] = '\0';
}
