/*
 * The files of a store's directory as they lie in memory.
 */
#include "tests/unit/test.h"

#include "tests/unit/store_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

int
files_find(struct files *f, const char *name)
{
	for (int i = 0; i < f->count; i++) {
		if (strcmp(f->at[i].name, name) == 0)
			return i;
	}
	assert_true(f->count < MAX_FILES);
	snprintf(f->at[f->count].name, sizeof(f->at[0].name), "%s", name);
	return f->count++;
}

void
files_resize(struct files *f, int i, size_t bytes)
{
	if (f->at[i].data == NULL || bytes > f->at[i].room) {
		f->at[i].room = 2 * bytes + 4096;
		f->at[i].data = realloc(f->at[i].data, f->at[i].room);
	}
	if (bytes > f->at[i].bytes)
		memset(f->at[i].data + f->at[i].bytes, 0, bytes - f->at[i].bytes);
	f->at[i].bytes = bytes;
}

void
files_write(struct files *f, int i, int64_t offset, const char *data, size_t bytes)
{
	if ((size_t)offset + bytes > f->at[i].bytes)
		files_resize(f, i, (size_t)offset + bytes);
	memcpy(f->at[i].data + offset, data, bytes);
}

void
files_delete(struct files *f, int i)
{
	free(f->at[i].data);
	f->at[i].data = NULL;
	f->at[i].bytes = f->at[i].room = 0;
}

void
files_clear(struct files *f)
{
	for (int i = 0; i < f->count; i++)
		files_delete(f, i);
	f->count = 0;
}

void
files_load(struct files *f, const char *place, const char *const *names, int count)
{
	char path[300];
	struct stat st;
	int fd, at;

	for (int i = 0; i < count; i++) {
		snprintf(path, sizeof(path), "%s/%s", place, names[i]);
		fd = open(path, O_RDONLY);
		if (fd < 0)
			continue;
		at = files_find(f, names[i]);
		fstat(fd, &st);
		files_resize(f, at, (size_t)st.st_size);
		assert_int_equal(read(fd, f->at[at].data, (size_t)st.st_size), st.st_size);
		close(fd);
	}
}

static void
empty(const char *place)
{
	DIR *d = opendir(place);
	struct dirent *entry;

	while ((entry = readdir(d)) != NULL) {
		if (entry->d_name[0] != '.')
			unlinkat(dirfd(d), entry->d_name, 0);
	}
	closedir(d);
}

void
files_save(const struct files *f, const char *place)
{
	char path[300];
	int fd;

	empty(place);
	for (int i = 0; i < f->count; i++) {
		if (f->at[i].data == NULL)
			continue;
		snprintf(path, sizeof(path), "%s/%s", place, f->at[i].name);
		fd = open(path, O_WRONLY | O_CREAT, 0600);
		assert_int_equal(write(fd, f->at[i].data, f->at[i].bytes), f->at[i].bytes);
		close(fd);
	}
}
