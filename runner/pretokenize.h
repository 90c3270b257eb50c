/*
 * Qwen's pre-tokenization: text cut into segments that byte-pair merges do not cross (model-spec
 * section 4.2).
 */
#ifndef RUNNER_PRETOKENIZE_H
#define RUNNER_PRETOKENIZE_H

#include <stdbool.h>
#include <stddef.h>

/* Whether `regex` is the one pattern that this file is written for. */
bool pretokenize_knows(const char *regex);

/* Bytes of the first segment of `bytes` bytes of well-formed UTF-8; at least 1 when bytes is. */
size_t pretokenize_segment(const char *text, size_t bytes);

#endif
