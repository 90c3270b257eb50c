/*
 * Memory that zitd and runners share.
 *
 * The status page: one memfd per runner generation, made and sealed in size by zitd, written by the runner
 * only. zitd reads it without locks, copies what it reads, treats every value as hostile and never waits on
 * it. It is how a dead runner still says what it was doing.
 *
 * A checkpoint: one memfd per job, made and sealed in size by zitd, which keeps it from the first dispatch to
 * the job's end, hands it to each runner that works on the job, and never looks into it. What is in it is the
 * runners' matter (runner/resume.h).
 */
#ifndef IPC_SHM_H
#define IPC_SHM_H

#include <stddef.h>
#include <stdint.h>

enum { SHM_MAGIC = 0x315a4954, SHM_VERSION = 2, SHM_BYTES = 4096, SHM_LAST_WORDS = 240 };

#define SHM_MAX_CHECKPOINT (UINT64_C(256) << 20) /* bytes; more is no checkpoint of a picture */

/* STAGE(NAME, "name"): what a job is in. Order is the job's way; `stage` in messages and on the page. */
#define SHM_STAGES(STAGE) \
	STAGE(NONE, "none") \
	STAGE(TOKENIZE, "tokenize") \
	STAGE(TEXT, "text_encode") \
	STAGE(DENOISE, "denoise") \
	STAGE(DECODE, "vae_decode") \
	STAGE(ENCODE, "encode")

enum stage {
#define STAGE(name, text) STAGE_##name,
	SHM_STAGES(STAGE)
#undef STAGE
	    STAGE_COUNT
};

/* "denoise"; "?" for a number out of range. */
const char *stage_name(uint32_t stage);

/* What the sensors of a runner's device say; a negative number: it has no such sensor. */
struct shm_readings {
	double memory_used_bytes;   /* of the whole device, by all processes */
	double utilization;	    /* 0 to 1 */
	double temperature_celsius; /* its own */
	double energy_joules;	    /* since its driver was loaded */
};

struct status_page {
	uint32_t magic, version;
	uint32_t stage;			 /* enum stage */
	uint32_t step;			 /* whole steps done of the current picture */
	uint64_t job;			 /* 0 when idle */
	uint64_t worked_us;		 /* CLOCK_MONOTONIC when a part of its work was last done */
	uint64_t peak_memory_bytes;	 /* of the device; host memory on a CPU */
	char last_words[SHM_LAST_WORDS]; /* the last error line; may lack its NUL if the writer died in it */
	uint64_t sensed_us;		 /* CLOCK_MONOTONIC of the readings; 0: there are none */
	struct shm_readings readings;
};

/* zitd: a new sealed memfd of SHM_BYTES (CLOEXEC), mapped read-only at *page. Returns the fd or -ERR_SYSTEM.
 */
int shm_create(const struct status_page **page);
/* zitd, after an upgrade: maps the page again that it made before. 0 or -ERR_SYSTEM. */
int shm_watch(int fd, const struct status_page **page);
/* runner: maps fd read-write after checking seals and size. 0 or -ERR_PROTOCOL. */
int shm_attach(int fd, struct status_page **page);
void shm_detach(const struct status_page **page); /* either side; nulls the pointer */

/* zitd: a new sealed memfd for a checkpoint (CLOEXEC), all zero. The fd or -ERR_SYSTEM with errno. */
int shm_create_checkpoint(uint64_t bytes);
/* zitd: all zero again. 0 or -ERR_SYSTEM. */
int shm_clear_checkpoint(int fd, uint64_t bytes);
/* runner: maps the checkpoint fd read-write after checking its seals; *bytes is its size. NULL: it is not
 * one. The fd stays the caller's. shm_detach_checkpoint unmaps and nulls. */
void *shm_attach_checkpoint(int fd, size_t *bytes);
void shm_detach_checkpoint(void **memory, size_t bytes);

/* A copy that is safe to use: NUL-terminated, control bytes and broken UTF-8 replaced, numbers as found. */
void shm_read(const struct status_page *page, struct status_page *copy);
/* runner: what it is at, and that it works. */
void shm_note(struct status_page *page, uint64_t job, enum stage stage, uint32_t step);
/* runner: a part of its work is done. zitd takes no runner for hung that does this. */
void shm_worked(struct status_page *page);
void shm_sensed(struct status_page *page, const struct shm_readings *readings);
/* runner: its last error line. */
void shm_last_words(struct status_page *page, const char *text);

#endif
