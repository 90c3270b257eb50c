/*
 * "Did you mean": the known word that is nearest to a misspelt one.
 */
#ifndef IPC_NEAREST_H
#define IPC_NEAREST_H

#include <stddef.h>

struct nearest {
	const char *word; /* what was typed */
	const char *best; /* the nearest so far, or NULL */
	size_t distance;
};

/* Considers one known word; a word of more than 63 bytes, or farther than half of the typed one's length, is
 * not near. */
void nearest_consider(struct nearest *n, const char *known);

#endif
