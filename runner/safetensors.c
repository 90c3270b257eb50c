/*
 * One safetensors file: its header checked, its data mapped (model-spec section 1.4).
 *
 * Layout: u64 header bytes, JSON header, data. Tensors tile the data without gaps or overlaps, which is
 * checked as a whole: sorted by where they begin, each must begin where the last one ended.
 */
#include "runner/safetensors.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_HEADER = 100 * 1000 * 1000, MAX_TENSORS = 100 * 1000, LENGTH_BYTES = 8 };

static const struct {
	const char *name;
	int width;
	enum dtype type; /* meaningful where we read it */
	bool readable;
} types[] = {
    {"F32", 4, DT_F32, true},
    {"BF16", 2, DT_BF16, true},
    {"F16", 2, DT_F16, true},
    {"F64", 8, DT_F32, false},
    {"I64", 8, DT_F32, false},
    {"I32", 4, DT_F32, false},
    {"I16", 2, DT_F32, false},
    {"U64", 8, DT_F32, false},
    {"U32", 4, DT_F32, false},
    {"U16", 2, DT_F32, false},
    {"I8", 1, DT_F32, false},
    {"U8", 1, DT_F32, false},
    {"BOOL", 1, DT_F32, false},
    {"F8_E4M3", 1, DT_F32, false},
    {"F8_E5M2", 1, DT_F32, false},
};

static struct safetensors *open_files; /* opened and closed by one thread */

enum { TYPE_COUNT = sizeof(types) / sizeof(types[0]) };

/* ---- one entry of the header */

static int
read_type(const struct safetensors *f, const char *name, const json_t *json, int *type, struct err *e)
{
	const char *text = json_string_value(json_object_get(json, "dtype"));

	for (*type = 0; text != NULL && *type < TYPE_COUNT; ++*type) {
		if (strcmp(types[*type].name, text) == 0)
			return 0;
	}
	return err_set(e, ERR_BAD_CHECKPOINT, "%s: tensor %s: dtype %s is not one of safetensors'", f->path,
	    name, text != NULL ? text : "(none)");
}

/* The product of the shape; every factor and every step of the product stays below the file's size. */
static int
read_shape(const struct safetensors *f, const char *name, const json_t *json, struct stored *t,
    uint64_t *count, struct err *e)
{
	const json_t *shape = json_object_get(json, "shape");
	size_t rank = json_array_size(shape);

	if (!json_is_array(shape) || rank > TENSOR_MAX_RANK)
		return err_set(e, ERR_BAD_CHECKPOINT,
		    "%s: tensor %s: shape is not a list of at most %d sizes", f->path, name, TENSOR_MAX_RANK);
	*count = 1;
	t->rank = (int)rank;
	for (int i = 0; i < TENSOR_MAX_RANK; i++)
		t->dim[i] = 1;
	for (size_t i = 0; i < rank; i++) {
		const json_t *size = json_array_get(shape, i);
		json_int_t n = json_integer_value(size);
		if (!json_is_integer(size) || n < 0 || (n > 0 && *count > f->map_bytes / (uint64_t)n))
			return err_set(e, ERR_BAD_CHECKPOINT,
			    "%s: tensor %s: a size of its shape is not a count, or larger than the file",
			    f->path, name);
		t->dim[i] = n;
		*count *= (uint64_t)n;
	}
	return 0;
}

static int
read_offsets(const struct safetensors *f, const char *name, const json_t *json, uint64_t data_bytes,
    uint64_t *begin, uint64_t *end, struct err *e)
{
	const json_t *offsets = json_object_get(json, "data_offsets");
	const json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);

	if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(last) ||
	    json_integer_value(first) < 0 || json_integer_value(last) < json_integer_value(first))
		return err_set(
		    e, ERR_BAD_CHECKPOINT, "%s: tensor %s: data_offsets are not [begin, end]", f->path, name);
	*begin = (uint64_t)json_integer_value(first);
	*end = (uint64_t)json_integer_value(last);
	if (*end > data_bytes)
		return err_set(e, ERR_BAD_CHECKPOINT,
		    "%s: tensor %s: ends at byte %llu of the data, the file has %llu: it is truncated",
		    f->path, name, (unsigned long long)*end, (unsigned long long)data_bytes);
	return 0;
}

