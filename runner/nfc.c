/*
 * Normalization form C (Unicode Standard Annex 15): decompose, order the marks, compose.
 *
 * The tables, the composition and the encoding are utf8proc's. The ordering is ours: utf8proc's own exchanges
 * neighbours, which on a prompt of nothing but marks takes more than a second.
 */
#include "runner/nfc.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <utf8proc.h>

enum {
	MAX_DECOMPOSED = 4, /* code points of one; the longest canonical decomposition */
	CLASSES = 256,
};

static const utf8proc_option_t form_c = (utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_COMPOSE);

/* Text in full decomposition: into points (room for MAX_DECOMPOSED a byte); their number. */
static size_t
decompose(const char *text, size_t bytes, utf8proc_int32_t *points)
{
	size_t at = 0, count = 0;

	while (at < bytes) {
		utf8proc_int32_t point;
		int boundary = 0;
		utf8proc_ssize_t n = utf8proc_iterate(
		    (const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)(bytes - at), &point);
		at += n > 0 ? (size_t)n : 1;
		if (n <= 0)
			continue; /* not reached: the text is well-formed */
		count +=
		    (size_t)utf8proc_decompose_char(point, points + count, MAX_DECOMPOSED, form_c, &boundary);
	}
	return count;
}

static unsigned
class_of(utf8proc_int32_t point)
{
	return (unsigned)utf8proc_get_property(point)->combining_class;
}

/* A run of marks by class, equal ones in their order: a counting sort. */
static void
order_run(utf8proc_int32_t *run, size_t count, utf8proc_int32_t *scratch)
{
	size_t start[CLASSES + 1] = {0};

	for (size_t i = 0; i < count; i++)
		start[class_of(run[i]) + 1]++;
	for (int c = 0; c < CLASSES; c++)
		start[c + 1] += start[c];
	for (size_t i = 0; i < count; i++)
		scratch[start[class_of(run[i])]++] = run[i];
	for (size_t i = 0; i < count; i++)
		run[i] = scratch[i];
}

/* Every run of characters whose class is not 0. */
static void
order_marks(utf8proc_int32_t *points, size_t count, utf8proc_int32_t *scratch)
{
	for (size_t i = 0, end; i < count; i = end) {
		bool ordered = true;
		for (end = i; end < count && class_of(points[end]) != 0; end++)
			ordered = ordered && (end == i || class_of(points[end - 1]) <= class_of(points[end]));
		if (!ordered)
			order_run(points + i, end - i, scratch);
		if (end == i)
			end++;
	}
}

char *
nfc(const char *text, size_t bytes, size_t *out_bytes)
{
	size_t room = MAX_DECOMPOSED * (bytes + 1);
	utf8proc_int32_t *points, *scratch;
	utf8proc_ssize_t n;

	if (bytes > INT32_MAX / (2 * MAX_DECOMPOSED * sizeof(*points)))
		return NULL;
	points = malloc(2 * room * sizeof(*points));
	if (points == NULL)
		return NULL;
	scratch = points + room;
	n = (utf8proc_ssize_t)decompose(text, bytes, points);
	order_marks(points, (size_t)n, scratch);
	/* Composes in place and writes UTF-8 over the points, with a byte for the end: there is room for
	 * more. */
	n = utf8proc_reencode(points, n, form_c);
	if (n < 0) {
		free(points);
		return NULL;
	}
	*out_bytes = (size_t)n;
	return (char *)points;
}
