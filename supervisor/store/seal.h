/*
 * Texts that can tell whether they were damaged: a JSON object whose last member is a checksum of all before
 * it. What the store keeps is sealed, and found again by its first bytes even where a file's structure is
 * lost.
 */
#ifndef SUPERVISOR_STORE_SEAL_H
#define SUPERVISOR_STORE_SEAL_H

#include <jansson.h>
#include <stddef.h>

#include "ipc/json_text.h"

#define SEAL_HEAD "{\"zit\":\"" /* what a sealed text begins with; the kind and a quote follow */
#define SEAL_TAIL ",\"sum\":\"" /* what the seal itself begins with */

/* {"zit":KIND, ...: its members are written next, and then seal_end gives the text with its sum, which the
 * caller frees; NULL: no memory. */
void seal_begin(struct json_text *t, const char *kind);
char *seal_end(struct json_text *t);
/* The same of an object, which is stolen. */
char *seal(const char *kind, json_t *members);
/* The object of an undamaged text of that kind (new reference), else NULL. */
json_t *unseal(const char *kind, const char *text, size_t bytes);
/* How long the sealed text is that begins at `text`, of any kind, undamaged; 0: there is none within `bytes`.
 */
size_t seal_length(const char *text, size_t bytes);

#endif
