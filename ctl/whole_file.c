/*
 * Files that are there whole or not at all. Who holds the lock on the file called part may rename it; one
 * that can be locked is nobody's any more.
 */
#include "ctl/whole_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static bool
make_names(struct whole_file *f, const char *path)
{
	const char *slash = strrchr(path, '/');
	int before = slash != NULL ? (int)(slash + 1 - path) : 0;
	int n = snprintf(f->part, sizeof(f->part), "%.*s.%s.zit-part", before, path, path + before);

	f->path = path;
	return n > 0 && (size_t)n < sizeof(f->part);
}

static int
open_unnamed(const char *path)
{
	char dir[PATH_MAX];
	const char *slash = strrchr(path, '/');
	int bytes = slash != NULL ? (int)(slash + 1 - path) : 1;

	snprintf(dir, sizeof(dir), "%.*s", bytes, slash != NULL ? path : ".");
	if (access("/proc/self/fd", X_OK) != 0) /* by which it will get its name */
		return -1;
	return open(dir, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
}

static bool
is_named(int fd, const char *part)
{
	struct stat own, named;

	return fstat(fd, &own) == 0 && lstat(part, &named) == 0 && own.st_dev == named.st_dev &&
	       own.st_ino == named.st_ino;
}

/* The file of that name goes when who wrote it is dead, and is waited for when he is not. 0 or an errno. */
static int
clear_part(const char *part)
{
	int fd = open(part, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC), error = 0;

	if (fd < 0)
		return errno != ENOENT ? errno : 0;
	if (flock(fd, LOCK_EX) != 0 || (is_named(fd, part) && unlink(part) != 0))
		error = errno;
	close(fd);
	return error;
}

/* 0 or an errno. */
static int
open_part(struct whole_file *f)
{
	int error = 0;

	while (error == 0) {
		f->fd = open(f->part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
		if (f->fd < 0) {
			error = errno != EEXIST ? errno : clear_part(f->part);
			continue;
		}
		flock(f->fd, LOCK_EX); /* where there are no locks, nobody clears anything */
		if (is_named(f->fd, f->part))
			break;
		close(f->fd); /* cleared before it was locked */
	}
	return error;
}

int
whole_file_open(struct whole_file *f, const char *path)
{
	if (!make_names(f, path))
		return ENAMETOOLONG;
	f->fd = open_unnamed(path);
	f->named = f->fd < 0;
	if (f->named)
		return open_part(f);
	flock(f->fd, LOCK_EX); /* nobody else has it */
	return 0;
}

/* Gives it its name, or where that is another's, the name of part. 0 or an errno. */
static int
link_unnamed(struct whole_file *f)
{
	char unnamed[32];
	int error = 0, blocked = 0;

	snprintf(unnamed, sizeof(unnamed), "/proc/self/fd/%d", f->fd);
	if (linkat(AT_FDCWD, unnamed, AT_FDCWD, f->path, AT_SYMLINK_FOLLOW) != 0)
		error = errno;
	while (error == EEXIST && blocked == 0) {
		f->named = linkat(AT_FDCWD, unnamed, AT_FDCWD, f->part, AT_SYMLINK_FOLLOW) == 0;
		error = f->named ? 0 : errno;
		if (error == EEXIST)
			blocked = clear_part(f->part);
	}
	return blocked != 0 ? blocked : error;
}

int
whole_file_close(struct whole_file *f, int error)
{
	if (error == 0 && fdatasync(f->fd) != 0)
		error = errno;
	if (error == 0 && !f->named)
		error = link_unnamed(f);
	if (error == 0 && f->named && rename(f->part, f->path) != 0)
		error = errno;
	if (error != 0 && f->named)
		unlink(f->part);
	close(f->fd); /* not before: nobody else may have the lock while part is its name */
	return error;
}
