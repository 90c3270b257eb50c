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
picture_path(const char *save, const char *job, int index, int count, char *out, size_t size)
{
	char own[128];
	const char *slash, *dot;
	int n;

	if (save == NULL) {
		snprintf(own, sizeof(own), "%s.png", job);
		save = own;
	}
	slash = strrchr(save, '/');
	dot = strrchr(slash != NULL ? slash : save, '.');
	if (dot == NULL)
		dot = save + strlen(save);
	if (count <= 1)
		n = snprintf(out, size, "%s", save);
	else
		n = snprintf(out, size, "%.*s-%d%s", (int)(dot - save), save, index + 1, dot);
	return n > 0 && (size_t)n < size;
}

/* All of `from`, from its start, to `to`. 0 or an errno. */
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
			if (m < 0 && errno != EINTR)
				return errno;
			done += m > 0 ? m : 0;
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
	struct stat st;
	bool special = stat(path, &st) == 0 && !S_ISREG(st.st_mode);
	int error = special ? save_in_place(fd, path) : save_whole(fd, path);

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
