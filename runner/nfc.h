/*
 * Normalization form C of text of any length in linear time.
 */
#ifndef RUNNER_NFC_H
#define RUNNER_NFC_H

#include <stddef.h>

/* `bytes` bytes of well-formed UTF-8 to form C; *out_bytes of them, the caller's to free. NULL: no memory. */
char *nfc(const char *text, size_t bytes, size_t *out_bytes);

#endif
