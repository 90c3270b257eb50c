/*
 * "Did you mean": Levenshtein's distance over one row of the table.
 */
#include "ipc/nearest.h"

#include <string.h>

enum { MAX_WORD = 63 };

static size_t
smallest(size_t a, size_t b, size_t c)
{
	size_t least = a < b ? a : b;

	return least < c ? least : c;
}

static size_t
distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
	size_t row[MAX_WORD + 1]; /* row[j]: from the first i bytes of a to the first j of b */

	for (size_t j = 0; j <= b_length; j++)
		row[j] = j;
	for (size_t i = 1; i <= a_length; i++) {
		size_t diagonal = row[0];
		row[0] = i;
		for (size_t j = 1; j <= b_length; j++) {
			size_t above = row[j];
			row[j] = smallest(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
			diagonal = above;
		}
	}
	return row[b_length];
}

void
nearest_consider(struct nearest *n, const char *known)
{
	size_t length = strlen(n->word), known_length = strlen(known), d;

	if (length > MAX_WORD || known_length > MAX_WORD)
		return;
	d = distance(n->word, length, known, known_length);
	if (d > length / 2 || (n->best != NULL && d >= n->distance))
		return;
	n->best = known;
	n->distance = d;
}
