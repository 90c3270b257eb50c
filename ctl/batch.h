/*
 * A batch: a file of prompts, a picture for each line of it, in one directory, with a record of how far it
 * is. batch.c runs it; batch_answers.c says what answers mean; batch_items.c reads the file, batch_book.c
 * keeps the record, batch_progress.c shows it.
 */
#ifndef CTL_BATCH_H
#define CTL_BATCH_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "ctl/client.h"
#include "ctl/ctl.h"
#include "ipc/group.h"

enum { BATCH_DIGEST = 17 }; /* sixteen digits */

enum item_state { ITEM_TODO, ITEM_SUBMITTED, ITEM_DONE, ITEM_FAILED, ITEM_CANCELLED, ITEM_STATES };

struct batch_item {
	int line;		   /* in the file, from 1 */
	json_t *params;		   /* of submit, as the line has them; owned */
	char *out;		   /* its picture's name in the directory; owned */
	int count;		   /* pictures: its n */
	char digest[BATCH_DIGEST]; /* of the line: another one is another item */

	/* where it stands */
	enum item_state state;
	char job[64];	    /* of the present try, or of the last one; "" */
	json_int_t seed;    /* zitd's answer; -1: none yet */
	json_t *error;	    /* how the last try ended; owned, or NULL */
	int tries;	    /* that have ended without a picture: each one's idempotency key is another */
	int again;	    /* of them in this run, without anybody's asking */
	bool before;	    /* an earlier run did it */
	bool taken_over;    /* its job is an earlier run's, and that run's end may have cancelled it */
	json_int_t request; /* that zitd has not answered yet */
};

struct batch {
	const struct ctl *ctl;
	const char *file, *dir;
	char group[GROUP_SIZE];
	struct batch_item *items; /* by line */
	int count;

	/* the record (batch_book.c) */
	int dir_fd; /* locked; -1 */
	FILE *book;

	/* the run (batch.c) */
	struct client *client;			 /* NULL: the connection is broken */
	struct batch_item *submitting;		 /* its submit is not answered yet */
	struct batch_item *flying[CTL_MAX_JOBS]; /* submitted, and waited for, or to be once connected */
	int flying_count;
	int first;	       /* no item before this one is to be submitted */
	int64_t not_before_us; /* the next submit; 0: at once */
	int tally[ITEM_STATES];
	int stop; /* exit code that ends it before all is done; 0 */

	/* what is shown (batch_progress.c) */
	bool lines, drawn;
	enum ctl_progress mode;
};

/* ---- batch_answers.c */

/* The item stands there from now on: recorded and shown. */
void batch_move(struct batch *b, struct batch_item *item, enum item_state state);
/* Asks for the final record of a submitted item. */
enum client_end batch_ask(struct batch *b, struct batch_item *item, struct err *e);
/* A line that came over the connection: its item moves on, and b->stop is set where nothing would. */
enum client_end batch_take_answer(struct batch *b, const json_t *line, struct err *e);

/* ---- batch_items.c */

/* Fills items from the file ("-": standard input), all checked. 0, or an exit code after saying of each bad
 * line, on stderr, what is wrong with it. */
int batch_read(struct batch *b);
void batch_clear_items(struct batch *b);
/* All that a submit of the item is: its line, the options of the command, what batch adds. New reference. */
json_t *batch_submit_params(const struct batch *b, const struct batch_item *item);
/* The path of its picture `index`; false: too long. */
bool batch_path(const struct batch *b, const struct batch_item *item, int index, char *out, size_t size);
/* An item as it stands, as one object; new reference. */
json_t *batch_record(const struct batch_item *item);
/* The state of that name in such an object; ITEM_TODO for any other. */
enum item_state batch_state(const char *name);

/* ---- batch_book.c: DIR/batch.jsonl, a line for the batch, then one for each item; later lines count */

#define BATCH_BOOK "batch.jsonl"
#define BATCH_FRESH_BOOK "batch.jsonl.new" /* while it is written anew */

/* Makes the directory, locks it, takes what is recorded there over into the items. 0, or an exit code after
 * saying what is in the way. */
int book_open(struct batch *b);
/* Where the item stands, written before anything depends on it. It is not synced: what a loss of power takes
 * is found by its key, for as long as zitd knows that. false after saying why it cannot be. */
bool book_note(struct batch *b, const struct batch_item *item);
/* Writes it anew, a line for each item, and unlocks. */
void book_close(struct batch *b);

/* ---- batch_progress.c */

void batch_progress_init(struct batch *b);
/* An item has come to where it stands now: shown as --progress wants it, and printed as -o wants it. */
void batch_show(struct batch *b, const struct batch_item *item);
/* One line on stderr beside the bar. */
void batch_say(struct batch *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void batch_summary(struct batch *b);

#endif
