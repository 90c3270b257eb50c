/*
 * The request that a picture was made by, from the texts in its file (interfaces.md section 6.13).
 */
#ifndef CTL_REQUEST_H
#define CTL_REQUEST_H

#include <jansson.h>

/* From the texts of picture_facts: `zit`'s object as it is; without one, what A1111's `parameters`, or
 * SwarmUI's in the same place, say of prompt, negative_prompt, steps, seed, width and height. A new
 * reference, NULL when there is neither. Members have the types that `submit` takes, others are left out. */
json_t *request_from_texts(const json_t *texts);

/* A1111's text alone, see there. NULL: it is none. */
json_t *request_from_parameters(const char *text);

#endif
