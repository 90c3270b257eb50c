/*
 * What a zitd's status means for its operator: what is found, and what to do next. Used by status and doctor.
 */
#ifndef CTL_ADVICE_H
#define CTL_ADVICE_H

#include <jansson.h>
#include <stdbool.h>

/* From the answer to `status`: a list of {level, what, do, runner, last_error}, most urgent first, as a new
 * reference; empty when all is well. level is "wrong" or "note": somebody wanted it so, or it will pass by
 * itself. runner is there when it is about one, and then last_error when it has one. */
json_t *advice_list(const json_t *status);

/* What the last planless end of a runner says about its model: true when its files are missing or damaged. */
bool advice_lacks_weights(const json_t *runner);

#endif
