/*
 * Jobs as the store sees them, for its tests: made from a few numbers, so that what is read back can be
 * compared with what was written.
 */
#ifndef TESTS_UNIT_STORE_SAMPLES_H
#define TESTS_UNIT_STORE_SAMPLES_H

#include "supervisor/store/store.h"

struct sample {
	uint64_t number; /* its id follows from it */
	int64_t revision;
	bool final, dead;
	const char *key, *group; /* NULL: none */
	int64_t ended_us, keep_until_us, bytes;
	int pictures;
	int filler; /* bytes of prompt */
};

void sample_id(uint64_t number, char id[ID_SIZE]);
/* The row's text; the caller frees it. */
char *sample_text(const struct sample *s);

/* Batches that are filled row by row, and freed by store_batch_clear. */
void batch_add_text(struct store_batch *b, uint64_t number, const char *text); /* NULL: the row goes */
void batch_add(struct store_batch *b, const struct sample *s);
void batch_add_event(struct store_batch *b, int64_t seq, const char *text);
void batch_add_note(struct store_batch *b, const char *name, const char *text);

/* store_commit of these samples alone, which must go well. */
void commit_samples(struct store *s, const struct sample *samples, int count);
/* The ended job of that number: 1 whole, 0 not there, -1 damaged. *body is the caller's. */
int find_ended(struct store *s, uint64_t number, char **body);

#endif
