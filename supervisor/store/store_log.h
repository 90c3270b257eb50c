/*
 * SQLite's log as it lies beside a file that nobody has open: where SQLite would stop reading it, and whether
 * a power loss can have done that, or it was damaged. Private to the store.
 */
#ifndef SUPERVISOR_STORE_STORE_LOG_H
#define SUPERVISOR_STORE_STORE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STORE_LOG_HEAD = 32, STORE_LOG_FRAME = 24 + 4096 };

struct store_log {
	char *bytes; /* NULL: there is none */
	size_t size;
	int frames;   /* that count, damaged ones too, up to the last end of a transaction */
	bool damaged; /* SQLite would take fewer, though what the others hold was acknowledged */
	char salts[8];
	int doubtful;	       /* the number of this frame's page may be wrong: then it is the other */
	uint32_t other_number; /* 0: there is no such frame */
};

/* Reads the log of the store's file `path`. */
void store_log_read(struct store_log *l, const char *path);
void store_log_clear(struct store_log *l);
uint32_t store_big_endian(const char *bytes); /* four of them, as SQLite writes numbers */
/* The page that frame `at` holds, and its number. */
const char *store_log_page(const struct store_log *l, int at, uint32_t *number);

#endif
