/*
 * JSON files of a checkpoint: untrusted, so bounded before they are parsed.
 */
#include "runner/json_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* All `count` bytes of fd; false at an early end or an error. */
static bool
read_all(int fd, char *bytes, size_t count)
{
	while (count > 0) {
		ssize_t n = read(fd, bytes, count);
		if (n == 0)
			errno = ENODATA; /* shorter than fstat said */
		if (n == 0 || (n < 0 && errno != EINTR))
			return false;
		if (n > 0) {
			bytes += n;
			count -= (size_t)n;
		}
	}
	return true;
}

static json_t *
parse_file(int fd, const char *path, size_t max_bytes, struct err *e)
{
	struct stat st;
	json_error_t why;
	json_t *json = NULL;
	char *bytes;

	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size < 0 || (size_t)st.st_size > max_bytes) {
		err_set(e, ERR_BAD_CHECKPOINT, "%s: not a file of at most %zu bytes", path, max_bytes);
		return NULL;
	}
	bytes = malloc((size_t)st.st_size + 1);
	if (bytes == NULL || !read_all(fd, bytes, (size_t)st.st_size))
		err_set(e, ERR_BAD_CHECKPOINT, "%s: cannot be read: %s", path, strerror(errno));
	else if ((json = json_loadb(bytes, (size_t)st.st_size, JSON_REJECT_DUPLICATES, &why)) == NULL)
		err_set(e, ERR_BAD_CHECKPOINT, "%s: not JSON: %s (line %d)", path, why.text, why.line);
	else if (!json_is_object(json)) {
		err_set(e, ERR_BAD_CHECKPOINT, "%s: not a JSON object", path);
		json_decref(json);
		json = NULL;
	}
	free(bytes);
	return json;
}

json_t *
json_file_load(const char *dir, const char *name, size_t max_bytes, struct err *e)
{
	char path[PATH_MAX];
	json_t *json;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0) {
		err_set(e, ERR_BAD_CHECKPOINT, "%s: %s", path, strerror(errno));
		return NULL;
	}
	json = parse_file(fd, path, max_bytes, e);
	close(fd);
	return json;
}
