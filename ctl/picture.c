/*
 * Pictures on disk: from the sealed descriptor that zitd handed over to a file of the user's.
 */
#include "ctl/picture.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/whole_file.h"

bool
picture_path(const char *save, int index, int count, char *out, size_t size)
{
	const char *slash = strrchr(save, '/'), *dot = strrchr(slash != NULL ? slash : save, '.');
	int n;

	if (dot == NULL)
		dot = save + strlen(save);
	if (count <= 1)
		n = snprintf(out, size, "%s", save);
	else
		n = snprintf(out, size, "%.*s-%d%s", (int)(dot - save), save, index + 1, dot);
	return n > 0 && (size_t)n < size;
}

/* That of the standard streams which the path is another name of, such as /dev/stdout; -1: none. */
static int
stream_of(const char *path)
{
	struct stat named, own;

	if (strcmp(path, "-") == 0)
		return STDOUT_FILENO;
	for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++) {
		if (stat(path, &named) == 0 && fstat(fd, &own) == 0 && named.st_dev == own.st_dev &&
		    named.st_ino == own.st_ino)
			return fd;
	}
	return -1;
}

bool
picture_goes_out(const char *save)
{
	return save != NULL && stream_of(save) == STDOUT_FILENO;
}

/* Of what is at the path; a regular file where there is nothing, a device where it is one of our streams. */
static mode_t
kind_of(const char *path)
{
	struct stat st;

	if (stream_of(path) >= 0)
		return S_IFCHR;
	return stat(path, &st) == 0 ? st.st_mode & S_IFMT : S_IFREG;
}

bool
picture_place(const char *save, const char *job, int index, int count, char *out, size_t size)
{
	const mode_t kind = save != NULL ? kind_of(save) : S_IFDIR;
	const char *dir = save != NULL ? save : "";
	bool ends = *dir == '\0' || dir[strlen(dir) - 1] == '/';
	char file[PATH_MAX];
	int n;

	if (kind == S_IFREG)
		return picture_path(save, index, count, out, size);
	if (kind != S_IFDIR)
		return picture_path(save, 0, 1, out, size);
	n = snprintf(file, sizeof(file), "%s%s%s.png", dir, ends ? "" : "/", job);
	return n > 0 && (size_t)n < sizeof(file) && picture_path(file, index, count, out, size);
}

/* All of `from`, from its start, to `to`. 0 or an errno: EINTR when a signal arrives while nobody reads. */
static int
copy_bytes(int from, int to)
{
	char chunk[64 * 1024];
	off_t at = 0;

	for (;;) {
		ssize_t n = pread(from, chunk, sizeof(chunk), at);
		if (n == 0)
			return 0;
		if (n < 0)
			return errno;
		at += n;
		for (ssize_t done = 0; done < n;) {
			ssize_t m = write(to, chunk + done, (size_t)(n - done));
			if (m < 0)
				return errno;
			done += m;
		}
	}
}

/* A device or pipe such as /dev/stdout is written as it is. */
static int
save_in_place(int fd, const char *path)
{
	int to = open(path, O_WRONLY | O_CLOEXEC);
	int error = to >= 0 ? copy_bytes(fd, to) : errno;

	if (to >= 0)
		close(to);
	return error;
}

static int
save_whole(int fd, const char *path)
{
	struct whole_file file;
	int error = whole_file_open(&file, path);

	return error == 0 ? whole_file_close(&file, copy_bytes(fd, file.fd)) : error;
}

int
picture_save(int fd, const char *path, struct err *e)
{
	const int stream = stream_of(path);
	int error;

	if (stream >= 0)
		error = copy_bytes(fd, stream);
	else if (kind_of(path) != S_IFREG)
		error = save_in_place(fd, path);
	else
		error = save_whole(fd, path);
	if (error != 0)
		return err_set(
		    e, ERR_SYSTEM, "the picture cannot be written to %s: %s", path, strerror(error));
	return 0;
}

bool
picture_is_whole(const char *path)
{
	static const char end[] = "\0\0\0\0IEND\xae\x42\x60\x82";
	enum { END_BYTES = sizeof(end) - 1 };
	char last[END_BYTES];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t bytes = fd >= 0 ? lseek(fd, 0, SEEK_END) : -1;
	bool whole = bytes >= END_BYTES && pread(fd, last, END_BYTES, bytes - END_BYTES) == END_BYTES &&
		     memcmp(last, end, END_BYTES) == 0;

	if (fd >= 0)
		close(fd);
	return whole;
}
