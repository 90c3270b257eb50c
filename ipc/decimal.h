/*
 * Whole numbers as decimal text: what printf says of them, at a tenth of its price.
 */
#ifndef IPC_DECIMAL_H
#define IPC_DECIMAL_H

#include <stdint.h>

enum { DECIMAL_BYTES = 20 }; /* that any may take; there is no NUL */

/* Both end before `end` and return where they begin. With zeros before it if it has fewer digits than
 * `least`. */
char *decimal_digits(char *end, uint64_t value, int least);
char *decimal_put(char *end, int64_t value);

#endif