static int
read_entry(struct safetensors *f, const char *name, const json_t *json, const char *data, uint64_t data_bytes,
    struct err *e)
{
	struct safetensors_entry *entry = &f->entries[f->count];
	uint64_t count = 0, begin = 0, end = 0;
	int type = 0, status = read_type(f, name, json, &type, e);

	if (status == 0)
		status = read_shape(f, name, json, &entry->tensor, &count, e);
	if (status == 0)
		status = read_offsets(f, name, json, data_bytes, &begin, &end, e);
	if (status != 0)
		return status;
	if (end - begin != count * (uint64_t)types[type].width)
		return err_set(e, ERR_BAD_CHECKPOINT,
		    "%s: tensor %s: has %llu bytes where its shape needs %llu", f->path, name,
		    (unsigned long long)(end - begin),
		    (unsigned long long)(count * (uint64_t)types[type].width));
	entry->name = strdup(name);
	if (entry->name == NULL)
		return err_set(e, ERR_OUT_OF_MEMORY, "%s: out of memory", f->path);
	entry->tensor.data = data + begin;
	entry->tensor.type = types[type].type;
	entry->bytes = end - begin;
	entry->stored_type = types[type].name;
	entry->readable = types[type].readable;
	f->count++;
	return 0;
}

/* ---- the header as a whole */

static int
by_place(const void *a, const void *b)
{
	const struct safetensors_entry *x = a, *y = b;

	if (x->tensor.data != y->tensor.data)
		return (const char *)x->tensor.data < (const char *)y->tensor.data ? -1 : 1;
	return x->bytes < y->bytes ? -1 : x->bytes > y->bytes; /* empty ones first */
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(
	    ((const struct safetensors_entry *)a)->name, ((const struct safetensors_entry *)b)->name);
}

static int
check_tiling(struct safetensors *f, const char *data, uint64_t data_bytes, struct err *e)
{
	const char *expected = data;

	qsort(f->entries, f->count, sizeof(f->entries[0]), by_place);
	for (size_t i = 0; i < f->count; i++) {
		const struct safetensors_entry *entry = &f->entries[i];
		if (entry->tensor.data != expected)
			return err_set(e, ERR_BAD_CHECKPOINT,
			    "%s: tensor %s: begins at byte %lld of the data, not at %lld: %s", f->path,
			    entry->name, (long long)((const char *)entry->tensor.data - data),
			    (long long)(expected - data),
			    (const char *)entry->tensor.data < expected ? "it overlaps another"
									: "there is a gap before it");
		expected += entry->bytes;
	}
	if ((uint64_t)(expected - data) != data_bytes)
		return err_set(e, ERR_BAD_CHECKPOINT, "%s: %llu bytes follow the last tensor", f->path,
		    (unsigned long long)(data_bytes - (uint64_t)(expected - data)));
	f->data_bytes = data_bytes;
	qsort(f->entries, f->count, sizeof(f->entries[0]), by_name);
	return 0;
}

static int
read_entries(
    struct safetensors *f, const json_t *header, const char *data, uint64_t data_bytes, struct err *e)
{
	size_t tensors = json_object_size(header);
	const char *name;
	json_t *value;

	if (tensors > MAX_TENSORS)
		return err_set(e, ERR_BAD_CHECKPOINT, "%s: names %zu tensors, more than %d", f->path, tensors,
		    MAX_TENSORS);
	f->entries = calloc(tensors + 1, sizeof(f->entries[0]));
	if (f->entries == NULL)
		return err_set(e, ERR_OUT_OF_MEMORY, "%s: out of memory", f->path);
	json_object_foreach((json_t *)header, name, value)
	{
		int status =
		    strcmp(name, "__metadata__") == 0 ? 0 : read_entry(f, name, value, data, data_bytes, e);
		if (status != 0)
			return status;
	}
	return check_tiling(f, data, data_bytes, e);
}

