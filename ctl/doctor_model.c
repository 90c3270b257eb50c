/*
 * The check of zitctl doctor about the model's files: all there, and as long as they say. Their content is
 * the runner's to judge.
 */
#include <dirent.h>
#include <errno.h>
#include <endian.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/doctor.h"
#include "ctl/output.h"

enum { MAX_HEADER = 100 << 20 }; /* of a safetensors file, as its format has it */

static const char cure[] =
    "fetch the file again, or set 'model' in zitd.conf and 'zitctl reload'; then 'zitctl restart all'";

/* Files of a checkpoint in the diffusers layout that are not weights. */
static const char *const small_files[] = {"model_index.json", "transformer/config.json",
    "text_encoder/config.json", "vae/config.json", "tokenizer/tokenizer.json",
    "scheduler/scheduler_config.json"};

static const char *const weight_dirs[] = {"transformer", "text_encoder", "vae"};

/* Where the last tensor ends, of a header. */
static long long
end_of_tensors(const json_t *header)
{
	long long end = 0;
	const char *name;
	json_t *tensor;

	json_object_foreach((json_t *)header, name, tensor)
	{
		long long to = json_integer_value(json_array_get(json_object_get(tensor, "data_offsets"), 1));
		end = to > end ? to : end;
	}
	return end;
}

/* Bytes that a safetensors file should have by its header; -1: it has none that can be read. */
static long long
told_size(const char *path)
{
	FILE *file = fopen(path, "re");
	uint64_t length = 0;
	char *text = NULL;
	json_t *header = NULL;
	long long size = -1;

	if (file != NULL && fread(&length, sizeof(length), 1, file) == 1 &&
	    (length = le64toh(length)) <= MAX_HEADER)
		text = malloc(length + 1);
	if (text != NULL && fread(text, 1, length, file) == length)
		header = json_loadb(text, length, 0, NULL);
	if (json_is_object(header))
		size = end_of_tensors(header) + (long long)length + (long long)sizeof(length);
	json_decref(header);
	free(text);
	if (file != NULL)
		fclose(file);
	return size;
}

/* One finding, if anybody wants it; -1. */
static long long
missing(struct doctor *d, const char *path, const char *what)
{
	if (d != NULL)
		doctor_find(d, errno == EACCES ? DOCTOR_SKIPPED : DOCTOR_WRONG,
		    errno == EACCES ? "try again as root" : cure, NULL, "%s %s", path, what);
	return -1;
}

/* Bytes of a file of weights, or -1. */
static long long
weigh_file(struct doctor *d, const char *path)
{
	struct stat st;
	long long told;
	char what[80];

	if (stat(path, &st) != 0)
		return missing(d, path, strerror(errno));
	if (access(path, R_OK) != 0)
		return missing(d, path, "may not be read");
	told = told_size(path);
	errno = 0;
	if (told < 0)
		return missing(d, path, "is no safetensors file");
	if (st.st_size == told)
		return told;
	snprintf(what, sizeof(what), "has %lld bytes instead of %lld", (long long)st.st_size, told);
	return missing(d, path, what);
}

/* The shards that an index in `dir` names, each once; NULL: there is no index. */
static json_t *
shards_of(const char *dir, const char *name)
{
	char path[PATH_MAX];
	json_t *index, *shards = NULL, *shard;
	const char *tensor;

	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
		return NULL;
	index = json_load_file(path, 0, NULL);
	if (index != NULL)
		shards = json_object();
	json_object_foreach(json_object_get(index, "weight_map"), tensor, shard)
	{
		if (json_is_string(shard))
			json_object_set_new(shards, json_string_value(shard), json_true());
	}
	json_decref(index);
	return shards;
}

/* The files of weights that should be in `dir`, as an object's keys: those of an index, else those that are.
 */
static json_t *
weights_in(const char *dir)
{
	static const char index_end[] = ".safetensors.index.json", end[] = ".safetensors";
	json_t *files = json_object(), *shards = NULL;
	DIR *directory = opendir(dir);
	struct dirent *entry;

	while (directory != NULL && shards == NULL && (entry = readdir(directory)) != NULL) {
		size_t length = strlen(entry->d_name);
		if (length > strlen(index_end) &&
		    strcmp(entry->d_name + length - strlen(index_end), index_end) == 0)
			shards = shards_of(dir, entry->d_name);
		else if (length > strlen(end) && strcmp(entry->d_name + length - strlen(end), end) == 0)
			json_object_set_new(files, entry->d_name, json_true());
	}
	if (directory != NULL)
		closedir(directory);
	if (shards == NULL)
		return files;
	json_decref(files);
	return shards;
}

static long long
weigh_directory(struct doctor *d, const char *dir)
{
	json_t *files = weights_in(dir), *yes;
	long long sum = 0;
	const char *name;

	if (json_object_size(files) == 0) {
		errno = access(dir, R_OK | X_OK) != 0 ? errno : 0;
		sum = missing(d, dir, "has no weights");
	}
	json_object_foreach(files, name, yes)
	{
		char path[PATH_MAX];
		long long bytes = -1;
		if (snprintf(path, sizeof(path), "%s/%s", dir, name) < (int)sizeof(path))
			bytes = weigh_file(d, path);
		sum = bytes >= 0 && sum >= 0 ? sum + bytes : -1;
	}
	json_decref(files);
	return sum;
}

long long
doctor_weigh_model(struct doctor *d, const char *dir)
{
	char path[PATH_MAX];
	long long sum = 0;

	if (access(dir, R_OK | X_OK) != 0)
		return missing(d, dir, strerror(errno));
	for (size_t i = 0; i < sizeof(small_files) / sizeof(small_files[0]); i++) {
		snprintf(path, sizeof(path), "%.*s/%s", PATH_MAX - 64, dir, small_files[i]);
		if (access(path, R_OK) != 0)
			sum = missing(d, path, strerror(errno));
	}
	for (size_t i = 0; i < sizeof(weight_dirs) / sizeof(weight_dirs[0]); i++) {
		long long bytes;
		snprintf(path, sizeof(path), "%.*s/%s", PATH_MAX - 64, dir, weight_dirs[i]);
		bytes = weigh_directory(d, path);
		sum = bytes >= 0 && sum >= 0 ? sum + bytes : -1;
	}
	return sum;
}

void
check_model(struct doctor *d)
{
	const json_t *runners = json_object_get(d->status, "runners");
	char dir[PATH_MAX], last[PATH_MAX] = "";
	size_t i;
	json_t *runner;

	if (json_array_size(runners) == 0)
		doctor_find(d, DOCTOR_SKIPPED, NULL, NULL, "zitd does not answer, so its model is not known");
	json_array_foreach(runners, i, runner)
	{
		long long bytes;
		doctor_path(d, output_text(runner, "model_dir"), dir);
		if (strcmp(dir, last) == 0)
			continue;
		strcpy(last, dir);
		bytes = doctor_weigh_model(d, dir);
		if (bytes >= 0)
			doctor_find(d, DOCTOR_OK, NULL, NULL, "%s is whole, with %lld MiB of weights", dir,
			    bytes / (1024 * 1024));
	}
}
