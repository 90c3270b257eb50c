/*
 * conv2d by each of its forms on CUDA, whichever of them the operation takes here.
 */
#ifndef TESTS_KERNELS_CONV_FORMS_H
#define TESTS_KERNELS_CONV_FORMS_H

#include "tests/kernels/operations.h"

/* Rows named "conv2d..., FORM". */
extern const struct operation conv_forms[];
extern const size_t conv_form_count;

/* Whether the form of that row is one of this device's, a CUDA one. */
bool conv_form_is_here(const struct device *d, const struct operation *o);

#endif