static int
read_header(struct safetensors *f, struct err *e)
{
	uint64_t wire, header_bytes;
	const char *text = (const char *)f->map + LENGTH_BYTES;
	json_error_t why;
	json_t *header;
	int status;

	if (f->map_bytes < LENGTH_BYTES)
		return err_set(
		    e, ERR_BAD_CHECKPOINT, "%s: has %zu bytes: it is truncated", f->path, f->map_bytes);
	memcpy(&wire, f->map, LENGTH_BYTES);
	header_bytes = le64toh(wire);
	if (header_bytes > MAX_HEADER || header_bytes > f->map_bytes - LENGTH_BYTES)
		return err_set(e, ERR_BAD_CHECKPOINT,
		    "%s: its header of %llu bytes does not fit: truncated, or not safetensors", f->path,
		    (unsigned long long)header_bytes);
	header = json_loadb(text, header_bytes, JSON_REJECT_DUPLICATES, &why);
	if (header == NULL)
		return err_set(e, ERR_BAD_CHECKPOINT, "%s: its header is not JSON: %s", f->path, why.text);
	if (json_is_object(header))
		status = read_entries(
		    f, header, text + header_bytes, f->map_bytes - LENGTH_BYTES - header_bytes, e);
	else
		status = err_set(e, ERR_BAD_CHECKPOINT, "%s: its header is not an object", f->path);
	json_decref(header);
	return status;
}

/* ---- the file */

static int
map_file(struct safetensors *f, struct err *e)
{
	struct stat st;
	int status = 0;

	f->fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (f->fd < 0)
		return err_set(e, ERR_BAD_CHECKPOINT, "%s: %s", f->path, strerror(errno));
	if (fstat(f->fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size == 0) {
		status = err_set(e, ERR_BAD_CHECKPOINT, "%s: %s", f->path,
		    S_ISREG(st.st_mode) ? "is empty" : "is not a regular file");
	} else {
		f->map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, f->fd, 0);
		if (f->map == MAP_FAILED) {
			f->map = NULL;
			status = err_set(e, errno == ENOMEM ? ERR_SYSTEM : ERR_BAD_CHECKPOINT,
			    "%s: cannot be mapped: %s", f->path, strerror(errno));
		} else
			f->map_bytes = (size_t)st.st_size;
	}
	f->changed = st.st_mtim;
	return status;
}

int
safetensors_check(const struct safetensors *f, struct err *e)
{
	struct stat st;

	if (fstat(f->fd, &st) == 0 && (size_t)st.st_size == f->map_bytes &&
	    st.st_mtim.tv_sec == f->changed.tv_sec && st.st_mtim.tv_nsec == f->changed.tv_nsec)
		return 0;
	return err_set(e, ERR_BAD_CHECKPOINT,
	    "%s: was changed while it is in use; put another file in its place instead, and restart the "
	    "runner",
	    f->path);
}

int
safetensors_open(struct safetensors **file, const char *path, struct err *e)
{
	struct safetensors *f = calloc(1, sizeof(*f));
	int status;

	if (f == NULL || (f->path = strdup(path)) == NULL) {
		free(f);
		return err_set(e, ERR_OUT_OF_MEMORY, "%s: out of memory", path);
	}
	f->fd = -1;
	f->next = open_files;
	open_files = f;
	err_set(&f->lost, ERR_BAD_CHECKPOINT,
	    "%s: cannot be read any more: it was cut while it is in use, or its disk fails; put a whole file "
	    "in its "
	    "place, and restart the runner",
	    path);
	status = map_file(f, e);
	if (status == 0)
		status = read_header(f, e);
	if (status != 0)
		safetensors_close(&f);
	else
		*file = f;
	return status;
}

void
safetensors_close(struct safetensors **file)
{
	struct safetensors *f = *file, **link = &open_files;

	if (f == NULL)
		return;
	while (*link != f)
		link = &(*link)->next;
	*link = f->next;
	for (size_t i = 0; i < f->count; i++)
		free(f->entries[i].name);
	free(f->entries);
	if (f->map != NULL)
		munmap(f->map, f->map_bytes);
	if (f->fd >= 0)
		close(f->fd);
	free(f->path);
	free(f);
	*file = NULL;
}

const struct safetensors *
safetensors_at(const void *address)
{
	const struct safetensors *f = open_files;

	while (f != NULL && (uintptr_t)address - (uintptr_t)f->map >= f->map_bytes)
		f = f->next;
	return f;
}

const struct safetensors_entry *
safetensors_find(const struct safetensors *file, const char *name)
{
	struct safetensors_entry key = {.name = (char *)name};

	return bsearch(&key, file->entries, file->count, sizeof(key), by_name);
}
