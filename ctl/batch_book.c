/*
 * The record of a batch, batch.jsonl in its directory: a line for the batch, then lines for its items, of
 * which the last one of each counts. A batch that is killed goes on from it; one that ends leaves one line an
 * item.
 */
#include "ctl/batch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/output.h"
#include "ctl/picture.h"

/* ---- its lines */

static json_t *
book_head(const struct batch *b)
{
	return json_pack("{s:i, s:s, s:s}", "batch", 1, "group", b->group, "file", b->file);
}

static bool
write_line(FILE *file, json_t *record)
{
	bool good =
	    json_dumpf(record, file, JSON_COMPACT) == 0 && fputc('\n', file) != EOF && fflush(file) == 0;

	json_decref(record);
	return good;
}

bool
book_note(struct batch *b, const struct batch_item *item)
{
	if (write_line(b->book, batch_record(item)))
		return true;
	batch_say(b, "%s/" BATCH_BOOK " cannot be written: %s", b->dir, strerror(errno));
	return false;
}

/* ---- taking over what an earlier run left */

static struct batch_item *
find_item(const struct batch *b, int line)
{
	int low = 0, high = b->count;

	while (low < high) {
		int middle = low + (high - low) / 2;
		if (b->items[middle].line < line)
			low = middle + 1;
		else
			high = middle;
	}
	return low < b->count && b->items[low].line == line ? &b->items[low] : NULL;
}

static void
adopt(struct batch_item *item, const json_t *record)
{
	json_t *error = json_object_get(record, "error");
	const json_t *seed = json_object_get(record, "seed");

	item->state = batch_state(output_text(record, "state"));
	snprintf(item->job, sizeof(item->job), "%s", output_text(record, "job"));
	item->seed = json_is_integer(seed) ? json_integer_value(seed) : -1;
	item->tries = (int)json_integer_value(json_object_get(record, "tries"));
	json_decref(item->error);
	item->error = json_incref(error);
}

static void
adopt_line(struct batch *b, const char *text, size_t bytes)
{
	json_t *record = json_loadb(text, bytes, 0, NULL);
	struct batch_item *item = find_item(b, (int)json_integer_value(json_object_get(record, "line")));
	const char *group = output_text(record, "group");

	if (json_object_get(record, "batch") != NULL && b->ctl->group == NULL &&
	    group_check(group, NULL) == 0)
		snprintf(b->group, sizeof(b->group), "%s", group);
	else if (item != NULL && strcmp(item->digest, output_text(record, "digest")) == 0)
		adopt(item, record);
	json_decref(record); /* one that is cut off or of another line says nothing */
}

static bool
pictures_are_there(const struct batch *b, const struct batch_item *item)
{
	char path[PATH_MAX];

	for (int i = 0; i < item->count; i++) {
		if (!batch_path(b, item, i, path, sizeof(path)) || !picture_is_whole(path))
			return false;
	}
	return true;
}

/* What is recorded as it stands now: a picture that was removed or cut off is missing again, what failed is
 * tried again. */
static void
look_around(struct batch *b)
{
	for (int i = 0; i < b->count; i++) {
		struct batch_item *item = &b->items[i];

		if (item->state == ITEM_DONE)
			item->before = pictures_are_there(b, item);
		if (item->state == ITEM_DONE && item->before)
			continue;
		if (item->state == ITEM_SUBMITTED && item->job[0] != '\0')
			continue;
		item->tries += item->state != ITEM_TODO;
		item->state = ITEM_TODO;
	}
}

/* 0, or an errno when not all of it could be read, which then must not be written anew. */
static int
read_book(struct batch *b, FILE *file)
{
	char *text = NULL;
	size_t room = 0;
	ssize_t bytes;
	int error;

	while ((bytes = getline(&text, &room, file)) >= 0)
		adopt_line(b, text, (size_t)bytes);
	error = ferror(file) ? errno : 0;
	free(text);
	look_around(b);
	return error;
}

