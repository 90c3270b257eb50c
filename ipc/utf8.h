/*
 * UTF-8 as strangers send it: checked once, here.
 */
#ifndef IPC_UTF8_H
#define IPC_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the well-formed character at text[0] (1 to 4), or 0: not well-formed (overlong, surrogate, beyond
 * U+10FFFF, cut off). `count` is at least 1. */
size_t utf8_length(const char *text, size_t count);

/* How many bytes from the beginning are plain: ASCII that can be printed, but no quote and no backslash, so
 * that JSON has them as they are too. Nearly all bytes are, and this passes over them eight at a time. */
size_t utf8_plain(const char *text, size_t count);

/* Whether all of it is well-formed. */
bool utf8_valid(const char *text, size_t count);

/* Makes a NUL-terminated text fit for one line of a log: control characters and broken bytes become '?', a
 * character cut off at the end is removed. In place; never grows. */
void utf8_make_line(char *text);

/* Copies such a line into `size` bytes. One that is longer loses of its longest words, which are paths, the
 * beginnings, for "...", so that the ends of paths stay and what is said of them; its own end only when that
 * does not do. The line is changed on the way. */
void utf8_fit_line(char *out, size_t size, char *line);

#endif
