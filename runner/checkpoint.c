/*
 * The files of one part of a checkpoint as a set of named tensors: one safetensors file, or shards by their
 * index (model-spec section 1.3).
 */
#include "runner/checkpoint.h"

#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runner/json_file.h"
#include "runner/safetensors.h"

enum { MAX_SHARDS = 1000, MAX_INDEX = 64 * 1000 * 1000, SHAPE_TEXT = 80 };

struct checkpoint {
	char *dir; /* for messages */
	struct safetensors **files;
	size_t file_count;
};

/* ---- opening */

static const char *
file_name(const struct safetensors *file)
{
	return strrchr(file->path, '/') + 1; /* every path is dir/name */
}

static int
add_file(struct checkpoint *c, const char *name, struct err *e)
{
	char path[PATH_MAX];
	struct safetensors **files;
	int status;

	for (size_t i = 0; i < c->file_count; i++) {
		if (strcmp(file_name(c->files[i]), name) == 0)
			return 0;
	}
	if (strchr(name, '/') != NULL || *name == '\0' || *name == '.')
		return err_set(e, ERR_BAD_CHECKPOINT,
		    "%s: the index names '%.60s', which is not a file beside it", c->dir, name);
	if (c->file_count == MAX_SHARDS)
		return err_set(
		    e, ERR_BAD_CHECKPOINT, "%s: the index names more than %d files", c->dir, MAX_SHARDS);
	files = realloc(c->files, (c->file_count + 1) * sizeof(*files));
	if (files == NULL)
		return err_set(e, ERR_OUT_OF_MEMORY, "%s: out of memory", c->dir);
	c->files = files;
	snprintf(path, sizeof(path), "%s/%s", c->dir, name);
	status = safetensors_open(&c->files[c->file_count], path, e);
	if (status == 0)
		c->file_count++;
	return status;
}

static const struct safetensors_entry *
find_entry(const struct checkpoint *c, const char *name)
{
	const struct safetensors_entry *entry = NULL;

	for (size_t i = 0; i < c->file_count && entry == NULL; i++)
		entry = safetensors_find(c->files[i], name);
	return entry;
}

/* Whether each tensor lies where the index puts it and nowhere else. Two of one name, one of them stale, are
 * what a half-replaced checkpoint looks like. */
static int
check_places(const struct checkpoint *c, const json_t *map, struct err *e)
{
	for (size_t i = 0; i < c->file_count; i++) {
		for (size_t k = 0; k < c->files[i]->count; k++) {
			const char *name = c->files[i]->entries[k].name;
			const char *wanted = json_string_value(json_object_get(map, name));
			if (wanted != NULL && strcmp(wanted, file_name(c->files[i])) != 0)
				return err_set(e, ERR_BAD_CHECKPOINT,
				    "%s: tensor %s: is in %s, the index puts it into %s", c->dir, name,
				    file_name(c->files[i]), wanted);
		}
	}
	return 0;
}

/* Opens every shard, then looks for every name: an index that promises what no shard has is found now, not at
 * use. */
static int
open_shards(struct checkpoint *c, const json_t *map, struct err *e)
{
	const char *name;
	json_t *file;

	json_object_foreach((json_t *)map, name, file)
	{
		int status = json_is_string(file) ? add_file(c, json_string_value(file), e)
						  : err_set(e, ERR_BAD_CHECKPOINT,
							"%s: the index names no file for %s", c->dir, name);
		if (status != 0)
			return status;
	}
	json_object_foreach((json_t *)map, name, file)
	{
		if (find_entry(c, name) == NULL)
			return err_set(e, ERR_BAD_CHECKPOINT,
			    "%s: tensor %s: the index puts it into %s, which lacks it", c->dir, name,
			    json_string_value(file));
	}
	return check_places(c, map, e);
}

static int
open_index(struct checkpoint *c, const char *index, struct err *e)
{
	json_t *json = json_file_load(c->dir, index, MAX_INDEX, e);
	const json_t *map = json_object_get(json, "weight_map");
	int status;

	if (json == NULL)
		return -(int)e->code;
	if (json_is_object(map) && json_object_size(map) > 0)
		status = open_shards(c, map, e);
	else
		status = err_set(e, ERR_BAD_CHECKPOINT, "%s/%s: has no weight_map", c->dir, index);
	json_decref(json);
	return status;
}

