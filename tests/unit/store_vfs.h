/*
 * A disk between SQLite and the real one, for tests of the store: it writes down what is done to it, fails
 * when it is told to, and does not wait for the real disk.
 */
#ifndef TESTS_UNIT_STORE_VFS_H
#define TESTS_UNIT_STORE_VFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum disk_op_kind { OP_WRITE, OP_TRUNCATE, OP_SYNC, OP_DELETE };

struct disk_op {
	enum disk_op_kind kind;
	bool failed;	/* a sync: nothing that was written before it is on the disk */
	char name[32];	/* of the file, without its directory */
	int64_t offset; /* of a write; of a truncation: the new size */
	size_t bytes;
	char *data;
};

struct disk_log {
	struct disk_op *ops;
	int count;
};

/* What the disk does from now on; all zero: nothing wrong. */
struct disk_faults {
	int failing_syncs;	/* so many; below 0: all */
	int sound_syncs;	/* before these so many go well */
	bool full;		/* no file grows */
	const char *full_while; /* ... as long as the file of that path is there; NULL: always */
};

extern struct disk_faults disk_faults;

void store_vfs_install(void);		     /* for all files that are opened from now on */
void store_vfs_record(struct disk_log *log); /* NULL: not any more */
void disk_log_clear(struct disk_log *log);

#endif
