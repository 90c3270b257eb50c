/*
 * The one thread that touches the disk: result files are written, synced and renamed there, and removed
 * there, and all that is asked of the store is done there. The loop hands tasks over, and hears of their ends
 * in the same order.
 */
#ifndef SUPERVISOR_DISK_H
#define SUPERVISOR_DISK_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "supervisor/store/store.h"

struct disk;

enum disk_kind {
	DISK_WRITE,  /* all of fd into dir/name, by a temporary name; fd is closed */
	DISK_SWEEP,  /* what an earlier life left in dir that belongs to no job */
	DISK_OPEN,   /* the store, and what it has to begin with */
	DISK_COMMIT, /* batch */
	DISK_FIND,   /* query */
	DISK_RETAIN, /* pictures and records whose time is over go; `more` says that not all have gone yet */
	DISK_KINDS
};

/* The store's opening. */
struct disk_opening {
	const char *dir;
	int status; /* store_open's, with its reason */
	struct err e;
	struct store_report report;
	struct store_start start;
};

struct disk_task {
	enum disk_kind kind;
	int fd;
	char name[64];
	bool unsynced;		      /* DISK_WRITE: the file need not survive a loss of power */
	struct disk_opening *opening; /* these three are the caller's */
	struct store_batch *batch;
	struct store_query *query;
	struct store_retention retention;
	bool more;
	int error;			      /* errno of the end, 0 when it went well */
	void (*done)(struct disk_task *task); /* on the loop's thread; NULL: nobody waits */
	void *arg;
	uint64_t arg_number;
	STAILQ_ENTRY(disk_task) link; /* the disk's */
};

/* `dir` is made when it is not there. NULL with errno. */
struct disk *disk_new(struct ev_loop *loop, const char *dir);
void disk_free(struct disk **d); /* finishes what was handed over; nobody hears of it any more */
/* Opens the store at once: before anything was handed over. */
void disk_open_store(struct disk *d, struct disk_opening *opening);
/* Takes a copy of the task. -ERR_SYSTEM: no memory, and the fd is still the caller's. */
int disk_put(struct disk *d, const struct disk_task *task);
const char *disk_dir(const struct disk *d);
int disk_pending(struct disk *d);   /* tasks handed over and not done */
bool disk_is_alive(struct disk *d); /* nothing to do, or something was finished within the last minute */

#endif
