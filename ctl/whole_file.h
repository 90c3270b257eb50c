/*
 * A file that is there whole or not at all, whenever who writes it is killed or the power goes. Until it is
 * whole it has no name, where the file system has such files. Else it is called ".NAME.zit-part" beside its
 * place, and so is for a moment one that takes another's place; what a killed writer leaves by that name goes
 * with the next one who writes NAME.
 */
#ifndef CTL_WHOLE_FILE_H
#define CTL_WHOLE_FILE_H

#include <limits.h>
#include <stdbool.h>

struct whole_file {
	int fd;		  /* to be written to */
	bool named;	  /* by part */
	const char *path; /* the opener's */
	char part[PATH_MAX];
};

/* Begins one that is to be at `path`, which stays the caller's, in the place of what is there then. 0 or an
 * errno. */
int whole_file_open(struct whole_file *f, const char *path);
/* Ends it: on disk and in its place, 0; or gone, for that errno of the caller's, or one that comes up now,
 * which is returned. */
int whole_file_close(struct whole_file *f, int error);

#endif
