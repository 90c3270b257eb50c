/*
 * A disk between SQLite and the real one. Without shared memory, which the store does not use.
 */
#include "tests/unit/store_vfs.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct file {
	sqlite3_file base;
	char name[32];
	sqlite3_file *real; /* behind this one in memory */
};

struct disk_faults disk_faults;
static sqlite3_vfs *below, vfs;
static struct disk_log *recorded;

static const char *
base_name(const char *path)
{
	const char *slash = path != NULL ? strrchr(path, '/') : NULL;

	return slash != NULL ? slash + 1 : "temporary";
}

static struct disk_op *
note(enum disk_op_kind kind, const char *name, int64_t offset, const void *data, size_t bytes)
{
	static struct disk_op unwanted;
	struct disk_op *op = &unwanted;

	if (recorded != NULL) {
		recorded->ops =
		    realloc(recorded->ops, (size_t)(recorded->count + 1) * sizeof(*recorded->ops));
		op = &recorded->ops[recorded->count++];
	}
	*op = (struct disk_op){.kind = kind, .offset = offset, .bytes = bytes};
	snprintf(op->name, sizeof(op->name), "%s", name);
	if (bytes > 0 && recorded != NULL)
		op->data = memcpy(malloc(bytes), data, bytes);
	return op;
}

static sqlite3_file *
real(sqlite3_file *f)
{
	return ((struct file *)f)->real;
}

static const char *
name_of(sqlite3_file *f)
{
	return ((struct file *)f)->name;
}

static bool
is_full(sqlite3_file *f, int64_t end)
{
	sqlite3_int64 size = 0;

	if (!disk_faults.full ||
	    (disk_faults.full_while != NULL && access(disk_faults.full_while, F_OK) != 0))
		return false;
	return real(f)->pMethods->xFileSize(real(f), &size) != SQLITE_OK || end > size;
}

/* ---- a file */

static int
file_close(sqlite3_file *f)
{
	return real(f)->pMethods->xClose(real(f));
}

static int
file_read(sqlite3_file *f, void *out, int bytes, sqlite3_int64 offset)
{
	return real(f)->pMethods->xRead(real(f), out, bytes, offset);
}

static int
file_write(sqlite3_file *f, const void *data, int bytes, sqlite3_int64 offset)
{
	if (is_full(f, offset + bytes))
		return SQLITE_FULL;
	note(OP_WRITE, name_of(f), offset, data, (size_t)bytes);
	return real(f)->pMethods->xWrite(real(f), data, bytes, offset);
}

static int
file_truncate(sqlite3_file *f, sqlite3_int64 size)
{
	note(OP_TRUNCATE, name_of(f), size, NULL, 0);
	return real(f)->pMethods->xTruncate(real(f), size);
}

static int
file_sync(sqlite3_file *f, int flags)
{
	struct disk_op *op = note(OP_SYNC, name_of(f), 0, NULL, 0);

	(void)flags;
	if (disk_faults.failing_syncs != 0 && disk_faults.sound_syncs > 0) {
		disk_faults.sound_syncs--;
		return SQLITE_OK;
	}
	op->failed = disk_faults.failing_syncs != 0;
	if (disk_faults.failing_syncs > 0)
		disk_faults.failing_syncs--;
	return op->failed ? SQLITE_IOERR_FSYNC : SQLITE_OK;
}

static int
file_size(sqlite3_file *f, sqlite3_int64 *size)
{
	return real(f)->pMethods->xFileSize(real(f), size);
}

static int
file_lock(sqlite3_file *f, int level)
{
	return real(f)->pMethods->xLock(real(f), level);
}

static int
file_unlock(sqlite3_file *f, int level)
{
	return real(f)->pMethods->xUnlock(real(f), level);
}

static int
file_is_locked(sqlite3_file *f, int *locked)
{
	return real(f)->pMethods->xCheckReservedLock(real(f), locked);
}

static int
file_control(sqlite3_file *f, int what, void *arg)
{
	return real(f)->pMethods->xFileControl(real(f), what, arg);
}

static int
file_sector_size(sqlite3_file *f)
{
	return real(f)->pMethods->xSectorSize(real(f));
}

static int
file_characteristics(sqlite3_file *f)
{
	return real(f)->pMethods->xDeviceCharacteristics(real(f));
}

static const sqlite3_io_methods methods = {1, file_close, file_read, file_write, file_truncate, file_sync,
    file_size, file_lock, file_unlock, file_is_locked, file_control, file_sector_size, file_characteristics,
    NULL, NULL, NULL, NULL, NULL, NULL};

/* ---- the file system */

static int
vfs_open(sqlite3_vfs *v, const char *path, sqlite3_file *out, int flags, int *flags_out)
{
	struct file *f = (struct file *)out;
	int status;

	(void)v;
	memset(f, 0, sizeof(*f));
	f->real = (sqlite3_file *)(f + 1);
	snprintf(f->name, sizeof(f->name), "%s", base_name(path));
	status = below->xOpen(below, path, f->real, flags, flags_out);
	f->base.pMethods = status == SQLITE_OK ? &methods : NULL;
	return status;
}

static int
vfs_delete(sqlite3_vfs *v, const char *path, int sync_dir)
{
	(void)v;
	note(OP_DELETE, base_name(path), 0, NULL, 0);
	return below->xDelete(below, path, sync_dir);
}

void
store_vfs_install(void)
{
	below = sqlite3_vfs_find(NULL);
	vfs = *below;
	vfs.zName = "store-test";
	vfs.szOsFile = (int)sizeof(struct file) + below->szOsFile;
	vfs.xOpen = vfs_open;
	vfs.xDelete = vfs_delete;
	sqlite3_vfs_register(&vfs, 1);
}

void
store_vfs_record(struct disk_log *l)
{
	recorded = l;
}

void
disk_log_clear(struct disk_log *l)
{
	for (int i = 0; i < l->count; i++)
		free(l->ops[i].data);
	free(l->ops);
	*l = (struct disk_log){0};
}
