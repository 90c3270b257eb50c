/*
 * How a batch shows how far it is: one bar on a terminal, a line or a JSON line for each item elsewhere.
 */
#include "ctl/batch.h"

#include <limits.h>
#include <stdarg.h>
#include <string.h>

#include "ctl/output.h"
#include "ctl/progress.h"

void
batch_progress_init(struct batch *b)
{
	struct progress p;

	progress_init(&p, b->ctl);
	b->mode = p.mode;
	b->lines = b->ctl->progress == PROGRESS_AUTO && p.mode == PROGRESS_NONE && !b->ctl->quiet;
}

static void
clear_bar(struct batch *b)
{
	if (b->drawn)
		fprintf(stderr, "\r\033[K");
	b->drawn = false;
}

static void
draw_bar(struct batch *b)
{
	int ended = b->tally[ITEM_DONE] + b->tally[ITEM_FAILED];
	char failed[32] = "", with[32] = "waiting for zitd";

	if (b->tally[ITEM_FAILED] > 0)
		snprintf(failed, sizeof(failed), "%d failed, ", b->tally[ITEM_FAILED]);
	if (b->client != NULL)
		snprintf(with, sizeof(with), "%d with zitd", b->flying_count);
	progress_line(ended, b->count, "%d/%d, %s%s", ended, b->count, failed, with);
	fflush(stderr);
	b->drawn = true;
}

void
batch_say(struct batch *b, const char *format, ...)
{
	va_list args;

	clear_bar(b);
	fprintf(stderr, "zitctl: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

/* What goes to standard output for programs. */
static void
print_item(const struct batch *b, const struct batch_item *item)
{
	char path[PATH_MAX];
	json_t *record;

	for (int i = 0; b->ctl->format == FORMAT_NAME && item->state == ITEM_DONE && i < item->count; i++) {
		if (batch_path(b, item, i, path, sizeof(path)))
			puts(path);
	}
	if (b->ctl->format == FORMAT_JSONL) {
		record = batch_record(item);
		output_json(b->ctl, record);
		json_decref(record);
	}
	fflush(stdout);
}

static void
say_failure(struct batch *b, const struct batch_item *item)
{
	batch_say(b, "%s:%d: %s: %s", b->file, item->line, output_text(item->error, "name"),
	    output_text(item->error, "message"));
}

void
batch_show(struct batch *b, const struct batch_item *item)
{
	json_t *record;

	if (item->state == ITEM_FAILED)
		say_failure(b, item);
	else if (b->lines && item->state == ITEM_DONE)
		batch_say(b, "%d/%d: %s/%s", b->tally[ITEM_DONE] + b->tally[ITEM_FAILED], b->count, b->dir,
		    item->out);
	if (item->state == ITEM_FAILED || item->state == ITEM_DONE)
		print_item(b, item);
	if (b->mode == PROGRESS_JSON) {
		record = batch_record(item);
		output_line(stderr, record);
		json_decref(record);
	}
	if (b->mode == PROGRESS_BAR)
		draw_bar(b);
}

static json_t *
summary_record(const struct batch *b, int before)
{
	return json_pack("{s:i, s:i, s:i, s:i, s:i, s:s, s:s++}", "items", b->count, "done",
	    b->tally[ITEM_DONE], "before", before, "failed", b->tally[ITEM_FAILED], "missing",
	    b->count - b->tally[ITEM_DONE] - b->tally[ITEM_FAILED], "group", b->group, "record", b->dir, "/",
	    BATCH_BOOK);
}

void
batch_summary(struct batch *b)
{
	int before = 0, missing = b->count - b->tally[ITEM_DONE] - b->tally[ITEM_FAILED];
	json_t *record;

	clear_bar(b);
	for (int i = 0; i < b->count; i++)
		before += b->items[i].before;
	if (b->ctl->format == FORMAT_JSON) {
		record = summary_record(b, before);
		output_json(b->ctl, record);
		json_decref(record);
	} else if (b->ctl->format <= FORMAT_WIDE && !b->ctl->quiet) {
		printf("%d of %d done", b->tally[ITEM_DONE], b->count);
		if (before > 0)
			printf(" (%d before)", before);
		printf(", %d failed, %d missing; recorded in %s/batch.jsonl\n", b->tally[ITEM_FAILED],
		    missing, b->dir);
	}
	if (missing > 0 || b->tally[ITEM_FAILED] > 0)
		fprintf(stderr, "zitctl: the same command %s tries what is missing\n",
		    b->ctl->resume ? "again" : "with --resume"); /* without its options it would be another */
}