int
checkpoint_open(struct checkpoint **out, const char *dir, const char *stem, struct err *e)
{
	struct checkpoint *c = calloc(1, sizeof(*c));
	char single[128], index[128], path[PATH_MAX];
	struct err local;
	int status;

	if (e == NULL)
		e = &local;
	if (c == NULL || (c->dir = strdup(dir)) == NULL) {
		free(c);
		return err_set(e, ERR_OUT_OF_MEMORY, "%s: out of memory", dir);
	}
	snprintf(single, sizeof(single), "%s.safetensors", stem);
	snprintf(index, sizeof(index), "%s.safetensors.index.json", stem);
	snprintf(path, sizeof(path), "%s/%s", dir, index);
	status = access(path, F_OK) == 0 ? open_index(c, index, e) : add_file(c, single, e);
	if (status != 0)
		checkpoint_close(&c);
	else
		*out = c;
	return status;
}

void
checkpoint_close(struct checkpoint **c)
{
	if (*c == NULL)
		return;
	for (size_t i = 0; i < (*c)->file_count; i++)
		safetensors_close(&(*c)->files[i]);
	free((*c)->files);
	free((*c)->dir);
	free(*c);
	*c = NULL;
}

int
checkpoint_check(const struct checkpoint *c, struct err *e)
{
	int status = 0;

	for (size_t i = 0; i < c->file_count && status == 0; i++)
		status = safetensors_check(c->files[i], e);
	return status;
}

/* ---- tensors */

/* "(3840, 64)" */
static void
shape_text(int rank, const int64_t *dim, char out[SHAPE_TEXT])
{
	size_t used = (size_t)snprintf(out, SHAPE_TEXT, "(");

	for (int i = 0; i < rank && used < SHAPE_TEXT; i++)
		used += (size_t)snprintf(
		    out + used, SHAPE_TEXT - used, "%s%lld", i > 0 ? ", " : "", (long long)dim[i]);
	if (used < SHAPE_TEXT)
		snprintf(out + used, SHAPE_TEXT - used, ")");
}

int
checkpoint_tensor(const struct checkpoint *c, const char *name, int rank, const int64_t *dim,
    struct stored *out, struct err *e)
{
	const struct safetensors_entry *entry = find_entry(c, name);
	char wanted[SHAPE_TEXT], found[SHAPE_TEXT];

	shape_text(rank, dim, wanted);
	if (entry == NULL)
		return err_set(
		    e, ERR_BAD_CHECKPOINT, "%s: tensor %s of shape %s is missing", c->dir, name, wanted);
	shape_text(entry->tensor.rank, entry->tensor.dim, found);
	if (strcmp(wanted, found) != 0)
		return err_set(e, ERR_BAD_CHECKPOINT,
		    "%s: tensor %s: has shape %s, the configuration needs %s", c->dir, name, found, wanted);
	if (!entry->readable)
		return err_set(e, ERR_BAD_CHECKPOINT,
		    "%s: tensor %s: is stored as %s; F32, F16 and BF16 are read", c->dir, name,
		    entry->stored_type);
	*out = entry->tensor;
	return 0;
}

uint64_t
checkpoint_bytes(const struct checkpoint *c)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < c->file_count; i++)
		bytes += c->files[i]->data_bytes;
	return bytes;
}

static int
by_name(const void *a, const void *b)
{
	const struct safetensors_entry *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

void
checkpoint_identity(
    const struct checkpoint *c, void (*feed)(void *arg, const void *bytes, size_t count), void *arg)
{
	const struct safetensors_entry **all;
	size_t count = 0;

	for (size_t i = 0; i < c->file_count; i++)
		count += c->files[i]->count;
	all = malloc((count + 1) * sizeof(*all));
	if (all == NULL)
		return;
	count = 0;
	for (size_t i = 0; i < c->file_count; i++) {
		for (size_t k = 0; k < c->files[i]->count; k++)
			all[count++] = &c->files[i]->entries[k];
	}
	qsort(all, count, sizeof(*all), by_name);
	for (size_t i = 0; i < count; i++) {
		feed(arg, all[i]->name, strlen(all[i]->name) + 1);
		feed(arg, all[i]->stored_type, strlen(all[i]->stored_type) + 1);
		feed(arg, all[i]->tensor.dim, sizeof(all[i]->tensor.dim));
	}
	free(all);
}
