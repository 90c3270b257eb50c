/*
 * JSON files of a checkpoint: untrusted, so bounded before they are parsed.
 */
#ifndef RUNNER_JSON_FILE_H
#define RUNNER_JSON_FILE_H

#include <jansson.h>
#include <stddef.h>

#include "ipc/err.h"

/* The object in dir/name, at most max_bytes long; a new reference. NULL after filling *e with
 * -ERR_BAD_CHECKPOINT naming the file. */
json_t *json_file_load(const char *dir, const char *name, size_t max_bytes, struct err *e);

#endif
