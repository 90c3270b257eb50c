/*
 * The one thread that touches the disk: result files are written, synced and renamed there, and removed
 * there. The loop hands tasks over and hears of their ends.
 */
#ifndef SUPERVISOR_DISK_H
#define SUPERVISOR_DISK_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct disk;

enum disk_kind {
	DISK_WRITE,  /* all of fd into dir/name, by a temporary name; fd is closed */
	DISK_REMOVE, /* dir/name */
	DISK_SWEEP,  /* temporary files, and pictures older than max_age_s, left by an earlier life */
};

struct disk_task {
	enum disk_kind kind;
	int fd;
	char name[64];
	double max_age_s;
	int error;			      /* errno of the end, 0 when it went well */
	void (*done)(struct disk_task *task); /* on the loop's thread; NULL: nobody waits */
	void *arg;
	uint64_t arg_number;
	STAILQ_ENTRY(disk_task) link; /* the disk's */
};

/* `dir` is made when it is not there. NULL with errno. */
struct disk *disk_new(struct ev_loop *loop, const char *dir);
void disk_free(struct disk **d); /* finishes what was handed over; nobody hears of it any more */
/* Takes a copy of the task. -ERR_SYSTEM: no memory, and the fd is still the caller's. */
int disk_put(struct disk *d, const struct disk_task *task);
const char *disk_dir(const struct disk *d);
int disk_pending(struct disk *d);   /* tasks handed over and not done */
bool disk_is_alive(struct disk *d); /* nothing to do, or something was finished within the last minute */

#endif
