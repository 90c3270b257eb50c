/*
 * Pictures on disk: from the sealed descriptor that zitd handed over to a file of the user's.
 */
#ifndef CTL_PICTURE_H
#define CTL_PICTURE_H

#include <stdbool.h>
#include <stddef.h>

#include "ipc/err.h"

/* The file name of picture `index` of `count`: `save` as it stands for a single one, "name-2.png" for the
 * second of several. false when it does not fit. */
bool picture_path(const char *save, int index, int count, char *out, size_t size);
/* Likewise by what a user said of where a job's pictures go: NULL: "JOB.png"; a directory: that in it;
 * standard output ("-"), a device or pipe: all of them there. */
bool picture_place(const char *save, const char *job, int index, int count, char *out, size_t size);
/* Whether that is standard output, on which there is to be nothing else then. */
bool picture_goes_out(const char *save);

/* Copies all of fd to `path`: to standard output, a device or pipe as it is; else so that no reader ever sees
 * half a picture, not even after a loss of power (whole_file.h). 0 or -ERR_SYSTEM naming the file. */
int picture_save(int fd, const char *path, struct err *e);

/* Whether a file is there that ends as a PNG does: none that was cut off, or never got to the disk. */
bool picture_is_whole(const char *path);

#endif
