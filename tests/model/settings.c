/*
 * The backends of the host. Tolerances: golden.h.
 */
#include "tests/model/golden.h"

const struct golden_setting golden_settings[] = {
    {"ref", PRECISION_F32, 1e-4, 1e-4, 1, "golden-f32", 40 * 40},
    {"cpu", PRECISION_F32, 1e-4, 1e-4, 1, "golden-f32", 256 * 256},
    {"cpu", PRECISION_BF16, 2e-2, 1e-2, 6, "golden", 256 * 256},
};

const size_t golden_setting_count = sizeof(golden_settings) / sizeof(golden_settings[0]);
