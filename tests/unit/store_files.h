/*
 * The files of a store's directory as they lie in memory, to be damaged there and written out again.
 */
#ifndef TESTS_UNIT_STORE_FILES_H
#define TESTS_UNIT_STORE_FILES_H

#include <stddef.h>
#include <stdint.h>

enum { MAX_FILES = 6 };

struct files {
	struct {
		char name[32];
		char *data; /* NULL: there is no such file */
		size_t bytes, room;
	} at[MAX_FILES];
	int count;
};

/* Its index; added when it is new. */
int files_find(struct files *f, const char *name);
void files_write(struct files *f, int file, int64_t offset, const char *data, size_t bytes);
void files_resize(struct files *f, int file, size_t bytes); /* grows by zeros */
void files_delete(struct files *f, int file);
void files_clear(struct files *f);

void files_load(struct files *f, const char *dir, const char *const *names, int count);
void files_save(const struct files *f, const char *dir); /* and nothing else is in it then */

#endif
