/*
 * The durable queue: jobs, open and ended, in one SQLite file; and what else must survive a restart, as named
 * notes. Nothing here knows struct job: a job is its number, a few keys to find it by, and a sealed text.
 *
 * All calls block. They are made by the disk thread, and before that runs by the one that starts it.
 */
#ifndef SUPERVISOR_STORE_STORE_H
#define SUPERVISOR_STORE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "ipc/err.h"
#include "ipc/group.h"
#include "supervisor/id.h"

enum {
	STORE_VERSION = 2, /* of the schema: the file's user_version */
	STORE_KEY = 128,
	STORE_EVENTS = 10000, /* of them are kept */
};

struct store;

/*
 * A job's row. It is its text: a sealed object (seal.h) of kind "job". The other members say what the text's
 * members of these names do; read back, they are taken from there. The text is the row's own: store_row_clear
 * frees it.
 */
struct store_row {
	uint64_t number;  /* in the order of acceptance, never used again */
	int64_t revision; /* the higher one is the newer text of a job */
	bool final;
	bool dead; /* final: a dead letter that nobody has tried again */
	char id[ID_SIZE];
	char key[STORE_KEY];		 /* of idempotency, with its client; "": none */
	char group[GROUP_SIZE];		 /* "": none */
	int64_t ended_us, keep_until_us; /* wall clock; final: its end, and how long its pictures are kept */
	int64_t bytes;			 /* final: of its pictures; 0: there are none, or not any more */
	int pictures;			 /* final: how many there were */
	char *body;			 /* NULL: in a batch, the row goes; found, its text is damaged */
};

void store_row_clear(struct store_row *row);

struct store_event {
	int64_t seq; /* 1, 2, ... without gaps */
	char *body;  /* JSON */
};

struct store_note {
	char *name;
	char *body; /* sealed */
};

/* How an opening went, to be told. */
struct store_report {
	bool salvaged;	    /* the file was damaged: what could be read was moved to a new one */
	int saved, damaged; /* texts found then: whole, and not */
	char aside[64];	    /* the name that the damaged file has now */
	int error;	    /* errno: why it cannot be used; 0: it can */
};

/* What one turn of the loop wants written, all or nothing. The lists and their texts are the batch's. */
struct store_batch {
	struct store_row *rows;
	struct store_event *events;
	struct store_note *notes;
	int row_count, event_count, note_count;
	bool finals_saved; /* by store_commit: these at least are written */
	/* By store_commit: salvaged, the file is a new one. It may lack jobs that are open and not of this
	 * batch, and has no events and notes but those of this one. */
	struct store_report report;
};

void store_batch_clear(struct store_batch *b);

/* Opens or makes DIR/queue.db. A damaged one is salvaged. -ERR_SYSTEM with its reason, and report->error,
 * when it cannot be used now, -ERR_BAD_CONFIG when it is a newer version's: that one is left alone. */
int store_open(struct store **s, const char *dir, struct store_report *report, struct err *e);
void store_close(struct store **s);

/* One transaction, on disk when it returns. 0 or errno: ENOENT or ESTALE when somebody removed or replaced
 * the files. A file that cannot be read as a whole any more (EUCLEAN of the calls below) is salvaged first.
 * When the disk is full, final records are still written, alone, into space that was kept for them; until
 * that space can be had again, nothing else is. */
int store_commit(struct store *s, struct store_batch *b);

/* After transactions, when those who wait for them have been told: SQLite's log, when it is long, is moved to
 * the file, and the next transaction begins at its front. What cannot be moved now is another time. */
void store_tend(struct store *s);

/* What was there at the start: the open jobs in the order of their numbers, the notes, and the highest number
 * and event ever given. */
struct store_start {
	struct store_row *rows;
	struct store_note *notes; /* their names too are owned */
	int row_count, note_count;
	uint64_t last_number;
	int64_t last_event;
};

/* 0 or errno. */
int store_load(struct store *s, struct store_start *start);
void store_start_clear(struct store_start *start);

/* ---- looking up ended jobs */

enum store_wanted {
	STORE_IDS,   /* those of `texts`, in that order; one that is not there has number 0 */
	STORE_KEYED, /* the newest with the key texts[0] that began at or after `since_us` */
	STORE_ENDED, /* newest first, those with a number below `below`, of group texts[0] if there is one */
	STORE_DEAD,  /* likewise, dead letters */
	STORE_SINCE, /* events after `after` */
	STORE_WANTED_COUNT
};

struct store_query {
	enum store_wanted wanted;
	char **texts; /* owned, as is the list */
	int text_count;
	int limit;
	uint64_t below; /* 0: no bound */
	int64_t after, since_us;

	/* the answer */
	struct store_row *rows;
	struct store_event *events;
	int count;
	int64_t first_event; /* the oldest that is kept; 0: none is */
};

/* 0 or errno, with nothing found. A row whose text is damaged comes without a body. */
int store_find(struct store *s, struct store_query *q);
void store_query_forget(struct store_query *q); /* the answer alone: it can be asked again */
void store_query_clear(struct store_query *q);

/* ---- forgetting */

struct store_retention {
	int64_t now_us;	   /* wall clock, as far as it is believed */
	int64_t max_bytes; /* of pictures in all; 0: any */
	int64_t history;   /* final records that are kept */
	/* A job's pictures are to be removed from disk; called before the row says so. */
	void (*remove)(void *arg, const char *id, int pictures);
	void *arg;
};

/* Does a bounded part of it. 0 or errno; *more: there is more to do. */
int store_retain(struct store *s, const struct store_retention *r, bool *more);
/* Whether the pictures of that job are to be there. */
bool store_has_pictures(struct store *s, const char *id);

#endif
