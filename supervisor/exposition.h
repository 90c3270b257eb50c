/*
 * Numbers as Prometheus reads them: its text form, version 0.0.4.
 */
#ifndef SUPERVISOR_EXPOSITION_H
#define SUPERVISOR_EXPOSITION_H

#include <stdio.h>

#include "supervisor/histogram.h"

#define EXPOSITION_TYPE "text/plain; version=0.0.4"

/* What the values that follow are; `type` is "counter", "gauge" or "histogram". */
void expose_head(FILE *out, const char *name, const char *type, const char *help);
/* One value; then pairs of texts, a label and its value, and NULL at the end. */
void expose(FILE *out, const char *name, double value, ...) __attribute__((sentinel));
/* `label` NULL: it has none. */
void expose_histogram(
    FILE *out, const char *name, const struct histogram *h, const char *label, const char *value);

#endif