/* ---- opening and closing */

static int
refuse(const char *format, const char *a, const char *why)
{
	fprintf(stderr, "zitctl: ");
	fprintf(stderr, format, a, why);
	fputc('\n', stderr);
	return CTL_FAILED;
}

/* The whole record at once, by a file beside it, which then is the book. 0 or an errno. */
static int
write_anew(struct batch *b)
{
	int fd = openat(b->dir_fd, BATCH_FRESH_BOOK, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
	bool good = file != NULL && write_line(file, book_head(b));
	int error;

	for (int i = 0; good && i < b->count; i++)
		good = write_line(file, batch_record(&b->items[i]));
	good = good && fdatasync(fd) == 0; /* else a loss of power might leave an empty one */
	if (good && renameat(b->dir_fd, BATCH_FRESH_BOOK, b->dir_fd, BATCH_BOOK) == 0) {
		if (b->book != NULL)
			fclose(b->book);
		b->book = file;
		return 0;
	}
	error = errno;
	unlinkat(b->dir_fd, BATCH_FRESH_BOOK, 0);
	if (file != NULL)
		fclose(file);
	else if (fd >= 0)
		close(fd);
	return error;
}

/* A fresh batch takes no other file's place. */
static int
check_places(const struct batch *b)
{
	char path[PATH_MAX];

	for (int i = 0; i < b->count; i++) {
		for (int k = 0; k < b->items[i].count; k++) {
			if (batch_path(b, &b->items[i], k, path, sizeof(path)) && access(path, F_OK) == 0)
				return refuse(
				    "%s is there already, and not from a batch; name another directory with "
				    "--out%s, or move it away",
				    path, "");
		}
	}
	return 0;
}

static int
lock_directory(struct batch *b)
{
	if (mkdir(b->dir, 0777) != 0 && errno != EEXIST)
		return refuse(
		    "%s cannot be made: %s; --out names a directory, the one above it must be there", b->dir,
		    strerror(errno));
	b->dir_fd = open(b->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (b->dir_fd < 0)
		return refuse("%s cannot be used: %s; --out names a directory", b->dir, strerror(errno));
	if (flock(b->dir_fd, LOCK_EX | LOCK_NB) != 0)
		return refuse(
		    "another batch is at work in %s (%s); wait for it, or name another directory with --out",
		    b->dir, strerror(errno));
	return 0;
}

int
book_open(struct batch *b)
{
	int status = lock_directory(b), fd, error;
	FILE *old;

	if (status != 0)
		return status;
	fd = openat(b->dir_fd, BATCH_BOOK, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && !b->ctl->resume) {
		close(fd);
		refuse("%s holds a batch already; go on with it with --resume, or name another directory "
		       "with --out%s",
		    b->dir, "");
		return CTL_USAGE;
	}
	old = fd >= 0 ? fdopen(fd, "r") : NULL;
	error = old != NULL ? read_book(b, old) : errno;
	if (old != NULL)
		fclose(old);
	if (error == ENOENT)
		status = check_places(b);
	else if (error != 0)
		status = refuse("%s/" BATCH_BOOK " cannot be read: %s", b->dir, strerror(error));
	if (status != 0)
		return status;
	error = write_anew(b);
	if (error != 0)
		return refuse("%s cannot be written to: %s; name another directory with --out", b->dir,
		    strerror(error));
	return 0;
}

void
book_close(struct batch *b)
{
	int error = b->book != NULL ? write_anew(b) : 0;

	if (error != 0) /* what was noted line by line is still there */
		batch_say(b, "%s/" BATCH_BOOK " cannot be written anew: %s", b->dir, strerror(error));
	if (b->book != NULL)
		fclose(b->book);
	if (b->dir_fd >= 0)
		close(b->dir_fd);
	b->book = NULL;
	b->dir_fd = -1;
}
