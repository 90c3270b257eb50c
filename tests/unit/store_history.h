/*
 * What became of a store's jobs, commit by commit, and what a store has of them now.
 */
#ifndef TESTS_UNIT_STORE_HISTORY_H
#define TESTS_UNIT_STORE_HISTORY_H

#include "tests/unit/store_samples.h"

enum { MAX_COMMITS = 160, JOBS = 100 }; /* numbered from 1 */

struct history {
	char *states[MAX_COMMITS + 1][JOBS]; /* states[n]: after n commits; NULL: no such job */
	int ended_at[MAX_COMMITS];	     /* operations recorded when commit n had returned */
	int count;
	uint64_t random;
};

uint32_t history_random(struct history *h, uint32_t below);
/* One commit of `rows` jobs: new ones, newer texts, ends, and jobs that go. Its result; the history has it
 * only when that is 0. */
int history_commit(struct history *h, struct store *s, int rows, int operations);
void history_clear(struct history *h);

/* What a store has: read whole, NULL where there is nothing, or nothing whole. */
struct contents {
	char *texts[JOBS];
	bool damaged[JOBS]; /* it says so itself */
};

/* false: the store cannot be read. An ended job must be the same by its id and in the list. */
bool contents_read(struct contents *c, struct store *s);
void contents_clear(struct contents *c);

#endif
