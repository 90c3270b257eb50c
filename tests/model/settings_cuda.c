/*
 * The cuda backend, on a card or on the emulated device. Tolerances: golden.h.
 */
#include "tests/model/golden.h"

const struct golden_setting golden_settings[] = {
    {"cuda", PRECISION_F32, 1e-4, 1e-4, 1, "golden-f32", 256 * 256, 512, 160 * 96},
    {"cuda", PRECISION_BF16, 2e-2, 1e-2, 6, "golden", 256 * 256, 512, 160 * 96},
};

const size_t golden_setting_count = sizeof(golden_settings) / sizeof(golden_settings[0]);
