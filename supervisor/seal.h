/*
 * Texts that can tell whether they were damaged: a JSON object whose last member is a checksum of all before
 * it. What the store keeps is sealed, and found again by its first bytes even where a file's structure is
 * lost.
 */
#ifndef SUPERVISOR_SEAL_H
#define SUPERVISOR_SEAL_H

#include <jansson.h>
#include <stddef.h>

#define SEAL_HEAD "{\"zit\":\"" /* what a sealed text begins with; the kind and a quote follow */
#define SEAL_TAIL ",\"sum\":\"" /* what the seal itself begins with */

/* {"zit":KIND, members..., "sum":...}; `members` is stolen. The caller frees the text; NULL: no memory. */
char *seal(const char *kind, json_t *members);
/* The object of an undamaged text of that kind (new reference), else NULL. */
json_t *unseal(const char *kind, const char *text, size_t bytes);
/* How long the sealed text is that begins at `text`, of any kind, undamaged; 0: there is none within `bytes`.
 */
size_t seal_length(const char *text, size_t bytes);

#endif
